"""A process whose event loop stands still ends; one whose loop turns does not."""

import subprocess
import sys

import pytest

_PROGRAM = """
import asyncio, resource, threading
from aegate_core.events import configure_logging
from aegate_core.watchdog import Watchdog
configure_logging(terminal=False)
async def main():
    async with Watchdog("worker", look_every_s=0.02).watching():
        {what}
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("what", "fault"),
    [
        ("threading.Event().wait()", "its event loop stands still"),
        (
            "resource.setrlimit(resource.RLIMIT_AS, (1, 1)); await asyncio.Event().wait()",
            "no memory is left for it",
        ),
        (
            "resource.setrlimit(resource.RLIMIT_DATA, (1, 1)); await asyncio.Event().wait()",
            "no memory is left for it",
        ),
        ("await asyncio.to_thread(threading.Event().wait, 1)", ""),
    ],
)
def test_process_without_memory_or_a_turn_of_its_event_loop_ends(what: str, fault: str) -> None:
    program = [sys.executable, "-c", _PROGRAM.format(what=what)]
    ran = subprocess.run(program, capture_output=True, text=True, timeout=60)
    assert ran.returncode == (70 if fault else 0)
    assert fault in ran.stderr
