"""The spool on a real folder: what is committed is whole, what is not committed leaves nothing."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from aegate_core.dicom.arrival_ids import new_arrival_id
from aegate_core.dicom.identifiers import ArrivalId, ResourceKey
from aegate_core.errors import InvalidInput, StorageError, StorageFull
from aegate_core.stores.spool import (
    Room,
    SideRecord,
    SpoolFolder,
    Swept,
    Watermark,
    remove,
    room_of,
    scan,
    sweep,
)

CT1 = ResourceKey("default", "ct1")


def record(arrival_id: ArrivalId, size_bytes: int = 5) -> SideRecord:
    return SideRecord(
        arrival_id=arrival_id,
        ae=CT1,
        calling_title="CT1",
        called_title="AEGATE",
        peer_address="10.0.0.7",
        received_at=datetime(2026, 11, 24, 10, 15, 0, 123456, tzinfo=UTC),
        abstract_syntax="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax="1.2.840.10008.1.2.1",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        sop_instance_uid="1.2.3.4",
        data_offset=2,
        size_bytes=size_bytes,
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def folder(root: Path) -> Iterator[SpoolFolder]:
    spool = SpoolFolder(root)
    yield spool
    spool.close()


def store(folder: SpoolFolder, data: bytes = b"abc") -> ArrivalId:
    arrival_id = new_arrival_id()
    file = folder.begin(CT1, arrival_id, b"hd")
    file.write(memoryview(data))
    file.commit(record(arrival_id, 2 + len(data)))
    return arrival_id


def files(root: Path) -> list[str]:
    return sorted(p.name for p in root.rglob("*") if p.is_file() and p.parent.name != ".listeners")


def test_committed_object_and_side_record_come_back_as_written(root: Path, folder: SpoolFolder) -> None:
    arrival_id = store(folder)

    (arrival,) = scan(root)

    assert arrival.path == root / "default" / "ct1" / folder.process / f"{arrival_id}.dcm"
    assert arrival.path.read_bytes() == b"hdabc"
    assert arrival.side == record(arrival_id)
    assert arrival.side_path.name == f"{arrival_id}.json"
    assert files(root) == [f"{arrival_id}.dcm", f"{arrival_id}.json"]


def test_object_is_not_seen_before_commit_and_leaves_nothing_when_discarded(
    root: Path, folder: SpoolFolder
) -> None:
    arrival_id = new_arrival_id()
    file = folder.begin(CT1, arrival_id, b"hd")
    file.write(memoryview(b"abc"))

    assert list(scan(root)) == []
    assert files(root) == [f"{arrival_id}.dcm.part"]

    file.discard()
    file.discard()
    assert files(root) == []


def test_steps_of_a_commit_are_in_the_order_that_makes_them_durable(
    root: Path, folder: SpoolFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(folder)
    steps: list[str] = []

    def name_of(descriptor: int) -> str:
        return Path(f"/proc/self/fd/{descriptor}").readlink().suffix or "folder"

    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append(f"fsync {name_of(fd)}"), fsync(fd))[1])
    monkeypatch.setattr(os, "rename", lambda *a, **k: (steps.append("rename"), rename(*a, **k))[1])

    store(folder)

    assert steps == ["fsync .part", "fsync .json", "rename", "fsync folder"]


@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_a_commit_that_fails_leaves_nothing_to_index(
    root: Path, folder: SpoolFolder, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    arrival_id = new_arrival_id()
    file = folder.begin(CT1, arrival_id, b"hd")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, full)
        with pytest.raises(StorageFull):
            file.commit(record(arrival_id))

    assert list(scan(root)) == []
    assert files(root) == []


def test_a_write_onto_a_full_disk_is_said_and_leaves_nothing(
    root: Path, folder: SpoolFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder.begin(CT1, new_arrival_id(), b"hd")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StorageFull, match="the file system is full: make room on it"):
            file.write(memoryview(b"abc"))

    assert files(root) == []


def test_arrivals_of_all_listeners_come_oldest_first(root: Path, folder: SpoolFolder) -> None:
    other = SpoolFolder(root)
    stored = [store(spool) for spool in (folder, other, folder, other, folder)]
    other.close()

    assert [a.side.arrival_id for a in scan(root)] == sorted(stored)


@pytest.mark.parametrize("name", ["lost+found", ".snapshot", "Upper"])
def test_folders_that_are_no_namespace_are_left_alone(root: Path, folder: SpoolFolder, name: str) -> None:
    stored = store(folder)
    (arrival,) = scan(root)
    foreign = root / name / "ct1" / "p1"
    foreign.mkdir(parents=True)
    for suffix in (".dcm", ".json"):
        (foreign / f"{stored}{suffix}").write_bytes(arrival.path.with_suffix(suffix).read_bytes())
    (foreign / "other.dcm.part").touch()

    assert list(scan(root)) == [arrival]
    assert sweep(root) == Swept(0, 0, 0)
    assert (foreign / "other.dcm.part").exists()


def test_removed_arrival_is_gone_and_removing_is_safe_to_repeat(root: Path, folder: SpoolFolder) -> None:
    store(folder)
    (arrival,) = scan(root)

    remove(arrival)
    remove(arrival)

    assert files(root) == []


def test_unreadable_side_record_is_reported_and_kept(root: Path, folder: SpoolFolder) -> None:
    broken, whole = store(folder), store(folder)
    side = next(root.rglob(f"{broken}.json"))
    side.write_text("{")
    reported: list[tuple[str, str]] = []

    found = list(scan(root, unreadable=lambda path, reason: reported.append((path.name, reason))))

    assert [a.side.arrival_id for a in found] == [whole]
    assert reported == [(f"{broken}.dcm", "InvalidInput")]
    assert f"{broken}.dcm" in files(root)


def test_sweep_leaves_a_living_listener_alone(root: Path, folder: SpoolFolder) -> None:
    arrival_id = new_arrival_id()
    file = folder.begin(CT1, arrival_id, b"hd")

    assert sweep(root) == Swept(0, 0, 0)
    assert files(root) == [f"{arrival_id}.dcm.part"]
    file.discard()


def test_sweep_removes_the_parts_of_a_dead_listener_and_keeps_its_arrivals(root: Path) -> None:
    dead = SpoolFolder(root)
    kept = store(dead)
    unfinished = dead.begin(CT1, new_arrival_id(), b"hd")
    dead.close()

    assert sweep(root) == Swept(processes=1, parts=1, arrivals=1)

    assert [a.side.arrival_id for a in scan(root)] == [kept]
    assert files(root) == [f"{kept}.dcm", f"{kept}.json"]
    assert sweep(root) == Swept(processes=1, parts=0, arrivals=1)
    unfinished.discard()


def test_sweep_removes_a_side_record_without_object_and_the_empty_folder(root: Path) -> None:
    dead = SpoolFolder(root)
    store(dead)
    (arrival,) = scan(root)
    dead.close()
    arrival.path.unlink()

    sweep(root)

    assert files(root) == []
    assert not arrival.path.parent.exists()
    assert list((root / ".listeners").iterdir()) == []


def test_sweep_of_a_spool_that_is_not_there_finds_nothing(root: Path) -> None:
    assert sweep(root) == Swept(0, 0, 0)
    assert list(scan(root)) == []


def test_lock_file_unlinked_under_a_starting_listener_is_taken_anew(root: Path) -> None:
    first = SpoolFolder(root, "p1")
    (root / ".listeners" / "p1.lock").unlink()
    second = SpoolFolder(root, "p1")

    assert (root / ".listeners" / "p1.lock").exists()
    second.close()
    os.close(first._lock)


def test_two_lives_never_share_a_folder(root: Path) -> None:
    one, two = SpoolFolder(root), SpoolFolder(root)

    assert one.process != two.process
    one.close()
    two.close()


def test_folder_removed_by_hand_is_made_again(root: Path, folder: SpoolFolder) -> None:
    store(folder)
    for path in sorted(root.rglob("*"), reverse=True):
        if ".listeners" not in path.parts:
            path.unlink() if path.is_file() else path.rmdir()

    arrival_id = store(folder)

    assert [a.side.arrival_id for a in scan(root)] == [arrival_id]


def test_spool_that_is_a_file_is_a_storage_error(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    path.write_text("")

    with pytest.raises(StorageError, match="spool must be writable"):
        SpoolFolder(path)


def test_eight_threads_store_side_by_side(root: Path, folder: SpoolFolder) -> None:
    stored: list[ArrivalId] = []

    def work() -> None:
        stored.extend(store(folder) for _ in range(10))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(a.side.arrival_id for a in scan(root)) == sorted(stored)
    assert len(stored) == 80


def test_side_record_survives_json(folder: SpoolFolder) -> None:
    side = record(new_arrival_id())

    assert SideRecord.from_json(side.to_json()) == side


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "[]",
        lambda text: text.replace("default/ct1", "ct1"),
        lambda text: text.replace('"arrival_id": "', '"arrival_id": "../'),
        lambda text: text.replace('"data_offset": 2, ', ""),
        lambda text: text.replace("2026-11-24", "yesterday"),
    ],
)
def test_other_text_is_no_side_record(change: Callable[[str], str]) -> None:
    text = record(new_arrival_id()).to_json()

    assert change(text) != text
    with pytest.raises(InvalidInput):
        SideRecord.from_json(change(text))


@pytest.mark.parametrize(
    ("room", "exceeded"),
    [
        (Room(free_bytes=10, used_percent=96.0), True),
        (Room(free_bytes=10, used_percent=94.0), False),
        (Room(free_bytes=1000, used_percent=99.0), False),
    ],
)
def test_watermark_is_exceeded_above_the_percentage_and_below_the_bytes(room: Room, exceeded: bool) -> None:
    assert Watermark(used_percent=95.0, free_bytes=100).is_exceeded_by(room) is exceeded


@pytest.mark.parametrize(
    ("room", "near"),
    [
        (Room(free_bytes=140, used_percent=86.0, size_bytes=1000), True),
        (Room(free_bytes=140, used_percent=84.0, size_bytes=1000), False),
        (Room(free_bytes=100, used_percent=99.9, size_bytes=100_000), True),
        (Room(free_bytes=10_200, used_percent=89.8, size_bytes=100_000), False),
    ],
)
def test_watermark_is_near_a_tenth_of_the_file_system_earlier(room: Room, near: bool) -> None:
    assert Watermark(used_percent=95.0, free_bytes=100).is_near(room) is near


def test_room_is_that_of_the_file_system(tmp_path: Path) -> None:
    stat = os.statvfs(tmp_path)

    assert room_of(tmp_path).free_bytes == pytest.approx(stat.f_bavail * stat.f_frsize, rel=0.05)
    with pytest.raises(StorageError):
        room_of(tmp_path / "missing")


def test_sweep_unlinks_a_lock_only_while_it_holds_it(
    root: Path, folder: SpoolFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a listener could take the lock in between, and would count as dead for the whole of its life."""
    SpoolFolder(root, "dead").close()
    lock = root / ".listeners" / "dead.lock"
    lock.write_bytes(b"")
    held: list[bool] = []
    unlink = Path.unlink

    def watched(path: Path, missing_ok: bool = False) -> None:
        if path == lock:
            with path.open() as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    held.append(False)
                except BlockingIOError:
                    held.append(True)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", watched)

    sweep(root)

    assert held == [True]
    assert [p.name for p in (root / ".listeners").iterdir()] == [f"{folder.process}.lock"]


def test_folders_above_the_spool_are_made_durable_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (synced.append(Path(f"/proc/self/fd/{fd}").readlink()), fsync(fd))[1]
    )

    SpoolFolder(tmp_path / "new" / "data" / "spool").close()

    above = [tmp_path, tmp_path / "new", tmp_path / "new" / "data", tmp_path / "new" / "data" / "spool"]
    assert {folder for folder in synced if folder.is_relative_to(tmp_path)} == set(above)


def test_departure_is_over_when_the_object_has_left_its_folder(root: Path, folder: SpoolFolder) -> None:
    arrival_id = new_arrival_id()
    file = folder.begin(CT1, arrival_id, b"hd")
    with closing(file.watch()) as departure:
        file.commit(record(arrival_id, 2))
        assert not departure.is_over()

        (arrival,) = scan(root)
        remove(arrival)

        assert departure.is_over()


def test_folder_that_is_removed_or_moved_is_no_departure(root: Path, folder: SpoolFolder) -> None:
    arrival_id = new_arrival_id()
    file = folder.begin(CT1, arrival_id, b"hd")
    with closing(file.watch()) as departure:
        file.commit(record(arrival_id, 2))
        root.rename(root.parent / "moved")
        assert not departure.is_over()

        (root.parent / "moved").rename(root)
        shutil.rmtree(root / "default")

        assert not departure.is_over()


def test_folder_whose_fsync_failed_is_made_anew_and_not_fsynced_a_second_time(
    root: Path, folder: SpoolFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(StorageError, match="got EIO: the disk fails"):
            folder.begin(CT1, new_arrival_id(), b"hd")
    assert [p.name for p in root.iterdir()] == [".listeners"]

    store(folder)
    assert len(list(scan(root))) == 1
