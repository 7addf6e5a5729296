"""The guard of patient data guards: each way out is seen."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest
from prometheus_client import CollectorRegistry, Counter
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from aegate_core.errors import InvalidValue
from tests import dicom, sentinel


def test_log_lines_are_watched(no_patient_data_gets_out: sentinel.Watch) -> None:
    logging.getLogger("aegate.scp").debug("patient %s", sentinel.PATIENT_ID)
    with pytest.raises(sentinel.PatientDataLeaked, match="a log line"):
        no_patient_data_gets_out.check(None)
    no_patient_data_gets_out.lines.clear()


def test_exceptions_are_watched(no_patient_data_gets_out: sentinel.Watch) -> None:
    assert str(InvalidValue(f"bad name {sentinel.PATIENT_NAME}"))
    with pytest.raises(sentinel.PatientDataLeaked, match="an exception's message"):
        no_patient_data_gets_out.check(None)
    no_patient_data_gets_out.messages.clear()


def test_metrics_are_watched(no_patient_data_gets_out: sentinel.Watch) -> None:
    registry = CollectorRegistry()
    Counter("seen", "By patient", ["patient"], registry=registry).labels(sentinel.PATIENT_BIRTH_DATE).inc()
    with pytest.raises(sentinel.PatientDataLeaked, match="the metrics"):
        no_patient_data_gets_out.check(None)
    no_patient_data_gets_out.registries.remove(registry)


@pytest.mark.parametrize(
    ("name", "content", "where"),
    [
        ("listener.log", f"{sentinel.ACCESSION_NUMBER}\n", "the file listener.log"),
        ("run/worker.json", f'{{"m": "{sentinel.STUDY_DESCRIPTION}"}}', "the file run/worker.json"),
        (f"{sentinel.PATIENT_ID}.dcm", "", "a file name"),
    ],
)
def test_files_of_child_processes_are_watched(
    tmp_path: Path, no_patient_data_gets_out: sentinel.Watch, name: str, content: str, where: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    with pytest.raises(sentinel.PatientDataLeaked, match=where):
        no_patient_data_gets_out.check(tmp_path)
    path.unlink()


@pytest.mark.parametrize("name", ["tmpdir/a/tmp1234", "data/core", "core.1234", "python3.core"])
def test_temporary_and_core_files_are_watched(
    tmp_path: Path, no_patient_data_gets_out: sentinel.Watch, name: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    with pytest.raises(sentinel.LeftBehind, match=f"the file {name} was left behind"):
        no_patient_data_gets_out.check(tmp_path)
    path.unlink()


def test_names_of_folders_are_watched(tmp_path: Path, no_patient_data_gets_out: sentinel.Watch) -> None:
    (tmp_path / sentinel.PATIENT_NAME).mkdir()
    with pytest.raises(sentinel.PatientDataLeaked, match="a file name"):
        no_patient_data_gets_out.check(tmp_path)
    (tmp_path / sentinel.PATIENT_NAME).rmdir()


def test_titles_of_processes_are_watched() -> None:
    command = [sys.executable, "-c", "print(flush=True); input()", sentinel.PATIENT_ID]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command[:-1], **pipes) as silent, subprocess.Popen(command, **pipes) as leaking:
        for child in (silent, leaking):
            assert child.stdout is not None
            child.stdout.readline()  # from now on it has the title it was given
        sentinel.check_processes([silent.pid])
        with pytest.raises(sentinel.PatientDataLeaked, match="the cmdline of a process"):
            sentinel.check_processes([leaking.pid])
        silent.kill()
        leaking.kill()


@pytest.mark.parametrize(
    "syntax", [dicom.ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]
)
def test_builders_make_the_same_object_every_time_in_each_syntax(tmp_path: Path, syntax: str) -> None:
    instance = dicom.Instance(transfer_syntax=syntax, number=7)
    first = dicom.write(dicom.ct(instance), tmp_path / "a.dcm").read_bytes()
    second = dicom.write(dicom.ct(instance), tmp_path / "b.dcm").read_bytes()
    assert first == second
    read = pydicom.dcmread(io.BytesIO(first))
    assert read.file_meta.TransferSyntaxUID == syntax
    assert (read.PatientID, read.InstanceNumber, len(read.PixelData)) == (sentinel.PATIENT_ID, 7, 512)


def test_ultrasound_is_encapsulated(tmp_path: Path) -> None:
    read = pydicom.dcmread(dicom.write(dicom.us(), tmp_path / "us.dcm"))
    assert (read.file_meta.TransferSyntaxUID, read.NumberOfFrames) == (dicom.JPEGBaseline8Bit, 3)
    assert read["PixelData"].is_undefined_length
