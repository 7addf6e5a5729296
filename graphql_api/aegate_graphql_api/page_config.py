"""``/config.json``: what a web page needs to know before anybody has signed in. Everybody is told: no secret in it.

Paths are relative to this file's own address, whatever a proxy in front of us has made of it.
"""

from __future__ import annotations

from aegate_graphql_api.identity.settings import IdentitySettings


def page_config(identity: IdentitySettings) -> dict[str, object]:
    """Return where the API is, and how people sign in; ``oidc`` is null where pages do not sign people in."""
    oidc = identity.oidc
    sign_in = (
        {"issuer": oidc.issuer.url, "clientId": oidc.client_id, "scopes": oidc.scopes.split()}
        if oidc is not None and oidc.client_id
        else None
    )
    return {"graphql": "graphql", "websocket": "graphql", "oidc": sign_in}
