"""The demo without a terminal: it proves itself, and it notices a receiver that loses something."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest

from tests.integration.cli.installations import AEGATE, aegate
from tests.integration.processes import process
from tests.integration.waiting import eventually


@pytest.mark.timeout(240)
def test_the_demo_ends_well(tmp_path: Path) -> None:
    result = aegate("demo", timeout_s=200, TMPDIR=str(tmp_path))
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    assert "PACS: 121 of 121 instances are there, byte for byte as sent" in result.stdout
    assert "WS_READ_1: 120 of 120 instances are there, byte for byte as sent" in result.stdout
    assert result.stdout.splitlines()[-1].endswith("aegate demo --stay")
    assert list(tmp_path.glob("aegate-demo-*")) == []


@pytest.mark.timeout(240)
def test_the_demo_names_what_a_receiver_lost(tmp_path: Path) -> None:
    log = tmp_path / "demo.log"
    with process([*AEGATE, "demo"], log=log, environ={"TMPDIR": str(tmp_path)}, stop_s=60) as child:
        lost = eventually(lambda: next(tmp_path.glob("aegate-demo-*/pacs/*.dcm"), None), deadline_s=120)
        lost.unlink()
        assert child.wait(120) == 1
    text = log.read_text()
    assert "PACS: 120 of 121 instances are there" in text
    assert re.findall(r"pacs: missing ([0-9.]+)", text) == [lost.stem]
    assert len(list(tmp_path.glob("aegate-demo-*"))) == 1


@pytest.mark.timeout(240)
def test_a_terminals_ctrl_c_stops_the_demo_once_however_often_it_arrives(tmp_path: Path) -> None:
    log = tmp_path / "demo.log"
    environ = {"TMPDIR": str(tmp_path)}
    with process([*AEGATE, "demo", "--stay"], log=log, environ=environ, stop_s=60) as child:
        eventually(lambda: "It stays up until Ctrl-C" in log.read_text(), deadline_s=150)
        (data,) = re.findall(r"aegate queue list --data (\S+)", log.read_text())
        listed = aegate("queue", "list", "--data", data, timeout_s=60)
        assert listed.returncode == 0, listed.stderr
        (events,) = tmp_path.glob("aegate-demo-*/aegate.log")
        kept = tmp_path / "kept.log"
        kept.hardlink_to(events)
        for _ in range(3):
            child.send_signal(signal.SIGINT)
        assert child.wait(60) == 0
    said = [json.loads(line) for line in kept.read_text().splitlines() if line.startswith("{")]
    assert [e["event"] for e in said if e["event"] in ("child.killed", "process.failed")] == []
    assert said[-1]["event"] == "process.stopped"
    assert list(tmp_path.glob("aegate-demo-*")) == []
