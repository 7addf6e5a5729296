"""A terminal that is closed over a running `aegate up`: it stops in good order, though nobody hears it any more."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import termios
from contextlib import suppress
from pathlib import Path

from aegate_core.health import read_state
from tests.integration.cli.installations import AEGATE, READY_S, device, up_arguments
from tests.integration.processes import family, free_port, is_running, stop
from tests.integration.waiting import eventually

STOP_S = 60


def test_closed_terminal_stops_all_in_good_order(tmp_path: Path) -> None:
    folder, data = tmp_path / "hospital", tmp_path / "data"
    folder.mkdir()
    (folder / "ct1.yaml").write_text(device("ct1"))
    ours, theirs = os.openpty()

    def own_terminal() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the tests run under nohup
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    child = subprocess.Popen(
        [*AEGATE, *up_arguments(folder, data, free_port(), free_port())],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=own_terminal,
    )
    try:
        os.close(theirs)
        os.set_blocking(ours, False)
        eventually(lambda: is_ready(data, ours), deadline_s=READY_S, what="it is ready")
        everybody = family(child.pid)
        assert len(everybody) >= 5
        os.close(ours)
        assert child.wait(STOP_S) == 0
        assert [pid for pid in everybody if is_running(pid)] == []
    finally:
        stop(child)


def is_ready(data: Path, terminal: int) -> bool:
    """Whether it says so; what it wrote is read meanwhile: a terminal takes no more than somebody looks at."""
    with suppress(BlockingIOError):
        os.read(terminal, 65536)
    said = read_state(data / "run" / "up.state")
    return said is not None and said.state == "ready"
