"""The real process over real HTTP: two at once on one database, a clean stop, files and headers."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from aegate_core.health import ProcessState, read_state
from aegate_graphql_api.tokens import create_token
from tests.integration.processes import process, stop
from tests.integration.waiting import eventually

COMMAND = [sys.executable, "-m", "aegate_graphql_api"]
COLLECTOR = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}


@contextmanager
def api_process(
    folder: Path, url: str, name: str, *, killed: bool = False, **environ: str
) -> Iterator[tuple[httpx.Client, subprocess.Popen[bytes]]]:
    """Run the API; it must end in good order, unless it is ``killed`` by the test."""
    state = folder / f"{name}.json"
    settings = {
        "AEGATE_DATA": str(folder),
        "AEGATE_DATABASE_URL": url,
        "AEGATE_HTTP_LISTEN": "127.0.0.1:0",
        "AEGATE_TOKENS": str(folder / "tokens.json"),
        "AEGATE_STATE_FILE": str(state),
        "AEGATE_LOG_FORMAT": "json",
    }
    with process(COMMAND, log=folder / f"{name}.log", environ={**settings, **environ}) as child:
        ready = eventually(lambda: _ready(state), deadline_s=90)
        with httpx.Client(base_url=f"http://127.0.0.1:{ready.port}", timeout=10) as client:
            yield client, child
        if killed:
            assert child.wait(10) == -signal.SIGKILL
            return
        assert stop(child) == 0
        said = read_state(state)
        assert said is not None
        assert said.state == "stopped"


def _ready(path: Path) -> ProcessState | None:
    said = read_state(path)
    return said if said is not None and said.state == "ready" else None


def test_two_processes_serve_one_database(database_url: str, tmp_path: Path) -> None:
    token = create_token(tmp_path / "tokens.json", "reader", ["DICOM_QUEUE"])
    headers = {"Authorization": f"Bearer {token}"}
    query = {"query": "{ viewer { name } queueItems { totalCount { value } } }"}
    with (
        api_process(tmp_path, database_url, "one", **COLLECTOR, OTEL_BSP_MAX_QUEUE_SIZE="256") as (one, _),
        api_process(tmp_path, database_url, "two", **COLLECTOR, OTEL_EXPORTER_OTLP_PROTOCOL="grpc") as (
            two,
            _,
        ),
    ):
        for client in (one, two):
            answer = client.post("/graphql", json=query, headers=headers)
            assert answer.json() == {
                "data": {"viewer": {"name": "reader"}, "queueItems": {"totalCount": {"value": 0}}},
                "extensions": {"cost": {"requested": 5, "limit": 100_000}},
            }
            assert answer.headers["cache-control"] == "no-store"
            assert client.get("/healthz").text == client.get("/readyz").text == "ok\n"
            assert 'aegate_api_requests_total{outcome="OK"} 1.0' in client.get("/metrics").text
            page = client.get("/graphiql")
            assert "script-src 'self'" in page.headers["content-security-policy"]
            assert "://" not in page.text
            for file in ("graphiql.min.js", "graphiql.min.css", "react.production.min.js", "page.js"):
                assert client.get(f"/graphiql/{file}").status_code == 200
            assert client.get("/graphiql/../app.py").status_code == 404
    for name in ("one", "two"):
        log = (tmp_path / f"{name}.log").read_text()
        assert token not in log
        assert "queueItems" not in log
        assert log.count('"event":"traces.off"') == 1, "variables of the host's telemetry stop no API"


def test_metrics_have_a_port_of_their_own_where_one_is_given(
    database_url: str, tmp_path: Path, free_port: int
) -> None:
    address = f"127.0.0.1:{free_port}"
    with api_process(tmp_path, database_url, "api", AEGATE_HEALTH_LISTEN=address):
        with httpx.Client(base_url=f"http://{address}", timeout=30) as client:
            assert client.get("/healthz").text == client.get("/readyz").text == "ok\n"
            lines = client.get("/metrics").text.splitlines()
            assert {f'aegate_api_task_failing{{task="{task}"}} 0.0' for task in ("operate", "watch")} <= {
                *lines
            }
            assert client.get("/config.json").status_code == client.get("/graphiql").status_code == 404
        environ = {"AEGATE_DATA": str(tmp_path), "AEGATE_DATABASE_URL": database_url}
        listen = {"AEGATE_HTTP_LISTEN": "127.0.0.1:0", "AEGATE_HEALTH_LISTEN": address}
        log = tmp_path / "refused.log"
        with process(COMMAND, log=log, environ={**environ, **listen}) as child:
            assert child.wait(60) == 1
        assert f"cannot listen on {address}" in log.read_text()


def test_addresses_that_cannot_be_are_refused(database_url: str, tmp_path: Path) -> None:
    for listen, told in (("0.0.0.0:0", "loopback"), ("127.0.0.1:nothing", "AEGATE_HTTP_LISTEN")):
        log = tmp_path / "refused.log"
        environ = {
            "AEGATE_DATA": str(tmp_path),
            "AEGATE_DATABASE_URL": database_url,
            "AEGATE_HTTP_LISTEN": listen,
            "AEGATE_LOG_FORMAT": "json",
        }
        with process(COMMAND, log=log, environ=environ) as child:
            assert child.wait(30) in (1, 2)
        assert told in log.read_text()
