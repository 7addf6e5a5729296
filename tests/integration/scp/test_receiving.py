"""What arrives is what was sent: dcmtk and pynetdicom as devices, every transfer syntax kept, memory bounded."""

from __future__ import annotations

import struct
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    UltrasoundMultiFrameImageStorage,
)
from pynetdicom import ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts
from pynetdicom.sop_class import Verification

from aegate_core.dicom.identifiers import ResourceKey
from tests import dicom, sentinel
from tests.integration.orthanc import Orthanc
from tests.integration.peers import run_dcmtk
from tests.integration.scp.listeners import RunningListener, associate, entity, running_listener
from tests.integration.scp.wires import RELEASE_RQ, connected, pdu, pdv, store_rq
from tests.integration.waiting import eventually

MB = 1024 * 1024


def data_set_bytes(path: Path) -> bytes:
    """Return what follows the file meta information."""
    with path.open("rb") as file:
        pydicom.filereader.read_preamble(file, force=False)
        pydicom.filereader._read_file_meta_info(file)
        return file.read()


def spooled_bytes(listener: RunningListener) -> dict[str, bytes]:
    """Return the data set of each arrival by SOP Instance UID, read at the side record's offset."""
    return {a.side.sop_instance_uid: a.path.read_bytes()[a.side.data_offset :] for a in listener.arrivals()}


def test_echoscu_of_dcmtk_is_answered(tmp_path: Path) -> None:
    with running_listener(tmp_path) as listener:
        done = run_dcmtk("echoscu", "-v", "-aet", "CT1", "-aec", "AEGATE", "127.0.0.1", str(listener.port))

        assert done.returncode == 0, done.stdout
        assert "Received Echo Response (Success)" in done.stdout
        eventually(
            lambda: listener.metric("aegate_associations_total", ae="default/ct1", how="released") == 1
        )


def test_storescu_of_dcmtk_leaves_the_same_data_sets_with_side_records(tmp_path: Path) -> None:
    files = [
        dicom.write(ds, tmp_path / "in" / f"{n}.dcm") for n, ds in enumerate(dicom.ct_study("study 1", 5))
    ]
    with running_listener(tmp_path) as listener:
        arguments = ["-v", "+v", "-aet", "CT1", "-aec", "AEGATE", "127.0.0.1", str(listener.port)]
        done = run_dcmtk("storescu", *arguments, *files)

        assert done.returncode == 0, done.stdout
        assert done.stdout.count("Received Store Response (Success)") == 5
        assert spooled_bytes(listener) == {
            str(pydicom.dcmread(f).SOPInstanceUID): data_set_bytes(f) for f in files
        }
        for arrival in listener.arrivals():
            found = pydicom.dcmread(arrival.path)
            side = arrival.side
            assert found.file_meta.MediaStorageSOPInstanceUID == side.sop_instance_uid == found.SOPInstanceUID
            assert side.ae == ResourceKey("default", "ct1")
            assert (side.calling_title, side.called_title, side.peer_address) == (
                "CT1",
                "AEGATE",
                "127.0.0.1",
            )
            assert side.abstract_syntax == side.sop_class_uid == CTImageStorage
            assert side.transfer_syntax == ExplicitVRLittleEndian
            assert side.size_bytes == arrival.path.stat().st_size
        assert listener.leftovers() == []
        assert listener.metric("aegate_instances_received_total", ae="default/ct1", status="0x0000") == 5
        sentinel.assert_absent(listener.get("/metrics")[1], "the metrics")


OPTIONS = {
    "1.2.840.10008.1.2": "-xi",
    "1.2.840.10008.1.2.1": "-xe",
    "1.2.840.10008.1.2.2": "-xb",
    "1.2.840.10008.1.2.1.99": "-xd",
    "1.2.840.10008.1.2.4.50": "-xy",
    "1.2.840.10008.1.2.4.51": "-xx",
    "1.2.840.10008.1.2.4.70": "-xs",
    "1.2.840.10008.1.2.4.80": "-xt",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.4.91": "-xw",
    "1.2.840.10008.1.2.5": "-xr",
}
"""storescu's option that proposes a transfer syntax."""


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # some of the files are wrong on purpose
def test_every_pydicom_test_file_that_storescu_can_send_arrives_as_it_was(tmp_path: Path) -> None:
    groups: dict[str, list[Path]] = {}
    for path in dicom.pydicom_test_files():
        found = pydicom.dcmread(path, force=True, stop_before_pixels=True)
        groups.setdefault(str(found.file_meta.get("TransferSyntaxUID", "")), []).append(path)
    sent: list[tuple[str, Path]] = []
    with running_listener(tmp_path) as listener:
        for transfer_syntax in groups.keys() & OPTIONS.keys():
            arguments = [
                "-v",
                "-nh",
                "-R",
                OPTIONS[transfer_syntax],
                "-aet",
                "CT1",
                "127.0.0.1",
                str(listener.port),
            ]
            done = run_dcmtk("storescu", *arguments, *groups[transfer_syntax])
            sent += [(transfer_syntax, path) for path in stored_files(done.stdout)]

        arrived: dict[tuple[str, str], list[dict[int, str]]] = defaultdict(list)
        for arrival in listener.arrivals():
            key = arrival.side.transfer_syntax, arrival.side.sop_instance_uid
            arrived[key].append(
                elements(pydicom.dcmread(arrival.path))
            )  # some files share a SOP Instance UID
        assert len(sent) >= 50
        assert listener.metric("aegate_instances_received_total", ae="default/ct1", status="0x0000") == len(
            sent
        )
        for transfer_syntax, path in sent:
            original = pydicom.dcmread(path, force=True)
            assert elements(original) in arrived[transfer_syntax, str(original.SOPInstanceUID)], path.name


def stored_files(output: str) -> list[Path]:
    """Return the files that storescu says were stored."""
    stored, path = [], None
    for line in output.splitlines():
        if "Sending file: " in line:
            path = Path(line.split("Sending file: ")[1])
        elif "Received Store Response (Success)" in line and path:
            stored.append(path)
    return stored


def elements(ds: pydicom.Dataset) -> dict[int, str]:
    """Return every element as text, less group lengths and trailing padding, which dcmtk does not send on."""
    return {int(e.tag): repr(e.value) for e in ds if e.tag.element != 0 and e.tag != 0xFFFCFFFC}


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # some of the files are wrong on purpose
def test_every_pydicom_test_file_arrives_byte_for_byte_in_its_transfer_syntax(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pynetdicom._config.STORE_SEND_CHUNKED_DATASET", True)
    sent = {}
    with running_listener(tmp_path) as listener:
        for path in dicom.pydicom_test_files():
            try:
                meta = pydicom.filereader.read_file_meta_info(path)
                sop_class, syntax = meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID
            except (pydicom.errors.InvalidDicomError, AttributeError):
                continue
            assoc = associate(listener.port, (sop_class, [syntax]))
            if assoc.accepted_contexts:
                assert assoc.send_c_store(path).Status == 0x0000, path.name
                sent[str(meta.MediaStorageSOPInstanceUID), str(syntax)] = data_set_bytes(path)
            assoc.release()

        arrived = {
            (a.side.sop_instance_uid, a.side.transfer_syntax): a.path.read_bytes()[a.side.data_offset :]
            for a in listener.arrivals()
        }
        assert len(sent) == 55
        assert arrived == sent


def test_orthanc_sends_what_it_holds(tmp_path: Path, orthanc: Orthanc) -> None:
    us = dicom.us(dicom.Instance(series="us", transfer_syntax=JPEGBaseline8Bit, frames=3))
    study = [*dicom.ct_study("study 1", 3), us]
    ids = [orthanc.upload(dicom.write(ds, tmp_path / "in" / f"{n}.dcm")) for n, ds in enumerate(study)]
    with running_listener(tmp_path, entity("orthanc")) as listener:
        orthanc.add_peer("aegate", "AEGATE", listener.port)
        orthanc.echo("aegate")
        orthanc.send("aegate", ids)

        arrived = {a.side.sop_instance_uid: pydicom.dcmread(a.path) for a in listener.arrivals()}
        assert arrived == {str(ds.SOPInstanceUID): ds for ds in study}
        assert [ds.file_meta.TransferSyntaxUID for ds in study] == [
            arrived[str(ds.SOPInstanceUID)].file_meta.TransferSyntaxUID for ds in study
        ]


def test_transfer_syntax_is_the_requestors_first_and_explicit_before_implicit(tmp_path: Path) -> None:
    with running_listener(tmp_path) as listener:
        assoc = associate(
            listener.port,
            (CTImageStorage, [ImplicitVRLittleEndian, ExplicitVRLittleEndian]),
            (CTImageStorage, [ExplicitVRBigEndian, ImplicitVRLittleEndian]),
            (UltrasoundMultiFrameImageStorage, [JPEGBaseline8Bit, ExplicitVRLittleEndian]),
            (Verification, [ImplicitVRLittleEndian]),
        )

        accepted = [(c.abstract_syntax, c.transfer_syntax[0]) for c in assoc.accepted_contexts]
        assoc.release()
    assert accepted == [
        (CTImageStorage, ExplicitVRLittleEndian),
        (CTImageStorage, ExplicitVRBigEndian),
        (UltrasoundMultiFrameImageStorage, JPEGBaseline8Bit),
        (Verification, ImplicitVRLittleEndian),
    ]


def test_request_with_every_context_and_every_transfer_syntax_is_heard(tmp_path: Path) -> None:
    with running_listener(tmp_path) as listener:
        wanted = [str(c.abstract_syntax) for c in AllStoragePresentationContexts[:128]]
        assoc = associate(listener.port, *((uid, list(ALL_TRANSFER_SYNTAXES)) for uid in wanted))

        assert [c.abstract_syntax for c in assoc.accepted_contexts] == wanted
        assoc.release()


def test_unknown_storage_class_is_taken_only_when_the_ae_names_it(tmp_path: Path) -> None:
    private, other = "1.2.840.113619.4.27", "1.2.840.113619.4.30"
    with running_listener(tmp_path, entity(extra_sop_classes=(private,))) as listener:
        assoc = associate(
            listener.port, (private, [ExplicitVRLittleEndian]), (other, [ExplicitVRLittleEndian])
        )
        ds = dicom.ct()
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = private

        status = assoc.send_c_store(ds).Status

        assert [c.abstract_syntax for c in assoc.accepted_contexts] == [private]
        assert [c.abstract_syntax for c in assoc.rejected_contexts] == [other]
        assoc.release()
        assert status == 0x0000
        assert [a.side.abstract_syntax for a in listener.arrivals()] == [private]


def test_eight_associations_at_once_lose_and_mix_nothing(tmp_path: Path) -> None:
    studies = {f"study {n}": dicom.ct_study(f"study {n}", 25) for n in range(8)}
    expected = {str(ds.SOPInstanceUID): study for study, images in studies.items() for ds in images}
    files = {
        study: [dicom.write(ds, tmp_path / study / f"{n}.dcm") for n, ds in enumerate(images)]
        for study, images in studies.items()
    }
    sent = {
        str(pydicom.dcmread(f).SOPInstanceUID): data_set_bytes(f) for paths in files.values() for f in paths
    }
    with running_listener(tmp_path) as listener:
        target = ("-v", "-aet", "CT1", "127.0.0.1", str(listener.port))
        with ThreadPoolExecutor(8) as pool:
            done = list(pool.map(lambda paths: run_dcmtk("storescu", *target, *paths), files.values()))

        assert [d.stdout.count("Received Store Response (Success)") for d in done] == [25] * 8
        assert len(expected) == 200
        assert spooled_bytes(listener) == sent
        assert len(listener.arrivals()) == 200
        eventually(lambda: listener.open_associations() == 0)


def test_a_large_object_needs_no_more_memory_than_a_small_one(tmp_path: Path) -> None:
    size = 300 * MB
    header = struct.pack("<HH2s2xL", 0x7FE0, 0x0010, b"OW", size)
    chunk = bytes(100_000)
    with running_listener(tmp_path) as listener, connected(listener.port) as peer:
        peer.associate()
        idle = listener.rss_bytes()
        peak = idle
        peer.send(pdu(4, pdv(3, store_rq())) + pdu(4, pdv(0, header)))
        for n in range(size // len(chunk)):
            peer.send(pdu(4, pdv(0, chunk)))
            if n % 100 == 0:
                peak = max(peak, listener.rss_bytes())
        rest = size % len(chunk)
        peer.send(pdu(4, pdv(2, bytes(rest))))

        assert peer.status() == 0x0000
        assert max(peak, listener.rss_bytes()) - idle < 32 * MB
        (arrival,) = listener.arrivals()
        assert arrival.path.stat().st_size == arrival.side.data_offset + len(header) + size
        arrival.path.unlink()
        peer.send(RELEASE_RQ)
        assert peer.receive_pdu()[0] == 6


def test_command_and_data_in_one_pdu_and_in_small_fragments_are_read(tmp_path: Path) -> None:
    command = store_rq()
    with running_listener(tmp_path) as listener, connected(listener.port) as peer:
        peer.associate()
        peer.send(pdu(4, pdv(3, command) + pdv(0, b"ab") + pdv(0, b"") + pdv(2, b"cd")))
        assert peer.status() == 0x0000
        for n in range(0, len(command), 7):
            last = n + 7 >= len(command)
            peer.send(pdu(4, pdv(3 if last else 1, command[n : n + 7])))
        for byte in b"efg":
            peer.send(pdu(4, pdv(0, bytes((byte,)))))
        peer.send(pdu(4, pdv(2, b"")))
        assert peer.status() == 0x0000

        found = sorted(a.path.read_bytes()[a.side.data_offset :] for a in listener.arrivals())
        assert found == [b"abcd", b"efg"]
