"""Several authenticators as one: the first that knows a token as its own decides alone."""

from __future__ import annotations

from collections.abc import Sequence

from aegate_graphql_api.authentication import Authenticator, is_loopback
from aegate_graphql_api.permissions import Caller


class Chain:
    """Asks the authenticators in their order. Beyond loopback, what is local only counts for loopback callers alone."""

    def __init__(self, authenticators: Sequence[Authenticator], *, exposed: bool) -> None:
        self._authenticators = tuple(authenticators)
        self._exposed = exposed
        self.local_only = all(a.local_only for a in self._authenticators)

    def is_ours(self, token: str) -> bool:
        """Whether anyone knows it as theirs."""
        return any(a.is_ours(token) for a in self._authenticators)

    async def authenticate(self, token: str, *, address: str) -> Caller | None:
        """Return the caller, None for a token of nobody's."""
        for one in self._authenticators:
            if one.is_ours(token):
                if one.local_only and self._exposed and not is_loopback(address):
                    return None
                return await one.authenticate(token, address=address)
        return None
