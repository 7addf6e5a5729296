"""The authenticators that the settings ask for, as one, while the process runs.

What speaks to an API server or an identity provider is imported where there is one: its HTTP client takes as long to
load as everything else that knows tokens.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from aegate_core.database import Database
from aegate_core.stores.index.list_resources import known_partitions
from aegate_graphql_api.authentication import Authenticator, LocalTokens, is_loopback, refuse_exposure
from aegate_graphql_api.identity.chain import Chain
from aegate_graphql_api.identity.settings import IdentitySettings
from aegate_graphql_api.identity.tls_files import TLSFiles
from aegate_graphql_api.settings import Settings

REVIEW_TIMEOUT_S = 5.0
LOOK_AT_FILES_S = 5.0


@asynccontextmanager
async def open_authenticator(settings: Settings, db: Database) -> AsyncIterator[Authenticator]:
    """Give one that knows all tokens that count. Raises InvalidValue where it must not listen at that address."""
    identity = settings.identity
    async with AsyncExitStack() as stack:
        found: list[Authenticator] = [LocalTokens(settings.tokens), *_oidc(identity)]
        if identity.kubernetes is not None:
            found.append(await stack.enter_async_context(_kubernetes(identity.kubernetes, db)))
        chain = Chain(found, exposed=not is_loopback(settings.host))
        refuse_exposure(chain, settings.host, is_private=identity.is_private)
        if identity.tls is not None:
            await stack.enter_async_context(_renewed(identity.tls))
        yield chain


@asynccontextmanager
async def _kubernetes(audience: str, db: Database) -> AsyncIterator[Authenticator]:
    from aegate_core.stores.cluster import ClusterClient, read_connection
    from aegate_graphql_api.identity.kubernetes import KubernetesTokens

    connection = read_connection(os.environ)
    async with ClusterClient(connection, manager="aegate-api", timeout_s=REVIEW_TIMEOUT_S) as client:
        yield KubernetesTokens(client, lambda: known_partitions(db), audience)


def _oidc(identity: IdentitySettings) -> list[Authenticator]:
    if identity.oidc is None:
        return []
    from aegate_graphql_api.identity.oidc import OIDC
    from aegate_graphql_api.identity.signing_keys import SigningKeys

    issuer = identity.oidc.issuer
    return [OIDC(issuer, identity.oidc.mapping, SigningKeys(issuer.url, identity.oidc.tls))]


@asynccontextmanager
async def _renewed(files: TLSFiles) -> AsyncIterator[None]:
    """Look after the certificate's files."""
    looking = asyncio.create_task(files.renew(LOOK_AT_FILES_S))
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
