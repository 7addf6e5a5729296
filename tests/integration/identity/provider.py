"""An OpenID provider for tests: a real one, from npm, with people who have a secret each instead of a password."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.integration.nodejs.program import node
from tests.integration.processes import free_port, process
from tests.integration.waiting import eventually

FOLDER = Path(__file__).parent
API = "https://aegate.test"
OTHER = "https://other.test"
AUDIENCES = {API: "aegate", OTHER: "other"}
SECRET = "a-secret-for-the-tests"

PEOPLE: Mapping[str, Mapping[str, object]] = {
    "radiographer": {"claims": {"groups": ["radiology"]}},
    "engineer": {"claims": {"realm_access": {"roles": ["pacs-engineer", "other"]}}, "alg": "ES256"},
    "chief": {"claims": {"groups": ["radiology", "cardiology"], "realm_access": {"roles": ["admin"]}}},
    "visitor": {"claims": {"groups": ["canteen"]}},
    "hurried": {"claims": {"groups": ["radiology"]}, "ttl": 1},
}

MAPPING = """
rules:
  - {claim: groups, value: radiology, permissions: [DICOM_QUEUE], partitions: [radiology/main]}
  - {claim: groups, value: cardiology, permissions: [DICOM_QUEUE], partitions: [cardiology/main]}
  - {claim: realm_access.roles, value: pacs-engineer, permissions: [AE_EDITOR], namespaces: [radiology]}
  - {claim: realm_access.roles, value: admin, permissions: [AE_EDITOR]}
"""


@dataclass(frozen=True)
class Provider:
    """A running provider."""

    issuer: str

    def token(self, person: str, *, resource: str = API) -> str:
        """Return an access token of ``person`` for ``resource``."""
        form = {"grant_type": "client_credentials", "scope": "api", "resource": resource}
        answer = httpx.post(f"{self.issuer}/token", data=form, auth=(person, SECRET), timeout=30)
        return str(answer.raise_for_status().json()["access_token"])

    def rotate(self, *, keep: bool) -> None:
        """Sign with new keys from now on; ``keep``: the old ones stay in the key set."""
        httpx.post(f"{self.issuer}/-/rotate?keep={str(keep).lower()}", timeout=30).raise_for_status()

    def seen(self) -> dict[str, int]:
        """Return how often keys and discovery were asked for."""
        counts: dict[str, int] = httpx.get(f"{self.issuer}/-/seen", timeout=30).json()
        return counts

    def grants(self) -> int:
        """Return how often a token was asked for."""
        return self.seen()["token"]

    def jwks(self) -> list[dict[str, str]]:
        """Return the public keys."""
        keys: list[dict[str, str]] = httpx.get(f"{self.issuer}/jwks", timeout=30).json()["keys"]
        return keys


@contextmanager
def provider(
    folder: Path, *, port: int = 0, pages: Mapping[str, Mapping[str, object]] | None = None
) -> Iterator[Provider]:
    """Run one; at the end of the block it is gone. ``pages``: clients that are web pages, and sign people in."""
    issuer = f"http://127.0.0.1:{port or free_port()}"
    settings = {
        "issuer": issuer,
        "audiences": AUDIENCES,
        "clients": {name: {"secret": SECRET, **person} for name, person in PEOPLE.items()}
        | dict(pages or {}),
        "pages": pages is not None,
    }
    command = [node(), str(FOLDER / "provider.mjs"), json.dumps(settings)]
    with process(command, log=folder / "provider.log"):
        found = Provider(issuer)
        eventually(lambda: _answers(found), deadline_s=60)
        yield found


def _answers(found: Provider) -> bool:
    try:
        return bool(found.jwks())
    except httpx.TransportError:
        return False
