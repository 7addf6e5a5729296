"""Orthanc takes what the worker pushes: a PACS of another make, which stores and reads what comes."""

from __future__ import annotations

from pathlib import Path

import pydicom
from pydicom.uid import JPEGBaseline8Bit

from tests import dicom
from tests.integration.orthanc import Orthanc
from tests.integration.scu.clinic import clinic, data_digest, digests, entity, reaches


async def test_orthanc_holds_what_was_pushed(database_url: str, tmp_path: Path, orthanc: Orthanc) -> None:
    us = dicom.us(dicom.Instance(series="us", transfer_syntax=JPEGBaseline8Bit, frames=3))
    async with clinic(database_url, tmp_path) as here:
        await here.configure(entity(orthanc.port, title="ORTHANC"))
        delivery = await here.enqueue(*await here.store(*dicom.ct_study("s1", 3), us))
        async with here.worker():
            await reaches(here, delivery, "COMPLETED")
        assert await here.instances(delivery) == [("STORED", 0, None)] * 4
        held = [tmp_path / "held" / f"{n}.dcm" for n, _ in enumerate(orthanc.instances())]
        held[0].parent.mkdir()
        for path, instance in zip(held, orthanc.instances(), strict=True):
            path.write_bytes(orthanc.file(instance))
        assert digests(held) == digests(list(here.stored.values()))
        assert len({data_digest(p) for p in held}) == 4
        syntaxes = sorted(pydicom.dcmread(p).file_meta.TransferSyntaxUID for p in held)
        assert syntaxes == ["1.2.840.10008.1.2.1"] * 3 + [JPEGBaseline8Bit]
