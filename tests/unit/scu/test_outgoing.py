"""What goes out to a peer of another transfer syntax says the same as what arrived, element by element."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.pixels.utils import pixel_array
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from aegate_core.decisions.contexts import DECODABLE, EXPLICIT_BE, NATIVE
from aegate_core.dicom.digest import digest_data_set
from aegate_core.dicom.part10 import read_file_meta
from aegate_core.errors import NotDICOM
from aegate_scu.outgoing import Stored, outgoing
from aegate_scu.reencoding import CannotConvert
from tests.dicom import pydicom_test_files

OFFSET_TABLES = frozenset({0x7FE00001, 0x7FE00002})
UNDECODABLE = frozenset(
    {
        "J2K_pixelrep_mismatch",
        "JPEG-lossy",  # 12 bits
        "JPGExtended",
        "JPEG2000-embedded-sequence-delimiter",
    }
)
TARGETS = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


def stored(path: Path) -> Stored:
    with path.open("rb") as file:
        meta = read_file_meta(file)
    return Stored(path, str(meta.transfer_syntax_uid), digest_data_set(path, meta.data_offset))


def converted(path: Path, target: str, scratch: Path) -> bytes:
    with outgoing(stored(path), target, scratch) as made:
        return made.path.read_bytes()[made.offset :]


def parsed(content: bytes, target: str) -> Dataset:
    return read_dataset(
        DicomBytesIO(content), is_implicit_VR=target == ImplicitVRLittleEndian, is_little_endian=True
    )


def files(*syntaxes: str) -> list[Path]:
    found = []
    for path in pydicom_test_files():
        with suppress(NotDICOM):  # without a File Meta Information none can arrive
            if stored(path).transfer_syntax in syntaxes:
                found.append(path)
    assert found
    return found


def same(ours: Dataset, theirs: Dataset, *, but: frozenset[int] = frozenset()) -> None:
    """Compare element by element, byte by byte; retired group lengths do not go out."""
    wanted = [t for t in list(theirs.keys()) if not (t.element == 0 and t.group > 6) and t not in but]
    assert [t for t in list(ours.keys()) if t not in but] == wanted
    for tag in wanted:
        mine, given = ours.get_item(tag), theirs.get_item(tag)
        is_raw = isinstance(mine, RawDataElement) or mine.VR == "UN"
        if is_raw and isinstance(given, RawDataElement) and given.is_little_endian:
            assert (mine.value or b"") == (given.value or b""), tag
        elif isinstance(ours[tag].value, Sequence):
            assert len(ours[tag].value) == len(theirs[tag].value), tag
            for one, other in zip(ours[tag].value, theirs[tag].value, strict=True):
                same(one, other)
        else:
            assert str(ours[tag].value) == str(theirs[tag].value), tag


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("path", files(*NATIVE - {EXPLICIT_BE}), ids=lambda p: p.stem)
def test_native_object_says_the_same_in_another_syntax(path: Path, target: str, tmp_path: Path) -> None:
    same(parsed(converted(path, target, tmp_path), target), dcmread(path))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("path", files(EXPLICIT_BE), ids=lambda p: p.stem)
def test_big_endian_object_says_the_same_and_shows_the_same(path: Path, target: str, tmp_path: Path) -> None:
    ours, theirs = parsed(converted(path, target, tmp_path), target), dcmread(path)
    words = frozenset(e.tag for e in theirs if e.VR in ("OW", "OF", "OD"))
    same(ours, theirs, but=words)
    ours.file_meta = Dataset()
    ours.file_meta.TransferSyntaxUID = target
    if "PixelData" in theirs:
        assert np.array_equal(pixel_array(ours), pixel_array(theirs))


@pytest.mark.filterwarnings("ignore:Expected explicit VR")
@pytest.mark.parametrize("path", files(*DECODABLE), ids=lambda p: p.stem)
def test_compressed_object_goes_out_as_pydicom_decompresses_it(path: Path, tmp_path: Path) -> None:
    theirs = dcmread(path)
    if path.stem in UNDECODABLE:
        with pytest.raises(CannotConvert):
            converted(path, ExplicitVRLittleEndian, tmp_path)
        return
    if "PixelData" in theirs:
        theirs.decompress(generate_instance_uid=False)

    for target in TARGETS:
        same(parsed(converted(path, target, tmp_path), target), theirs, but=OFFSET_TABLES)
