// An OpenID provider of a certified library, for the tests: client credentials give access tokens as JWTs (RFC 9068).
// People sign in at pages, too: a client with redirect_uris is a page's, and who signs in is the client of that name.
// Its settings come as JSON in the first argument; beside OpenID it answers /-/rotate, /-/seen and /-/public-key.
import { generateKeyPairSync } from "node:crypto";
import http from "node:http";
import Provider from "oidc-provider";

const settings = JSON.parse(process.argv[2]); // {issuer, audiences: {resource: audience}, clients: {id: {secret, claims, ttl}}}
const seen = { jwks: 0, discovery: 0, token: 0 };

function newKey(alg) {
  const kind = alg === "ES256" ? ["ec", { namedCurve: "P-256" }] : ["rsa", { modulusLength: 2048 }];
  const { privateKey } = generateKeyPairSync(...kind);
  const jwk = privateKey.export({ format: "jwk" });
  return { ...jwk, alg, use: "sig", kid: `${alg}-${Math.random().toString(36).slice(2)}` };
}

let keys = [newKey("RS256"), newKey("ES256")];
let provider = newProvider();

function newProvider() {
  const made = new Provider(settings.issuer, {
    jwks: { keys },
    clients: Object.entries(settings.clients).map(([client_id, { secret, redirect_uris }]) =>
      redirect_uris
        ? {
            client_id,
            token_endpoint_auth_method: "none",
            grant_types: ["authorization_code", "refresh_token"],
            response_types: ["code"],
            redirect_uris,
            post_logout_redirect_uris: redirect_uris,
          }
        : {
            client_id,
            client_secret: secret,
            grant_types: ["client_credentials"],
            response_types: [],
            redirect_uris: [],
          },
    ),
    clientBasedCORS: (_, origin, client) => (client.redirectUris ?? []).some((uri) => new URL(uri).origin === origin),
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    ttl: { Grant: 3600, Interaction: 600, Session: 3600 },
    features: {
      devInteractions: { enabled: settings.pages },
      revocation: { enabled: true },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => Object.keys(settings.audiences)[0],
        useGrantedResource: () => true,
        getResourceServerInfo: (_, resource, client) => ({
          scope: "api",
          audience: settings.audiences[resource],
          accessTokenTTL: settings.clients[client.clientId].ttl ?? 300,
          accessTokenFormat: "jwt",
          jwt: { sign: { alg: settings.clients[client.clientId].alg ?? "RS256" } },
        }),
      },
    },
    extraTokenClaims: (_, token) => settings.clients[token.accountId ?? token.clientId].claims,
  });
  return made.callback();
}

http
  .createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url, settings.issuer);
    if (pathname === "/-/rotate") {
      const old = searchParams.get("keep") === "true" ? keys : [];
      keys = [newKey("RS256"), newKey("ES256"), ...old];
      provider = newProvider();
    }
    if (pathname.startsWith("/-/")) {
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify(seen));
      return;
    }
    seen.jwks += pathname === "/jwks";
    seen.token += pathname === "/token" && request.method === "POST";
    seen.discovery += pathname === "/.well-known/openid-configuration";
    provider(request, response);
  })
  .listen(new URL(settings.issuer).port, "127.0.0.1");
