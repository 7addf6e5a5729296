// Sign in at an OpenID provider by the authorization code flow with PKCE (RFC 7636), as a public client: no secret.
// Tokens are kept in this module's memory, where no other page and no later visit finds them. What must survive the way
// to the provider and back lies in sessionStorage until then: the verifier and the state, of no use to anybody else. That
// somebody has signed out lies in localStorage until somebody signs in: the computer may be shared.

const KEPT = "aegate-sign-in";
const LEFT = "aegate-signed-out";
const EARLY_MS = 30_000; // an access token is renewed so long before it ends, or at half of its time
const SOONEST_MS = 3_000; // but not before that, however short its time
const LONGEST_MS = 2 ** 31 - 1; // a longer timer fires at once
const AGAIN_MS = 10_000; // a provider that is away is asked again after that
const ANSWER_MS = 10_000; // how long it may take to answer

const base64url = (bytes) =>
  btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)));

export class SignIn {
  #oidc; // {issuer, clientId, scopes} of /config.json
  #provider; // its discovery document
  #tokens = null; // {access, refresh, id}
  #generation = 0; // of the tokens: what is asked for in one is dropped in the next
  #timer = 0;
  #renewing = null;

  // `ended` is called when the tokens are gone and cannot be renewed.
  static async at(oidc, ended) {
    const found = new SignIn();
    found.#oidc = oidc;
    found.ended = ended;
    const answer = await fetch(`${oidc.issuer.replace(/\/$/, "")}/.well-known/openid-configuration`);
    found.#provider = await answer.json();
    if (found.#provider.issuer !== oidc.issuer) throw new Error("the provider calls itself by another name");
    return found;
  }

  get token() {
    return this.#tokens?.access ?? null;
  }

  get #redirect() {
    return location.origin + location.pathname;
  }

  // Leave for the provider's page.
  async begin() {
    const verifier = random();
    const state = random();
    sessionStorage.setItem(KEPT, JSON.stringify({ verifier, state }));
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier));
    const { clientId, scopes } = this.#oidc;
    const asked = new URLSearchParams({
      response_type: "code",
      client_id: clientId,
      redirect_uri: this.#redirect,
      scope: scopes.join(" "),
      state,
      code_challenge: base64url(new Uint8Array(digest)),
      code_challenge_method: "S256",
    });
    const prompts = [];
    if (localStorage.getItem(LEFT)) prompts.push("login"); // who signs in may be somebody else than who signed out
    if (scopes.includes("offline_access")) prompts.push("consent"); // OpenID Connect Core 11
    if (prompts.length) asked.set("prompt", prompts.join(" "));
    location.assign(`${this.#provider.authorization_endpoint}?${asked}`);
  }

  // Take what the provider sent back, if it did; the address is cleaned of it at once.
  async finish() {
    const answer = new URLSearchParams(location.search);
    if (!answer.has("state")) return;
    const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "{}");
    sessionStorage.removeItem(KEPT);
    history.replaceState(null, "", this.#redirect);
    if (!kept.state || answer.get("state") !== kept.state) throw new Error("this answer is of another sign-in");
    const issuer = answer.get("iss"); // RFC 9207: whose answer it is
    if (issuer ? issuer !== this.#oidc.issuer : this.#provider.authorization_response_iss_parameter_supported)
      throw new Error("this answer is of another provider");
    if (answer.has("error")) throw new Error(`the provider refused: ${answer.get("error")}`);
    await this.#ask({
      grant_type: "authorization_code",
      code: answer.get("code"),
      redirect_uri: this.#redirect,
      code_verifier: kept.verifier,
    });
    localStorage.removeItem(LEFT);
  }

  // Renew the tokens; false where there are no new ones: then somebody has to sign in again, or the provider is away and
  // is asked again. Once at a time, whoever asks: a provider takes a refresh token that comes twice for a stolen one.
  renew() {
    this.#renewing ??= this.#renew().finally(() => (this.#renewing = null));
    return this.#renewing;
  }

  async #renew() {
    if (!this.#tokens) return false;
    const { refresh } = this.#tokens;
    const generation = this.#generation;
    try {
      if (refresh) return await this.#ask({ grant_type: "refresh_token", refresh_token: refresh });
    } catch (error) {
      if (generation !== this.#generation) return false;
      if (error.code !== "invalid_grant") {
        this.#renewIn(AGAIN_MS);
        return false;
      }
    }
    this.#forget();
    this.ended();
    return false;
  }

  // Forget the tokens, here and at the provider, and leave for its page that ends its session, where it has one (OpenID
  // Connect RP-Initiated Logout 1.0): otherwise the next one at this computer would be signed in as this one.
  async end() {
    const { access, refresh, id } = this.#tokens ?? {};
    this.#forget();
    localStorage.setItem(LEFT, "yes");
    await Promise.all([this.#revoke(refresh ?? access), this.#renewing]);
    const { end_session_endpoint } = this.#provider;
    if (!end_session_endpoint) return;
    const asked = new URLSearchParams({ client_id: this.#oidc.clientId, post_logout_redirect_uri: this.#redirect });
    if (id) asked.set("id_token_hint", id);
    location.assign(`${end_session_endpoint}?${asked}`);
  }

  #forget() {
    clearTimeout(this.#timer);
    this.#generation += 1;
    this.#tokens = null;
  }

  #renewIn(ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.renew(), Math.min(Math.max(ms, SOONEST_MS), LONGEST_MS));
  }

  async #post(endpoint, words) {
    const body = new URLSearchParams({ client_id: this.#oidc.clientId, ...words });
    return fetch(endpoint, { method: "POST", body, signal: AbortSignal.timeout(ANSWER_MS) });
  }

  async #revoke(token) {
    const { revocation_endpoint } = this.#provider;
    if (token && revocation_endpoint) await this.#post(revocation_endpoint, { token }).catch(() => {});
  }

  // Ask for tokens; false where somebody has signed out meanwhile: then they are good for nothing.
  async #ask(grant) {
    const generation = this.#generation;
    const answer = await this.#post(this.#provider.token_endpoint, grant);
    const said = await answer.json();
    if (!answer.ok) throw Object.assign(new Error(`the provider gave no token: ${said.error}`), { code: said.error });
    const { access_token: access, refresh_token: refresh, id_token: id } = said;
    if (generation !== this.#generation) {
      await this.#revoke(refresh ?? access);
      return false;
    }
    this.#tokens = { access, refresh: refresh ?? this.#tokens?.refresh, id: id ?? this.#tokens?.id };
    const validMs = (said.expires_in > 0 ? said.expires_in : 300) * 1000;
    this.#renewIn(Math.max(validMs - EARLY_MS, validMs / 2));
    return true;
  }
}
