"""What a blob store promises, wherever the images lie; which one an installation has is decided here alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from aegate_core.dicom.identifiers import ArrivalId
from aegate_core.settings import DataFolder
from aegate_core.stores.blobs.folder import FolderStore
from aegate_core.stores.blobs.keys import BlobKey


class BlobStore(Protocol):
    """Blobs by their keys. Several processes may use it at once."""

    @property
    def place(self) -> str:
        """What people are told of where it is."""
        ...

    @property
    def scratch(self) -> Path:
        """A folder of this machine for what is made of blobs."""
        ...

    def put_many(self, arrivals: Sequence[tuple[ArrivalId, Path]]) -> list[BlobKey]:
        """Make files durable under their arrivals' keys; the sources stay. Safe to repeat.

        Raises FileNotFoundError when a source is gone and its blob is not there, StorageError, StorageFull.
        """
        ...

    def put(self, arrival_id: ArrivalId, path: Path) -> BlobKey:
        """Make ``path`` durable under the arrival's key and return that; see `put_many`."""
        ...

    def local(self, key: str) -> AbstractContextManager[Path]:
        """Give a blob as a file of this machine, there as long as the block lasts; it is not compared with anything.

        Raises InvalidValue for what is no key, FileNotFoundError, OSError, StorageError, StorageFull.
        """
        ...

    def size_bytes(self, key: str) -> int:
        """Return how large a blob is. Raises as `local` does."""
        ...

    def age(self, key: str) -> timedelta:
        """Return how long ago the blob was put, by the store's own clock. Raises as `size_bytes` does."""
        ...

    def holds_any(self, keys: Sequence[str]) -> bool:
        """Say whether at least one of the blobs is there. Raises InvalidValue, StorageError."""
        ...

    def remove_many(self, keys: Sequence[str]) -> None:
        """Remove blobs by their exact keys, for good; safe to repeat.

        Only after the rows that point at them say that they are removed. Raises StorageError.
        """
        ...

    def listing(self) -> Iterator[list[str]]:
        """Yield all names that lie in the store, also those that are no keys, a page at a time and in order.

        What is being put is not among them. Raises StorageError.
        """
        ...

    def mark(self, installation: str) -> str:
        """Make the store an installation's unless it is somebody's, durably; return whose it is. One wins of two.

        Raises StorageError, StorageFull.
        """
        ...

    def sweep(self) -> int:
        """Take away what processes that died while they put blobs left, and return how many. Raises StorageError."""
        ...

    def trouble(self) -> str | None:
        """Return why the store cannot be used, or None; what was in trouble is tried again."""
        ...


def open_blobs(data: DataFolder, *, moved: Callable[[], None] = lambda: None) -> BlobStore:
    """Return where the blobs of an installation lie. ``moved`` is called whenever a long piece of work gets on."""
    if data.bucket is None:
        return FolderStore(data.blobs)
    # The client takes 40 MiB and a second: who has a folder loads none of it.
    from aegate_core.stores.blobs.bucket import BucketStore

    return BucketStore(data.bucket, data.blobs, moved=moved)
