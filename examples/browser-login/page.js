// A page that signs somebody in, says who that is, and searches studies. No framework, no build.
import { SignIn } from "./sign-in.js";

const VIEWER = "query PageViewer { viewer { name permissions partitions } }";
const STUDIES = `query PageStudies($search: String) {
  studies(search: $search, first: 20) {
    nodes { accessionNumber studyDate modalities instanceCount patient { name } }
    pageInfo { hasNextPage }
  }
}`;

const at = (id) => document.getElementById(id);
const say = (text) => (at("message").textContent = text);
const api = new URL("config.json", document.querySelector("meta[name=aegate-api]").content);

let config;
let signIn;

// Ask the API; a token that ran out is renewed once. Throws an Error with what the API said.
async function ask(query, variables = {}, again = true) {
  const answer = await fetch(new URL(config.graphql, api), {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${signIn.token}` },
    body: JSON.stringify({ query, variables }),
  });
  const { data, errors } = await answer.json();
  const code = errors?.[0].extensions?.code;
  if (code === "UNAUTHENTICATED" && again && (await signIn.renew())) return ask(query, variables, false);
  if (errors) throw new Error(errors[0].message);
  return data;
}

function show(isSignedIn) {
  at("sign-in").hidden = isSignedIn;
  at("sign-out").hidden = at("search").hidden = at("studies").hidden = !isSignedIn;
  if (!isSignedIn) {
    at("viewer").textContent = "";
    at("studies").tBodies[0].replaceChildren();
  }
}

async function search() {
  const { studies } = await ask(STUDIES, { search: at("words").value || null });
  if (signIn.token === null) return; // somebody has signed out meanwhile: these are for nobody
  const rows = studies.nodes.map((study) => {
    const row = document.createElement("tr");
    const { accessionNumber, patient, studyDate, modalities, instanceCount } = study;
    for (const text of [accessionNumber, patient.name, studyDate, modalities.join(" "), instanceCount])
      row.insertCell().textContent = text; // as text: a name may hold anything
    return row;
  });
  at("studies").tBodies[0].replaceChildren(...rows);
  say(studies.pageInfo.hasNextPage ? "There are more: narrow the search." : `${rows.length} found.`);
}

// Run what a person asked for; an error is shown, not lost.
const guarded = (act) => async (event) => {
  event?.preventDefault();
  say("");
  try {
    await act();
  } catch (error) {
    say(error.message);
  }
};

async function start() {
  config = await (await fetch(api)).json();
  if (!config.oidc) throw new Error("this API does not say how pages sign people in: set AEGATE_OIDC_CLIENT_ID there");
  signIn = await SignIn.at(config.oidc, () => {
    show(false);
    say("Your session has ended: sign in again.");
  });
  at("sign-in").onclick = guarded(() => signIn.begin());
  at("sign-out").onclick = guarded(async () => {
    show(false); // at once: what is shown is somebody's, and the provider may be slow
    await signIn.end();
  });
  at("search").onsubmit = guarded(search);
  try {
    await signIn.finish();
  } finally {
    show(signIn.token !== null);
  }
  if (signIn.token === null) return;
  const { viewer } = await ask(VIEWER);
  at("viewer").textContent = `${viewer.name}: ${viewer.permissions.join(", ")}`;
}

guarded(start)();
