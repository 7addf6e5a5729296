// What sign-in.js does of itself, without a browser: sessions that end while something is on its way, and odd lifetimes.
import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";
import { SignIn } from "../../../examples/browser-login/sign-in.js";

const ISSUER = "https://login.example.org";
const PAGE = "https://viewer.example.org/index.html";
const OIDC = { issuer: ISSUER, clientId: "viewer", scopes: ["openid", "offline_access"] };
const MONTH_S = 31 * 24 * 3600;

let asked; // of the token endpoint: what was sent, and how to answer it
let revoked;
let left; // where the page went
let delays; // of the timers that were set
let endings;
let discovery;

function storage() {
  const kept = new Map();
  return {
    getItem: (name) => kept.get(name) ?? null,
    setItem: (name, value) => kept.set(name, String(value)),
    removeItem: (name) => kept.delete(name),
  };
}

const json = (value, status = 200) => new Response(JSON.stringify(value), { status });

function fetched(address, { body } = {}) {
  if (address === `${ISSUER}/.well-known/openid-configuration`) return Promise.resolve(json(discovery));
  if (address === `${ISSUER}/revoke`) {
    revoked.push(body.get("token"));
    return Promise.resolve(json({}));
  }
  assert.equal(address, `${ISSUER}/token`);
  return new Promise((answer, fail) => asked.push({ body, answer, fail }));
}

beforeEach(() => {
  [asked, revoked, left, delays, endings] = [[], [], [], [], 0];
  discovery = {
    issuer: ISSUER,
    authorization_endpoint: `${ISSUER}/auth`,
    token_endpoint: `${ISSUER}/token`,
    revocation_endpoint: `${ISSUER}/revoke`,
    end_session_endpoint: `${ISSUER}/leave`,
  };
  const { origin, pathname } = new URL(PAGE);
  globalThis.location = { origin, pathname, search: "", assign: (address) => left.push(new URL(address)) };
  globalThis.history = { replaceState: () => (location.search = "") };
  globalThis.sessionStorage = storage();
  globalThis.localStorage = storage();
  mock.method(globalThis, "fetch", fetched);
  mock.method(globalThis, "setTimeout", (_, ms) => delays.push(ms));
  mock.method(globalThis, "clearTimeout", () => {});
});

async function until(condition) {
  for (let turn = 0; turn < 100 && !condition(); turn++) await new Promise(setImmediate);
  assert.ok(condition());
}

const granted = (number, more = {}) =>
  json({ access_token: `access${number}`, refresh_token: `refresh${number}`, id_token: "id", expires_in: 300, ...more });

async function signedIn(more) {
  const signIn = await SignIn.at(OIDC, () => endings++);
  await signIn.begin();
  location.search = `?code=c&state=${left.pop().searchParams.get("state")}`;
  const finished = signIn.finish();
  await until(() => asked.length === 1);
  asked.pop().answer(granted(1, more));
  await finished;
  assert.equal(signIn.token, "access1");
  return signIn;
}

test("tokens that come after the sign-out are dropped and revoked", async () => {
  const signIn = await signedIn();
  const renewed = signIn.renew();
  await until(() => asked.length === 1);
  const ended = signIn.end();
  asked[0].answer(granted(2));
  assert.equal(await renewed, false);
  await ended;
  assert.equal(signIn.token, null);
  assert.deepEqual(revoked, ["refresh1", "refresh2"]);
  assert.deepEqual([delays.length, endings], [1, 0], "nothing is renewed any more");
});

test("the sign-out ends the provider's session", async () => {
  await (await signedIn()).end();
  assert.equal(left.length, 1);
  assert.equal(left[0].origin + left[0].pathname, `${ISSUER}/leave`);
  const said = { client_id: "viewer", post_logout_redirect_uri: PAGE, id_token_hint: "id" };
  assert.deepEqual(Object.fromEntries(left[0].searchParams), said);
});

test("where the provider's session cannot be ended, the next sign-in asks who it is until somebody has said so", async () => {
  delete discovery.end_session_endpoint;
  await (await signedIn()).end();
  assert.deepEqual(left, []);
  for (const _ of ["left unfinished", "finished"]) {
    await (await SignIn.at(OIDC, () => {})).begin();
    assert.equal(left.pop().searchParams.get("prompt"), "login consent");
  }
  await signedIn();
  await (await SignIn.at(OIDC, () => {})).begin();
  assert.equal(left.pop().searchParams.get("prompt"), "consent");
});

test("a provider that is away ends no session: it is asked again", async () => {
  const signIn = await signedIn();
  const troubles = [
    ({ fail }) => fail(new TypeError("Failed to fetch")),
    ({ answer }) => answer(new Response("<h1>Bad gateway</h1>", { status: 502 })),
    ({ answer }) => answer(json({ error: "temporarily_unavailable" }, 503)),
  ];
  for (const trouble of troubles) {
    const renewed = signIn.renew();
    await until(() => asked.length === 1);
    trouble(asked.pop());
    assert.equal(await renewed, false);
    assert.deepEqual([signIn.token, endings, delays.pop()], ["access1", 0, 10_000]);
  }
  const renewed = signIn.renew();
  await until(() => asked.length === 1);
  const { body, answer } = asked.pop();
  assert.equal(body.get("refresh_token"), "refresh1");
  answer(granted(2));
  assert.equal(await renewed, true);
  assert.equal(signIn.token, "access2");
});

test("a refresh token that is good no more ends the session", async () => {
  const signIn = await signedIn();
  const renewed = signIn.renew();
  await until(() => asked.length === 1);
  asked.pop().answer(json({ error: "invalid_grant" }, 400));
  assert.equal(await renewed, false);
  assert.deepEqual([signIn.token, endings], [null, 1]);
});

test("without a refresh token the session ends with its time", async () => {
  const signIn = await signedIn({ refresh_token: undefined });
  assert.equal(await signIn.renew(), false);
  assert.deepEqual([signIn.token, endings, asked.length], [null, 1, 0]);
});

for (const [expires_in, ms] of [
  [300, 270_000],
  [40, 20_000],
  [1, 3_000],
  [MONTH_S, 2 ** 31 - 1],
  [undefined, 270_000],
  ["soon", 270_000],
])
  test(`of ${expires_in} seconds a token is renewed after ${ms} ms`, async () => {
    await signedIn({ expires_in });
    assert.deepEqual(delays, [ms]);
  });
