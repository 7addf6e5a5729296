"""What makes a folder a backup: its manifest, written last. Without it a backup is half made.

``<target>/BACKUP`` names the format and is written first, ``manifest.json`` replaces its predecessor in one step.
Beside them ``blobs/``, which all backups of a target share, and of the one backup that the manifest tells of an
``index-<time>.sqlite3``, for PostgreSQL an ``index-<time>.dump`` of which that lists the arrivals, and a
``spool-<time>/``. So an interrupted backup leaves the one before it whole.
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
from aegate_core.steps import Step, reached

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
    database: str = "sqlite"
    """``sqlite`` or ``postgres``: it can be restored into the same kind alone."""
    dump: str = ""
    """File name of what pg_dump wrote; '' for SQLite."""
    dump_sha256: str = ""
    server_major: int = 0
    dump_major: int = 0
    """Versions of PostgreSQL: of the server, and of the pg_dump."""
    removed: tuple[str, ...] = ()
    """Arrivals whose blob retention removed between dump and copy: a restore writes so into their rows."""

    @property
    def files(self) -> dict[str, str]:
        """Digests of the index's files by their names."""
        return {self.index: self.index_sha256} | ({self.dump: self.dump_sha256} if self.dump else {})

    def write(self, target: Path) -> None:
        """Make this the target's backup: durable, in one step."""
        _write(target / MANIFEST, json.dumps(asdict(self), indent=2))


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
        lists = {name: tuple(map(str, values.get(name, ()))) for name in ("migrations", "missing", "removed")}
        manifest = Manifest(**values | lists)
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidInput(
            f"{MANIFEST} of the backup at {target} must be what `aegate backup` wrote, got other text: "
            "take another backup"
        ) from error
    names = [(name, "index-") for name in manifest.files] + [(manifest.spool, "spool-")]
    if any("/" in name or not name.startswith(kind) for name, kind in names):
        raise InvalidInput(f"{MANIFEST} of the backup at {target} names files outside of it: do not use it")
    return manifest


@contextmanager
def hold_target(target: Path) -> Iterator[None]:
    """Make or open the target, and hold it against a second backup.

    Raises StorageError (not empty and not ours, no rights), StorageFull, SchemaMismatch (newer), Conflict (held).
    """
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        others = sorted(e.name for e in target.iterdir() if e.name not in ("lock", f"{MARK}.part"))
        if others and not (target / MARK).is_file():
            raise StorageError(
                f"TARGET must be empty or hold a backup made by aegate, got {len(others)} other entries such as "
                f"{others[0]!r} at {target}: choose another"
            )
        if others:
            read_manifest(target)
        _for_owner_alone(target)
        lock = os.open(target / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise target_error(error, target) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not (
            target / MARK
        ).is_file():  # never written twice: half of it would make a whole backup unreadable
            _write(target / MARK, f"{FORMAT}\n")
        yield
    except BlockingIOError as error:
        raise Conflict(
            f"another `aegate backup` or `aegate restore` uses {target}: wait for it, or choose another"
        ) from error
    except OSError as error:
        raise target_error(error, target) from error
    finally:
        os.close(lock)


def _for_owner_alone(target: Path) -> None:
    """Take from others what they may do in the target: it will hold patient data. Raises StorageError."""
    if target.stat().st_mode & 0o077 == 0:
        return
    try:
        target.chmod(0o700)
        is_private = target.stat().st_mode & 0o077 == 0  # some file systems say yes and do nothing
    except PermissionError:
        is_private = False
    if not is_private:
        raise StorageError(
            f"TARGET holds patient data and must be for its owner alone, got {target}, whose mode cannot be changed: "
            "mount it with umask=077, give it to this user, or choose another"
        )


@contextmanager
def read_target(target: Path) -> Iterator[None]:
    """Hold a backup against being replaced while it is read; one on a read-only disk cannot be. Raises Conflict."""
    try:
        lock = os.open(target / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except (
        OSError
    ):  # copied without its lock, or not readable: nobody of ours writes there, or reading it says why
        yield
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise Conflict(f"another `aegate backup` uses {target}: wait for it") from error
    finally:
        os.close(lock)


def target_error(error: OSError, folder: Path) -> StorageError:
    """Translate what the system says about a folder of a backup, or about the other one where it names that."""
    kind = StorageFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StorageError
    at = Path(str(error.filename2 or error.filename or folder))
    if not at.is_relative_to(folder) and not folder.is_relative_to(at):
        folder = at
    return kind(f"{folder} cannot be used ({error.strerror}): mend its rights or its disk, or choose another")


def _write(path: Path, text: str) -> None:
    """Write a small file durably, in one step, for its owner alone."""
    part = path.with_name(f"{path.name}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    reached(Step.MANIFEST_WRITTEN)
    part.replace(path)
    fsync_folder(path.parent)


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
