"""The demo without a terminal: it proves itself, and it notices a receiver that loses something."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.integration.cli.installations import aegate


@pytest.mark.timeout(240)
def test_the_demo_ends_well(tmp_path: Path) -> None:
    result = aegate("demo", timeout_s=200, TMPDIR=str(tmp_path))
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    assert "PACS: 121 of 121 instances are there, byte for byte as sent" in result.stdout
    assert "WS_READ_1: 120 of 120 instances are there, byte for byte as sent" in result.stdout
    assert list(tmp_path.glob("aegate-demo-*")) == []


@pytest.mark.timeout(240)
def test_the_demo_names_what_a_receiver_lost(tmp_path: Path) -> None:
    result = aegate("demo", "--lose-nth", "5", timeout_s=200, TMPDIR=str(tmp_path))
    assert result.returncode == 1
    assert "PACS: 120 of 121 instances are there" in result.stdout
    assert len(re.findall(r"pacs: missing [0-9.]+", result.stdout)) == 1
    assert len(list(tmp_path.glob("aegate-demo-*"))) == 1
