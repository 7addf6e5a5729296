// The page: GraphiQL over /graphql. The token stays in this tab's session storage: closing the tab forgets it.
"use strict";

const TOKEN = "aegate-token";

const EXAMPLES = ["overview", "find-a-study", "in-trouble", "bring-forward", "watch-the-queue"];

const NO_TOKEN = {
  data: null,
  errors: [{ message: "Enter a token at the top right: `aegate token create NAME` makes one." }],
};

const token = () => sessionStorage.getItem(TOKEN) ?? "";

async function fetcher(operation, options) {
  const headers = { "Content-Type": "application/json", ...(options?.headers ?? {}) };
  if (!Object.keys(headers).some((name) => name.toLowerCase() === "authorization")) {
    if (!token()) return NO_TOKEN;
    headers.Authorization = `Bearer ${token()}`;
  }
  const body = JSON.stringify(operation);
  if (isSubscription(operation, options?.documentAST)) return messages(headers, body);
  const answer = await fetch("/graphql", { method: "POST", headers, body });
  return answer.json();
}

function isSubscription({ operationName }, document) {
  const operations = (document?.definitions ?? []).filter((d) => d.kind === "OperationDefinition");
  const chosen = operations.find((d) => !operationName || d.name?.value === operationName);
  return chosen?.operation === "subscription";
}

// A subscription as server-sent events. GraphiQL ends the loop when its stop button is pressed; that closes the stream.
async function* messages(headers, body) {
  const closing = new AbortController();
  try {
    const stream = { method: "POST", headers: { ...headers, Accept: "text/event-stream" }, body, signal: closing.signal };
    const answer = await fetch("/graphql", stream);
    if (!answer.headers.get("Content-Type")?.startsWith("text/event-stream")) {
      yield await answer.json();
      return;
    }
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let waiting = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const events = (waiting + value).split("\n\n");
      waiting = events.pop();
      for (const event of events) {
        const data = event.split("\n").find((line) => line.startsWith("data: "));
        if (data) yield JSON.parse(data.slice("data: ".length));
      }
    }
  } finally {
    closing.abort();
  }
}

// Nothing that was asked or answered is kept: it may name patients.
const forgetful = {
  getItem: () => null,
  setItem: () => {},
  removeItem: () => {},
  clear: () => {},
  length: 0,
};

const root = ReactDOM.createRoot(document.getElementById("graphiql"));
let shown = 0;
let tabs = [];

function show() {
  shown += 1; // another key: the schema is asked for again with the new token; what was typed stays
  root.render(
    React.createElement(GraphiQL, {
      key: shown,
      fetcher,
      defaultTabs: tabs,
      onTabChange: (state) => {
        tabs = state.tabs.map(({ query, variables, headers }) => ({ query, variables, headers }));
      },
      defaultEditorToolsVisibility: "variables",
      isHeadersEditorEnabled: true,
      shouldPersistHeaders: false,
      storage: forgetful,
    }),
  );
}

function tokenBar() {
  const bar = document.createElement("label");
  bar.id = "token-bar";
  const input = document.createElement("input");
  input.type = "password";
  input.autocomplete = "off";
  input.placeholder = "aegate_…";
  input.value = token();
  input.addEventListener("change", () => {
    sessionStorage.setItem(TOKEN, input.value.trim());
    show();
  });
  bar.append("Token", input);
  document.body.prepend(bar);
}

async function start() {
  const texts = EXAMPLES.map(async (name) => (await fetch(`/graphiql/examples/${name}.graphql`)).text());
  tabs = (await Promise.all(texts)).map((query) => ({ query }));
  tokenBar();
  show();
}

start();
