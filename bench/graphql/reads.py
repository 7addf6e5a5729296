"""How long the API takes over millions of rows: search, pages, counts, dashboard, mutations of one item.

``python -m bench.graphql.reads --studies 2000000 --items 10000000`` makes a private PostgreSQL, fills it, and asks the
application itself (in this process, without a network) as a frontend would: permissions, audit and limits on. Each
question is asked ``--calls`` times with other words; the first ones warm caches up and do not count. At the end stands
whether each target holds; the run fails by an error alone, never by time.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from aegate_core.database import migrate, open_database
from aegate_graphql_api.app import create_app
from aegate_graphql_api.authentication import LocalTokens
from aegate_graphql_api.tokens import create_token
from bench.graphql import targets
from bench.graphql.rows import DESCRIPTIONS, SYLLABLES, fill
from bench.graphql.targets import Kind, Measured
from tests.integration.postgres import postgres_server

WARM_UP = 10
_STUDY = """nodes { id studyInstanceUid accessionNumber studyDate description modalities locationCode sourceAe
    instanceCount patient { name patientId } } pageInfo { endCursor hasNextPage }"""
STUDIES = (
    f"query($s: String, $after: String) {{ studies(search: $s, first: 50, after: $after) {{ {_STUDY} }} }}"
)
COUNT = "query($s: String) { studies(search: $s, first: 1) { totalCount { value precision } } }"
ITEMS = """query($s: String, $w: QueueItemWhere, $after: String) {
    queueItems(search: $s, where: $w, first: 50, after: $after) {
      nodes { id state destinationAe sourceAe priority attempts instancesTotal instancesDone createdAt finishedAt }
      pageInfo { endCursor hasNextPage } } }"""
BOARD = """query($since: DateTime) { dashboard(finishedSince: $since) { counts { state count } sentLastHour oldest
    trouble { kind ae count }
    byDestination { name counts { state count } } bySource { name counts { state count } }
    byLocation { name counts { state count } } byRoute { name counts { state count } }
    byPartition { name counts { state count } } } }"""
_CHANGED = "{ __typename ... on QueueItemsChanged { changedCount } ... on Problem { code message } }"
HOLD = f"mutation($id: ID!) {{ changed: holdQueueItems(selection: {{ids: [$id]}}) {_CHANGED} }}"
RESUME = f"mutation($id: ID!) {{ changed: resumeQueueItems(selection: {{ids: [$id]}}) {_CHANGED} }}"
BUMP = f"mutation($id: ID!) {{ changed: bumpQueueItems(selection: {{ids: [$id]}}) {_CHANGED} }}"
PRIORITY = (
    "mutation($id: ID!, $to: Int!) "
    f"{{ changed: setQueueItemPriority(selection: {{ids: [$id]}}, priority: $to) {_CHANGED} }}"
)


@dataclass(frozen=True, slots=True)
class Question:
    """An operation, and the variables of one call of it."""

    name: str
    query: str
    variables: Callable[[random.Random], dict[str, Any]]
    kind: Kind = Kind.OTHER


def _family(chance: random.Random) -> str:
    return "".join(chance.choice(SYLLABLES) for _ in range(3))


def _given(chance: random.Random) -> str:
    return "".join(chance.choice(SYLLABLES) for _ in range(2))


def _questions(studies: int, after: Mapping[str, str | None]) -> Iterator[Question]:
    def search(make: Callable[[random.Random], str]) -> Callable[[random.Random], dict[str, Any]]:
        return lambda chance: {"s": make(chance)}

    def number(letter: str, most: int) -> Callable[[random.Random], str]:
        return lambda chance: f"{letter}{chance.randrange(1, most)}"

    for name, words in (
        ("a family name", _family),
        ("given and family name", lambda c: f"{_given(c)} {_family(c)}"),
        ("a name with *", lambda c: f"{_family(c)[:5]}*"),
        ("patient:", lambda c: f"patient:{_family(c)}"),
        ("a patient's id", number("P", studies // 2)),
        ("accession:", lambda c: f"accession:{number('A', studies)(c)}"),
        ("a common word", _common),
        ("words that are nowhere", lambda c: f"x{_family(c)}x"),
        ("three common words", lambda c: f"{c.choice(DESCRIPTIONS)} L{c.randrange(10, 30)}"),
    ):
        yield Question(f"studies: {name}", STUDIES, search(words), Kind.SEARCH)
    yield Question("studies: first page", STUDIES, lambda _: {}, Kind.FIRST_PAGE)
    yield Question(
        "studies: 1000th page", STUDIES, lambda _: {"after": after["studies"]}, Kind.THOUSANDTH_PAGE
    )
    yield Question("studies: totalCount of a name", COUNT, search(_family))
    yield Question("studies: totalCount of a common word", COUNT, search(_common))
    yield Question("queue: a family name", ITEMS, search(_family), Kind.SEARCH)
    yield Question("queue: first page", ITEMS, lambda _: {}, Kind.FIRST_PAGE)
    yield Question(
        "queue: 1000th page", ITEMS, lambda _: {"after": after["queueItems"]}, Kind.THOUSANDTH_PAGE
    )
    yield Question("queue: held ones of a destination", ITEMS, lambda c: {"w": _held(c)})
    yield Question("dashboard of today", BOARD, lambda _: {}, Kind.DASHBOARD)


def _mutations(waiting: Sequence[str]) -> Iterator[Question]:
    """Each call is about another item, in a state in which it changes: the answers are checked for that."""
    for name, query, more in (
        ("hold an item", HOLD, {}),
        ("resume an item", RESUME, {}),
        ("bump an item", BUMP, {}),
        ("an item's priority", PRIORITY, {"to": 60}),
    ):
        yield Question(f"mutation: {name}", query, _each(waiting, more), Kind.MUTATION)


def _each(waiting: Sequence[str], more: dict[str, int]) -> Callable[[random.Random], dict[str, Any]]:
    left = iter(waiting)
    return lambda _: {"id": next(left), **more}


def _common(chance: random.Random) -> str:
    return chance.choice(DESCRIPTIONS).split()[0]


def _held(chance: random.Random) -> dict[str, Any]:
    return {"state": {"eq": "HELD"}, "destination": {"eq": f"default/ae{chance.randrange(1, 50)}"}}


@dataclass(slots=True)
class Frontend:
    """Asks, and says how long the answer took."""

    client: httpx.AsyncClient
    token: str

    async def ask(self, query: str, **variables: Any) -> tuple[float, Any]:
        """Return milliseconds and data. Raises RuntimeError for an error."""
        began = time.perf_counter()
        answer = await self.client.post(
            "/graphql",
            json={"query": query, "variables": variables},
            headers={"Authorization": f"Bearer {self.token}"},
        )
        took = (time.perf_counter() - began) * 1000
        body = answer.json()
        if "errors" in body:
            raise RuntimeError(str(body["errors"]))
        if "changed" in body["data"] and body["data"]["changed"].get("changedCount") != 1:
            raise RuntimeError(f"one item must change, got {body['data']['changed']}")
        return took, body["data"]

    async def thousandth(self, query: str, field: str) -> str | None:
        """Return the cursor behind 1000 pages, or behind all there are."""
        after: str | None = None
        for _ in range(1000):
            _, data = await self.ask(query, after=after)
            page = data[field]["pageInfo"]
            if not page["hasNextPage"]:
                break
            after = page["endCursor"]
        return after

    async def waiting(self, most: int) -> list[str]:
        """Return the ids of so many items that wait, the newest."""
        ids: list[str] = []
        after: str | None = None
        while len(ids) < most:
            _, data = await self.ask(ITEMS, w={"state": {"eq": "SCHEDULED"}}, after=after)
            ids += [node["id"] for node in data["queueItems"]["nodes"]]
            page = data["queueItems"]["pageInfo"]
            if not page["hasNextPage"] and len(ids) < most:
                raise RuntimeError(
                    f"{most} calls need as many items that wait, got {len(ids)}: ask for more --items"
                )
            after = page["endCursor"]
        return ids


async def measure(url: str, *, studies: int, calls: int, folder: Path) -> None:
    """Ask everything and print a line for each."""
    tokens = folder / "tokens.json"
    async with open_database(url) as db:
        transport = httpx.ASGITransport(app=create_app(db, LocalTokens(tokens)))
        async with httpx.AsyncClient(transport=transport, base_url="http://bench", timeout=120) as client:
            frontend = Frontend(client, create_token(tokens, "bench", ["DICOM_QUEUE"]))
            after = {
                "studies": await frontend.thousandth(STUDIES, "studies"),
                "queueItems": await frontend.thousandth(ITEMS, "queueItems"),
            }
            waiting = await frontend.waiting(WARM_UP + calls)
            print(f"{'':40}{'least':>10}{'median':>10}{'p99':>10}{'longest':>10}  ms of {calls} calls")
            run = []
            for question in (*_questions(studies, after), *_mutations(waiting)):
                run.append(asked := await _asked(frontend, question, calls))
                figures = (min(asked.took), asked.median, asked.p99, max(asked.took))
                print(f"{asked.name:40}" + "".join(f"{ms:10.1f}" for ms in figures), flush=True)
            for line in targets.verdicts(run):
                print(line)


async def _asked(frontend: Frontend, question: Question, calls: int) -> Measured:
    chance = random.Random(7)
    took = [
        (await frontend.ask(question.query, **question.variables(chance)))[0] for _ in range(WARM_UP + calls)
    ]
    return Measured(question.name, question.kind, took[WARM_UP:])


async def _filled(url: str, studies: int, items: int) -> None:
    await migrate(url)
    began = time.perf_counter()
    async with open_database(f"{url}&command_timeout=3600") as db:
        await fill(db, studies=studies, items=items)
    print(
        f"{studies} studies and {items} queue items made in {time.perf_counter() - began:.0f} s", flush=True
    )


@contextmanager
def filled_database(url: str | None, studies: int, items: int) -> Iterator[str]:
    """Give the URL of a database with so many rows, or ``url``, which was filled before."""
    if url is not None:
        yield url
        return
    with postgres_server(
        fsync="on",
        shared_buffers="512MB",
        maintenance_work_mem="512MB",
        max_wal_size="4GB",
        autovacuum_naptime="1min",
    ) as server:
        made = server.create("bench")
        asyncio.run(_filled(made, studies, items))
        yield made


def main(arguments: list[str]) -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--url", help="ask this database, which was filled so before, instead of a new one")
    asked = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="aegate-bench-") as folder,
        filled_database(asked.url, asked.studies, asked.items) as url,
    ):
        asyncio.run(measure(url, studies=asked.studies, calls=asked.calls, folder=Path(folder)))
        print(
            f"of {asked.studies:,} studies and {asked.items:,} items; "
            f"the targets speak of {targets.STUDIES:,} and {targets.ITEMS:,}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
