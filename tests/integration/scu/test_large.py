"""An object of 300 MB costs the sender a few MB of memory, whatever PDUs the peer takes, and arrives as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from tests.dicom import Instance, ct, ct_study, write
from tests.integration.processes import peak_rss_bytes
from tests.integration.scu.clinic import clinic, data_digest, entity, reaches
from tests.integration.scu.raw_peer import Store, raw_peer, response
from tests.integration.scu.test_limit import worker

MB = 1 << 20
SIDE = 12_544
"""Rows and columns of 16 bits: 300 MB."""
GROWTH_BYTES = 24 * MB

_SEND = """
import resource, sys
from pathlib import Path
from aegate_core.dicom.ae_title import AETitle
from aegate_scu.send import Remote, send_files
def sent(name):
    remote = Remote("127.0.0.1", int(sys.argv[1]), AETitle("SINK"), AETitle("CT1"))
    (outcome,) = send_files([Path(name)], remote)
    assert outcome.is_stored, outcome
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
small = sent(sys.argv[2])
print(sent(sys.argv[3]) - small)
"""


def good(store: Store) -> bytes:
    """Answer that the object is stored."""
    return response(store.message_id, 0x0000)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CT image of 300 MB."""
    folder = tmp_path_factory.mktemp("large")
    return write(ct(Instance(study="large", rows=SIDE, columns=SIDE)), folder / "large.dcm")


async def test_worker_needs_no_more_memory_for_a_large_object(
    database_url: str, tmp_path: Path, large: Path
) -> None:
    async with clinic(database_url, tmp_path) as here:
        with raw_peer(good) as peer, worker(here, "w1", lease_s=30) as child:
            await here.configure(entity(peer.port))
            small = await here.enqueue(*await here.store(*ct_study("s1", 1)))
            await reaches(here, small, "COMPLETED", deadline_s=30)
            before = peak_rss_bytes(child.pid)
            delivery = await here.enqueue(*await here.store(large))
            await reaches(here, delivery, "COMPLETED", deadline_s=120)
            assert peak_rss_bytes(child.pid) - before < GROWTH_BYTES
        assert peer.stores[-1].sha256 == data_digest(large)
        assert peer.longest_seen <= 16384


async def test_receiver_that_does_not_wait_until_a_large_object_is_read_is_called_again(
    database_url: str, tmp_path: Path
) -> None:
    large = write(ct(Instance(rows=SIDE // 2, columns=SIDE // 2)), tmp_path / "large.dcm")
    async with clinic(database_url, tmp_path) as here:
        with raw_peer(good) as peer:
            peer.hang_ups, peer.hangs_up_when = 1, lambda: is_read(here.data.blobs)
            await here.configure(entity(peer.port))
            delivery = await here.enqueue(*await here.store(large))
            async with here.worker(lease=timedelta(seconds=30)):
                await reaches(here, delivery, "COMPLETED", deadline_s=120)
        assert await here.history(delivery) == ["SCHEDULED", "IN_PROGRESS", "COMPLETED"]
        assert [r["breaks"] for r in await here.db.fetch("SELECT breaks FROM delivery_instance")] == [0]
        assert [s.sha256 for s in peer.stores] == [data_digest(large)]


def is_read(folder: Path) -> bool:
    """Whether this process has a file below ``folder`` open."""
    links = Path("/proc/self/fd").iterdir()
    return any(os.path.realpath(link).startswith(f"{folder}/") for link in links)


@pytest.mark.parametrize("longest_pdu", [0, 16384])
def test_sending_by_hand_needs_no_more_memory_for_a_large_object(
    tmp_path: Path, large: Path, longest_pdu: int
) -> None:
    small = write(ct(), tmp_path / "small.dcm")
    with raw_peer(good, longest_pdu=longest_pdu) as peer:
        command = [sys.executable, "-c", _SEND, str(peer.port), str(small), str(large)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180)
        assert (done.returncode, done.stderr) == (0, "")
        assert int(done.stdout) < GROWTH_BYTES
    assert [s.sha256 for s in peer.stores] == [data_digest(small), data_digest(large)]
