"""Many queue items at once, and the API as somebody else uses it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import httpx

from aegate_core.database import Database
from aegate_graphql_api.app import create_app
from aegate_graphql_api.permissions import Caller
from tests.integration.api.clients import API

COPIED = (
    "destination_id, level, study_id, unit_uid, source_ae, partition, location_code, state, priority, supplementary, "
    "requested_by, available_at, attempts, instances_total, instances_done, instances_failed, size_bytes, created_at, "
    "version"
)


async def copy_item(db: Database, count: int, *, ae: str = "default/pacs") -> None:
    """Put ``count`` copies of the item for ``ae`` into the queue, without instances, one after the other."""
    await db.execute(
        "WITH RECURSIVE many(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < $1::integer) "
        f"INSERT INTO delivery ({COPIED}, rank, dedup_key) SELECT q.{COPIED.replace(', ', ', q.')}, "
        "q.rank + many.n, 'copy' || many.n FROM delivery q JOIN destination d ON d.id = q.destination_id, many "
        "WHERE d.ae = $2 ORDER BY many.n",
        count,
        ae,
    )


class Known:
    """An authenticator that knows one caller, whatever the token."""

    local_only = True

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def authenticate(self, token: str, *, address: str) -> Caller | None:
        return replace(self._caller, address=address)


def as_caller(api: API, caller: Caller) -> API:
    """Return the same API as somebody else uses it."""
    transport = httpx.ASGITransport(app=create_app(api.db, Known(caller)))
    client = httpx.AsyncClient(transport=transport, base_url="http://aegate")
    return API(client, api.place, Path(), "token", "token", "token")
