"""Every call on the disk of a backup fails once, and on from there: the backup before is whole, or the new one is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.faults.disk_errors import FaultyDisk

AT_LEAST = {"backup": 600, "restore": 200}
"""So many calls there are, or the layer did not see them."""
EVERY = int(os.environ.get("EVERY", "3"))
"""Each third of them fails; ``EVERY=1``: each."""


@pytest.mark.timeout(400)
@pytest.mark.parametrize("way", AT_LEAST)
def test_whichever_call_fails_a_whole_backup_is_there(tmp_path: Path, way: str) -> None:
    disk, folder = FaultyDisk.make(tmp_path), tmp_path / "stage"
    folder.mkdir()
    environ = {**os.environ, **disk.environ, "AEGATE_ERRORS_FSYNC": "0"}
    command = [sys.executable, "-m", "tests.integration.faults.backup_sweep", way, folder, str(EVERY)]
    with (tmp_path / "sweep.log").open("wb") as log:
        done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, stderr=log, timeout=380)
    text = (tmp_path / "sweep.log").read_text(errors="replace")
    assert done.returncode == 0, text[-3000:]
    (failed,) = re.findall(r"failed calls: (\d+)", done.stdout.decode())
    assert int(failed) >= AT_LEAST[way] // EVERY
