"""Backups of a data folder and its index: made beside a running system, restored into an empty folder."""

from aegate_core.services.backup.make import Job, Made, Progress, make_backup
from aegate_core.services.backup.manifest import Manifest, read_manifest
from aegate_core.services.backup.restore import Restored, restore_backup

__all__ = [
    "Job",
    "Made",
    "Manifest",
    "Progress",
    "Restored",
    "make_backup",
    "read_manifest",
    "restore_backup",
]
