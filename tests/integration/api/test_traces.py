"""Traces of the API at a real collector: they nest, they come from the caller's own, they hold nothing of a patient."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from aegate_core.database import open_database
from aegate_core.events import TRACES_OFF
from aegate_graphql_api.patient_data import AccessLog
from aegate_graphql_api.policy import Policy
from aegate_graphql_api.rules import Rules
from aegate_graphql_api.tracing import OFF, TracesWanted, traces_wanted, tracing
from tests import sentinel
from tests.integration.api.clients import API
from tests.integration.api.collector import Collector, collector
from tests.integration.api.serving import served_api
from tests.integration.waiting import eventually_async

FIND = """
query FindStudies($name: String!) {
  studies(search: $name) { nodes { accessionNumber patient { name patientId birthDate } series { description } } }
  other: studies(where: {patientId: {contains: "ZZSENT-PID"}}) { nodes { id } }
}
"""
HOLD = (
    'mutation Hold($reason: String) { holdQueueItems(selection: {search: "Quillonia"}, reason: $reason, '
    "guard: {dryRun: true}) { __typename } }"
)
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


async def asked(api: API, collecting: Collector, monkeypatch: pytest.MonkeyPatch) -> list[httpx.Response]:
    """Ask this and that of an API that gives its traces to a collector."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collecting.url)
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    async with (
        tracing(traces_wanted(os.environ), api.db) as traces,
        served_api(api, rules=Rules(Policy(), AccessLog(api.db), traces)) as served,
        httpx.AsyncClient(headers={"Authorization": f"Bearer {api.both}"}, timeout=60) as client,
    ):

        async def post(query: str, headers: dict[str, str] | None = None, **variables: str) -> httpx.Response:
            body = {"query": query, "variables": variables}
            return await client.post(served.http, json=body, headers=headers)

        parent = {
            "traceparent": f"00-{TRACE}-{PARENT}-01",
            "tracestate": f"vendor={sentinel.PATIENT_ID}",
            "baggage": f"patient={sentinel.PATIENT_ID}",
        }
        stream = {"query": "subscription Arrivals { studyArrived { snapshot } }"}
        events = {"Accept": "text/event-stream"}
        async with client.stream("POST", served.http, json=stream, headers=events) as response:
            await anext(line async for line in response.aiter_lines() if line.startswith("data:"))
        return [
            await post(FIND, parent, name="Quillonia"),
            await post(HOLD, reason=sentinel.PATIENT_NAME),
            await post("{ dashboard { failed } }", {"Authorization": f"Bearer {api.editor}"}),
            await post("{ nothing }"),
            await post("subscription Arrivals { studyArrived { snapshot } }"),
        ]


async def test_operations_and_statements_are_told_and_no_patient_is(
    api: API, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collector() as collecting:
        answers = await asked(api, collecting, monkeypatch)
        await eventually_async(lambda: len(collecting.operations) == 6, what="all spans came")
    assert sentinel.PATIENT_NAME in answers[0].text
    for body in collecting.raw:
        sentinel.assert_absent(body, "a trace")
    assert set(collecting.paths) == {"/v1/traces"}
    assert {r["service.name"] for r in collecting.resources} == {"aegate-api"}
    assert {r["deployment.environment.name"] for r in collecting.resources} == {"test"}
    found = {span.name: span for span in collecting.operations if not span.is_error}
    assert [(s.name, s.attributes.get("error.type"), s.is_error) for s in collecting.operations] == [
        ("subscription Arrivals", None, False),
        ("query FindStudies", None, False),
        ("mutation Hold", None, False),
        ("query", "FORBIDDEN", True),
        ("query", "INVALID_QUERY", True),
        ("subscription Arrivals", "BAD_REQUEST", True),
    ]
    first = found["query FindStudies"]
    assert (first.trace_id, first.parent_id) == (TRACE, PARENT)
    assert first.attributes == {
        "graphql.operation.name": "FindStudies",
        "graphql.operation.type": "query",
        "aegate.graphql.cost": answers[0].json()["extensions"]["cost"]["requested"],
    }
    statements = collecting.below(first)
    assert {s.trace_id for s in statements} == {TRACE}
    texts = [s.attributes["db.query.text"] for s in statements]
    assert any("$1" in text and " FROM study" in text for text in texts)
    assert {s.attributes["db.system.name"] for s in statements} == {
        "sqlite" if api.db.is_sqlite else "postgresql"
    }
    assert all(0 < s.took_ns <= first.took_ns for s in statements)
    assert found["mutation Hold"].parent_id == ""


async def test_a_collector_that_is_away_costs_nothing_but_the_traces(
    api: API, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # takes connections, and never answers
        away = Collector(f"http://127.0.0.1:{deaf.getsockname()[1]}")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
        answers = await asked(api, away, monkeypatch)
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 400]
    assert "nodes" in answers[0].json()["data"]["studies"]
    caplog.clear()
    with collector() as refusing:
        refusing.status = 400
        await asked(api, refusing, monkeypatch)
        await eventually_async(lambda: "collector takes no traces" in caplog.text, what="it is said")
    assert caplog.text.count("collector takes no traces") == 1


def test_without_a_collector_nothing_of_it_is_loaded() -> None:
    program = (
        "import sys, aegate_graphql_api.process; print([m for m in sys.modules if 'opentelemetry' in m])"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


COLLECTOR = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    ("environ", "is_on"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
        (COLLECTOR, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({**COLLECTOR, "OTEL_SDK_DISABLED": "true"}, False),
        ({**COLLECTOR, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({**COLLECTOR, "OTEL_TRACES_EXPORTER": "otlp_proto_http"}, True),
        ({**COLLECTOR, "OTEL_TRACES_EXPORTER": "console, otlp"}, True),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_TRACES_EXPORTER": "console"}, False),
    ],
)
def test_traces_are_on_where_a_collector_is_named(environ: dict[str, str], is_on: bool) -> None:
    assert traces_wanted(environ) == TracesWanted(is_on)


@pytest.mark.parametrize(
    ("more", "variable"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin,console"}, "OTEL_TRACES_EXPORTER"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
        ({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "256"}, "OTEL_BSP_MAX_QUEUE_SIZE"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "9" * 30}, ", ".join(sorted([*COLLECTOR, "OTEL_BSP_MAX_QUEUE_SIZE"]))),
        ({"OTEL_BSP_SCHEDULE_DELAY": "0"}, "OTEL_BSP_SCHEDULE_DELAY"),
        ({"OTEL_SPAN_EVENT_COUNT_LIMIT": "many"}, "OTEL_SPAN_EVENT_COUNT_LIMIT"),
        (
            {"OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER": "gcp"},
            "OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER",
        ),
    ],
)
async def test_what_cannot_be_used_is_said_by_its_name_and_leaves_traces_off(
    more: dict[str, str],
    variable: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    for name, value in {**COLLECTOR, **more}.items():
        monkeypatch.setenv(name, value)
    async with (
        open_database(f"sqlite://{tmp_path / 'aegate.sqlite3'}") as db,
        tracing(traces_wanted(os.environ), db) as traces,
    ):
        assert (traces, db.observer) == (OFF, None)
    [said] = [r for r in caplog.records if getattr(r, "event", None) == TRACES_OFF]
    assert (said.levelname, said.__dict__["event_fields"]["variable"]) == ("WARNING", variable)
