"""changes: what programs follow; and the example that does, through a kill and a restart."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import sentinel
from tests.integration.api.clients import API, fill
from tests.integration.api.serving import Served
from tests.integration.waiting import eventually_async

EXAMPLE = Path(__file__).parents[3] / "examples" / "api" / "follow_changes.py"
CHANGES = """query($first: Int!, $after: String) { changes(first: $first, after: $after) {
  nodes { kind action objectId state partition cursor }
  pageInfo { hasNextPage hasPreviousPage startCursor endCursor } latestCursor } }"""


async def follow(api: API, after: str | None = None, *, token: str | None = None, first: int = 3) -> Any:
    """Return all nodes after a cursor, page by page, and the last page."""
    found: list[dict[str, Any]] = []
    while True:
        page = (await api.ask(CHANGES, token=token, first=first, after=after))["changes"]
        found += page["nodes"]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            return found, page


async def test_pages_hold_everything_in_order_and_objects_are_found_by_their_ids(api: API) -> None:
    found, page = await follow(api)
    assert page["pageInfo"]["endCursor"] == page["latestCursor"]
    kinds = [n["kind"] for n in found]
    assert {k: kinds.count(k) for k in sorted(set(kinds))} == {
        "APPLICATION_ENTITY": 4,
        "DESTINATION": 4,
        "QUEUE_ITEM": 2,
        "STUDY": 2,
    }
    assert {n["state"] for n in found if n["kind"] == "QUEUE_ITEM"} == {"SCHEDULED"}
    sentinel.assert_absent(str(found), "the feed of changes")
    ids = [n["objectId"] for n in found]
    objects = (await api.ask("query($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }", ids=ids))["nodes"]
    assert [o["id"] for o in objects] == ids
    again, _ = await follow(api, first=100)
    assert again == found
    for n, node in enumerate(found):
        after, _ = await follow(api, node["cursor"], first=100)
        assert after == found[n + 1 :]


async def test_each_permission_sees_its_own(api: API) -> None:
    entities, _ = await follow(api, token=api.editor)
    assert {n["kind"] for n in entities} == {"APPLICATION_ENTITY"}
    queue, _ = await follow(api, token=api.queue)
    assert {n["kind"] for n in queue} == {"DESTINATION", "QUEUE_ITEM", "STUDY"}
    both, _ = await follow(api)
    assert len(both) == len(entities) + len(queue)


async def test_expired_cursor_says_what_to_do(api: API) -> None:
    found, page = await follow(api)
    await api.db.execute("DELETE FROM change WHERE id < (SELECT max(id) FROM change)")
    error = await api.refused(CHANGES, first=1, after=found[0]["cursor"])
    assert error["extensions"]["code"] == "CURSOR_EXPIRED"
    assert "latestCursor" in error["message"]
    assert await follow(api, page["latestCursor"]) == ([], await latest(api, page["latestCursor"]))
    assert len((await follow(api))[0]) == 1


async def latest(api: API, after: str) -> Any:
    return (await api.ask(CHANGES, first=3, after=after))["changes"]


def cursor_of(*values: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "!",
        "ä",
        cursor_of(2, 1, "2026-01-01T00:00:00+00:00"),
        cursor_of(1, -1, None),
        cursor_of(1, 2**63, "2026-01-01T00:00:00+00:00"),
        cursor_of(1, True, "2026-01-01T00:00:00+00:00"),
        cursor_of(1, 1, None),
        cursor_of(1, 0, "2026-01-01T00:00:00+00:00"),
        cursor_of(1, 1, "0001-01-01T00:00:00+14:00"),
        cursor_of(1),
    ],
)
async def test_cursor_made_by_hand_is_refused(empty_api: API, cursor: str) -> None:
    error = await empty_api.refused(CHANGES, first=1, after=cursor)
    assert error["extensions"]["code"] == "BAD_CURSOR"


async def test_size_of_a_page_is_limited(empty_api: API) -> None:
    for first in (0, -1, 101):
        error = await empty_api.refused(CHANGES, first=first)
        assert error["extensions"]["code"] == "INVALID_VALUE"


@asynccontextmanager
async def example(served: Served, cursor: Path) -> AsyncIterator[asyncio.StreamReader]:
    """Run the example; kill it at the end."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        EXAMPLE,
        served.http,
        cursor,
        env={**os.environ, "AEGATE_TOKEN": served.api.both},
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    try:
        yield child.stdout
    finally:
        child.kill()
        await child.wait()


async def lines(output: asyncio.StreamReader, kind: str, count: int) -> list[dict[str, Any]]:
    """Return what the example tells until so many changes of a kind have come."""
    told: list[dict[str, Any]] = []
    while sum(change["kind"] == kind for change in told) < count:
        told.append(json.loads(await output.readline()))
    return told


async def test_example_goes_on_where_it_was_killed(served: Served, tmp_path: Path) -> None:
    cursor = tmp_path / "follow.cursor"
    async with example(served, cursor) as output:
        first = await lines(output, "DESTINATION", 4)
        # Its cursor is kept after the page: killed before, it would tell the page again.
        page = (await served.api.ask(CHANGES, first=100))["changes"]
        await kept(cursor, page["latestCursor"])
    await fill(served.api.place)
    async with example(served, cursor) as output:
        second = await lines(output, "QUEUE_ITEM", 2)
    found, _ = await follow(served.api)
    assert [c["objectId"] for c in first + second] == [c["objectId"] for c in found]


async def kept(file: Path, cursor: str) -> None:
    await eventually_async(lambda: file.exists() and file.read_text() == cursor, what="the cursor is kept")


async def test_example_ends_where_its_token_is_not_valid(served: Served, tmp_path: Path) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        EXAMPLE,
        served.http,
        tmp_path / "follow.cursor",
        env={**os.environ, "AEGATE_TOKEN": "wrong"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await child.communicate()
    assert child.returncode == 1
    assert out.decode().startswith("the API refused: ")
    assert not (tmp_path / "follow.cursor").exists()
