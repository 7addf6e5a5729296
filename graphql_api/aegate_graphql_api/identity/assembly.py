"""The authenticators that the settings ask for, as one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from aegate_graphql_api.authentication import Authenticator, LocalTokens, is_loopback, refuse_exposure
from aegate_graphql_api.identity.chain import Chain
from aegate_graphql_api.identity.oidc import OIDC
from aegate_graphql_api.identity.settings import IdentitySettings
from aegate_graphql_api.identity.signing_keys import SigningKeys


@asynccontextmanager
async def open_authenticator(
    settings: IdentitySettings, tokens: Path, *, host: str
) -> AsyncIterator[Authenticator]:
    """Give one that knows all tokens that count. Raises InvalidValue where it must not listen at ``host``."""
    async with AsyncExitStack():
        found: list[Authenticator] = [LocalTokens(tokens)]
        if settings.oidc is not None:
            keys = SigningKeys(settings.oidc.issuer.url, settings.oidc.tls)
            found.append(OIDC(settings.oidc.issuer, settings.oidc.mapping, keys))
        chain = Chain(found, exposed=not is_loopback(host))
        refuse_exposure(chain, host, is_private=settings.is_private)
        yield chain
