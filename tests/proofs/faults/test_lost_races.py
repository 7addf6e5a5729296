"""Every statement fails once, by a lost race or a deadlock, and every COMMIT's answer gets lost once: nobody notices.

The server itself raises the error, or is cut off just after it has committed.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from aegate_graphql_api.tokens import create_token
from tests.integration.api.test_process import api_process
from tests.integration.faults.conftest import Recovery
from tests.integration.faults.hospital import PACS, hospital
from tests.integration.faults.proxies import CUT_AFTER, Statement, postgres_proxy
from tests.integration.postgres import PostgresServer, postgres_server

pytestmark = pytest.mark.timeout(300)

RACES = ("40001", "40P01")
NO_RACE = re.compile(r"BEGIN|ROLLBACK|SELECT pg_catalog|SELECT t\.oid|WITH RECURSIVE typeinfo", re.IGNORECASE)
"""What cannot lose a race: the frame of a transaction, and the driver's questions about types."""


class EachOnce:
    """Let each statement of a program fail once when it is sent, and once more when it is executed."""

    def __init__(self) -> None:
        self.failed: set[tuple[str, str]] = set()

    def __call__(self, statement: Statement) -> str | None:
        key = (statement.phase, statement.sql)
        if NO_RACE.match(statement.sql) or key in self.failed:
            return None
        self.failed.add(key)
        return RACES[len(self.failed) % 2]


class Nth:
    """Let the n-th statement within transactions fail."""

    def __init__(self, n: int) -> None:
        self.left = n

    def __call__(self, statement: Statement) -> str | None:
        if NO_RACE.match(statement.sql) or not statement.in_transaction:
            return None
        self.left -= 1
        return RACES[self.left % 2] if self.left == 0 else None


class EachCommitOnce:
    """Lose the answer to a COMMIT, once after each kind of statement that comes before one."""

    def __init__(self) -> None:
        self.lost: set[str] = set()
        self._last: dict[int, str] = {}

    def __call__(self, statement: Statement) -> str | None:
        if not statement.sql.startswith("COMMIT"):
            self._last[statement.session] = statement.sql
            return None
        before = self._last.get(statement.session, "")
        if before in self.lost:
            return None
        self.lost.add(before)
        return CUT_AFTER


def test_what_loses_a_race_or_the_answer_to_its_commit_is_done_once(
    tmp_path: Path, recovery: Recovery
) -> None:
    with postgres_server() as server, postgres_proxy(server.folder) as proxy:
        direct = server.create("hospital")
        with hospital(tmp_path, proxy.url("hospital"), judged_url=direct) as here:
            races = proxy.fault = EachOnce()
            here.send()
            here.echo()
            with recovery("a race lost on every statement"):
                here.until_delivered()
            assert here.sent_twice() == []
            assert len({sql for _, sql in races.failed}) > 40
            assert {phase for phase, _ in races.failed} == {"PARSE", "EXECUTE", "QUERY"}

            commits = proxy.fault = EachCommitOnce()
            here.send()
            with recovery("the answer to every kind of COMMIT lost"):
                here.until_delivered()
            assert len(commits.lost) > 5
            counts = "SELECT count(*), sum(instances_done), (SELECT count(*) FROM arrival) FROM delivery"
            assert server.run(counts, database="hospital") == "2|8|8"
            change_on_every_statement(tmp_path / "second", server)


STUDY = "{ studies(first: 1) { nodes { id } } }"
DESTINATION = (
    'holdDestination(id: "{id}") {{ ... on DestinationChanged {{ changed }} }}',
    'resumeDestination(id: "{id}") {{ ... on DestinationChanged {{ changed }} }}',
)
SEND = """sendStudies(input: {{studyIds: ["{study}"], destinationIds: ["{id}"], idempotencyKey: "{n}"}}) {{
  ... on StudiesSent {{ items {{ id }} }} }}"""
ITEM = {
    "holdQueueItems": "",
    "resumeQueueItems": "",
    "setQueueItemPriority": ", priority: 60",
    "bumpQueueItems": "",
    "cancelQueueItems": "",
    "retryQueueItems": "",
}
"""Mutation of one queue item, and what more it is told; in an order in which each has something to do."""
CHANGED = '{name}(selection: {{ids: ["{id}"]}}{more}) {{ ... on QueueItemsChanged {{ changedCount }} }}'


def change_on_every_statement(folder: Path, server: PostgresServer) -> None:
    """Change everything that the API can, through one of its own, each statement's race lost once: all is done once."""
    folder.mkdir()
    token = create_token(folder / "tokens.json", "test", ["DICOM_QUEUE"])
    with (
        postgres_proxy(server.folder) as proxy,
        api_process(folder, proxy.url("hospital"), "api") as (api, _),
    ):

        def ask(query: str) -> Any:
            headers = {"Authorization": f"Bearer {token}"}
            answer = api.post("/graphql", json={"query": query}, headers=headers).json()
            assert "errors" not in answer, (query, answer)
            return answer["data"]

        study = ask(STUDY)["studies"]["nodes"][0]["id"]
        for n in itertools.count(1):
            left = []

            def change(text: str, *, n: int = n, left: list[int] = left, **named: object) -> Any:
                proxy.fault = race = Nth(n)
                done = ask(f"mutation {{ done: {text.format(**named)} }}")["done"]
                left.append(race.left)
                return done

            for text in DESTINATION:
                assert change(text, id=PACS) == {"changed": True}, (n, text)
            change(DESTINATION[0], id=PACS)
            [item] = change(SEND, id=PACS, study=study, n=n)["items"]
            for name, more in ITEM.items():
                assert change(CHANGED, name=name, id=item["id"], more=more) == {"changedCount": 1}, (n, name)
            change(DESTINATION[1], id=PACS)
            if min(left) > 0:
                break
        assert n > 4
    audited = "SELECT action, count(*) FROM audit_event GROUP BY action ORDER BY action"
    counts = dict(line.split("|") for line in server.run(audited, database="hospital").splitlines())
    assert counts == dict.fromkeys((*ITEM, "sendStudies"), str(n)) | dict.fromkeys(
        ("holdDestination", "resumeDestination"), str(2 * n)
    )
