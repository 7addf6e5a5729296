"""Who is it? The port, and the authenticator of local mode. There is no anonymous caller.

OIDC and Kubernetes tokens are further implementations of the same port, in `identity`.
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from aegate_core.errors import InvalidInput, InvalidValue
from aegate_core.events import TOKENS_REFUSED, Log
from aegate_graphql_api.permission import Permission
from aegate_graphql_api.permissions import Caller
from aegate_graphql_api.tokens import PREFIX, TokenRecord, digest, list_tokens

log = Log("api")


class Authenticator(Protocol):
    """Says who a bearer token stands for."""

    local_only: bool
    """Whether it may be reached over loopback alone."""

    def is_ours(self, token: str) -> bool:
        """Whether it has the form of this one's tokens, so that no other needs to be asked."""

    async def authenticate(self, token: str, *, address: str) -> Caller | None:
        """Return the caller, or None for a token that is unknown, expired or revoked.

        Raises IdentityUnavailable when that cannot be told now.
        """


class LocalTokens:
    """Tokens of the file that `tokens.py` writes. A change takes effect with the next request.

    While the file cannot be read nobody is let in: a revocation must never be undone by a broken file.
    """

    local_only = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, ...] | None = None
        self._by_digest: dict[str, TokenRecord] = {}

    def is_ours(self, token: str) -> bool:
        """Whether it begins as ours do."""
        return token.startswith(PREFIX)

    async def authenticate(self, token: str, *, address: str) -> Caller | None:
        """Return the caller of ``token``. Digests are compared, never tokens: timing tells nothing useful."""
        self._reload()
        record = self._by_digest.get(digest(token))
        if record is None or not record.is_valid(datetime.now(UTC)):
            return None
        return Caller(
            name=record.name,
            permissions=frozenset({Permission.TOKEN, *(Permission(p) for p in record.permissions)}),
            expires_at=datetime.fromisoformat(record.expires_at) if record.expires_at else None,
            address=address,
            partitions=None if record.partitions is None else frozenset(record.partitions),
            namespaces=None if record.namespaces is None else frozenset(record.namespaces),
        )

    def _reload(self) -> None:
        seen = _looks(self._path)
        if seen is not None and seen == self._seen:
            return
        self._seen = seen
        try:
            self._by_digest = {r.sha256: r for r in list_tokens(self._path)}
        except InvalidInput as error:
            self._by_digest = {}
            log(TOKENS_REFUSED, error=error.message)


def _looks(path: Path) -> tuple[int, ...] | None:
    """Return what changes when the file or its mode does, or None when that cannot be told."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def refuse_exposure(authenticator: Authenticator, host: str, *, is_private: bool = False) -> None:
    """Raise InvalidValue when a local authenticator, or others without TLS, would listen on more than loopback."""
    if is_loopback(host):
        return
    if authenticator.local_only:
        raise InvalidValue(
            f"with local tokens the API listens on loopback alone, got {host}: use 127.0.0.1:PORT, "
            "and an SSH tunnel or a reverse proxy with its own sign-in to reach it from elsewhere; "
            "or name an identity provider with AEGATE_OIDC_ISSUER"
        )
    if not is_private:
        raise InvalidValue(
            f"tokens and patient data must not go over a network in the clear, got {host} without TLS: set "
            "AEGATE_HTTP_TLS_CERT and AEGATE_HTTP_TLS_KEY, or AEGATE_HTTP_BEHIND_PROXY=true where a proxy "
            "in front does TLS"
        )


def is_loopback(host: str) -> bool:
    """Whether it is an address of this machine that no other reaches."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
