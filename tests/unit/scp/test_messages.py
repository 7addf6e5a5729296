"""C-STORE messages byte by byte, held against pynetdicom's and pydicom's reading of them."""

from __future__ import annotations

import struct
from io import BytesIO

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import decode

from aegate_core.dicom.command_set import parse_command
from aegate_core.dicom.identifiers import UID
from aegate_core.errors import InvalidInput
from aegate_scp import messages
from aegate_scp.messages import StoreCommand


def request(sop_instance_uid: str = "1.2.3.4") -> bytes:
    """Encode a C-STORE-RQ with pynetdicom."""
    primitive = C_STORE()
    primitive.MessageID = 7
    primitive.AffectedSOPClassUID = CTImageStorage
    primitive.AffectedSOPInstanceUID = sop_instance_uid
    primitive.Priority = 2
    primitive.DataSet = BytesIO(b"\0\0")
    message = C_STORE_RQ()
    message.primitive_to_message(primitive)
    (_, first), *_ = next(iter(message.encode_msg(1, 16382))).presentation_data_value_list
    return bytes(first[1:])


def test_store_request_is_read() -> None:
    elements = parse_command(request())

    assert messages.command_field(elements) == messages.C_STORE_RQ
    assert messages.store_command(elements) == StoreCommand(7, UID(CTImageStorage), UID("1.2.3.4"), True)


def test_store_response_is_what_pynetdicom_reads() -> None:
    elements = parse_command(request())

    encoded = messages.store_response(elements, 0xA700, "no room: try again later")
    found = decode(BytesIO(encoded), True, True)

    assert found.CommandGroupLength == len(encoded) - 12
    assert found.CommandField == 0x8001
    assert found.MessageIDBeingRespondedTo == 7
    assert found.CommandDataSetType == 0x0101
    assert found.Status == 0xA700
    assert found.ErrorComment == "no room: try again later"
    assert found.AffectedSOPClassUID == CTImageStorage
    assert found.AffectedSOPInstanceUID == "1.2.3.4"


def test_response_is_cut_to_the_pdus_that_the_peer_takes() -> None:
    command = bytes(range(100))

    pdus = list(messages.command_pdus(3, command, 46))

    assert [len(p) for p in pdus] == [52, 52, 32]
    assert b"".join(p[12:] for p in pdus) == command
    assert [(p[10], p[11]) for p in pdus] == [(3, 1), (3, 1), (3, 3)]
    assert all(struct.unpack(">L", p[2:6])[0] == len(p) - 6 for p in pdus)
    assert [len(p) for p in messages.command_pdus(3, command, 0)] == [112]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda e: e[:-1], "within its length"),
        (lambda e: e + b"\0", "a part of one"),
        (lambda e: b"\x08" + e[1:], "group 0008"),
        (lambda e: e[:4] + b"\xff\xff\xff\xff" + e[8:], "within its length"),
    ],
)
def test_command_set_that_is_none_is_refused(change: object, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        parse_command(change(request()))  # type: ignore[operator]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_command_set_or_refused(encoded: bytes) -> None:
    try:
        elements = parse_command(encoded)
        messages.store_command(elements)
    except InvalidInput:
        return
    assert sum(8 + len(v) for v in elements.values()) <= len(encoded)


@pytest.mark.parametrize("uid", ["1.2.x", "../../etc", ""])
def test_uid_that_is_none_is_refused(uid: str) -> None:
    elements = parse_command(request()) | {0x1000: uid.encode()}

    with pytest.raises(InvalidInput):
        messages.store_command(elements)


def test_part10_header_is_what_pydicom_reads() -> None:
    command = StoreCommand(7, UID(CTImageStorage), UID("1.2.3.45"), True)

    header = messages.part10_header(command, ExplicitVRLittleEndian, "CT1")
    found = pydicom.dcmread(BytesIO(header))

    assert found.file_meta.FileMetaInformationGroupLength == len(header) - 144
    assert found.file_meta.FileMetaInformationVersion == b"\x00\x01"
    assert found.file_meta.MediaStorageSOPClassUID == CTImageStorage
    assert found.file_meta.MediaStorageSOPInstanceUID == "1.2.3.45"
    assert found.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert found.file_meta.ImplementationClassUID == messages.IMPLEMENTATION_CLASS_UID
    assert found.file_meta.ImplementationVersionName == "AEGATE_0_1"
    assert found.file_meta.SourceApplicationEntityTitle == "CT1"
    assert len(found) == 0
