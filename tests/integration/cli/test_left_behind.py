"""What crashed and killed processes leave: no core file and no temporary file, for either may hold patient data."""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path

from tests import dicom
from tests.integration.cli.installations import QUICK, aegate, device, installation
from tests.integration.peers import run_dcmtk
from tests.integration.processes import family, is_running
from tests.integration.waiting import eventually
from tests.sentinel import CORE_FILE, TMPDIR

PROCESSES = ("listener", "indexer", "worker", "api")
ABORT = "import os; from aegate_core.core_dumps import forbid_core_dumps; forbid_core_dumps(); os.abort()"


def core_limit(pid: int) -> list[str]:
    """Return soft and hard limit of a process's core file (proc(5))."""
    [line] = [text for text in Path(f"/proc/{pid}/limits").read_text().splitlines() if "core file" in text]
    return line.split()[4:6]


def core_files(folder: Path) -> list[Path]:
    return [p for p in folder.iterdir() if p.is_file() and CORE_FILE.fullmatch(p.name)]


def test_crashed_and_killed_processes_leave_nothing(tmp_path: Path) -> None:
    files = [dicom.write(ds, tmp_path / f"{n}.dcm") for n, ds in enumerate(dicom.ct_study("s1", 5))]
    with installation(tmp_path, {"ct1.yaml": device("ct1", more=QUICK)}) as up:
        sent = run_dcmtk("storescu", "-aet", "CT1", "-aec", "AEGATE", "127.0.0.1", str(up.dicom_port), *files)
        assert sent.returncode == 0
        assert {tuple(core_limit(pid)) for pid in family(up.child.pid)} == {("1", "1")}
        pids = {name: up.pid_of(name) for name in PROCESSES}
        for pid in pids.values():
            os.kill(pid, signal.SIGABRT)
        eventually(lambda: not any(is_running(pid) for pid in pids.values()), deadline_s=60)
        eventually(lambda: all(up.pid_of(n) != pid for n, pid in pids.items()), deadline_s=60)
        eventually(lambda: any((up.data / "blobs").rglob("*.dcm")), deadline_s=60)
        environ = {"AEGATE_DIE_AT": "BLOB_PLACED", "TMPDIR": str(tmp_path / TMPDIR)}
        killed = aegate("backup", tmp_path / "target", "--data", up.data, **environ)
        assert killed.returncode == -signal.SIGKILL
    assert list((tmp_path / TMPDIR).iterdir()) == []
    assert core_files(Path.cwd()) == []


def test_process_that_forbids_core_dumps_dumps_none_though_it_might_before() -> None:
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (limits[1], limits[1]))
    try:
        _, status = os.waitpid(os.posix_spawn(sys.executable, [sys.executable, "-c", ABORT], os.environ), 0)
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, limits)
    assert (os.WTERMSIG(status), os.WCOREDUMP(status)) == (signal.SIGABRT, False)
    assert core_files(Path.cwd()) == []
