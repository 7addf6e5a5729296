// Sign in at an OpenID provider by the authorization code flow with PKCE (RFC 7636), as a public client: no secret.
// Tokens are kept in this module's memory, where no other page and no later visit finds them. What must survive the way
// to the provider and back lies in sessionStorage until then: the verifier and the state, of no use to anybody else.

const KEPT = "aegate-sign-in";
const EARLY_MS = 30_000; // an access token is renewed so long before it ends, or at half of its time

const base64url = (bytes) =>
  btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)));

export class SignIn {
  #oidc; // {issuer, clientId, scopes} of /config.json
  #provider; // its discovery document
  #tokens = null; // {access, refresh}
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
    if (scopes.includes("offline_access")) asked.set("prompt", "consent"); // OpenID Connect Core 11
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
  }

  // Renew the tokens; false where that cannot be: then somebody has to sign in again. Once at a time, whoever asks:
  // a provider takes a refresh token that comes twice for a stolen one.
  renew() {
    this.#renewing ??= this.#renew().finally(() => (this.#renewing = null));
    return this.#renewing;
  }

  async #renew() {
    const refresh = this.#tokens?.refresh;
    try {
      if (!refresh) throw new Error("there is nothing to renew by");
      await this.#ask({ grant_type: "refresh_token", refresh_token: refresh });
      return true;
    } catch {
      this.#forget();
      this.ended();
      return false;
    }
  }

  // Forget the tokens, here and at the provider.
  async end() {
    const token = this.#tokens?.refresh ?? this.#tokens?.access;
    this.#forget();
    const { revocation_endpoint } = this.#provider;
    const body = new URLSearchParams({ client_id: this.#oidc.clientId, token });
    if (token && revocation_endpoint) await fetch(revocation_endpoint, { method: "POST", body }).catch(() => {});
  }

  #forget() {
    clearTimeout(this.#timer);
    this.#tokens = null;
  }

  async #ask(grant) {
    const body = new URLSearchParams({ client_id: this.#oidc.clientId, ...grant });
    const answer = await fetch(this.#provider.token_endpoint, { method: "POST", body });
    const said = await answer.json();
    if (!answer.ok) throw new Error(`the provider gave no token: ${said.error}`);
    this.#tokens = { access: said.access_token, refresh: said.refresh_token ?? this.#tokens?.refresh };
    const validMs = (said.expires_in ?? 300) * 1000;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.renew(), Math.max(validMs - EARLY_MS, validMs / 2));
  }
}
