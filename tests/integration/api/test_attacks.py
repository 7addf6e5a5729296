"""Every attack of the table, by httpx and websockets: the expected code, nothing changed, little of the server used."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from graphql import parse

from aegate_core.database import Database
from aegate_graphql_api.reach import Reach
from aegate_graphql_api.tokens import create_token
from tests.integration.api.attacker import Attacker
from tests.integration.api.attacks import OK, OVER_HTTP, Asked, Sent
from tests.integration.api.clients import API, BEFORE
from tests.integration.api.live_attacks import OVER_WEBSOCKETS, Said
from tests.integration.api.test_process import api_process

ATTACKS: dict[str, tuple[Asked | Sent | Said, ...]] = {"http": OVER_HTTP, "websockets": OVER_WEBSOCKETS}
SILENT = 4408
"""How one is closed that says nothing: what the server does besides while it waits is not his."""

SERVER_CPU_S = 0.02
"""Of a hostile request, on the machine where `reference_s` is REFERENCE_S: what is promised."""
SLACK = 1.25
REFERENCE = "{ viewer { " + "name(of: 1) " * 330 + "} }"
REFERENCE_S = 0.0065
"""To parse it there. Neighbours take caches and clock rate away, from this work as from the server's."""
TRIES = 6
"""What was slow is sent again as another document, and the quickest counts."""
MEMORY_BYTES = 64 * 1024 * 1024

REAL = """{ queueItems(first: 1) { nodes { id } pageInfo { endCursor } } studies(first: 1) { nodes { id } }
    destinations(first: 1) { nodes { id } } }"""


async def snapshot(db: Database) -> object:
    """Return every row of every table but the audit, which says who asked for patients, and the feed.

    That tells what happened to the others, and a reader gives its rows their places.
    """
    if db.is_sqlite:
        sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '%fts%' ORDER BY name"
    else:
        sql = "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"
    names = [
        row["name"]
        for row in await db.fetch(sql)
        if not row["name"].startswith(("audit", "sqlite_", "change"))
    ]
    assert len(names) > 10
    if db.is_sqlite:
        return {name: await db.fetch(f'SELECT * FROM "{name}" ORDER BY 1') for name in names}
    digests = " UNION ALL ".join(
        f"SELECT '{name}' AS name, md5(string_agg(t::text, '' ORDER BY t::text)) AS digest FROM \"{name}\" t"
        for name in names
    )
    return await db.fetch(digests)


def processor_s(pid: int) -> float:
    """Return what a process has used of the processors, all threads, by the kernel's clock of it."""
    return time.clock_gettime((~pid << 3) | 2)


def memory_bytes(pid: int) -> int:
    """Return what a process holds in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096


def reference_s() -> float:
    """Return the seconds of the processor that parsing a document takes here and now: work like the server's own."""
    before = time.process_time()
    parse(REFERENCE)
    return time.process_time() - before


def cost_s(pid: int, send: Callable[[], str | None]) -> tuple[str | None, float]:
    """Send, and return what was wrong, and what it cost the server in seconds of the reference machine's processor."""
    began_s, before = reference_s(), processor_s(pid)
    wrong = send()
    used = processor_s(pid) - before
    return wrong, used * REFERENCE_S / min(began_s, reference_s())


def is_silent(attack: Asked | Sent | Said) -> bool:
    return isinstance(attack, Said) and attack.closed == SILENT


@pytest.mark.parametrize("attacks", ATTACKS.values(), ids=ATTACKS)
async def test_every_attack_is_answered_by_its_code_and_changes_nothing(
    api: API, tmp_path: Path, attacks: tuple[Asked | Sent | Said, ...]
) -> None:
    found = await api.ask(REAL)
    cursor = found["queueItems"]["pageInfo"]["endCursor"]
    item = found["queueItems"]["nodes"][0]["id"]
    both = ["DICOM_QUEUE", "AE_EDITOR"]
    reach = Reach(frozenset({"nowhere/main"}), frozenset({"nowhere"}))
    expired = create_token(api.tokens, "expired", both, expires_at=BEFORE)
    tokens = {
        "both": api.both,
        "queue": api.queue,
        "editor": api.editor,
        "elsewhere": create_token(api.tokens, "elsewhere", both, reach=reach),
    }
    real = {
        "$item": item,
        "$short": item[:-3],
        "$study": found["studies"]["nodes"][0]["id"],
        "$destination": found["destinations"]["nodes"][0]["id"],
        "$cursor": cursor,
        "$cut": cursor[:-8],
        "$edited": cursor[:10] + ("A" if cursor[10] != "A" else "B") + cursor[11:],
        "$both": api.both,
        "$expired": f"Bearer {expired}",
    }
    before = await snapshot(api.db)
    wrong: list[str] = []
    slow: list[str] = []
    settings = {"AEGATE_TOKENS": str(api.tokens), "AEGATE_RATE": "0"}
    with api_process(tmp_path, api.db.url, "api", **settings) as (client, child):
        assert isinstance(child, subprocess.Popen)
        attacker = Attacker(client, tokens, real)
        good = Asked("a good one", OK, REAL)
        assert attacker.send(good) is None
        memory = memory_bytes(child.pid)
        for attack in attacks:
            costs = []
            for number in range(TRIES):
                problem, cost = cost_s(child.pid, partial(attacker.send, attack, number))
                costs.append(cost)
                if cost <= SERVER_CPU_S or is_silent(attack):
                    break
            if min(costs) > SERVER_CPU_S * SLACK and not is_silent(attack):
                slow.append(f"{attack.name}: {min(costs) * 1000:.1f} ms")
            if problem is not None:
                wrong.append(problem)
            if await snapshot(api.db) != before:
                wrong.append(f"{attack.name}: it changed the database")
                before = await snapshot(api.db)
        assert not wrong, "\n".join(wrong)
        assert not slow, "\n".join(slow)
        assert memory_bytes(child.pid) - memory < MEMORY_BYTES
        answer = client.post(
            "/graphql", json={"query": REAL}, headers={"Authorization": f"Bearer {api.both}"}
        )
        assert answer.json()["data"] == found


def test_the_table_is_large_and_names_its_attacks_once() -> None:
    names = [attack.name for attacks in ATTACKS.values() for attack in attacks]
    assert len(OVER_HTTP) >= 80
    assert len(OVER_WEBSOCKETS) >= 15
    assert len(set(names)) == len(names)
