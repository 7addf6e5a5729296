"""Every attack of the table over real HTTP, by httpx: the expected code, nothing changed, little of the server used."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from aegate_core.database import Database
from tests import sentinel
from tests.integration.api.attacks import ATTACKS, NOTHING, OK, Asked, Sent
from tests.integration.api.clients import API
from tests.integration.api.test_process import api_process

SERVER_CPU_S = 0.02
"""Of a hostile request: what is promised."""
SLACK = 5
"""A neighbour takes caches and clock rate away, never processor time itself; so the bound may be this near."""
TRIES = 3
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


class Attacker:
    """Sends attacks to a server, as the holder of the token that each names."""

    def __init__(self, api: API, client: httpx.Client, pid: int, real: Mapping[str, str]) -> None:
        self._tokens = {"both": api.both, "queue": api.queue, "editor": api.editor}
        self._client = client
        self._pid = pid
        self._real = real

    def send(self, attack: Asked | Sent, number: int) -> tuple[httpx.Response, float]:
        """Return the answer, and the seconds of processor time that it cost the server."""
        request = self._asked(attack, number) if isinstance(attack, Asked) else self._sent(attack)
        before = processor_s(self._pid)
        try:
            answer = self._client.send(request)
        except httpx.ReadError:  # the server did not wait for the end of it
            answer = httpx.Response(400, text="reset")
        return answer, processor_s(self._pid) - before

    def _asked(self, attack: Asked, number: int) -> httpx.Request:
        body: dict[str, Any] = {
            "query": attack.query + ("\n" * number if attack.query else ""),
            "variables": self._filled(attack.variables),
            "operationName": attack.operation,
        }
        headers = {"Authorization": f"Bearer {self._tokens[attack.token]}"}
        return self._client.build_request("POST", "/graphql", json=body, headers=headers)

    def _filled(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: self._filled(inner) for key, inner in value.items()}
        if isinstance(value, list) and len(value) < 10:
            return [self._filled(inner) for inner in value]
        return self._real.get(value, value) if isinstance(value, str) else value

    def _sent(self, attack: Sent) -> httpx.Request:
        headers: dict[str, str | None] = {
            "Authorization": f"Bearer {self._tokens['both']}",
            "Content-Type": "application/json",
            **attack.headers,
        }
        given = {name: value for name, value in headers.items() if value is not None}
        return self._client.build_request(attack.method, attack.path, content=attack.content, headers=given)


def code_of(answer: httpx.Response) -> str:
    """Return the code of an answer, as the table has it."""
    if not answer.headers.get("content-type", "").startswith("application/json"):
        return ""
    said = answer.json()
    sentinel.assert_absent(str(said.get("errors")), "a GraphQL error")
    if said.get("errors"):
        return str(said["errors"][0]["extensions"]["code"])
    values = list((said["data"] or {}).values())
    if values and isinstance(values[0], dict):
        if "code" in values[0]:
            return str(values[0]["code"])
        if values[0].get("nodes") == []:
            return NOTHING
    return OK


def what_is_wrong(attack: Asked | Sent, answer: httpx.Response) -> str | None:
    """Return how an answer differs from what the table expects, or None."""
    got = code_of(answer)
    if got != attack.code:
        return f"{attack.name}: {attack.code} is expected, got {got}: {answer.text[:300]}"
    if isinstance(attack, Sent) and answer.status_code != attack.status:
        return f"{attack.name}: {attack.status} is expected, got {answer.status_code}"
    return None


async def test_every_attack_is_answered_by_its_code_and_changes_nothing(api: API, tmp_path: Path) -> None:
    found = await api.ask(REAL)
    cursor = found["queueItems"]["pageInfo"]["endCursor"]
    item = found["queueItems"]["nodes"][0]["id"]
    real = {
        "$item": item,
        "$short": item[:-3],
        "$study": found["studies"]["nodes"][0]["id"],
        "$destination": found["destinations"]["nodes"][0]["id"],
        "$cursor": cursor,
        "$cut": cursor[:-8],
        "$edited": cursor[:10] + ("A" if cursor[10] != "A" else "B") + cursor[11:],
    }
    before = await snapshot(api.db)
    wrong: list[str] = []
    slow: list[str] = []
    settings = {"AEGATE_TOKENS": str(api.tokens), "AEGATE_RATE": "0"}
    with api_process(tmp_path, api.db.url, "api", **settings) as (client, child):
        assert isinstance(child, subprocess.Popen)
        attacker = Attacker(api, client, child.pid, real)
        attacker.send(Asked("a good one", OK, REAL), 0)
        memory = memory_bytes(child.pid)
        for attack in ATTACKS:
            costs = []
            for number in range(TRIES):
                answer, cost_s = attacker.send(attack, number)
                costs.append(cost_s)
                if cost_s <= SERVER_CPU_S:
                    break
            if min(costs) > SERVER_CPU_S * SLACK:
                slow.append(f"{attack.name}: {min(costs) * 1000:.0f} ms")
            if problem := what_is_wrong(attack, answer):
                wrong.append(problem)
            if await snapshot(api.db) != before:
                wrong.append(f"{attack.name}: it changed the database")
                before = await snapshot(api.db)
        assert not wrong, "\n".join(wrong)
        assert not slow, "\n".join(slow)
        assert memory_bytes(child.pid) - memory < MEMORY_BYTES
        assert attacker.send(Asked("a good one", OK, REAL), 0)[0].json()["data"] == found


def test_the_table_is_large_and_names_its_attacks_once() -> None:
    names = [attack.name for attack in ATTACKS]
    assert len(names) >= 80
    assert len(set(names)) == len(names)
