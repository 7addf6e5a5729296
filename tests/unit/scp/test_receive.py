"""Whatever goes wrong while an object is received: the device hears a failure, never 0x0000, and the next is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aegate_core.dicom.identifiers import UID, ResourceKey
from aegate_core.stores.spool import SpoolFolder, Watermark, scan
from aegate_scp.congestion import Congestion
from aegate_scp.messages import StoreCommand
from aegate_scp.metrics import ListenerMetrics
from aegate_scp.receive import Intake, Peer, StoreReceiver
from tests import sentinel

COMMAND = StoreCommand(1, UID("1.2.840.10008.5.1.4.1.1.2"), UID("2.25.7"), True)


class FaultyFile:
    """A spool file with a fault of ours at one step."""

    def __init__(self, file: Any, step: str) -> None:
        self._file = file
        self._step = step

    def __getattr__(self, name: str) -> Any:
        if name == self._step:
            raise RuntimeError(sentinel.PATIENT_NAME)
        return getattr(self._file, name)


class FaultySpool(SpoolFolder):
    """A real spool, until it is told where to fail; once."""

    step = ""

    def begin(self, *arguments: Any) -> Any:
        step, self.step = self.step, ""
        if step == "begin":
            raise RuntimeError(sentinel.PATIENT_NAME)
        return FaultyFile(super().begin(*arguments), step)


def receive(receiver: StoreReceiver) -> int:
    receiver.begin(COMMAND, COMMAND.sop_class_uid, "1.2.840.10008.1.2.1")
    receiver.write(memoryview(b"data"))
    return receiver.finish(lambda: False).status


@pytest.mark.parametrize("step", ["begin", "write", "commit"])
def test_fault_of_ours_is_a_processing_failure_and_the_next_object_is_taken(
    tmp_path: Path, step: str, no_patient_data_gets_out: sentinel.Watch
) -> None:
    spool, metrics = FaultySpool(tmp_path / "spool"), ListenerMetrics()
    nearly_never = Watermark(used_percent=100.0, free_bytes=0)
    intake = Intake(spool, Congestion(spool, nearly_never, metrics), metrics)
    peer = Peer("a1", ResourceKey("default", "ct1"), "CT1", "AEGATE", "127.0.0.1")
    receiver = StoreReceiver(intake, peer)

    spool.step = step
    assert receive(receiver) == 0x0110
    assert list(scan(spool.root)) == []
    assert list(spool.root.rglob("*.part")) == []
    assert any("RuntimeError at test_receive.py" in line for line in no_patient_data_gets_out.lines)

    assert receive(receiver) == 0x0000
    assert len(list(scan(spool.root))) == 1
    spool.close()
