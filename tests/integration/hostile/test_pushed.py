"""Hostile objects on their way on: each goes out, or is given up alone with a reason, and its worker lives."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from aegate_core.dicom.identifiers import ArrivalId
from aegate_scp.sink import Sink, SinkOptions
from tests import dicom
from tests.integration.hostile.objects import CRASHING, INDEXED, TEST_FILES, damaged, flipped
from tests.integration.intake.hospital import Place, spool_folder
from tests.integration.intake.hospital import entity as device
from tests.integration.scu.clinic import PACS, Clinic, clinic, data_digest, entity
from tests.integration.waiting import eventually_async

SEED = 20261126
ARCHIVE = entity(104, name="archive").key
GIVEN_UP = {"TRANSCODING_FAILED", "TOO_LARGE", "NO_CONTEXT"}
COMPRESSED = (
    *("JPEG2000.dcm", "MR_small_RLE.dcm", "SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_rle.dcm", "image_dfl.dcm"),
    *("MR_small_jpeg_ls_lossless.dcm", "JPEG2000-embedded-sequence-delimiter.dcm", "MR_small_bigendian.dcm"),
)
PATIENCE_S = 120


def hostile() -> Mapping[str, bytes]:
    """Return objects that are indexed, by name: odd headers, and compressed images with flipped bits."""
    chance = random.Random(SEED)
    odd = {name: make(name) for name, make in INDEXED.items() if not name.startswith("100,000 ")}
    crashing = {f"crashing {n}": damaged(*one[:3]) for n, one in enumerate(CRASHING)}
    compressed = [TEST_FILES / name for name in COMPRESSED]
    bits = {f"{p.name} {n}": flipped(p.read_bytes(), chance) for p in compressed for n in range(3)}
    return odd | crashing | bits


async def indexed(here: Clinic, content: Mapping[str, bytes]) -> dict[ArrivalId, str]:
    """Receive and index objects; return the names of those that are in the index, by arrival."""
    with spool_folder(here.data.root / "spool") as spool:
        place = Place(here.db, here.data.root, spool)
        names = {place.receive(data): name for name, data in content.items()}
        result = await place.index()
    assert (result.left, result.arrivals) == ((), len(content))
    rows = await here.db.fetch("SELECT id FROM arrival WHERE outcome <> 'QUARANTINED'")
    return {row["id"]: names[row["id"]] for row in rows}


async def test_hostile_objects_go_on_or_are_given_up_alone_and_the_worker_lives(
    database_url: str, tmp_path: Path
) -> None:
    async with clinic(database_url, tmp_path) as here:
        implicit = SinkOptions(tmp_path / "pacs", transfer_syntaxes=(ImplicitVRLittleEndian,))
        with Sink(implicit) as pacs, Sink(SinkOptions(tmp_path / "archive")) as archive:
            await here.configure(
                device("ct1"), entity(pacs.port), entity(archive.port, name="archive", title="ARCHIVE")
            )
            good = {f"good {n}": o for n, o in enumerate(dicom.ct_study("good", 5))}
            names = await indexed(here, hostile() | {n: written(o, tmp_path) for n, o in good.items()})
            mixed = sorted(names, key=lambda a: (names[a].rpartition(" ")[2], names[a]))
            converted = await here.enqueue(*mixed, to=PACS)
            as_they_are = await here.enqueue(*mixed, to=ARCHIVE)
            async with here.worker() as worker:
                await eventually_async(lambda: are_over(here), deadline_s=PATIENCE_S)
                assert worker.trouble() is None

        assert {state for state, _ in (await fates(here, as_they_are)).values()} <= {"STORED", "DEAD"}
        assert {code for _, code in (await fates(here, as_they_are)).values()} <= {None, "NO_CONTEXT"}
        arrived = {row["sha256"] for row in await here.db.fetch("SELECT sha256 FROM arrival")}
        assert {data_digest(r.path) for r in archive.received} <= arrived
        assert len(archive.received) > len(mixed) - 5

        fate = {names[arrival]: how for arrival, how in (await fates(here, converted)).items()}
        assert {n: fate[n] for n in good} == dict.fromkeys(good, ("STORED", None))
        assert set(fate.values()) <= {("STORED", None), *(("DEAD", code) for code in GIVEN_UP)}
        crashing = [fate[name] for name in fate if name.startswith("crashing")]
        assert crashing == [("DEAD", "TRANSCODING_FAILED")] * (len(CRASHING) - 1)  # one has no UIDs to index
        assert len(pacs.received) == list(fate.values()).count(("STORED", None)) > len(INDEXED) // 2
        for name in (PACS, ARCHIVE):
            row = await here.destination(name)
            assert (row["breaker"], row["failures_in_row"]) == ("CLOSED", 0)


def written(ds: Dataset, folder: Path) -> bytes:
    return dicom.write(ds, folder / "good.dcm").read_bytes()


async def are_over(here: Clinic) -> bool:
    return set((await here.states()).values()) <= {"COMPLETED", "FAILED"}


async def fates(here: Clinic, delivery: int) -> dict[ArrivalId, tuple[str, str | None]]:
    """Return state and error of each instance of a delivery, by arrival."""
    rows = await here.db.fetch(
        "SELECT arrival_id, state, error_code FROM delivery_instance WHERE delivery_id = $1", delivery
    )
    return {row["arrival_id"]: (row["state"], row["error_code"]) for row in rows}
