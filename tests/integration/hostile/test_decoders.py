"""Images that crash a decoder, or keep it for good, take its process with them and nothing else."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
from pydicom import dcmread

from aegate_core.dicom.part10 import read_file_meta
from aegate_scu.decoders import LEAST_SECONDS, DecoderLost, Order, decode
from aegate_scu.reencoding import CannotConvert, TooLargeToConvert
from tests.integration.hostile.objects import CRASHING, HANGING, TEST_FILES, damaged
from tests.integration.processes import family, is_running
from tests.integration.waiting import eventually

GOOD = TEST_FILES / "MR_small_RLE.dcm"


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


def decoders() -> set[int]:
    """Return the decoder processes of this one."""
    return {
        pid
        for pid in family(os.getpid())
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
        process = Path(f"/proc/{pid}")
        assert (process / "oom_score_adj").read_text() == "1000\n"
        limits = dict(
            line.rsplit(None, 3)[:2]
            for line in (process / "limits").read_text().splitlines()
            if "core" in line
        )
        assert limits == {"Max core file size": "0"}
