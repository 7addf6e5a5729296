"""Bearer tokens of a real OpenID provider: who comes in, what is forged, when keys change, while it is away."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey, import_key

from aegate_core.errors import IdentityUnavailable
from aegate_graphql_api.identity.issuer import Issuer
from aegate_graphql_api.identity.mapping import read_mapping
from aegate_graphql_api.identity.oidc import OIDC
from aegate_graphql_api.identity.signing_keys import Patience, SigningKeys
from aegate_graphql_api.permission import Permission
from tests.integration.identity.provider import MAPPING, OTHER, Provider, provider
from tests.integration.waiting import eventually, eventually_async

EAGER = Patience(refetch_s=0)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with provider(tmp_path_factory.mktemp("provider")) as found:
        yield found


def oidc(running: Provider, folder: Path, patience: Patience | None = None) -> OIDC:
    path = folder / "mapping.yaml"
    path.write_text(MAPPING)
    keys = SigningKeys(running.issuer, patience=patience or Patience())
    return OIDC(Issuer(running.issuer, "aegate"), read_mapping(path), keys)


async def test_claims_become_permissions_partitions_and_namespaces(running: Provider, tmp_path: Path) -> None:
    authenticator = oidc(running, tmp_path)
    queue, editor = Permission.DICOM_QUEUE, Permission.AE_EDITOR
    radiology, both = {"radiology/main"}, {"radiology/main", "cardiology/main"}
    for person, permissions, partitions, namespaces in (
        ("radiographer", {queue}, radiology, set()),
        ("engineer", {editor}, set(), {"radiology"}),
        ("chief", {queue, editor}, both, None),
        ("visitor", set(), set(), set()),
    ):
        before = datetime.now(UTC)
        caller = await authenticator.authenticate(running.token(person), address="10.0.0.1")
        assert caller is not None, person
        assert (caller.name, caller.address) == (f"oidc:{person}", "10.0.0.1")
        assert caller.permissions == permissions | {Permission.TOKEN}
        assert (caller.partitions, caller.namespaces) == (partitions, namespaces), person
        assert caller.expires_at is not None
        assert 0 < (caller.expires_at - before).total_seconds() <= 310


async def test_a_token_for_somebody_else_is_refused(running: Provider, tmp_path: Path) -> None:
    token = running.token("radiographer", resource=OTHER)
    assert await oidc(running, tmp_path).authenticate(token, address="") is None


async def test_a_token_expires(running: Provider, tmp_path: Path) -> None:
    authenticator = oidc(running, tmp_path)
    authenticator._issuer = Issuer(running.issuer, "aegate", leeway_s=0)
    token = running.token("hurried")

    async def is_refused() -> bool:
        return await authenticator.authenticate(token, address="") is None

    await eventually_async(is_refused)


def part(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def by_hmac(secret: bytes, algorithm: str, key_id: str, body: str) -> str:
    """Sign with what everybody knows, as one who takes the public key for a secret would verify it."""
    told = f"{part({'alg': 'HS' + algorithm[3:], 'kid': key_id})}.{body}"
    return f"{told}.{base64.urlsafe_b64encode(hmac.digest(secret, told.encode(), algorithm)).decode().rstrip('=')}"


def signed(key: RSAKey | ECKey, header: dict[str, str], claims: dict[str, object]) -> str:
    return jwt.encode(header, claims, key, algorithms=[header["alg"]])


async def test_what_the_provider_did_not_sign_is_refused(running: Provider, tmp_path: Path) -> None:
    authenticator = oidc(running, tmp_path)
    genuine = running.token("chief")
    head, body, signature = genuine.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    rsa, ec = (next(k for k in running.jwks() if k["kty"] == kind) for kind in ("RSA", "EC"))
    public = import_key(dict(rsa)).as_pem(private=False)
    header = {"alg": "RS256", "kid": rsa["kid"]}
    mine, my_curve = RSAKey.generate_key(2048), ECKey.generate_key("P-256")
    forged = {
        "none": f"{part({'alg': 'none', 'kid': rsa['kid']})}.{body}.",
        "None with a signature": f"{part({'alg': 'None', 'kid': rsa['kid']})}.{body}.{signature}",
        "no signature": f"{head}.{body}.",
        "HMAC with the public key": by_hmac(public, "sha256", rsa["kid"], body),
        "HMAC with its modulus": by_hmac(rsa["n"].encode(), "sha512", rsa["kid"], body),
        "another key under its id": signed(mine, {"alg": "RS256", "kid": rsa["kid"]}, claims),
        "another algorithm of the kind": signed(mine, {"alg": "PS256", "kid": rsa["kid"]}, claims),
        "another kind of key": signed(my_curve, {"alg": "ES256", "kid": rsa["kid"]}, claims),
        "a key in its own header": signed(
            mine, {"alg": "RS256", "kid": "mine", "jku": "http://127.0.0.1:1/jwks"}, claims
        ),
        "other claims": f"{head}.{part({**claims, 'sub': 'engineer'})}.{signature}",
        "the other key's id": f"{part({'alg': 'RS256', 'kid': ec['kid']})}.{body}.{signature}",
        "no key id": f"{part({'alg': 'RS256'})}.{body}.{signature}",
        "a critical extension": f"{part({**header, 'crit': ['x'], 'x': 1})}.{body}.{signature}",
        "a logout token": f"{part({**header, 'typ': 'logout+jwt'})}.{body}.{signature}",
        "five parts": f"{head}.{body}.{signature}.{body}.{signature}",
        "two parts": f"{head}.{body}",
        "oversized": f"{head}.{part({**claims, 'more': 'x' * 20_000})}.{signature}",
        "nothing": "",
        "not a token": "🂡.🂡.🂡",
        "brackets": f"{base64.urlsafe_b64encode(b'[' * 9_000).decode()}.{body}.{signature}",
    }
    for name, token in forged.items():
        assert await authenticator.authenticate(token, address="") is None, name
    assert await authenticator.authenticate(genuine, address="") is not None


@pytest.mark.parametrize(
    ("change", "is_let_in"),
    [
        ({}, True),
        ({"exp": -20}, True),
        ({"exp": -40}, False),
        ({"nbf": 20}, True),
        ({"nbf": 40}, False),
        ({"iat": 20}, True),
        ({"iat": 40}, False),
        ({"exp": None}, False),
        ({"exp": "soon"}, False),
        ({"exp": True}, False),
        ({"exp": 1e300}, False),
        ({"iss": "http://127.0.0.1:1"}, False),
        ({"iss": None}, False),
        ({"aud": ["other", "aegate"]}, True),
        ({"aud": ["other"]}, False),
        ({"aud": None}, False),
        ({"aud": {"aegate": 1}}, False),
        ({"sub": None}, False),
        ({"sub": ["a"]}, False),
        ({"sub": "a\nb"}, False),
        ({"groups": {"radiology": 1}}, True),
    ],
)
async def test_claims_that_count_and_clocks_that_differ(
    tmp_path: Path, change: dict[str, object], is_let_in: bool
) -> None:
    """With a key of our own: a provider that works makes no such token."""
    key = RSAKey.generate_key(2048, {"kid": "k", "use": "sig"})
    issuer = "https://login.test"
    path = tmp_path / "mapping.yaml"
    path.write_text(MAPPING)
    keys = SigningKeys(issuer)
    keys.take({"keys": [key.as_dict(private=False)]})
    now = int(time.time())
    claims: dict[str, object] = {"iss": issuer, "aud": "aegate", "sub": "a", "exp": now + 60}
    for name, value in change.items():
        is_time = name in ("exp", "nbf", "iat") and type(value) is int
        claims[name] = now + value if is_time else value  # type: ignore[operator] # an int where it is a time
    token = signed(key, {"alg": "RS256", "kid": "k"}, {n: v for n, v in claims.items() if v is not None})
    caller = await OIDC(Issuer(issuer, "aegate"), read_mapping(path), keys).authenticate(token, address="")
    assert (caller is not None) == is_let_in


async def test_keys_change_while_it_runs(running: Provider, tmp_path: Path) -> None:
    authenticator = oidc(running, tmp_path, EAGER)
    old = running.token("radiographer")
    assert await authenticator.authenticate(old, address="") is not None
    running.rotate(keep=True)
    new = running.token("radiographer")
    assert await authenticator.authenticate(new, address="") is not None
    assert await authenticator.authenticate(old, address="") is not None
    running.rotate(keep=False)
    newest = running.token("radiographer")
    assert await authenticator.authenticate(newest, address="") is not None
    assert await authenticator.authenticate(old, address="") is None


async def test_keys_that_nobody_has_are_asked_for_once(running: Provider, tmp_path: Path) -> None:
    authenticator = oidc(running, tmp_path)
    token = running.token("radiographer")
    assert await authenticator.authenticate(token, address="") is not None
    before = running.seen()["jwks"]
    body, signature = token.split(".")[1:]
    flood = [f"{part({'alg': 'RS256', 'kid': f'x{n}'})}.{body}.{signature}" for n in range(200)]
    answers = await asyncio.gather(*(authenticator.authenticate(t, address="") for t in flood))
    assert answers == [None] * 200
    assert running.seen()["jwks"] == before
    eager = oidc(running, tmp_path, EAGER)
    assert await eager.authenticate(token, address="") is not None
    before = running.seen()["jwks"]
    await asyncio.gather(*(eager.authenticate(t, address="") for t in flood))
    assert running.seen()["jwks"] == before + 1


async def test_known_keys_go_on_while_the_provider_is_away(tmp_path: Path) -> None:
    with provider(tmp_path) as away:
        patience = Patience(refresh_s=0, refetch_s=0, keep_s=3600, timeout_s=5)
        authenticator, newcomer = oidc(away, tmp_path, patience), oidc(away, tmp_path, EAGER)
        token = away.token("radiographer")
        assert await authenticator.authenticate(token, address="") is not None
    for _ in range(3):
        assert await authenticator.authenticate(token, address="") is not None
    with pytest.raises(IdentityUnavailable, match="try again"):
        await newcomer.authenticate(token, address="")
    authenticator._keys.patience = Patience(refetch_s=0, keep_s=0)
    with pytest.raises(IdentityUnavailable):
        await authenticator.authenticate(token, address="")
    with provider(tmp_path, port=int(away.issuer.rpartition(":")[2])) as back:
        token = back.token("radiographer")
        eventually(back.jwks)
        assert await newcomer.authenticate(token, address="") is not None
