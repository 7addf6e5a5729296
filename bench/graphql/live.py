"""Subscribers of the queue and what they cost one API process: ``python -m bench.graphql.live --subscribers 2000``.

Each watches one of the destinations, so a change concerns as many as share it; changes are made past the API, in SQL,
as workers make them. Printed: how long from the commit to the client, memory and processor time of the API process.
First all subscribers come at once, as after a restart.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from aegate_core.database import Database, migrate, open_database
from aegate_core.stores.queue.enqueueing import NewRow, insert
from aegate_graphql_api.tokens import create_token
from tests.integration.api.test_process import api_process
from tests.integration.intake.hospital import Place, entity, spool_folder
from tests.integration.postgres import postgres_server
from tests.integration.processes import cpu_s, peak_rss_bytes, rss_bytes

WATCH = "subscription($to: [String!]) { queue(where: {destinations: $to}) { snapshot nodes { id state bumpedAt } } }"


@dataclass
class Seen:
    """What the subscribers saw."""

    snapshots: int = 0
    sent_back: int = 0
    messages: int = 0
    late_s: list[float] = field(default_factory=list)


async def subscriber(port: int, token: str, ae: str, seen: Seen) -> None:
    """Watch one destination until cancelled; come back when told to."""
    while True:
        try:
            await _watch(port, token, ae, seen)
        except ConnectionClosed as closed:
            reason = closed.rcvd.reason if closed.rcvd is not None else ""
            hint = re.search(r"retryAfterMs=(\d+)", reason)
            if hint is None:
                raise
            seen.sent_back += 1
            await asyncio.sleep(int(hint[1]) / 1000)


async def _watch(port: int, token: str, ae: str, seen: Seen) -> None:
    async with connect(
        f"ws://127.0.0.1:{port}/graphql",
        subprotocols=[Subprotocol("graphql-transport-ws")],
        open_timeout=120,
        ping_interval=None,
        compression=None,
    ) as opened:
        await _say(opened, type="connection_init", payload={"authorization": f"Bearer {token}"})
        payload = {"query": WATCH, "variables": {"to": [ae]}}
        await _say(opened, type="subscribe", id="1", payload=payload)
        async for text in opened:
            message = json.loads(text)
            if message["type"] == "next":
                _note(message["payload"]["data"]["queue"], seen)


def _note(update: dict[str, Any], seen: Seen) -> None:
    now = datetime.now(UTC)
    if update["snapshot"]:
        seen.snapshots += 1
        return
    seen.messages += 1
    seen.late_s += [(now - datetime.fromisoformat(n["bumpedAt"])).total_seconds() for n in update["nodes"]]


async def _say(opened: ClientConnection, **message: object) -> None:
    await opened.send(json.dumps(message))


async def change(db: Database, ids: Sequence[int], rate: int, seconds: float) -> int:
    """Change one item after the other, so many a second."""
    began, done = time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds:
        due = int(passed * rate)
        for n in range(done, due):
            at = datetime.now(UTC)
            await db.execute("UPDATE delivery SET bumped_at = $2 WHERE id = $1", ids[n % len(ids)], at)
        done = max(done, due)
        await asyncio.sleep(0.005)
    return done


async def prepare(url: str, root: Path, destinations: int) -> list[int]:
    """Make a hospital with as many receivers, and an item for each."""
    await migrate(url)
    async with open_database(url) as db:
        with spool_folder(root / "spool") as spool:
            await Place(db, root, spool).apply(*(entity(f"d{n}") for n in range(destinations)))
        rows = [_row(n) for n in range(destinations)]
        async with db.transaction() as tx:
            return await insert(tx, rows, now=datetime.now(UTC))


def _row(n: int) -> NewRow:
    return NewRow(
        destination=f"default/d{n}",
        level="Study",
        study_id=1,
        unit_uid=f"1.2.{n}",
        source_ae="default/d0",
        partition="default/default",
        location_code=None,
        priority=50,
        rank=n,
        supplementary=False,
        requested_by="person:bench",
        dedup_key=f"bench-{n}",
        size_bytes=1,
        arrival_ids=("a",),
        hold_code=None,
        hold_reason=None,
    )


async def measure(url: str, root: Path, options: argparse.Namespace) -> None:
    """Run it and print the figures."""
    ids = await prepare(url, root, options.destinations)
    token = create_token(root / "tokens.json", "bench", ["DICOM_QUEUE"])
    with api_process(root, url, "api", AEGATE_STREAMS_BY_CALLER="100000", AEGATE_STREAMS="100000") as (
        client,
        child,
    ):
        pid, port = cast("Any", child).pid, cast("int", client.base_url.port)
        seen, empty_bytes, began = Seen(), rss_bytes(pid), time.monotonic()
        used = cpu_s(pid)
        watching = [
            asyncio.create_task(subscriber(port, token, f"default/d{n % options.destinations}", seen))
            for n in range(options.subscribers)
        ]
        while seen.snapshots < options.subscribers:
            await asyncio.sleep(0.05)
            for task in watching:
                if task.done():
                    task.result()
        print(
            f"{options.subscribers} came at once: {time.monotonic() - began:.1f} s, {cpu_s(pid) - used:.1f} s of CPU"
        )
        used, began = cpu_s(pid), time.monotonic()
        async with open_database(url) as db:
            changes = await change(db, ids, options.rate, options.seconds)
        took, used = time.monotonic() - began, cpu_s(pid) - used
        await asyncio.sleep(2)
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        late = sorted(seen.late_s)
        print(f"{changes} changes in {took:.1f} s, {seen.messages} messages, {len(late)} items told")
        each = options.subscribers / options.destinations
        print(
            f"load: {options.subscribers} subscribers on one process, {options.rate} changes a second, each of which "
            f"concerns {each:.0f} of them, for {options.seconds:g} s; subscribers on the same machine"
        )
        print(
            f"from change to client: p50 {late[len(late) // 2]:.3f} s, p99 {late[int(len(late) * 0.99)]:.3f} s, "
            f"worst {late[-1]:.3f} s"
        )
        print(
            f"API: {used / took:.2f} of a core, {peak_rss_bytes(pid) >> 20} MiB at most, {empty_bytes >> 20} at first"
        )


def main() -> None:
    """Measure on the database that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subscribers", type=int, default=2000)
    parser.add_argument("--destinations", type=int, default=100)
    parser.add_argument("--rate", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--database", choices=("postgres", "sqlite"), default="postgres")
    options = parser.parse_args()
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = f"sqlite://{root}/bench.sqlite3"
        if options.database == "postgres":
            url = stack.enter_context(postgres_server()).create("bench")
        asyncio.run(measure(url, root, options))


if __name__ == "__main__":
    main()
