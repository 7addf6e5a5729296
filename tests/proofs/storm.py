"""A thousand watch one of two replicas, which is told to stop; none misses a change: ``python -m tests.proofs.storm``.

They come back to the other one after the time that the first one told each of them, with the cursor of their last
message, while one queue item after the other changes. Judged: that each was told of every item without a snapshot, how
the coming back is spread, memory and file descriptors of the replica that stays, and that others are answered
meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import re
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage
from websockets.typing import Subprotocol

from aegate_core.database import Database, open_database
from aegate_graphql_api.tokens import create_token
from tests.integration.api.many_items import copy_item
from tests.integration.api.test_process import api_process
from tests.integration.processes import open_files, peak_rss_bytes, stop
from tests.integration.waiting import eventually_async, take_s
from tests.proofs.api_hospital import hospital
from tests.proofs.command import begin, finish, parser_of

WATCH = """subscription($after: String) { queue(first: 1, after: $after) {
  snapshot cursor nodes { id priority } } }"""
PAGE = "{ queueItems(first: 20) { nodes { id state priority } } }"
ITEMS = 200
"""Each is changed once; fewer than are told after a cursor (1,000)."""
A_SECOND = 10
CHANGED = 77
CALLERS = 10
MEMORY_BYTES = 400 << 20
DESCRIPTORS = 100
"""Beside one for each subscriber."""
LONGEST_ANSWER_S = 10.0
A_SECOND_BACK = 400
"""Twice of what the hints aim at."""


@dataclass
class Client:
    """One subscriber: what it was told, and when it came back."""

    token: str
    told: set[str] = field(default_factory=set)
    cursor: str | None = None
    snapshots: int = 0
    hint_ms: int | None = None
    back_at_s: float | None = None
    sent_back: int = 0
    too_late: int = 0

    async def watch(self, ports: Sequence[int]) -> None:
        """Watch the first replica until it says good-bye, then the second one, until cancelled.

        Whoever is sent back because many are waiting to be let in comes again after the time that was said.
        """
        while True:
            try:
                await self._watch(ports[0] if self.hint_ms is None else ports[1])
            except (
                InvalidMessage
            ):  # we took longer than the ten seconds that a request may take: all share a process
                self.too_late += 1
                await take_s(1)
            except ConnectionClosed as closed:
                reason = closed.rcvd.reason if closed.rcvd is not None else ""
                hint = re.search(r"retryAfterMs=(\d+)", reason)
                assert hint is not None, f"it was cut without a hint: {closed}"
                if reason.startswith("SERVER_STOPPING"):
                    self.hint_ms = int(hint[1])
                else:
                    self.sent_back += 1
                await take_s(int(hint[1]) / 1000)

    async def _watch(self, port: int) -> None:
        async with connect(
            f"ws://127.0.0.1:{port}/graphql",
            subprotocols=[Subprotocol("graphql-transport-ws")],
            open_timeout=120,
            ping_interval=None,
            compression=None,
        ) as opened:
            await _say(opened, type="connection_init", payload={"authorization": f"Bearer {self.token}"})
            payload = {"query": WATCH, "variables": {"after": self.cursor}}
            await _say(opened, type="subscribe", id="1", payload=payload)
            async for text in opened:
                message = json.loads(text)
                assert message["type"] in ("connection_ack", "next"), text
                if self.hint_ms is not None and self.back_at_s is None:
                    self.back_at_s = time.monotonic()
                if message["type"] == "next":
                    self._note(message["payload"]["data"]["queue"])

    def _note(self, update: dict[str, object]) -> None:
        self.cursor = cast("str", update["cursor"])
        self.snapshots += bool(update["snapshot"])
        nodes = cast("list[dict[str, object]]", update["nodes"])
        self.told |= {str(n["id"]) for n in nodes if n["priority"] == CHANGED}


async def _say(opened: ClientConnection, **message: object) -> None:
    await opened.send(json.dumps(message))


async def change_all(db: Database, half: asyncio.Event) -> None:
    """Change one item after the other; say when half of them are."""
    ids = [r["id"] for r in await db.fetch("SELECT id FROM delivery ORDER BY id")]
    for n, id in enumerate(ids):
        await db.execute("UPDATE delivery SET priority = $2 WHERE id = $1", id, CHANGED)
        if n == len(ids) // 3:
            half.set()
        await take_s(1 / A_SECOND)


async def answers(url: str, token: str, waits: list[float]) -> None:
    """Ask for a page of the queue twice a second, until cancelled; note how long each answer took."""
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        while True:
            began = time.monotonic()
            answer = await client.post("/graphql", json={"query": PAGE}, headers=headers)
            assert answer.status_code == 200, answer.text
            assert "errors" not in answer.json(), answer.text
            waits.append(time.monotonic() - began)
            await take_s(0.5)


def judge(clients: Sequence[Client], items: int, waits: Sequence[float]) -> list[str]:
    """Return what is wrong."""
    wrong = []
    gaps = [items - len(c.told) for c in clients if len(c.told) != items]
    if gaps:
        wrong.append(f"{len(gaps)} clients missed changes, one of them {max(gaps)} of {items}")
    if again := sum(c.snapshots != 1 for c in clients):
        wrong.append(f"{again} clients got another snapshot instead of what they missed")
    seconds = Counter(int(c.back_at_s) for c in clients if c.back_at_s is not None)
    if max(seconds.values()) > max(A_SECOND_BACK, len(clients) // 4):
        wrong.append(f"{max(seconds.values())} clients came back within a second")
    if max(waits) > LONGEST_ANSWER_S:
        wrong.append(f"a page took {max(waits):.1f} s")
    hints = sorted(c.hint_ms or 0 for c in clients)
    print(
        f"hints of {hints[0]} to {hints[-1]} ms; at most {max(seconds.values())} came back in a second; "
        f"{sum(c.sent_back for c in clients)} times one was told to wait because many came, "
        f"{sum(c.too_late for c in clients)} times one was slow to ask"
    )
    print(f"{len(waits)} pages meanwhile, the slowest {max(waits):.2f} s")
    return wrong


async def storm(url: str, ports: Sequence[int], tokens: Sequence[str], options: Options) -> list[str]:
    """Run it; return what is wrong."""
    clients = [Client(tokens[n % CALLERS]) for n in range(options.clients)]
    before = open_files(options.stays)
    watching = [asyncio.create_task(c.watch(ports)) for c in clients]
    waits: list[float] = []
    asking = asyncio.create_task(answers(f"http://127.0.0.1:{ports[1]}", tokens[-1], waits))
    async with open_database(url) as db:
        await copy_item(db, ITEMS - 2)
        await eventually_async(
            lambda: _all(clients, watching, lambda c: c.cursor is not None), deadline_s=300, what="all watch"
        )
        half = asyncio.Event()
        changing = asyncio.create_task(change_all(db, half))
        await half.wait()
        assert await asyncio.to_thread(stop, options.goes, timeout_s=60) == 0
        await changing
        await eventually_async(
            lambda: _all(clients, watching, lambda c: len(c.told) == ITEMS),
            deadline_s=120,
            what="all is told",
        )
    asking.cancel()
    await asyncio.wait({asking})
    wrong = judge(clients, ITEMS, waits)
    held = open_files(options.stays) - before
    print(
        f"the replica that stays: {peak_rss_bytes(options.stays) >> 20} MiB at most, {held} descriptors more"
    )
    if peak_rss_bytes(options.stays) > MEMORY_BYTES:
        wrong.append(f"the replica grew to {peak_rss_bytes(options.stays) >> 20} MiB")
    if held > options.clients + DESCRIPTORS:
        wrong.append(f"the replica holds {held} descriptors more for {options.clients} clients")
    for task in watching:
        task.cancel()
    await asyncio.gather(*watching, return_exceptions=True)
    await eventually_async(
        lambda: open_files(options.stays) <= before + DESCRIPTORS, deadline_s=60, what="connections end"
    )
    return wrong


def _all(
    clients: Sequence[Client], watching: Sequence[asyncio.Task[None]], holds: Callable[[Client], bool]
) -> bool:
    """Whether it holds of all; raises what ended one of them."""
    for task in watching:
        if task.done():
            task.result()
    return all(holds(client) for client in clients)


@dataclass(frozen=True, slots=True)
class Options:
    """How many come, and the two replicas."""

    clients: int
    goes: subprocess.Popen[bytes]
    stays: int


def main() -> int:
    """Print the figures; 1 when somebody missed something."""
    parser = parser_of(__doc__, database=None)
    parser.add_argument("--clients", type=int, default=1000)
    clients = parser.parse_args().clients
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2 * clients + 1000), hard))
    folder = begin("storm")
    return finish(_run(folder, clients), folder)


def _run(folder: Path, clients: int) -> list[str]:
    each, both = str(clients), str(2 * clients)
    tokens = folder / "tokens.json"
    with hospital(folder, "postgres") as (url, _):
        made = [create_token(tokens, f"c{n}", ["DICOM_QUEUE"]) for n in range(CALLERS + 1)]
        with (
            api_process(folder, url, "one", AEGATE_STREAMS_BY_CALLER=each, AEGATE_STREAMS=both) as (
                one,
                goes,
            ),
            api_process(folder, url, "two", AEGATE_STREAMS_BY_CALLER=each, AEGATE_STREAMS=both) as (
                two,
                stays,
            ),
        ):
            ports = [cast("int", client.base_url.port) for client in (one, two)]
            return asyncio.run(storm(url, ports, made, Options(clients, goes, stays.pid)))


if __name__ == "__main__":
    sys.exit(main())
