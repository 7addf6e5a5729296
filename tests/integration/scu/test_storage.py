"""Our own storage at fault: nothing that did not arrive so goes out, no object is given up, and all goes by itself."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO

import pytest
from pydicom.uid import ExplicitVRLittleEndian

from aegate_core.decisions.moving import NotMovingCode
from aegate_core.stores.blobs import FolderStore, blob_key
from aegate_scp.sink import Sink, SinkOptions
from tests.dicom import ct_study
from tests.integration.hostile.objects import TEST_FILES
from tests.integration.hostile.test_decoders import decoders
from tests.integration.scu.clinic import Clinic, clinic, digests, entity, reaches, why
from tests.integration.waiting import eventually, eventually_async

MISSING = "our own storage is at fault, not the receiver: the file of at least one instance cannot be read"
DAMAGED = (
    "our own storage is at fault, not the receiver: the file of at least one instance is not what arrived"
)


def gone(path: Path) -> None:
    """Take the file away."""
    path.unlink()


def unreadable(path: Path) -> None:
    """Put something there that gives an error when it is read."""
    path.unlink()
    path.mkdir()


def changed(path: Path) -> None:
    """Change one bit of the last pixel."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    """Lose the end."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-100])


def emptied(path: Path) -> None:
    """Lose everything but the name."""
    path.unlink()
    path.touch()


FAULTS = [
    (gone, "BLOB_UNREADABLE", MISSING),
    (unreadable, "BLOB_UNREADABLE", MISSING),
    (changed, "BLOB_DAMAGED", DAMAGED),
    (cut_short, "BLOB_DAMAGED", DAMAGED),
    (emptied, "BLOB_DAMAGED", DAMAGED),
]


@pytest.mark.parametrize(("spoil", "code", "text"), FAULTS, ids=[f[0].__name__ for f in FAULTS])
async def test_what_storage_does_not_give_waits_and_goes_when_it_is_back(
    database_url: str, tmp_path: Path, spoil: object, code: str, text: str
) -> None:
    assert callable(spoil)
    async with clinic(database_url, tmp_path) as here:
        with Sink(SinkOptions(tmp_path / "sink")) as sink:
            await here.configure(entity(sink.port))
            arrivals = await here.store(*ct_study("s1", 3))
            blob = FolderStore(here.data.blobs).path(blob_key(arrivals[1]))
            spoil(blob)
            delivery = await here.enqueue(*arrivals)
            async with here.worker():
                for _ in range(4):  # more often than an object that the peer refuses would be tried
                    await reaches(here, delivery, "RETRY")
                    assert await why(here, delivery) == (NotMovingCode.BACKOFF, text)
                    await here.retry_now()
                    await eventually_async(lambda: _tried_again(here, delivery))
                await reaches(here, delivery, "RETRY")
                assert (await here.instances(delivery))[1] == ("PENDING", None, code)
                assert len(sink.received) == 2
                row = await here.delivery(delivery)
                assert (row["attempts"], row["instances_done"], row["instances_failed"]) == (0, 2, 0)
                assert await here.db.fetch_value("SELECT max(attempts) FROM delivery_instance") == 0
                assert (await here.destination())["breaker"] == "CLOSED"
                restore(blob, here.stored[arrivals[1]])
                await here.retry_now()
                await reaches(here, delivery, "COMPLETED")
            assert digests([r.path for r in sink.received]) == digests(list(here.stored.values()))


async def _tried_again(here: Clinic, delivery: int) -> bool:
    """Whether it went from RETRY through a whole attempt and waits again."""
    row = await here.db.fetch_one(
        "SELECT state, available_at > (SELECT max(at) FROM delivery_event WHERE delivery_id = $1) AS later "
        "FROM delivery WHERE id = $1",
        delivery,
    )
    return row is not None and row["state"] == "RETRY" and bool(row["later"])


def restore(blob: Path, original: Path) -> None:
    """Put the file back as from a backup."""
    if blob.is_dir():
        blob.rmdir()
    blob.unlink(missing_ok=True)
    blob.write_bytes(original.read_bytes())


async def test_a_damaged_object_is_not_converted_either(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        options = SinkOptions(tmp_path / "sink", transfer_syntaxes=("1.2.840.10008.1.2",))
        with Sink(options) as sink:
            await here.configure(entity(sink.port))
            arrivals = await here.store(*ct_study("s1", 2))
            changed(FolderStore(here.data.blobs).path(blob_key(arrivals[0])))
            delivery = await here.enqueue(*arrivals)
            async with here.worker():
                await reaches(here, delivery, "RETRY")
            assert await here.instances(delivery) == [
                ("PENDING", None, "BLOB_DAMAGED"),
                ("STORED", 0, None),
            ]
            assert len(sink.received) == 1


NO_ROOM = (
    "our own storage is at fault, not the receiver: there is no room to convert at least one instance for it"
)
NO_DECODER = (
    "our own worker is at fault, not the receiver: the decoder of at least one instance was killed, or could not be "
    "started"
)


def without_room(patch: pytest.MonkeyPatch) -> None:
    """Let what is converted go onto a disk that is full."""

    def full(dir: Path) -> BinaryIO:
        return os.fdopen(os.open("/dev/full", os.O_RDWR), "w+b")

    patch.setattr(tempfile, "TemporaryFile", full)


def without_decoders(patch: pytest.MonkeyPatch) -> None:
    """Let none be left, and none be started."""
    for pid in decoders():
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not decoders())
    patch.setattr(sys, "executable", "/nowhere/python")


@pytest.mark.parametrize(
    ("spoil", "code", "text"),
    [(without_room, "NO_ROOM_TO_CONVERT", NO_ROOM), (without_decoders, "DECODER_LOST", NO_DECODER)],
    ids=["no room", "no decoder"],
)
async def test_what_cannot_be_converted_by_a_fault_of_ours_waits_alone(
    database_url: str, tmp_path: Path, spoil: object, code: str, text: str
) -> None:
    assert callable(spoil)
    async with clinic(database_url, tmp_path) as here:
        options = SinkOptions(tmp_path / "sink", transfer_syntaxes=(ExplicitVRLittleEndian,))
        with Sink(options) as sink:
            await here.configure(entity(sink.port))
            native = ct_study("s1", 2)
            arrivals = await here.store(TEST_FILES / "MR_small_RLE.dcm", *native)
            delivery = await here.enqueue(*arrivals)
            async with here.worker():
                with pytest.MonkeyPatch.context() as patch:
                    spoil(patch)
                    for _ in range(4):
                        await reaches(here, delivery, "RETRY")
                        assert await why(here, delivery) == (NotMovingCode.BACKOFF, text)
                        await here.retry_now()
                        await eventually_async(lambda: _tried_again(here, delivery))
                    assert await here.instances(delivery) == [
                        ("PENDING", None, code),
                        ("STORED", 0, None),
                        ("STORED", 0, None),
                    ]
                    assert (
                        await here.db.fetch_value("SELECT max(attempts + breaks) FROM delivery_instance") == 0
                    )
                    destination = await here.destination()
                    assert (destination["breaker"], destination["failures_in_row"]) == ("CLOSED", 0)
                await here.retry_now()
                await reaches(here, delivery, "COMPLETED")
        assert len(sink.received) == 3
