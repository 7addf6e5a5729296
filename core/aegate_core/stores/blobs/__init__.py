"""Where indexed objects lie: one blob an arrival, never changed, never found by a UID; in a folder or a bucket."""

from aegate_core.stores.blobs.folder import FolderStore, make_durable, place, sync_file_system
from aegate_core.stores.blobs.keys import MARK, BlobKey, blob_key, parse_blob_key
from aegate_core.stores.blobs.store import BlobStore, open_blobs

__all__ = [
    "MARK",
    "BlobKey",
    "BlobStore",
    "FolderStore",
    "blob_key",
    "make_durable",
    "open_blobs",
    "parse_blob_key",
    "place",
    "sync_file_system",
]
