"""Small DICOM objects made by code, the same bytes on every run, all of the sentinel patient.

UIDs are derived from names (``uid("study 1")``), never from the clock or chance.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    MRImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from tests import sentinel

__all__ = [
    "CTImageStorage",
    "ExplicitVRBigEndian",
    "ExplicitVRLittleEndian",
    "ImplicitVRLittleEndian",
    "Instance",
    "JPEGBaseline8Bit",
    "ct",
    "ct_study",
    "mr",
    "pydicom_test_files",
    "uid",
    "us",
    "write",
]

ROOT = "1.2.826.0.1.3680043.10.999"


def uid(name: str) -> str:
    """Return the UID that belongs to ``name``: always the same one."""
    return f"{ROOT}.{int.from_bytes(hashlib.sha256(name.encode()).digest()[:12], 'big')}"


@dataclass(frozen=True, slots=True)
class Instance:
    """Where an object stands: which patient, study and series by name, which number in it, how it is written."""

    study: str = "study 1"
    series: str = "series 1"
    number: int = 1
    patient_id: str = sentinel.PATIENT_ID
    patient_name: str = sentinel.PATIENT_NAME
    transfer_syntax: str = ExplicitVRLittleEndian
    rows: int = 16
    columns: int = 16
    frames: int = 1


def ct(instance: Instance = Instance()) -> Dataset:
    """Return a CT image, 16 bits, whose pixels differ with its number."""
    ds = _object(instance, CTImageStorage, "CT")
    ds.RescaleIntercept, ds.RescaleSlope = "-1024", "1"
    return _with_grey_pixels(ds, instance)


def mr(instance: Instance = Instance()) -> Dataset:
    """Return an MR image, 16 bits, whose pixels differ with its number."""
    return _with_grey_pixels(_object(instance, MRImageStorage, "MR"), instance)


def us(instance: Instance = Instance(transfer_syntax=JPEGBaseline8Bit, frames=3)) -> Dataset:
    """Return an ultrasound of several frames, each an encapsulated stream that nobody decodes (it is no real JPEG)."""
    ds = _object(instance, UltrasoundMultiFrameImageStorage, "US")
    ds.NumberOfFrames = str(instance.frames)
    ds.FrameTime = "33"
    ds.FrameIncrementPointer = 0x00181063
    _describe_pixels(ds, instance, samples=3, bits=8, photometric="YBR_FULL_422")
    frames = [
        b"\xff\xd8" + _noise(f"{ds.SOPInstanceUID} {n}", 200) + b"\xff\xd9" for n in range(instance.frames)
    ]
    ds.add_new(0x7FE00010, "OB", encapsulate(frames))
    ds["PixelData"].is_undefined_length = True
    return ds


def ct_study(study: str, count: int, *, transfer_syntax: str = ExplicitVRLittleEndian) -> list[Dataset]:
    """Return ``count`` CT images of one study and series."""
    return [ct(Instance(study=study, number=n, transfer_syntax=transfer_syntax)) for n in range(1, count + 1)]


def write(ds: Dataset, path: Path) -> Path:
    """Write ``ds`` as a Part 10 file (PS3.10 7.1) and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def pydicom_test_files() -> list[Path]:
    """Return the DICOM files that come with pydicom, sorted; nothing is downloaded."""
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    return sorted(folder.glob("*.dcm"))


def _object(instance: Instance, sop_class: str, modality: str) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = uid(f"{instance.study}/{instance.series}/{instance.number}")
    ds.StudyInstanceUID = uid(instance.study)
    ds.SeriesInstanceUID = uid(f"{instance.study}/{instance.series}")
    ds.PatientName, ds.PatientID = instance.patient_name, instance.patient_id
    ds.PatientBirthDate, ds.PatientSex = sentinel.PATIENT_BIRTH_DATE, "O"
    ds.AccessionNumber = sentinel.ACCESSION_NUMBER
    ds.StudyDescription, ds.SeriesDescription = sentinel.STUDY_DESCRIPTION, sentinel.SERIES_DESCRIPTION
    ds.StudyDate, ds.StudyTime, ds.StudyID = "20261124", "101500", "1"
    ds.ReferringPhysicianName = ""
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber = modality, "1", str(instance.number)
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.TransferSyntaxUID = UID(instance.transfer_syntax)
    meta.ImplementationClassUID = UID(ROOT)
    ds.file_meta = meta
    return ds


def _describe_pixels(ds: Dataset, instance: Instance, *, samples: int, bits: int, photometric: str) -> None:
    ds.Rows, ds.Columns = instance.rows, instance.columns
    ds.SamplesPerPixel, ds.PhotometricInterpretation = samples, photometric
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = bits, bits, bits - 1, 0
    if samples > 1:
        ds.PlanarConfiguration = 0


def _with_grey_pixels(ds: Dataset, instance: Instance) -> Dataset:
    _describe_pixels(ds, instance, samples=1, bits=16, photometric="MONOCHROME2")
    ds.add_new(0x7FE00010, "OW", _noise(ds.SOPInstanceUID, instance.rows * instance.columns * 2))
    return ds


def _noise(name: str, size_bytes: int) -> bytes:
    return hashlib.shake_128(name.encode()).digest(size_bytes)
