"""A process that has not begun: it imports, and may be told to end."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from aegate_core.starting import importing

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


def test_garbage_is_looked_for_again_after_the_imports_also_when_they_fail() -> None:
    with pytest.raises(ImportError), importing():
        assert not gc.isenabled()
        raise ImportError("there is no such module")
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
    gc.unfreeze()
