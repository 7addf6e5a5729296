"""What makes a folder a backup: its manifest, written last. Without it a backup is half made.

``<target>/BACKUP`` names the format and is written first, ``manifest.json`` replaces its predecessor in one step.
Beside them ``blobs/``, which all backups of a target share, and of the one backup that the manifest tells of an
``index-<time>.sqlite3`` and a ``spool-<time>/``. So an interrupted backup leaves the one before it whole.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from aegate_core.errors import Conflict, InvalidInput, NotFound, SchemaMismatch, StorageError, StorageFull

FORMAT = 1
"""Of the target's folder; a newer one is refused."""

MARK, MANIFEST = "BACKUP", "manifest.json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """One whole backup."""

    format: int
    data_format: int
    """Of the data folder."""
    made_at: str
    index: str
    """File name of the index."""
    index_sha256: str
    migrations: tuple[str, ...]
    spool: str
    """Folder name of what was acknowledged and not indexed yet."""
    spooled: int
    images: int
    size_bytes: int
    missing: tuple[str, ...]
    """Arrivals whose blob was not there already when the backup was made."""
    first_arrival: str
    newest_arrival: str

    def write(self, target: Path) -> None:
        """Make this the target's backup: durable, in one step."""
        part = target / f"{MANIFEST}.part"
        with part.open("w") as file:
            json.dump(asdict(self), file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target / MANIFEST)
        fsync_folder(target)


def read_manifest(target: Path) -> Manifest | None:
    """Return the backup that lies in ``target``; None where one was begun and never finished.

    Raises NotFound (no backup of ours), SchemaMismatch (newer), InvalidInput (no manifest that we wrote).
    """
    try:
        is_ours = (target / MARK).is_file()
        mark = (target / MARK).read_text().strip() if is_ours else ""
        text = (target / MANIFEST).read_text() if (target / MANIFEST).exists() else None
    except OSError as error:
        raise target_error(error, target) from error
    if not is_ours:
        raise NotFound(f"expected a backup made by `aegate backup`, got none at {target}: give its folder")
    if not mark.isdecimal() or int(mark) > FORMAT:
        raise SchemaMismatch(
            f"the backup at {target} must be of format 1 to {FORMAT}, got {mark[:20]!r}: use the aegate that wrote it"
        )
    if text is None:
        return None
    try:
        values = json.loads(text)
        lists = {name: tuple(map(str, values[name])) for name in ("migrations", "missing")}
        manifest = Manifest(**values | lists)
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidInput(
            f"{MANIFEST} of the backup at {target} must be what `aegate backup` wrote, got other text: "
            "take another backup"
        ) from error
    if Path(manifest.index).name != manifest.index or Path(manifest.spool).name != manifest.spool:
        raise InvalidInput(f"{MANIFEST} of the backup at {target} names files outside of it: do not use it")
    return manifest


@contextmanager
def hold_target(target: Path) -> Iterator[None]:
    """Make or open the target, and hold it against a second backup.

    Raises StorageError (not empty and not ours, no rights), StorageFull, SchemaMismatch (newer), Conflict (held).
    """
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        others = sorted(e.name for e in target.iterdir() if e.name != "lock")
        if others and not (target / MARK).is_file():
            raise StorageError(
                f"TARGET must be empty or hold a backup made by aegate, got {len(others)} other entries such as "
                f"{others[0]!r} at {target}: choose another"
            )
        if others:
            read_manifest(target)
        lock = os.open(target / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise target_error(error, target) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (target / MARK).write_text(f"{FORMAT}\n")
        yield
    except BlockingIOError as error:
        raise Conflict(f"another backup into {target} is running: wait for it") from error
    except OSError as error:
        raise target_error(error, target) from error
    finally:
        os.close(lock)


def target_error(error: OSError, folder: Path) -> StorageError:
    """Translate what the system says about a folder of a backup."""
    kind = StorageFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StorageError
    return kind(f"{folder} cannot be used ({error.strerror}): mend its rights or its disk, or choose another")


def sha256_of(path: Path) -> str:
    """Return the digest of a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_folder(folder: Path) -> None:
    """Return when the entries of a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
