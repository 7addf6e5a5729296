"""An exception that nobody caught is told by kind and place: its text may quote rows and data sets."""

import json
import subprocess
import sys

import pytest

from tests import sentinel

_BEGIN = """
import asyncio, sys, threading
from aegate_core.events import configure_logging
configure_logging(terminal={terminal})
def fail():
    raise ValueError("DETAIL: Key (patient_id)=(" + sys.argv[1] + ")")
"""

_WAYS = {
    "process": "fail()",
    "thread": "t = threading.Thread(target=fail); t.start(); t.join()",
    "task": """
async def failing():
    fail()
async def main():
    task = asyncio.create_task(failing())
    await asyncio.wait([task])
    del task
asyncio.run(main())
""",
}


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("way", _WAYS)
def test_fault_is_told_by_kind_and_place_alone(way: str, terminal: bool) -> None:
    program = _BEGIN.format(terminal=terminal) + _WAYS[way]
    ran = subprocess.run(
        [sys.executable, "-c", program, sentinel.PATIENT_ID], capture_output=True, text=True, timeout=60
    )
    assert sentinel.PATIENT_ID not in ran.stderr + ran.stdout
    assert "patient_id" not in ran.stderr
    assert "ValueError at <string>:6 in fail" in ran.stderr
    assert ran.returncode == (1 if way == "process" else 0)
    if not terminal:
        assert [json.loads(line)["level"] for line in ran.stderr.splitlines()] == ["ERROR"]


def test_interrupt_by_a_person_is_no_fault() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _BEGIN.format(terminal=False) + "raise KeyboardInterrupt", "-"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "process.failed" not in ran.stderr
