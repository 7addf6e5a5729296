"""Blobs: one file an arrival, never changed, never outside the store."""

from __future__ import annotations

import errno
import fcntl
import os
from datetime import timedelta
from pathlib import Path

import pytest

from aegate_core.dicom.arrival_ids import new_arrival_id
from aegate_core.dicom.identifiers import ArrivalId
from aegate_core.errors import InvalidValue, StorageError, StorageFull
from aegate_core.stores.blobs import MARK, FolderStore, blob_key

ID = ArrivalId("0192f0c1a2b37abc8def0123456789ab")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "spooled.dcm"
    path.write_bytes(b"object")
    return path


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What is fsynced, in order."""
    synced, fsync = list[Path](), os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (synced.append(Path(f"/proc/self/fd/{fd}").readlink()), fsync(fd))[1]
    )
    return synced


def test_key_ends_in_the_arrival_id_below_its_last_digits() -> None:
    assert blob_key(ID) == "89/ab/0192f0c1a2b37abc8def0123456789ab.dcm"


def test_blob_is_a_hard_link_and_outlives_the_spool(tmp_path: Path, source: Path) -> None:
    store = FolderStore(tmp_path / "blobs")

    key = store.put(ID, source)

    assert store.path(key).stat().st_ino == source.stat().st_ino
    source.unlink()
    assert store.path(key).read_bytes() == b"object"


def test_putting_again_is_harmless_also_without_the_source(tmp_path: Path, source: Path) -> None:
    store = FolderStore(tmp_path / "blobs")
    key = store.put(ID, source)

    assert store.put(ID, source) == key
    source.unlink()
    assert store.put(ID, source) == key
    assert [p.name for p in (tmp_path / "blobs").rglob("*") if p.is_file()] == [f"{ID}.dcm"]


def test_another_file_system_gets_a_compared_copy(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    store = FolderStore(tmp_path / "blobs")

    key = store.put(ID, source)

    assert store.path(key).stat().st_ino != source.stat().st_ino
    assert store.path(key).read_bytes() == b"object"
    assert not list((tmp_path / "blobs").rglob("*.part"))


def test_what_a_killed_process_left_of_a_copy_goes_with_the_next_one(tmp_path: Path, source: Path) -> None:
    key = FolderStore(tmp_path / "blobs").put(ID, source)
    folder = (tmp_path / "blobs" / key).parent
    (folder / f"{ID}.4711.part").write_bytes(b"obj")
    copied_now = folder / f"{ID}.4712.part"
    with copied_now.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        # Another process than the one that put it: it does not know that what lies there is durable.
        assert FolderStore(tmp_path / "blobs").put(ID, source) == key

        assert sorted(p.name for p in folder.iterdir()) == [copied_now.name, f"{ID}.dcm"]


def test_many_go_in_at_once(tmp_path: Path, source: Path) -> None:
    store = FolderStore(tmp_path / "blobs")
    ids = [new_arrival_id() for _ in range(20)]

    keys = store.put_many([(i, source) for i in ids])

    assert keys == [blob_key(i) for i in ids]
    assert all(store.path(k).read_bytes() == b"object" for k in keys)


def test_folders_that_another_process_made_are_made_durable_too(
    tmp_path: Path, source: Path, synced: list[Path]
) -> None:
    """It may have died between making them and its fsync; a power loss would take the blob with its folder."""
    root = tmp_path / "blobs"
    (root / "89" / "ab").mkdir(parents=True)
    store = FolderStore(root)

    key = store.put(ID, source)

    assert set(synced) == {root, root / "89", root / "89" / "ab", root / key}
    synced.clear()
    store.put(ID, source)
    assert set(synced) == {root / "89" / "ab", root / key}


def test_blob_that_a_run_removed_before_it_died_is_gone_for_good_after_the_next(
    tmp_path: Path, source: Path, synced: list[Path]
) -> None:
    """It had not come to its fsync: a power loss would bring the image back, and no row would know it."""
    store = FolderStore(tmp_path / "blobs")
    key = store.put(ID, source)
    store.path(key).unlink()
    synced.clear()

    store.remove_many([key, blob_key(ArrivalId("0192f0c1a2b37abc8def012345670000"))])

    assert synced == [store.path(key).parent]


def test_missing_source_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FolderStore(tmp_path / "blobs").put(ID, tmp_path / "gone.dcm")


@pytest.mark.parametrize(("code", "error"), [(errno.ENOSPC, StorageFull), (errno.EROFS, StorageError)])
def test_disk_trouble_is_a_storage_error(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, code: int, error: type[StorageError]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, "no")

    monkeypatch.setattr(os, "link", refuse)

    with pytest.raises(error, match=errno.errorcode[code]):
        FolderStore(tmp_path / "blobs").put(ID, source)


@pytest.mark.parametrize("key", ["../../etc/passwd", "", "ab/cd/x.dcm", f"00/00/{ID}.dcm", f"89/ab/{ID}"])
def test_key_never_leaves_the_store(tmp_path: Path, key: str) -> None:
    with pytest.raises(InvalidValue):
        FolderStore(tmp_path).path(key)


def broken(_: int) -> None:
    raise OSError(errno.EIO, "broken")


@pytest.mark.parametrize("is_restarted", [False, True])
def test_blob_whose_fsync_failed_is_made_anew_and_not_fsynced_a_second_time(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, is_restarted: bool
) -> None:
    root, first, arrival = tmp_path / "blobs", new_arrival_id(), new_arrival_id()
    (root / blob_key(arrival)).parent.mkdir(parents=True)
    store = FolderStore(root)
    store.put(ArrivalId(first[:-4] + arrival[-4:]), source)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(StorageError, match="got EIO: the disk fails"):
            store.put(arrival, source)
    assert store.path(blob_key(arrival)).samefile(source)

    store = FolderStore(root) if is_restarted else store
    blob = store.path(store.put(arrival, source))
    assert blob.read_bytes() == source.read_bytes()
    assert not blob.samefile(source)
    made = blob.stat().st_ino
    store.put(arrival, source)  # the database did not take its row: it stands durably by now
    assert blob.stat().st_ino == made


def test_folders_whose_fsync_failed_are_made_anew(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path / "blobs")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(StorageError, match="got EIO: the disk fails"):
            store.put(ID, source)
    assert list((tmp_path / "blobs").iterdir()) == []
    assert store.path(store.put(ID, source)).read_bytes() == source.read_bytes()


def test_blob_of_an_indexer_that_has_finished_stays(tmp_path: Path, source: Path) -> None:
    key = FolderStore(tmp_path / "blobs").put(ID, source)
    source.unlink()
    assert FolderStore(tmp_path / "blobs").put(ID, source) == key
    assert (tmp_path / "blobs" / key).read_bytes() == b"object"


def test_age_counts_from_when_the_blob_was_put_and_not_from_when_the_object_was_received(
    tmp_path: Path, source: Path
) -> None:
    store = FolderStore(tmp_path / "blobs")
    os.utime(source, (1, 1))
    key = store.put(ID, source)
    assert store.path(key).stat().st_mtime == 1
    assert timedelta(0) <= store.age(key) < timedelta(minutes=10)
    with pytest.raises(FileNotFoundError):
        store.age(blob_key(new_arrival_id()))


def test_mark_is_durable_before_it_has_its_name_and_stays_the_first_ones(
    tmp_path: Path, synced: list[Path]
) -> None:
    root = tmp_path / "blobs"
    assert FolderStore(root).mark("one") == "one"
    assert [path.name.partition(".")[0] for path in synced] == [MARK, "blobs"]
    assert FolderStore(root).mark("other") == "one"
    assert [path.name for path in root.iterdir()] == [MARK]


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP])
def test_mark_needs_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError(code, "none here")

    monkeypatch.setattr(os, "link", no_links)
    assert FolderStore(tmp_path / "blobs").mark("one") == "one"
    assert FolderStore(tmp_path / "blobs").mark("other") == "one"
    assert [path.name for path in (tmp_path / "blobs").iterdir()] == [MARK]


def test_mark_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "blobs" / MARK).mkdir(parents=True)
    with pytest.raises(StorageError, match="EISDIR"):
        FolderStore(tmp_path / "blobs").mark("one")
