"""The ground floor: the error tree, the catalogue of events, settings, health and process state."""

import json
import logging
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter

from aegate_core import errors, events
from aegate_core.errors import AegateError, InvalidResource, InvalidValue
from aegate_core.events import (
    CATALOGUE,
    PROCESS_STARTED,
    JSONFormatter,
    Log,
    TerminalFormatter,
    configure_logging,
)
from aegate_core.health import HealthServer, ProcessState, read_state
from aegate_core.settings import DataFolder, database_url, required


def test_every_error_has_a_code_of_its_own() -> None:
    kinds = [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, AegateError)]
    assert len({k.code for k in kinds}) == len(kinds)
    assert InvalidResource("spec.title is too long", field="spec.title").field == "spec.title"


def test_an_event_takes_only_its_own_fields() -> None:
    with pytest.raises(ValueError, match="has no field patient"):
        Log("test")(PROCESS_STARTED, patient="x")


def test_every_event_is_in_the_catalogue_once() -> None:
    all_events = [v for v in vars(events).values() if isinstance(v, events.Event)]
    assert len(CATALOGUE) == len(all_events)
    assert all(name == event.name for name, event in CATALOGUE.items())


def test_lines_are_json_for_programs_and_text_for_people(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "aegate"):
        Log("test")(PROCESS_STARTED, process="worker", pid=7)
    record = caplog.records[-1]
    line = json.loads(JSONFormatter().format(record))
    assert (line["event"], line["component"], line["process"], line["pid"]) == (
        "process.started",
        "test",
        "worker",
        7,
    )
    assert TerminalFormatter().format(record).endswith("test       started process=worker pid=7")


def test_what_a_library_says_of_an_exception_keeps_its_values() -> None:
    try:
        raise ValueError("a value of a data set")
    except ValueError as error:
        record = logging.getLogger("other").makeRecord(
            "other", 40, "f", 1, "failed: %r", (error,), (type(error), error, error.__traceback__)
        )
    for formatter in (JSONFormatter(), TerminalFormatter()):
        text = formatter.format(record)
        assert "a value" not in text
        assert "ValueError at test_ground.py:" in text


def test_logging_is_configured_once_for_the_process() -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    hooks = sys.excepthook, threading.excepthook
    try:
        configure_logging(terminal=False)
        configure_logging(terminal=True)
        assert [type(h.formatter) for h in root.handlers] == [TerminalFormatter]
        assert logging.getLogger("pynetdicom").level == logging.ERROR
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        sys.excepthook, threading.excepthook = hooks


def test_the_database_is_in_the_data_folder_unless_named() -> None:
    data = DataFolder(Path("/data"))
    assert database_url({}, data) == "sqlite:///data/aegate.sqlite3"
    assert database_url({"AEGATE_DATABASE_URL": "postgresql://h/n"}, data) == "postgres://h/n"
    with pytest.raises(InvalidValue, match="got scheme 'mysql'"):
        database_url({"AEGATE_DATABASE_URL": "mysql://h/n"}, data)
    for url in ("sqlite://", "sqlite://a.sqlite3", "sqlite://:memory:"):
        with pytest.raises(InvalidValue, match="must name a file by its whole path"):
            database_url({"AEGATE_DATABASE_URL": url}, data)
    assert [p.name for p in (data.spool, data.blobs, data.run)] == [
        "spool",
        "blobs",
        "run",
    ]


def test_a_missing_variable_is_named() -> None:
    assert required({"AEGATE_DATA": "/d"}, "AEGATE_DATA") == "/d"
    with pytest.raises(InvalidValue, match="AEGATE_DATA must be set"):
        required({}, "AEGATE_DATA")


def _get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_health_is_served_with_its_reason() -> None:
    registry = CollectorRegistry()
    Counter("seen", "Seen.", registry=registry).inc()
    trouble: list[str] = []
    server = HealthServer(
        ("127.0.0.1", 0), registry=registry, alive=lambda: None, ready=lambda: trouble[0] if trouble else None
    )
    server.start()
    try:
        assert _get(server.port, "/healthz") == (200, "ok\n")
        assert _get(server.port, "/readyz") == (200, "ok\n")
        trouble.append("spool is full")
        assert _get(server.port, "/readyz") == (503, "spool is full\n")
        assert "seen_total 1.0" in _get(server.port, "/metrics")[1]
        assert _get(server.port, "/other")[0] == 404
    finally:
        server.stop()


def test_a_process_state_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "worker.json"
    assert read_state(path) is None
    state = ProcessState("worker", 7, "ready", health_port=8081, port=11112, generation=3, message="")
    state.write(path)
    assert read_state(path) == state
    assert [p.name for p in tmp_path.iterdir()] == ["worker.json"]


@pytest.mark.parametrize("left", [b"", bytes(120), b'{"process": "wor', b"[]", b"\xff"])
def test_what_a_power_loss_left_of_a_state_says_nothing(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "worker.json").write_bytes(left)
    assert read_state(tmp_path / "worker.json") is None
