"""The public keys of an OIDC provider: found by discovery, kept, fetched again by age and when an unknown one is named.

While the provider is away the kept keys go on. The surprise: an unknown key id leads to a fetch, and anybody can name
one; so there is one fetch at a time, and no second within a while.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey, import_key

from aegate_core.errors import IdentityUnavailable
from aegate_core.events import IDENTITY_AWAY, IDENTITY_KEYS, Log
from aegate_graphql_api.identity.issuer import is_safe

log = Log("api")

ALGORITHMS: Mapping[str, tuple[str, ...]] = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("EdDSA", "Ed25519"),
}
"""Signatures by the kind of key. No HMAC: its key would be the public one, which everybody knows. No ``none``."""

SMALLEST_RSA_BITS = 2048
LARGEST_ANSWER_BYTES = 512 * 1024
MOST_KEYS = 100
PublicKey = RSAKey | ECKey | OKPKey


@dataclass(frozen=True, slots=True)
class Patience:
    """How long things are kept and waited for, in seconds."""

    refresh_s: float = 600.0
    """Keys older than this are fetched again, beside the requests: none waits for it."""
    keep_s: float = 24 * 3600.0
    """Keys older than this are believed no more: the provider may have withdrawn them meanwhile."""
    refetch_s: float = 10.0
    """For an unknown key id, or after a failure, not more often than this."""
    timeout_s: float = 5.0


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key, and the algorithms that a token may name with it."""

    key: PublicKey
    algorithms: tuple[str, ...]


@dataclass(slots=True)
class SigningKeys:
    """The keys of ``issuer``."""

    issuer: str
    tls: ssl.SSLContext | None = None
    patience: Patience = field(default_factory=Patience)
    _keys: dict[str, SigningKey] = field(default_factory=dict)
    _fetched_at: float | None = None
    _tried_at: float | None = None
    _fetching: asyncio.Task[None] | None = None
    _is_away: bool = False

    async def find(self, key_id: str) -> SigningKey | None:
        """Return the key, None when the provider has no such. Raises IdentityUnavailable when no keys are known."""
        age = self._age()
        if age is None or age > self.patience.keep_s:
            await self._fetch_again()
            if (age := self._age()) is None or age > self.patience.keep_s:
                raise IdentityUnavailable(
                    "the identity provider does not answer now and its keys are not known: try again in a moment"
                )
        elif key_id not in self._keys:
            await self._fetch_again()
        elif age > self.patience.refresh_s:
            self._begin()
        return self._keys.get(key_id)

    def _age(self) -> float | None:
        return None if self._fetched_at is None else time.monotonic() - self._fetched_at

    def _begin(self) -> asyncio.Task[None] | None:
        """Begin a fetch unless one was tried just now; return the one under way."""
        if self._fetching is not None and not self._fetching.done():
            return self._fetching
        now = time.monotonic()
        if self._tried_at is not None and now - self._tried_at < self.patience.refetch_s:
            return None
        self._tried_at = now
        self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch_again(self) -> None:
        if (task := self._begin()) is not None:
            await asyncio.shield(task)  # a caller that goes away ends nobody else's fetch

    async def _fetch(self) -> None:
        """Fetch the keys; what was known stays when that fails."""
        try:
            self.take(await self._asked())
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            if not self._is_away:
                log(IDENTITY_AWAY, issuer=self.issuer, error=_said(error))
            self._is_away = True

    def take(self, document: Mapping[str, object]) -> None:
        """Believe the keys of this JWK set from now on. Raises ValueError for what is none."""
        found = keys_of(document)
        if found.keys() != self._keys.keys() or self._is_away:
            log(IDENTITY_KEYS, issuer=self.issuer, count=len(found))
        self._keys, self._fetched_at, self._is_away = found, time.monotonic(), False

    async def _asked(self) -> Mapping[str, object]:
        timeout = aiohttp.ClientTimeout(total=self.patience.timeout_s)
        connector = aiohttp.TCPConnector(ssl=self.tls if self.tls is not None else True)
        # trust_env: HTTPS_PROXY, where the provider is beyond the hospital's network.
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=True) as session:
            said = await _document(session, self.issuer.rstrip("/") + "/.well-known/openid-configuration")
            if said.get("issuer") != self.issuer:
                raise ValueError("the discovery document names another issuer")
            where = said.get("jwks_uri")
            if not isinstance(where, str) or not is_safe(where):
                raise ValueError("jwks_uri must be https")
            return await _document(session, where)


async def _document(session: aiohttp.ClientSession, url: str) -> Mapping[str, object]:
    async with session.get(url, allow_redirects=False) as response:
        if response.status != 200:
            raise ValueError(f"status {response.status}")
        body = await response.content.read(LARGEST_ANSWER_BYTES + 1)
        while len(body) <= LARGEST_ANSWER_BYTES and (more := await response.content.read(65536)):
            body += more
    if len(body) > LARGEST_ANSWER_BYTES:
        raise ValueError(f"more than {LARGEST_ANSWER_BYTES} bytes")
    document = json.loads(body)
    if not isinstance(document, dict):
        raise ValueError("not an object")
    return document


def keys_of(document: Mapping[str, object]) -> dict[str, SigningKey]:
    """Return the signing keys of a JWK set (RFC 7517) by id; what we cannot use is left out."""
    listed = document.get("keys")
    if not isinstance(listed, list):
        raise ValueError("a JWK set has keys")
    found = {}
    for entry in listed[:MOST_KEYS]:
        if isinstance(entry, dict) and (key := _signing_key(entry)) is not None:
            found[str(entry.get("kid", ""))] = key
    return found


def _signing_key(entry: dict[str, str | list[str]]) -> SigningKey | None:
    kind = entry.get("kty")
    if not isinstance(kind, str) or kind not in ALGORITHMS or entry.get("use", "sig") != "sig":
        return None
    if kind == "RSA" and len(str(entry.get("n", ""))) * 6 < SMALLEST_RSA_BITS:
        return None
    named = entry.get("alg")
    algorithms = tuple(a for a in ALGORITHMS[kind] if named in (None, a))
    try:
        key = import_key({name: value for name, value in entry.items() if name in _PUBLIC})
    except (JoseError, ValueError, TypeError, KeyError):
        return None  # of a curve or form that we do not know
    return SigningKey(key, algorithms) if isinstance(key, PublicKey) and algorithms else None


_PUBLIC = ("kty", "n", "e", "crv", "x", "y")


def _said(error: BaseException) -> str:
    """Return an error in words, without what the other side wrote."""
    own = isinstance(error, ValueError) and not isinstance(error, json.JSONDecodeError | UnicodeError)
    return str(error) if own else type(error).__name__
