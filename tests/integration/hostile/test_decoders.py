"""Images that crash a decoder, or keep it for good, take its process with them and nothing else."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
from pydicom import dcmread

from aegate_core.dicom.part10 import read_file_meta
from aegate_scu.decoder import MOST_MEMORY_BYTES
from aegate_scu.decoders import LEAST_SECONDS, DecoderLost, Order, decode
from aegate_scu.reencoding import CannotConvert, TooLargeToConvert
from tests.integration.hostile.objects import CRASHING, HANGING, TEST_FILES, damaged
from tests.integration.processes import cpu_s, family, is_running, process
from tests.integration.waiting import eventually

GOOD = TEST_FILES / "MR_small_RLE.dcm"
SMALL = TEST_FILES / "SC_rgb_small_odd_jpeg.dcm"
BUSY_S = 2.0
"""Of processor time: a decoder has started long before."""


def decoded(path: Path, seconds: int = LEAST_SECONDS) -> tuple[Mapping[str, Any], bytes]:
    """Return what a decoder says of a file, and the pixels."""
    with path.open("rb") as file, tempfile.TemporaryFile() as made:
        meta = read_file_meta(file)
        order = Order(meta.data_offset, str(meta.transfer_syntax_uid), seconds)
        said = decode(order, file, cast("BinaryIO", made))
        made.seek(0)
        return said, made.read()


def hanging(folder: Path) -> Path:
    path = folder / "hanging.dcm"
    path.write_bytes(damaged(*HANGING))
    return path


def assert_good_is_decoded() -> None:
    said, pixels = decoded(GOOD)
    assert (said["pixels"], pixels) == ("OW", dcmread(GOOD).pixel_array.tobytes())


@pytest.mark.parametrize(("name", "at", "byte", "how"), CRASHING)
def test_image_that_crashes_its_decoder_is_refused_and_the_next_is_decoded(
    tmp_path: Path, name: str, at: int, byte: int, how: str
) -> None:
    crashing = tmp_path / "crashing.dcm"
    crashing.write_bytes(damaged(name, at, byte))

    with pytest.raises(CannotConvert, match=f"its decoder ended with {how}"):
        decoded(crashing)

    assert_good_is_decoded()


def test_image_that_keeps_its_decoder_for_good_is_refused_when_its_time_is_up(tmp_path: Path) -> None:
    with pytest.raises(TooLargeToConvert, match="takes longer than 1 s to decode"):
        decoded(hanging(tmp_path), seconds=1)

    assert_good_is_decoded()


def test_decoder_that_somebody_kills_says_nothing_of_its_object(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(decoded, hanging(tmp_path))

        def killed() -> bool:
            for pid in decoders():
                os.kill(pid, signal.SIGKILL)
            return future.done()

        eventually(killed, deadline_s=50)
        with pytest.raises(DecoderLost):
            future.result()


def test_disk_that_cannot_be_written_is_no_fault_of_the_object() -> None:
    with GOOD.open("rb") as file, GOOD.open("rb") as read_only:
        meta = read_file_meta(file)
        order = Order(meta.data_offset, str(meta.transfer_syntax_uid), LEAST_SECONDS)
        with pytest.raises(OSError, match="Bad file descriptor"):
            decode(order, file, read_only)


@pytest.mark.parametrize("path", [GOOD, SMALL], ids=["written at once", "kept for later"])
def test_disk_without_room_is_no_fault_of_the_object(path: Path) -> None:
    with path.open("rb") as file, Path("/dev/full").open("wb") as full:
        meta = read_file_meta(file)
        order = Order(meta.data_offset, str(meta.transfer_syntax_uid), LEAST_SECONDS)
        with pytest.raises(OSError, match="No space left on device"):
            decode(order, file, full)


def test_object_that_is_longer_than_a_decoder_may_map_is_too_large(tmp_path: Path) -> None:
    huge = tmp_path / "huge.dcm"
    huge.write_bytes(GOOD.read_bytes())
    os.truncate(huge, 2 * MOST_MEMORY_BYTES)  # of holes

    with pytest.raises(TooLargeToConvert, match=r"cannot be decoded .* \(OSError\)"):
        decoded(huge)


_DECODE = """
import sys
from pathlib import Path
from tests.integration.hostile.test_decoders import decoded
decoded(Path(sys.argv[1]), seconds=600)
"""


def test_decoder_at_work_ends_with_its_worker_whatever_ended_that(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _DECODE, hanging(tmp_path)]
    with process(command, log=tmp_path / "worker.log") as worker:

        def at_work() -> set[int]:
            return {pid for pid in decoders(worker.pid) if cpu_s(pid) > BUSY_S}

        eventually(lambda: len(at_work()) == 1, deadline_s=50)
        (decoder,) = at_work()
        worker.kill()
        worker.wait(10)
        eventually(lambda: not is_running(decoder), deadline_s=20)


def decoders(of: int | None = None) -> set[int]:
    """Return the decoder processes of this one, or of another."""
    return {
        pid
        for pid in family(of or os.getpid())
        if is_running(pid) and b"aegate_scu.decoder" in Path(f"/proc/{pid}/cmdline").read_bytes()
    }


def test_decoders_work_at_once_and_few_are_kept() -> None:
    barrier = threading.Barrier(6)

    def one(_: int) -> bytes:
        barrier.wait(30)
        return decoded(GOOD)[1]

    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(one, range(6)))

    assert set(made) == {dcmread(GOOD).pixel_array.tobytes()}
    assert 1 <= len(decoders()) <= 2


def test_decoder_leaves_no_core_and_is_the_first_to_go_when_memory_runs_out() -> None:
    assert_good_is_decoded()
    for pid in decoders():
        folder = Path(f"/proc/{pid}")
        assert (folder / "oom_score_adj").read_text() == "1000\n"
        limits = dict(
            line.rsplit(None, 3)[:2]
            for line in (folder / "limits").read_text().splitlines()
            if "core" in line
        )
        # Not 0: a kernel that hands cores to a program (apport, systemd-coredump) heeds a limit of 1 alone.
        assert limits == {"Max core file size": "1"}
