"""The sink: what a plain receiver takes, refuses and counts."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from aegate_core.errors import InvalidInput
from aegate_scp.sink import Sink, SinkOptions
from tests import dicom
from tests.integration.peers import run_dcmtk
from tests.integration.scp.wires import RELEASE_RQ, connected
from tests.integration.waiting import eventually


def store(sink: Sink, *files: Path, options: tuple[str, ...] = ("-aet", "AEGATE")) -> str:
    return run_dcmtk("storescu", "-v", "-nh", *options, "127.0.0.1", str(sink.port), *files).stdout


def files_of(tmp_path: Path, count: int) -> list[Path]:
    return [dicom.write(ds, tmp_path / "in" / f"{n}.dcm") for n, ds in enumerate(dicom.ct_study("s", count))]


def test_each_object_becomes_a_part10_file_named_by_its_uid(tmp_path: Path) -> None:
    one, two = files_of(tmp_path, 2)
    with Sink(SinkOptions(tmp_path / "pacs")) as sink:
        store(sink, one, two, one)

    uids = [str(pydicom.dcmread(f).SOPInstanceUID) for f in (one, two)]
    names = [r.path.name for r in sink.received]
    assert names == [f"{uids[0]}.dcm", f"{uids[1]}.dcm", f"{uids[0]}-2.dcm"]
    assert [pydicom.dcmread(r.path) for r in sink.received] == [pydicom.dcmread(f) for f in (one, two, one)]
    assert {(r.calling_title, r.transfer_syntax) for r in sink.received} == {
        ("AEGATE", ExplicitVRLittleEndian)
    }


def test_any_other_calling_title_is_rejected(tmp_path: Path) -> None:
    (file,) = files_of(tmp_path, 1)
    with Sink(SinkOptions(tmp_path / "pacs", calling_titles=("AEGATE",))) as sink:
        assert "Calling AE Title Not Recognized" in store(sink, file, options=("-aet", "OTHER"))
        assert sink.received == ()
        store(sink, file)
        assert len(sink.received) == 1


def test_only_the_transfer_syntaxes_named_are_taken(tmp_path: Path) -> None:
    (file,) = files_of(tmp_path, 1)
    with Sink(SinkOptions(tmp_path / "pacs", transfer_syntaxes=(ImplicitVRLittleEndian,))) as sink:
        store(sink, file)

    (received,) = sink.received
    assert received.transfer_syntax == ImplicitVRLittleEndian
    assert pydicom.dcmread(received.path).SOPClassUID == CTImageStorage


def test_statuses_are_answered_by_number_and_by_uid(tmp_path: Path) -> None:
    files = files_of(tmp_path, 4)
    third = str(pydicom.dcmread(files[2]).SOPInstanceUID)
    with Sink(SinkOptions(tmp_path / "pacs", statuses={1: 0xA700, third: 0xC000}, delay_ms=1)) as sink:
        output = store(sink, *files)

    expected = [str(pydicom.dcmread(f).SOPInstanceUID) for f in (files[1], files[3])]
    assert [r.sop_instance_uid for r in sink.received] == expected
    assert output.count("Received Store Response (Success)") == 2


def test_peak_counts_associations_that_are_open_at_once(tmp_path: Path) -> None:
    with Sink(SinkOptions(tmp_path / "pacs")) as sink:
        for _ in range(5):
            with connected(sink.port) as peer:
                peer.associate()
                peer.send(RELEASE_RQ)
                assert peer.receive_pdu()[0] == 6
        assert (sink.peak_associations, sink.associations, sink.open_associations) == (1, 5, 0)

        with ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(connected(sink.port)).associate()
            eventually(lambda: sink.open_associations == 3)
        eventually(lambda: sink.open_associations == 0)
        assert sink.peak_associations == 3


def test_taken_port_is_said_with_advice(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        sink = Sink(SinkOptions(tmp_path / "pacs", port=taken.getsockname()[1]))
        with pytest.raises(InvalidInput, match="choose others"):
            sink.start()
        sink.stop()
