"""Headers as devices send them: every charset, broken ones, huge ones; and never a crash."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pydicom
import pydicom.data
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from aegate_core.dicom.digest import digest_data_set
from aegate_core.dicom.header import Header, read_header
from aegate_core.dicom.part10 import read_file_meta
from aegate_core.errors import NotDICOM

FILES = Path(str(pydicom.data.__file__)).parent


def data_set(**values: object) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    ds.PatientID, ds.Modality = "P1", "CT"
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def written(path: Path, ds: Dataset, syntax: str = ExplicitVRLittleEndian) -> Path:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    ds.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    ds.save_as(path, enforce_file_format=True)
    return path


def data_offset(path: Path) -> int:
    with path.open("rb") as file:
        return read_file_meta(file).data_offset


def with_raw(path: Path, tag: str, vr: bytes, value: bytes) -> Path:
    """Append one element as bytes behind the data set of ``path``."""
    group, element = bytes.fromhex(tag[:4])[::-1], bytes.fromhex(tag[4:])[::-1]
    path.write_bytes(path.read_bytes() + group + element + vr + len(value).to_bytes(2, "little") + value)
    return path


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
)
def test_header_is_read_in_every_encoding(tmp_path: Path, syntax: str) -> None:
    ds = data_set(
        AccessionNumber="A1",
        StudyDescription="Thorax",
        PatientName="Doe^Jane",
        Rows=512,
        SliceThickness="1.50",
    )
    ds.add_new(0x7FE00010, "OW", b"\0\1" * 512)

    header = read_header(written(tmp_path / "a.dcm", ds, syntax))

    assert header.transfer_syntax_uid == syntax
    assert (header.study_instance_uid, header.series_instance_uid) == ("1.2.3", "1.2.3.1")
    assert (header.sop_class_uid, header.sop_instance_uid) == ("1.2.840.10008.5.1.4.1.1.2", "1.2.3.4")
    assert (header.patient.patient_id, header.patient.name_alphabetic) == ("P1", "Doe^Jane")
    assert (header.accession_number, header.study_description, header.modality) == ("A1", "Thorax", "CT")
    assert header.elements["00280010"] == {"vr": "US", "Value": [512]}
    assert header.elements["00180050"] == {"vr": "DS", "Value": ["1.50"]}
    assert "7FE00010" not in header.elements


@pytest.mark.parametrize(
    ("file", "alphabetic", "ideographic", "phonetic"),
    [
        ("chrH31.dcm", "Yamada^Tarou", "山田^太郎", "やまだ^たろう"),
        ("chrI2.dcm", "Hong^Gildong", "洪^吉洞", "홍^길동"),
        ("chrX1.dcm", "Wang^XiaoDong", "王^小東", ""),
        ("chrX2.dcm", "Wang^XiaoDong", "王^小东", ""),
        ("chrFren.dcm", "Buc^Jérôme", "", ""),
        ("chrGerm.dcm", "Äneas^Rüdiger", "", ""),
        ("chrGreek.dcm", "Διονυσιος", "", ""),
        ("chrRuss.dcm", "Люкceмбypг", "", ""),
    ],
)
def test_names_are_decoded_in_their_groups(
    file: str, alphabetic: str, ideographic: str, phonetic: str
) -> None:
    patient = read_header(FILES / "charset_files" / file).patient

    assert (patient.name_alphabetic, patient.name_ideographic, patient.name_phonetic) == (
        alphabetic,
        ideographic,
        phonetic,
    )


def test_wrong_character_set_gives_replacement_characters(tmp_path: Path) -> None:
    ds = data_set(SpecificCharacterSet="ISO_IR 192")
    path = with_raw(written(tmp_path / "a.dcm", ds), "00321060", b"LO", "Schädel".encode("latin-1") + b" ")

    header = read_header(path)

    assert header.elements["00321060"] == {"vr": "LO", "Value": ["Sch�del"]}


@pytest.mark.parametrize(
    "charset", ["ISO_IR 999", "\\ISO 2022 IR 87", "nonsense\\more", "ISO 2022 IR 149\\x"]
)
def test_unknown_character_sets_are_survived(tmp_path: Path, charset: str) -> None:
    path = written(tmp_path / "a.dcm", data_set())
    raw = path.read_bytes()
    value = charset.encode() + b" " * (len(charset) % 2)
    element = b"\x08\x00\x05\x00CS" + len(value).to_bytes(2, "little") + value
    at = raw.index(b"\x08\x00\x16\x00UI")
    path.write_bytes(raw[:at] + element + raw[at:])
    with_raw(path, "00321060", b"LO", b"\x1b$B;3ED\x1b(B\xff")

    assert read_header(path).patient.patient_id == "P1"


def test_values_fit_their_columns_and_hold_no_control_characters(tmp_path: Path) -> None:
    path = written(tmp_path / "a.dcm", data_set())
    with_raw(path, "00321060", b"LO", b"\0NUL\0inside\0")
    header = read_header(with_raw(path, "00380500", b"LO", b"d" * 2000))

    assert header.elements["00321060"] == {"vr": "LO", "Value": ["NULinside"]}
    assert "\\u0000" not in json.dumps(header.elements)


def test_long_description_is_cut_to_its_column(tmp_path: Path) -> None:
    path = written(tmp_path / "a.dcm", data_set())
    raw = path.read_bytes()
    at = raw.index(b"\x10\x00\x20\x00")
    value = b"\x1b[31mA\0B\r\n" + b"d" * 2000
    path.write_bytes(raw[:at] + b"\x08\x00\x30\x10LO" + len(value).to_bytes(2, "little") + value + raw[at:])

    header = read_header(path)

    assert len(header.study_description) == 255
    assert header.study_description.startswith("[31mAB ddd")


def test_bulk_data_and_large_sequences_are_left_out_and_the_size_is_bounded(tmp_path: Path) -> None:
    ds = data_set()
    ds.EncapsulatedDocument = b"\0" * 200_000
    ds.ImageComments = "c" * 9_000
    ds.RequestAttributesSequence = Sequence([Dataset()])
    ds.RequestAttributesSequence[0].ScheduledProcedureStepID = "S1"
    ds.PerFrameFunctionalGroupsSequence = Sequence([data_set(ImageComments="x" * 1000) for _ in range(200)])

    header = read_header(written(tmp_path / "a.dcm", ds))

    assert header.elements["00400275"] == {
        "vr": "SQ",
        "Value": [{"00400009": {"vr": "SH", "Value": ["S1"]}}],
    }
    assert {"00420011", "00204000", "52009230"}.isdisjoint(header.elements)
    assert len(json.dumps(header.elements)) < 128 * 1024


@pytest.mark.parametrize("group", [0x0009, 0x0008, 0x0019])
def test_large_early_elements_never_push_out_what_the_index_needs(tmp_path: Path, group: int) -> None:
    ds = data_set(PatientName="Doe^Jane", AccessionNumber="A1", StudyDescription="Thorax", NumberOfFrames="7")
    for number in range(30):
        ds.add_new((group, 0xFF00 + number), "LT", "x" * 4000)

    header = read_header(written(tmp_path / "a.dcm", ds))

    assert (header.study_instance_uid, header.series_instance_uid) == ("1.2.3", "1.2.3.1")
    assert (header.patient.patient_id, header.patient.name_alphabetic) == ("P1", "Doe^Jane")
    assert (header.accession_number, header.study_description, header.number_of_frames) == ("A1", "Thorax", 7)
    assert len(json.dumps(header.elements)) < 128 * 1024


def test_private_elements_give_way_to_those_of_the_standard(tmp_path: Path) -> None:
    ds = data_set(ProtocolName="Knee")
    for number in range(30):
        ds.add_new((0x0009, 0xFF00 + number), "LT", "x" * 4000)

    assert read_header(written(tmp_path / "a.dcm", ds)).elements["00181030"] == {
        "vr": "LO",
        "Value": ["Knee"],
    }


def test_modifying_systems_are_found(tmp_path: Path) -> None:
    ds = data_set()
    item = Dataset()
    item.ModifyingSystem = "aegate"
    ds.OriginalAttributesSequence = Sequence([item])

    assert read_header(written(tmp_path / "a.dcm", ds)).modifying_systems == ("aegate",)


@pytest.mark.parametrize(
    ("keyword", "named"),
    [("StudyInstanceUID", "0020,000D"), ("SeriesInstanceUID", "0020,000E"), ("SOPInstanceUID", "0008,0018")],
)
def test_missing_uid_is_refused_by_name(tmp_path: Path, keyword: str, named: str) -> None:
    ds = data_set(PatientName="Sentinel^Name")
    del ds[keyword]
    path = written(tmp_path / "a.dcm", ds)

    with pytest.raises(NotDICOM, match=named) as refusal:
        read_header(path)
    assert "Sentinel" not in str(refusal.value)


@pytest.mark.parametrize(
    "content", [b"", b"no dicom", b"\0" * 128 + b"DICM", b"\0" * 128 + b"DICM\x02\0\x10\0UI"]
)
def test_what_is_no_part_10_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(content)

    with pytest.raises(NotDICOM):
        read_header(path)


def test_broken_deflated_data_set_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.dcm", data_set(), DeflatedExplicitVRLittleEndian)
    offset = data_offset(path)
    path.write_bytes(path.read_bytes()[:offset] + b"\xff" * 64)

    with pytest.raises(NotDICOM):
        read_header(path)


def test_deflated_bomb_is_refused_after_bounded_memory_and_time(tmp_path: Path) -> None:
    path = written(tmp_path / "a.dcm", data_set(), DeflatedExplicitVRLittleEndian)
    offset = data_offset(path)
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    bomb = deflate.compress(b"\0" * (80 << 20)) + deflate.flush()
    path.write_bytes(path.read_bytes()[:offset] + bomb)

    with pytest.raises(NotDICOM, match="more than 100000 elements"):
        read_header(path)


def test_object_that_ends_in_a_sequence_before_its_uids_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.dcm"
    path.write_bytes((FILES / "test_files" / "CT_small.dcm").read_bytes()[: 336 + 695])

    with pytest.raises(NotDICOM, match="StudyInstanceUID"):
        read_header(path)


def test_value_that_the_end_cuts_off_is_none(tmp_path: Path) -> None:
    path = written(tmp_path / "a.dcm", data_set(ProtocolName="Knee"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(NotDICOM, match=r"SeriesInstanceUID \(0020,000E\) is missing"):
        read_header(path)
    late = data_set(RequestedProcedureDescription="Knee")
    path = written(tmp_path / "b.dcm", late)
    path.write_bytes(path.read_bytes()[:-1])
    assert "00321060" not in read_header(path).elements


def test_sequence_that_cannot_be_parsed_is_left_empty(tmp_path: Path) -> None:
    path = written(tmp_path / "a.dcm", data_set())
    broken = b"\x40\x00\x75\x02SQ\0\0\x06\0\0\0abcdef"
    path.write_bytes(path.read_bytes() + broken)

    assert read_header(path).elements["00400275"] == {"vr": "SQ", "Value": []}


def test_digest_leaves_the_file_meta_out(tmp_path: Path) -> None:
    one = written(tmp_path / "a.dcm", data_set())
    offset = data_offset(one)
    two = tmp_path / "b.dcm"
    two.write_bytes(b"\1" * offset + one.read_bytes()[offset:])

    assert digest_data_set(one, offset) == digest_data_set(two, offset)
    two.write_bytes(two.read_bytes() + b"\0")
    assert digest_data_set(one, offset) != digest_data_set(two, offset)


def test_all_test_files_of_pydicom_are_read_or_refused() -> None:
    read = 0
    for path in sorted(FILES.rglob("*.dcm")):
        try:
            header = read_header(path)
        except NotDICOM:
            continue
        read += 1
        assert isinstance(header, Header)
        assert "\\u0000" not in json.dumps(header.elements, allow_nan=False)
    assert read >= 75


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(junk=st.binary(max_size=300), at=st.integers(0, 400), cut=st.integers(0, 4000))
def test_damaged_files_are_read_or_refused_and_never_crash(
    tmp_path: Path, junk: bytes, at: int, cut: int
) -> None:
    raw = (FILES / "test_files" / "CT_small.dcm").read_bytes()[: 336 + 4000]
    path = tmp_path / "damaged.dcm"
    path.write_bytes((raw[: 336 + at] + junk + raw[336 + at + len(junk) :])[: 336 + cut])
    try:
        header = read_header(path)
    except NotDICOM as refusal:
        assert "CompressedSamples" not in refusal.message
    else:
        json.dumps(header.elements, allow_nan=False).encode("utf-8")
