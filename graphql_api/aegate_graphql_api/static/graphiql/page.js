// The page: GraphiQL over /graphql. The token stays in this tab's session storage: closing the tab forgets it.
"use strict";

const TOKEN = "aegate-token";

const QUERY = `# Enter a token at the top right: \`aegate token create NAME\` makes one.
# Then run this: trouble first, and why the newest items are where they are.
query Overview {
  viewer {
    name
    permissions
  }
  dashboard {
    trouble {
      kind
      ae
      text
    }
    counts {
      state
      count
    }
    unindexed
    unclosedUnits
    noRoute
  }
  queueItems(first: 20) {
    totalCount {
      value
      precision
    }
    nodes {
      id
      state
      destinationAe
      instancesDone
      instancesTotal
      whyNotMoving {
        code
        text
        nextStep
      }
    }
  }
}
`;

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
  const answer = await fetch("/graphql", { method: "POST", headers, body: JSON.stringify(operation) });
  return answer.json();
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
let query = QUERY;

function show() {
  shown += 1; // another key: the schema is asked for again with the new token; what was typed stays
  root.render(
    React.createElement(GraphiQL, {
      key: shown,
      fetcher,
      defaultQuery: query,
      onEditQuery: (typed) => {
        query = typed;
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

tokenBar();
show();
