"""OIDC bearer tokens: JWTs (RFC 7519) that a provider signed for us, verified with its public keys.

Of a token that is refused the caller learns that it is not valid, the log why: never the token nor what it claims.
"""

from __future__ import annotations

import binascii
import json
import re
import time
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from datetime import UTC, datetime

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry

from aegate_core.events import TOKEN_REFUSED, Log
from aegate_graphql_api.identity.issuer import Issuer
from aegate_graphql_api.identity.mapping import ClaimMapping, claim_of
from aegate_graphql_api.identity.signing_keys import SigningKeys
from aegate_graphql_api.permission import Permission
from aegate_graphql_api.permissions import Caller

log = Log("api")

LONGEST_TOKEN = 16 * 1024
_TYPES = (None, "jwt", "at+jwt", "application/at+jwt")
"""``typ`` of an ID token or an access token (RFC 9068); not of a logout token or whatever else a provider signs."""
_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_LATEST = 253_402_300_799
"""The last second of the year 9999."""


class _Registry(JWSRegistry):
    """Room for the certificates and groups that providers put into tokens; the token as a whole is limited before."""

    max_header_length = LONGEST_TOKEN
    max_payload_length = LONGEST_TOKEN


class Refused(Exception):
    """Why a token is not valid; for the log."""


class OIDC:
    """Tokens of one issuer."""

    local_only = False

    def __init__(self, issuer: Issuer, mapping: ClaimMapping, keys: SigningKeys) -> None:
        self._issuer = issuer
        self._mapping = mapping
        self._keys = keys

    def is_ours(self, token: str) -> bool:
        """Whether it says that our issuer made it; nothing of it is verified yet."""
        return len(token) <= LONGEST_TOKEN and unverified(token, 1).get("iss") == self._issuer.url

    async def authenticate(self, token: str, *, address: str) -> Caller | None:
        """Return the caller, None when the token is not valid. Raises IdentityUnavailable when no keys are known."""
        try:
            claims = await self._verified(token)
            expires_at = self._checked(claims)
            name = claim_of(claims, self._mapping.name)
            if not isinstance(name, str) or not name or not name.isprintable():
                raise Refused(f"the claim {self._mapping.name}, its name, is no text")
        except Refused as refused:
            log(TOKEN_REFUSED, by="oidc", reason=str(refused), address=address)
            return None
        grant = self._mapping.grant(claims)
        return Caller(
            name=f"oidc:{name}"[:256],
            permissions=grant.permissions | {Permission.TOKEN},
            expires_at=expires_at,
            address=address,
            partitions=grant.reach.partitions,
            namespaces=grant.reach.namespaces,
        )

    async def _verified(self, token: str) -> Mapping[str, object]:
        """Return the claims of a token whose signature is the issuer's. Raises Refused."""
        header = unverified(token, 0)
        key_id, algorithm, kind = header.get("kid", ""), header.get("alg"), header.get("typ")
        if not isinstance(key_id, str) or not isinstance(algorithm, str):
            raise Refused("no algorithm or key id")
        if (kind.lower() if isinstance(kind, str) else kind) not in _TYPES or "crit" in header:
            raise Refused("a token of another type")
        signing = await self._keys.find(key_id)
        if signing is None:
            raise Refused("the issuer has no such key")
        if algorithm not in signing.algorithms:
            raise Refused("an algorithm that the key is not for")
        registry = _Registry(algorithms=[algorithm], strict_check_header=False)
        try:
            return jwt.decode(token, signing.key, algorithms=[algorithm], registry=registry).claims
        except (JoseError, ValueError, binascii.Error) as error:
            raise Refused(f"its signature does not hold ({type(error).__name__})") from error

    def _checked(self, claims: Mapping[str, object]) -> datetime:
        """Return when it expires. Raises Refused when it is not for us, or not now."""
        now, leeway = time.time(), self._issuer.leeway_s
        audience = claims.get("aud")
        if claims.get("iss") != self._issuer.url:
            raise Refused("another issuer")
        if self._issuer.audience not in (audience if isinstance(audience, list) else [audience]):
            raise Refused("another audience")
        expires, begins, made = (_seconds(claims, name) for name in ("exp", "nbf", "iat"))
        if expires is None:
            raise Refused("it never expires")
        if now >= expires + leeway:
            raise Refused("expired")
        if any(t is not None and t > now + leeway for t in (begins, made)):
            raise Refused("not valid yet")
        return datetime.fromtimestamp(expires, UTC)


def unverified(token: str, part: int) -> Mapping[str, object]:
    """Return the header (0) or the claims (1) of a JWT as they stand there; empty for what is none."""
    if len(token) > LONGEST_TOKEN or not _JWT.fullmatch(token):
        return {}
    text = token.split(".")[part]
    try:
        found = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _seconds(claims: Mapping[str, object], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LATEST:
        raise Refused(f"{name} is no time")
    return float(value)
