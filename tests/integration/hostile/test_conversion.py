"""Objects that cost far more to convert than they are long: bounded memory, a clear refusal beyond it."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from aegate_core.dicom.digest import digest_data_set
from aegate_core.dicom.part10 import read_file_meta
from aegate_scu.outgoing import Stored, outgoing
from aegate_scu.reencoding import MAX_ELEMENTS, TooLargeToConvert
from tests.dicom import Instance, ct, write
from tests.integration.hostile import objects

MB = 1 << 20
MOST_GROWTH_BYTES = 24 * MB
SIDE = 8192
"""Rows and columns of 16 bits: 128 MiB."""

_CONVERT = """
import json, re, sys
from pathlib import Path
from aegate_scu.outgoing import outgoing
from tests.integration.hostile.test_conversion import stored
def peak_kib():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
def convert(name):
    path = Path(name)
    with outgoing(stored(path), "1.2.840.10008.1.2", path.parent) as made:
        return made.path.stat().st_size
convert(sys.argv[1])
Path("/proc/self/clear_refs").write_text("5")
before = peak_kib()
size = convert(sys.argv[2])
print(json.dumps({"size": size, "growth": (peak_kib() - before) * 1024}))
"""


def stored(path: Path) -> Stored:
    with path.open("rb") as file:
        meta = read_file_meta(file)
    return Stored(path, str(meta.transfer_syntax_uid), digest_data_set(path, meta.data_offset))


def written(folder: Path, content: bytes) -> Path:
    path = folder / "a.dcm"
    path.write_bytes(content)
    return path


def test_deflated_bomb_is_not_inflated_for_a_peer_that_does_not_take_it(tmp_path: Path) -> None:
    pixels = objects.element(0x7FE00010, b"OW", length=1 << 30)
    bomb = objects.deflated(objects.plain("bomb") + pixels, 1024)
    assert len(bomb) < 2 << 20
    arrival = stored(written(tmp_path, bomb))
    assert arrival.transfer_syntax == DeflatedExplicitVRLittleEndian

    with (
        pytest.raises(TooLargeToConvert, match="inflates to more than 512 MiB"),
        outgoing(arrival, ExplicitVRLittleEndian, tmp_path),
    ):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["a.dcm"]


def test_object_nested_deeper_than_the_stack_is_converted(tmp_path: Path) -> None:
    arrival = stored(written(tmp_path, objects.INDEXED["1,000 deep"]("deep")))

    with outgoing(arrival, ImplicitVRLittleEndian, tmp_path) as made:
        content = made.path.read_bytes()
    item, end = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF), struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
    assert (content.count(item), content.count(end)) == (1000, 1000)


def test_object_of_too_many_elements_is_refused_as_too_large(tmp_path: Path) -> None:
    items = struct.pack("<HHL", 0xFFFE, 0xE000, 0) * MAX_ELEMENTS
    arrival = stored(written(tmp_path, objects.with_late("many", objects.element(0x00400275, b"SQ", items))))

    with (
        pytest.raises(TooLargeToConvert, match=f"more than {MAX_ELEMENTS} elements") as refused,
        outgoing(arrival, ImplicitVRLittleEndian, tmp_path),
    ):
        pass
    assert refused.value.code == "TOO_LARGE"
    assert [p.name for p in tmp_path.iterdir()] == ["a.dcm"]


def native(folder: Path) -> Path:
    """Write an image of 128 MiB."""
    return write(ct(Instance(study="large", rows=SIDE, columns=SIDE)), folder / "large.dcm")


def compressed(folder: Path) -> Path:
    """Write 128 frames that have 1 MiB each when they are decompressed."""
    ds = ct(Instance(rows=1024, columns=1024, transfer_syntax=ExplicitVRLittleEndian))
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.PixelData = bytes(MB)
    ds["PixelData"].VR = "OB"
    ds.compress(RLELossless, generate_instance_uid=False)
    frame = get_frame(ds.PixelData, 0, number_of_frames=1)
    ds.NumberOfFrames = "128"
    ds.PixelData = encapsulate([frame] * 128, has_bot=False)
    return write(ds, folder / "cine.dcm")


@pytest.mark.parametrize(("make", "pixels"), [(native, 128 * MB), (compressed, 128 * MB)])
def test_conversion_needs_no_more_memory_for_a_large_object(
    tmp_path: Path, make: object, pixels: int
) -> None:
    assert callable(make)
    small = write(ct(), tmp_path / "small.dcm")
    large = make(tmp_path)
    names = sorted(p.name for p in tmp_path.iterdir())
    command = [sys.executable, "-c", _CONVERT, str(small), str(large)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert pixels < said["size"] < pixels + MB
    assert said["growth"] < MOST_GROWTH_BYTES
    assert sorted(p.name for p in tmp_path.iterdir()) == names


def test_frame_that_costs_too_much_memory_is_refused_as_too_large(tmp_path: Path) -> None:
    path = compressed(tmp_path)
    ds = dcmread(path)
    ds.Rows = ds.Columns = 16_384
    ds.save_as(path)

    with (
        pytest.raises(TooLargeToConvert, match="a frame of more than 64 MiB is not decompressed"),
        outgoing(stored(path), ExplicitVRLittleEndian, tmp_path),
    ):
        pass
