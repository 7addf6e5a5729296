"""The data folder on this machine: for its owner alone, one `aegate up` at a time, refused when it is not ours.

The lock is an advisory lock on ``lock``, whose descriptor the child processes inherit: it is free when the last process
of a run has ended, and a crash leaves nothing to clean up.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aegate_core.errors import Conflict, NotFound, SchemaMismatch, StorageError, StorageFull
from aegate_core.settings import DataFolder, data_folder, database_url

FORMAT = 1
"""The layout of the folder that this version writes; a newer one is refused."""

PROBE_BYTES = 1 << 20
LOCK_WAIT_S = 60.0
"""How long a start waits for processes of a killed run to end; they stop on the death of their parent, within their
grace period of 30 s, when the machine is not too busy."""


@dataclass(frozen=True, slots=True)
class HeldFolder:
    """A data folder that this process holds; ``lock_fd`` is for the children to inherit."""

    data: DataFolder
    lock_fd: int


def default_data_folder(environ: dict[str, str] | os._Environ[str] = os.environ) -> Path:
    """Return ``$XDG_DATA_HOME/aegate``: the same from every working directory, so that images never seem to vanish."""
    base = environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "aegate"


def data_option(folder: DataFolder) -> str:
    """Return what a hint says after a command, for it to find this folder; nothing where that is the default one."""
    return (
        "" if folder.root == default_data_folder().absolute() else f" --data {shlex.quote(str(folder.root))}"
    )


def open_data_folder(given: Path | None) -> DataFolder:
    """Return a data folder that an `aegate up` made, without holding it; the default one when none is given.

    Raises NotFound (none of ours), StorageError (no rights), SchemaMismatch (newer version).
    """
    root = (given or default_data_folder()).absolute()
    try:
        if not (root / "VERSION").is_file():
            raise NotFound(
                f"expected a data folder of aegate, got none at {root}: run `aegate up` first, or give --data"
            )
        _check_format(root)
        list(root.iterdir())
    except OSError as error:
        raise storage_error(error, root) from error
    return data_folder(os.environ, root)


def open_own_data_folder(given: Path | None) -> DataFolder:
    """Return it for a command that writes there. Raises StorageError for one of another user, besides.

    What root made there, the owner could not read: neither clients nor the next `aegate up` would be let in.
    """
    folder = open_data_folder(given)
    owner = folder.root.stat().st_uid
    if owner != os.geteuid():
        raise StorageError(
            f"data folder {folder.root} belongs to user {_user(owner)}, and this is {_user(os.geteuid())}: "
            f"run as its owner: `sudo -u {_user(owner)} aegate …`"
        )
    return folder


def existing_database(folder: DataFolder, given: str | None) -> str:
    """Return the URL of an index that is there. Raises NotFound, as opening would make a new one; StorageError."""
    url = database_url({"AEGATE_DATABASE_URL": given or ""}, folder)
    if url.startswith("sqlite://"):
        path = Path(url.removeprefix("sqlite://"))
        try:
            came = _why_no_sqlite(path)
        except PermissionError as error:
            raise StorageError(
                f"the index {path} cannot be read by user {_user(os.geteuid())}: mend its rights, or start as its owner"
            ) from error
        if came:
            raise NotFound(f"expected the index at {path}, got {came}: give --database as `aegate up` has it")
    return url


def _why_no_sqlite(path: Path) -> str:
    if not path.is_file():
        return "no such file"
    with path.open("rb") as file:
        return "" if file.read(16) == b"SQLite format 3\0" else "a file that is no SQLite database"


@contextmanager
def hold_data_folder(root: Path) -> Iterator[HeldFolder]:
    """Make or open the data folder, check that it can be used, and hold it against a second start.

    Raises StorageError (not ours, read-only, no folder), StorageFull, SchemaMismatch (newer version), Conflict (held).
    """
    root = root.absolute()
    try:
        _make(root)
        lock_fd = os.open(root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise storage_error(error, root) from error
    try:
        _lock(lock_fd, root)
        try:
            _check_format(root)
            _probe(root)
            for folder in (
                DataFolder(root).spool,
                DataFolder(root).blobs,
                DataFolder(root).run,
            ):
                folder.mkdir(mode=0o700, exist_ok=True)
            _fsync(root)
        except OSError as error:
            raise storage_error(error, root) from error
        yield HeldFolder(DataFolder(root), lock_fd)
    finally:
        os.close(lock_fd)


def storage_error(error: OSError, root: Path) -> StorageError:
    """Translate what the system says about the folder into what it means and what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(
            f"data folder {root} is full: make room on its file system, or choose another with --data"
        )
    if error.errno == errno.EROFS:
        return StorageError(
            f"data folder {root} is on a read-only file system: remount it writable, or choose another with --data"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return StorageError(
            f"data folder {root} cannot be used by user {_user(os.geteuid())}: "
            f"mend its rights, or choose another with --data"
        )
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return StorageError(
            f"data folder {root} must be a folder, got something else of that name: choose another with --data"
        )
    return StorageError(f"data folder {root} cannot be used ({error.strerror}): choose another with --data")


def _make(root: Path) -> None:
    if not root.exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        root.mkdir(mode=0o700, exist_ok=True)
    status = root.stat()
    if not root.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if status.st_uid != os.geteuid():
        raise StorageError(
            f"data folder {root} belongs to user {_user(status.st_uid)}, and this is {_user(os.geteuid())}: "
            "start as its owner, or choose another with --data"
        )
    if not (root / "VERSION").exists():
        _ensure_ours_to_take(root)
    if status.st_mode & 0o077:
        root.chmod(0o700)


def _ensure_ours_to_take(root: Path) -> None:
    ours = ("lock", "VERSION.part")
    others = [e.name for e in root.iterdir() if e.name not in ours and not e.name.startswith("probe-")]
    if others:
        raise StorageError(
            f"data folder {root} must be empty or made by aegate, "
            f"got {len(others)} other entries such as {sorted(others)[0]!r}: "
            "choose another with --data"
        )


def holder_of(data: DataFolder) -> int | None:
    """Return the process that holds a data folder; None where none does, or only what a dead one left.

    The number alone would tell nothing: another process may have it by now, and another listen where that one did.
    """
    try:
        with (data.root / "lock").open() as file:
            holder = file.read(32).strip()
            if not holder.isdecimal() or not _is_alive(int(holder)):
                return None  # first, so as not to be in the way of a start
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(holder)
    except (OSError, UnicodeError):
        return None
    return None


def _lock(lock_fd: int, root: Path) -> None:
    deadline, is_said = time.monotonic() + LOCK_WAIT_S, False
    while True:
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError as error:
            holder = os.pread(lock_fd, 32, 0).decode("ascii", "replace").strip()
            is_ending = holder.isdecimal() and not _is_alive(int(holder))
            if is_ending and not is_said:
                print(
                    f"aegate: waiting for what is left of an `aegate up` that has died (process {holder})",
                    file=sys.stderr,
                )
                is_said = True
            if not is_ending or time.monotonic() > deadline:
                raise Conflict(
                    f"data folder {root} is in use by another `aegate up`{f' (process {holder})' if holder else ''}: "
                    "stop that one, or choose another with --data"
                ) from error
            time.sleep(0.1)
    os.ftruncate(lock_fd, 0)
    os.pwrite(lock_fd, f"{os.getpid()}\n".encode(), 0)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _check_format(root: Path) -> None:
    path = root / "VERSION"
    if not path.exists():
        part = root / "VERSION.part"
        part.write_text(f"{FORMAT}\n")
        _fsync(part)  # an empty file of that name after a power loss would be refused at every start
        part.replace(path)
        return
    text = path.read_text(errors="replace").strip()
    if not text.isdecimal():
        raise SchemaMismatch(
            f"data folder {root} must name its format in VERSION, "
            f"got {len(text)} characters that are no number: choose another with --data"
        )
    if int(text) > FORMAT:
        raise SchemaMismatch(
            f"data folder {root} is of format {text}, written by a newer aegate; this one knows up to {FORMAT}: "
            "install the newer version, or choose another with --data"
        )


def _probe(root: Path) -> None:
    """Write and remove a file: a full or failing disk is better met now than at the first image."""
    path = root / f"probe-{os.getpid()}"
    try:
        with path.open("wb") as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    finally:
        path.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
