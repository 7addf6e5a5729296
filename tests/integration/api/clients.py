"""What the tests of the API share: a hospital with real rows, and a caller for each kind of token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from aegate_core.database import Database
from aegate_core.services.manifests import Manifests
from aegate_core.services.studies import close_due
from aegate_graphql_api.app import create_app
from aegate_graphql_api.authentication import Authenticator, LocalTokens
from aegate_graphql_api.permissions import Caller
from aegate_graphql_api.policy import Policy
from aegate_graphql_api.tokens import create_token
from tests import sentinel
from tests.dicom import ct_study, us
from tests.integration.intake.hospital import Place

BEFORE = datetime.now(UTC) - timedelta(hours=1)


@dataclass
class API:
    """A client of the application. ``ask`` sends as the holder of both permissions unless told otherwise."""

    client: httpx.AsyncClient
    place: Place
    tokens: Path
    both: str
    queue: str
    editor: str
    manifests: Manifests | None = None

    @property
    def db(self) -> Database:
        return self.place.db

    async def post(self, query: str, *, token: str | None = None, **variables: object) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.both if token is None else token}"}
        body = {"query": query, "variables": variables}
        return await self.client.post("/graphql", json=body, headers=headers)

    async def ask(self, query: str, *, token: str | None = None, **variables: object) -> Any:
        """Return the data; fails on any error."""
        answer = (await self.post(query, token=token, **variables)).json()
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    async def refused(self, query: str, *, token: str | None = None, **variables: object) -> dict[str, Any]:
        """Return the first error, which must hold no patient data; fails when there is none."""
        response = await self.post(query, token=token, **variables)
        answer = response.json()
        assert "errors" in answer, answer
        sentinel.assert_absent(str(answer["errors"]), "a GraphQL error")
        error: dict[str, Any] = answer["errors"][0]
        return error

    async def audit(self) -> list[dict[str, Any]]:
        """Return what people did; who read what is in `accesses`."""
        return await self._audited("area IN ('QUEUE', 'ENTITIES')")

    async def accesses(self) -> list[dict[str, Any]]:
        """Return who read patient data."""
        return await self._audited("area = 'ACCESS'")

    async def _audited(self, which: str) -> list[dict[str, Any]]:
        return await self.db.fetch(
            f"SELECT actor, address, action, target, outcome, detail FROM audit_event WHERE {which} ORDER BY id"
        )


async def fill(place: Place) -> None:
    """Receive a CT study of 3 images and one ultrasound image, index them, close and route them."""
    place.receive_all(ct_study("one", 3), "ct1", BEFORE)
    place.receive(us(), "us1", BEFORE)
    await place.index(BEFORE)
    # What is due is closed by an indexer that has seen the spool after that.
    await place.db.execute("UPDATE indexer_state SET scanned_at = $1", datetime.now(UTC))
    await close_due(place.db, now=BEFORE + timedelta(minutes=30))


def connect(place: Place, tmp_path: Path, *, db: Database | None = None) -> API:
    """Return a client over ASGI with tokens of its own, and no rate: a test asks more at once than people do."""
    tokens = tmp_path / "run" / "tokens.json"
    both = create_token(tokens, "both", ["DICOM_QUEUE", "AE_EDITOR"])
    queue = create_token(tokens, "queue-only", ["DICOM_QUEUE"])
    editor = create_token(tokens, "editor-only", ["AE_EDITOR"])
    return API(_client(db or place.db, LocalTokens(tokens), None), place, tokens, both, queue, editor)


def writing_to(api: API, manifests: Manifests) -> API:
    """Return another client, of an application that changes resources in ``manifests``."""
    return replace(api, client=_client(api.db, LocalTokens(api.tokens), manifests), manifests=manifests)


def signed_in(api: API, change: Callable[[Caller], Caller]) -> API:
    """Return another client whose callers are what ``change`` makes of those that the tokens say."""
    return replace(api, client=_client(api.db, _Changed(LocalTokens(api.tokens), change), api.manifests))


def _client(db: Database, authenticator: Authenticator, manifests: Manifests | None) -> httpx.AsyncClient:
    app = create_app(db, authenticator, Policy(rate=0), manifests=manifests)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://aegate")


@dataclass
class _Changed:
    """An authenticator that says more of a caller than a local token does."""

    tokens: LocalTokens
    change: Callable[[Caller], Caller]
    local_only: bool = True

    async def authenticate(self, token: str, *, address: str) -> Caller | None:
        caller = await self.tokens.authenticate(token, address=address)
        return caller and self.change(caller)
