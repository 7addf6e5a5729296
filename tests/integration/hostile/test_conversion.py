"""What a hostile object can take from a worker that has to convert it for its destination."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from aegate_core.dicom.digest import digest_data_set
from aegate_core.dicom.part10 import read_file_meta
from aegate_scu.outgoing import CannotConvert, Stored, outgoing
from tests.integration.hostile import objects


def stored(path: Path, content: bytes, syntax: str) -> Stored:
    path.write_bytes(content)
    with path.open("rb") as file:
        offset = read_file_meta(file).data_offset
    return Stored(path, syntax, digest_data_set(path, offset))


def test_deflated_bomb_is_not_inflated_for_a_peer_that_does_not_take_it(tmp_path: Path) -> None:
    pixels = objects.element(0x7FE00010, b"OW", length=1 << 30)
    bomb = objects.deflated(objects.plain("bomb") + pixels, 1024)
    assert len(bomb) < 2 << 20

    with pytest.raises(CannotConvert, match="inflates to more than 512 MiB"):
        outgoing(
            stored(tmp_path / "a.dcm", bomb, DeflatedExplicitVRLittleEndian), str(ExplicitVRLittleEndian)
        )


def test_object_nested_deeper_than_the_stack_cannot_be_converted_and_harms_nobody(tmp_path: Path) -> None:
    deep = objects.INDEXED["1,000 deep"]("deep")

    with pytest.raises(CannotConvert, match="RecursionError"):
        outgoing(stored(tmp_path / "a.dcm", deep, ExplicitVRLittleEndian), "1.2.840.10008.1.2")
