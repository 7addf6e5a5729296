"""A process that is told to end before it has begun."""

from __future__ import annotations

import subprocess
import sys

CATCHES_EVERYTHING = """
import os, signal
from aegate_core.starting import end_at_once_on_sigterm

end_at_once_on_sigterm()
try:
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()
except BaseException:
    pass
print("still here")
"""


def test_sigterm_before_the_start_ends_a_process_whatever_catches_there() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CATCHES_EVERYTHING], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
