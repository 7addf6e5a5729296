"""A database that does not answer: typed errors and 503, at once and again, while the process lives on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx

from aegate_core.database import migrate, open_database
from aegate_core.health import read_state
from aegate_graphql_api.app import create_app
from aegate_graphql_api.authentication import LocalTokens
from aegate_graphql_api.tokens import create_token
from tests.integration.api.clients import API, connect
from tests.integration.api.test_process import api_process
from tests.integration.intake.hospital import Place
from tests.integration.postgres import postgres_server
from tests.integration.waiting import eventually

ITEMS = "{ queueItems { totalCount { value } } }"
HOLD = """mutation { holdDestination(id: "RGVzdGluYXRpb246ZGVmYXVsdC9wYWNz") {
    __typename ... on Problem { code message } } }"""


async def test_an_unreachable_database_is_unavailable(api: API, tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/gone/no.sqlite3" if api.db.is_sqlite else "postgres://nobody@127.0.0.1:1/none"
    async with open_database(url) as db:
        away = connect(Place(db, tmp_path, api.place.spool), tmp_path / "away")
        async with away.client:
            assert (await away.refused("{ queueItems { nodes { id } } }"))["extensions"][
                "code"
            ] == "UNAVAILABLE"
            held = await away.ask(
                'mutation { holdDestination(id: "RGVzdGluYXRpb246ZGVmYXVsdC9wYWNz") '
                "{ __typename ... on Problem { code } } }"
            )
            assert held["holdDestination"] == {"__typename": "UnavailableProblem", "code": "UNAVAILABLE"}
            assert (await away.client.get("/readyz")).status_code == 503
            assert (await away.client.get("/healthz")).status_code == 200
            assert (await away.ask("{ viewer { name } }"))["viewer"] == {"name": "both"}
    assert (await api.client.get("/readyz")).status_code == 200


async def test_a_damaged_file_is_unavailable(empty_api: API, tmp_path: Path) -> None:
    (tmp_path / "damaged.sqlite3").write_bytes(b"this is no database " * 500)
    async with open_database(f"sqlite://{tmp_path}/damaged.sqlite3") as db:
        away = connect(Place(db, tmp_path, empty_api.place.spool), tmp_path / "away")
        async with away.client:
            error = await away.refused(ITEMS)
            assert error["extensions"] == {"code": "UNAVAILABLE"}
            assert error["message"].startswith("the SQLite file is damaged or no database")
            assert (await away.client.get("/readyz")).status_code == 503


def test_a_postgresql_that_stops_and_comes_back_is_taken_up_by_itself(tmp_path: Path) -> None:
    token = create_token(tmp_path / "tokens.json", "reader", ["DICOM_QUEUE"])

    def ask(client: httpx.Client, query: str) -> Any:
        headers = {"Authorization": f"Bearer {token}"}
        answer = client.post("/graphql", json={"query": query}, headers=headers).json()
        answer.pop("extensions", None)
        return answer

    def says(state: str) -> bool:
        said = read_state(tmp_path / "api.json")
        return said is not None and said.state == state

    with postgres_server() as server:
        url = server.create("aegate")
        asyncio.run(migrate(url))
        with api_process(tmp_path, url, "api") as (client, _):
            assert ask(client, ITEMS) == {"data": {"queueItems": {"totalCount": {"value": 0}}}}
            server.stop()
            for _ in range(3):
                (error,) = ask(client, ITEMS)["errors"]
                assert error["extensions"] == {"code": "UNAVAILABLE"}
                problem = ask(client, HOLD)["data"]["holdDestination"]
                assert (problem["__typename"], problem["code"]) == ("UnavailableProblem", "UNAVAILABLE")
                assert problem["message"] == error["message"]
            assert client.get("/readyz").status_code == 503
            assert client.get("/healthz").status_code == 200
            assert ask(client, "{ viewer { name } }") == {"data": {"viewer": {"name": "reader"}}}
            eventually(lambda: says("degraded"), deadline_s=20)
            server.start()
            for _ in range(20):
                assert ask(client, ITEMS) == {"data": {"queueItems": {"totalCount": {"value": 0}}}}
            assert ask(client, HOLD)["data"]["holdDestination"]["code"] == "NOT_FOUND"
            assert client.get("/readyz").status_code == 200
            eventually(lambda: says("ready"), deadline_s=20)
    log = (tmp_path / "api.log").read_text()
    assert log.count('"event":"database.away"') == log.count('"event":"database.back"') == 1
    assert '"event":"request.failed"' not in log


async def test_a_task_that_fails_is_said_and_keeps_nobody_from_asking(empty_api: API) -> None:
    async def work() -> None:
        raise ValueError("what a library says of a patient")

    app = create_app(empty_api.db, LocalTokens(empty_api.tokens))
    keeping = asyncio.create_task(app.state.tasks.keep("operate", work))
    await asyncio.wait({keeping}, timeout=0)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://aegate") as client:
        answer = await client.get("/readyz")
        measured = (await client.get("/metrics")).text
    keeping.cancel()
    await asyncio.wait({keeping})
    assert answer.status_code == 200
    assert answer.text.startswith("ok: tasks in the background fail and begin again: operate (ValueError at ")
    assert "patient" not in answer.text
    assert 'aegate_api_task_failing{task="operate"} 1.0' in measured
