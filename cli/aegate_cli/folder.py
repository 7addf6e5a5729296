"""The folder of resources as desired state: what was read, what stays from before, what is gone.

Last good stays: a manifest that is wrong changes nothing of its resource; a file that cannot be parsed changes none of
those that came from it; a folder that cannot be read, or holds nothing all of a sudden, changes nothing at all.
A removal counts after five seconds of absence, because `git checkout` deletes files for an instant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from aegate_core.resources.crds import CRD
from aegate_core.resources.manifests import SUFFIXES
from aegate_core.resources.problems import Problem
from aegate_core.resources.reference import ResourceRef, ref_of
from aegate_core.resources.validation import ValidationResult, validate_manifests, versions_of
from aegate_core.resources.values import Resource

ABSENCE = timedelta(seconds=5)
"""How long a resource must be absent from the folder before that is a removal."""

Fingerprint = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Desired:
    """What should be in force now."""

    resources: tuple[Resource, ...]
    source_errors: Mapping[ResourceRef, str]
    """Resources that keep their last good version, and why."""
    problems: tuple[Problem, ...] = ()
    is_kept: bool = False
    """The folder says nothing usable: all is left as it was."""
    absent: frozenset[ResourceRef] = frozenset()
    """Resources that are not in the folder, and not long enough to be removed."""


@dataclass(slots=True)
class FolderMemory:
    """What is known from one reading to the next: since when a resource is absent."""

    absent_since: dict[ResourceRef, datetime] = field(default_factory=dict)

    def decide(self, read: ValidationResult, in_force: Iterable[Resource], *, now: datetime) -> Desired:
        """Return what should be in force, from what was read and what is."""
        before = {ref_of(resource): resource for resource in in_force}
        problems = (*read.unreadable, *read.problems)
        errors = read.source_errors(before.values())
        if before and not read.resources:
            self.absent_since.clear()
            return Desired(tuple(before.values()), errors, problems, is_kept=True)
        present = {ref_of(resource) for resource in read.resources}
        missing = before.keys() - present - errors.keys()
        self.absent_since = {ref: self.absent_since.get(ref, now) for ref in missing}
        waiting = {ref for ref, since in self.absent_since.items() if now - since < ABSENCE}
        return Desired(
            resources=(*read.resources, *(before[ref] for ref in sorted(waiting))),
            source_errors=errors,
            problems=problems,
            absent=frozenset(waiting),
        )


def read_folder(folder: Path, in_force: Iterable[Resource], crds: Mapping[str, CRD]) -> ValidationResult:
    """Read and check all manifests; transition rules hold against the versions in force. Slow: call it in a thread."""
    return validate_manifests([str(folder)], old=versions_of(in_force), crds=crds)


def fingerprint(folder: Path) -> Fingerprint:
    """Return what differs whenever a file of the folder was written, replaced, added or removed; () when it is gone.

    Secrets count, too: a certificate that was put into its place is looked at again.
    """
    found = []
    try:
        for path in folder.rglob("*"):
            if path.suffix in (*SUFFIXES, ".csv", ".crt", ".key") and not path.name.startswith("."):
                status = path.stat()
                found.append((str(path), status.st_mtime_ns, status.st_size, status.st_ino))
    except OSError:
        # Something vanished while we looked: whatever this gives differs from before, and the next look is whole.
        return tuple(sorted(found))
    return tuple(sorted(found))


def secret_names(secrets: Path) -> frozenset[str]:
    """Return the names of the secrets that are there."""
    try:
        return frozenset(entry.name for entry in secrets.iterdir() if entry.is_dir())
    except OSError:
        return frozenset()
