"""The spool's disk is full, read-only or broken: devices hear it, people read why, and it heals by itself."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from tests.integration.faults.conftest import Recovery
from tests.integration.faults.disk_errors import CHANGES, GROWS, Call
from tests.integration.faults.scene import SOON_S, Scene, scene
from tests.integration.waiting import eventually

FAULTS = {
    "full disk": (errno.ENOSPC, GROWS | Call.ROOM, "the file system is full: make room on it"),
    "quota used up": (errno.EDQUOT, Call.WRITE, "the quota is used up: raise it, or make room"),
    "no inodes": (errno.ENOSPC, Call.CREATE | Call.MKDIR | Call.INODES, "the file system has no inode left"),
    "read-only disk": (errno.EROFS, CHANGES, "the file system is read-only"),
    "broken disk": (errno.EIO, Call.FSYNC, "the disk fails: look into the system's log"),
}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One for all: each fault must leave it well for the next."""
    with scene(tmp_path_factory.mktemp("spool")) as running:
        yield running


@pytest.mark.parametrize("name", FAULTS)
def test_devices_are_refused_and_people_are_told_why_until_the_spool_is_well(
    here: Scene, recovery: Recovery, name: str
) -> None:
    error, calls, words = FAULTS[name]
    assoc = here.call()
    assert here.send(assoc) == 0x0000
    before = len(here.acknowledged)
    with here.disk.failing(error, calls, f"{here.up.data}/spool*") as fault:
        assert here.send(assoc) == 0xA700
        eventually(lambda: here.store("ct1") == "rejected 2,3,1", deadline_s=SOON_S)
        assert here.metric("listener", "aegate_spool_congested") == 1
        status, said = here.get("listener", "/readyz")
        assert (status, said.startswith("ok: spool must be writable"), words in said) == (200, True, True)
        eventually(lambda: here.state("listener").state == "degraded", deadline_s=SOON_S)
        eventually(lambda: here.ready("ct1")[0] == "False", deadline_s=SOON_S)
        assert words in here.ready("ct1")[1]
        (congested,) = here.up.events("spool.congested")[-1:]
        assert words in congested["reason"]
        assert fault.failed > 0
    assert len(here.acknowledged) == before
    with recovery(f"{name} of the spool"):
        here.until_stored("ct1")
        here.until_stored("us1")
        here.until_all_is_well()
    assoc.abort()
    assert list((here.up.data / "spool").rglob("*.part")) == []


def test_quota_of_one_device_refuses_it_alone(here: Scene, recovery: Recovery) -> None:
    others = {name: here.up.pid_of(name) for name in ("listener", "indexer", "worker", "api")}
    glob = f"{here.up.data}/spool/default/ct1/*"
    with here.disk.failing(errno.EDQUOT, Call.WRITE | Call.CREATE, glob):
        assert here.store("ct1") == "0xA700"
        assert here.store("us1") == "0x0000"
        here.until_delivered()
        assert here.store("ct1") == "0xA700"
    with recovery("quota of one device"):
        here.until_stored("ct1")
        here.until_all_is_well()
    assert {name: here.up.pid_of(name) for name in others} == others


def test_object_that_cannot_be_read_holds_up_nobody_and_goes_when_it_can(
    here: Scene, recovery: Recovery
) -> None:
    here.until_delivered()
    glob = f"{here.up.data}/spool/default/ct1/*.dcm"
    with here.disk.failing(errno.EIO, Call.READ, glob):
        assert here.store("ct1") == "0x0000"
        unread = here.missing()
        eventually(lambda: here.metric("indexer", "aegate_spool_unreadable") == 1, deadline_s=SOON_S)
        assert here.store("us1") == "0x0000"
        eventually(lambda: here.missing() == unread, deadline_s=SOON_S)
        (left,) = {e["error"] for e in here.up.events("arrival.left")}
        assert left == "it cannot be read (EIO)"
    with recovery("object that cannot be read"):
        here.until_all_is_well()
    assert here.metric("indexer", "aegate_spool_unreadable") == 0
