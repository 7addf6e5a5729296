"""Make the demo's images: a CT of two series and an ultrasound clip. Nothing in them is of a patient."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGBaseline8Bit, generate_uid

CT_IMAGE_STORAGE = UID("1.2.840.10008.5.1.4.1.1.2")
ULTRASOUND_MULTIFRAME = UID("1.2.840.10008.5.1.4.1.1.3.1")

CT_SERIES = 2
CT_SLICES_A_SERIES = 60
CT_ROWS = 512
US_FRAMES = 60
US_ROWS, US_COLUMNS = 480, 640


def ct_study(slices_a_series: int = CT_SLICES_A_SERIES) -> Iterator[Dataset]:
    """Yield slices of 512 x 512 pixels of 16 bits, in two series; no two have the same pixels."""
    study = _study("CT", "Head and neck, native and contrast")
    rows, columns = np.mgrid[-1 : 1 : CT_ROWS * 1j, -1 : 1 : CT_ROWS * 1j].astype(np.float32)
    noise = np.random.default_rng(20261124).normal(0, 12, (CT_ROWS, CT_ROWS)).astype(np.float32)
    for series in range(CT_SERIES):
        series_uid = generate_uid()
        for number in range(slices_a_series):
            ds = _instance(study, CT_IMAGE_STORAGE, series_uid, series + 1, number + 1)
            ds.SeriesDescription = ("native", "contrast")[series]
            ds.BodyPartExamined = "HEAD"
            ds.SliceThickness, ds.PixelSpacing = "2.5", ["0.45", "0.45"]
            ds.ImagePositionPatient = ["-115", "-115", f"{2.5 * number:.1f}"]
            ds.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
            ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "-1024", "1", "HU"
            radius = 0.55 + 0.35 * np.sin(np.pi * (number + 1) / slices_a_series)
            pixels = 1024 + np.where(rows**2 / 1.2 + columns**2 < radius**2, 40.0 + 150 * series, -1000.0)
            pixels = (pixels + np.roll(noise, 7 * number + 311 * series, axis=1)).clip(0, 4095)
            _native_pixels(ds, pixels.astype("<u2"))
            yield ds


def ultrasound_study() -> Iterator[Dataset]:
    """Yield one multi-frame object: 60 frames, each a JPEG Baseline image, encapsulated (PS3.5 A.4.1)."""
    ds = _instance(_study("US", "Echocardiogram"), ULTRASOUND_MULTIFRAME, generate_uid(), 1, 1)
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    ds.SeriesDescription = "four chamber view"
    ds.NumberOfFrames = US_FRAMES
    ds.FrameTime = "33.3"
    ds.FrameIncrementPointer = 0x00181063
    ds.LossyImageCompression = "01"
    ds.LossyImageCompressionMethod = "ISO_10918_1"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = US_ROWS, US_COLUMNS
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    ds.PixelData = encapsulate([_frame(number) for number in range(US_FRAMES)])
    yield ds


def _frame(number: int) -> bytes:
    """Return a sector with a beating circle in it, as JPEG."""
    rows, columns = np.mgrid[0:US_ROWS, 0:US_COLUMNS]
    depth = np.hypot(rows, columns - US_COLUMNS / 2)
    angle = np.abs(np.arctan2(columns - US_COLUMNS / 2, rows + 1))
    radius = 70 + 25 * np.sin(2 * np.pi * number / 30)
    heart = np.hypot(rows - 260, columns - 320) < radius
    speckle = np.random.default_rng(number).integers(0, 60, (US_ROWS, US_COLUMNS))
    picture = np.where((angle < 0.7) & (depth < 460), np.where(heart, 15, 90) + speckle, 0)
    file = io.BytesIO()
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()


def _study(modality: str, description: str) -> Dataset:
    now = datetime.now(UTC)
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.StudyDate, ds.StudyTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    ds.AccessionNumber = f"DEMO{modality}{now:%H%M%S}"
    ds.Modality, ds.StudyDescription = modality, description
    ds.PatientName, ds.PatientID = f"Demo^{modality}", f"DEMO-{modality}"
    ds.PatientBirthDate, ds.PatientSex = "19700101", "O"
    ds.StudyInstanceUID, ds.StudyID = generate_uid(), "1"
    return ds


def _instance(study: Dataset, sop_class: UID, series_uid: str, series: int, number: int) -> Dataset:
    ds = Dataset()
    ds.update(study)
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, generate_uid()
    ds.SeriesInstanceUID, ds.SeriesNumber, ds.InstanceNumber = series_uid, str(series), str(number)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, ds.SOPInstanceUID
    ds.file_meta = meta
    return ds


def _native_pixels(ds: Dataset, pixels: NDArray[np.uint16]) -> None:
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = pixels.tobytes()
