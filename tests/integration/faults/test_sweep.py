"""Every call on the disk between socket and index fails once: what was acknowledged is there, unchanged, all the same.

Found so is each path by which an error may come, also those that nobody thought of; see sweep.py.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.faults.disk_errors import FaultyDisk

AT_LEAST = {"receive": 100, "index": 150}
"""So many calls there are, or the layer did not see them."""


@pytest.mark.parametrize("way", AT_LEAST)
def test_whichever_call_fails_what_is_acknowledged_is_kept(tmp_path: Path, way: str) -> None:
    disk, folder = FaultyDisk.make(tmp_path), tmp_path / "data"
    folder.mkdir()
    environ = {**os.environ, **disk.environ, "AEGATE_ERRORS_FSYNC": "0"}
    command = [sys.executable, "-m", "tests.integration.faults.sweep", way, folder]
    with (tmp_path / "sweep.log").open("wb") as log:
        done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, stderr=log, timeout=110)
    text = (tmp_path / "sweep.log").read_text(errors="replace")
    assert done.returncode == 0, text[-3000:]
    (failed,) = re.findall(r"failed calls: (\d+)", done.stdout.decode())
    assert int(failed) >= AT_LEAST[way]
