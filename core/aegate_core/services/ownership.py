"""Whose a blob store is: index and store have the same mark, or nothing is put into it and nothing taken out.

Two installations on one bucket, or one volume, would each take the other's images for lost ones of its own.
A copy of the database is of the same installation; so is one that was restored from a backup.
"""

from __future__ import annotations

import asyncio

from aegate_core.database import Database
from aegate_core.errors import StoreOfAnother
from aegate_core.stores.blobs import MARK, BlobStore
from aegate_core.stores.index.checking import installation_mark


async def must_be_ours(db: Database, blobs: BlobStore) -> None:
    """Return when the store is that of this index; one that is nobody's is marked.

    Raises StoreOfAnother, StorageError, DatabaseUnavailable.
    """
    ours = await installation_mark(db)
    found = await asyncio.to_thread(blobs.mark, ours)
    if found != ours:
        raise StoreOfAnother(
            f"the images' store ({blobs.place}) must be that of this database, with the mark {ours}, got the mark "
            f"{found[:40]!r}: give each installation a bucket prefix or a volume of its own, and each store the "
            "database that belongs to it; where that one is lost for good, and nobody else uses the store, "
            f"remove {MARK} from it"
        )
