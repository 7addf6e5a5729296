"""What a backup says of a disk that fails: which one it is, the target's or that of the data folder."""

import errno
import os
from pathlib import Path

import pytest

from aegate_core.errors import StorageError, StorageFull
from aegate_core.services.backup.manifest import target_error

TARGET = Path("/mnt/backup")


@pytest.mark.parametrize(
    ("code", "paths", "named", "kind"),
    [
        (errno.EIO, (), "/mnt/backup", StorageError),
        (errno.ENOSPC, ("/mnt/backup/spool-1/x.dcm",), "/mnt/backup", StorageFull),
        (errno.EACCES, ("/mnt",), "/mnt/backup", StorageError),
        (errno.EIO, ("/srv/aegate/spool/x.dcm",), "/srv/aegate/spool/x.dcm", StorageError),
        (errno.EDQUOT, ("/srv/aegate/spool/x.dcm", "/mnt/backup/spool-1/x.dcm"), "/mnt/backup", StorageFull),
    ],
)
def test_path_that_cannot_be_used_is_named(
    code: int, paths: tuple[str, ...], named: str, kind: type[StorageError]
) -> None:
    error = OSError(code, os.strerror(code), *paths[:1], *((None, paths[1]) if paths[1:] else ()))

    said = target_error(error, TARGET)

    assert type(said) is kind
    assert said.message.startswith(f"{named} cannot be used ({os.strerror(code)}): ")
