"""Manifests in a folder of files, as `aegate up` watches it: one object is edited in its file, nothing else of it.

A change is judged before it is written, by the rules that the supervisor asks, so that the folder never holds a wrong
version by us. The surprise: the folder belongs to people, who edit, check out and remove at any moment: what was read
is compared with what is there before the file is replaced, and a person's version wins.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from aegate_core.database import Database
from aegate_core.decisions.ownership import keeper
from aegate_core.disk import storage_error
from aegate_core.errors import Conflict, InvalidManifest, ManagedElsewhere, NotFound, VersionConflict
from aegate_core.resources.crds import CRD, load_crds
from aegate_core.resources.file_edit import new_file, with_object, without_object
from aegate_core.resources.manifest_of import API_VERSION, to_manifest
from aegate_core.resources.manifests import Manifest, Reading, read_manifests, read_text
from aegate_core.resources.merge import leaves, merged
from aegate_core.resources.problems import Problem
from aegate_core.resources.reference import ResourceRef, ref_of
from aegate_core.resources.validation import OldVersions, manifest_ref, validate_reading
from aegate_core.resources.values import Resource
from aegate_core.resources.versions import spec_version
from aegate_core.resources.yaml_edit import NotEditable
from aegate_core.resources.yaml_tree import members
from aegate_core.services.manifests.port import Wish
from aegate_core.stores.index.projections import Projection, project, read_tombstone

LONGEST_FILE_NAME = 200
"""Bytes of a name that we give; file systems take 255."""


@dataclass(frozen=True, slots=True)
class _Found:
    """An object in its file, as the file was when it was read."""

    manifest: Manifest
    raw: bytes


class FolderManifests:
    """The files of ``folder``; ``db`` knows which versions are in force."""

    is_local = True

    def __init__(self, folder: Path, db: Database) -> None:
        self._folder = folder
        self._db = db
        self._one_at_a_time = asyncio.Lock()

    async def read(self, ref: ResourceRef) -> Projection | None:
        """Return it as its file says; None where no file has it, or has a wrong version of it."""
        row = await self._row(ref)
        found = await asyncio.to_thread(self._look_up, ref)
        right = found and _right(read_text(found.manifest.file, found.raw), ref, row, load_crds())
        return _projection(right, row) if right else None

    async def create(self, wish: Wish) -> Projection:
        """Write a new file; one of that name is never replaced."""
        async with self._one_at_a_time:
            row = await self._row(wish.ref)
            return await asyncio.to_thread(self._create, wish, row)

    async def update(self, wish: Wish) -> Projection:
        """Edit the object in its file."""
        async with self._one_at_a_time:
            row = await self._row(wish.ref)
            return await asyncio.to_thread(self._update, wish, row)

    async def delete(self, wish: Wish) -> Projection:
        """Take the object out of its file, and the file away when nothing else is in it."""
        async with self._one_at_a_time:
            row = await self._row(wish.ref)
            return await asyncio.to_thread(self._delete, wish, row)

    async def _row(self, ref: ResourceRef) -> Projection | None:
        row = await read_tombstone(self._db, ref.kind, ref.key)
        return row if row is not None and row.is_live else None

    def _create(self, wish: Wish, row: Projection | None) -> Projection:
        crds = load_crds()
        if found := self._look_up(wish.ref):
            there = _right(read_text(found.manifest.file, found.raw), wish.ref, row, crds)
            raise VersionConflict(
                f"{wish.ref} must be new, got one that is there: change it, or choose another name",
                current=_projection(there, row) if there else row,
            )
        key = wish.ref.key
        labels = {name: value for name, value in wish.labels.items() if value is not None}
        metadata = {"name": key.name, "namespace": key.namespace, **({"labels": labels} if labels else {})}
        manifest = {
            "apiVersion": API_VERSION,
            "kind": wish.ref.kind,
            "metadata": metadata,
            "spec": merged({}, wish.spec),
        }
        raw = new_file(manifest)
        file = self._free_name(wish.ref)
        right = _judged(read_text(str(file), raw), wish.ref, row, crds)
        if not wish.dry_run:
            _replace(file, raw, before=None)
        return _projection(right, row)

    def _update(self, wish: Wish, row: Projection | None) -> Projection:
        crds = load_crds()
        found, current = self._current(wish, row, crds)
        patch = (
            {"spec": wish.spec, "metadata": {"labels": wish.labels}} if wish.labels else {"spec": wish.spec}
        )
        wished = cast("dict[str, object]", merged(found.manifest.value, patch))
        try:
            raw = with_object(found.raw, found.manifest, wished)
        except NotEditable as error:
            raise _by_hand(found.manifest, error) from error
        right = _judged(read_text(found.manifest.file, raw), wish.ref, current or row, crds)
        if not wish.dry_run and raw != found.raw:
            _replace(Path(found.manifest.file), raw, before=found.raw)
        return _projection(right, row)

    def _delete(self, wish: Wish, row: Projection | None) -> Projection:
        crds = load_crds()
        found, current = self._current(wish, row, crds)
        before = current or row
        if before is None:
            raise NotFound(f"there is no {wish.ref} in force: read the list again")
        others = validate_reading(self._reading(), old={}, crds=crds).resources
        if all(ref_of(other) == wish.ref for other in others):
            raise Conflict(
                f"{wish.ref} must not be the last resource of the folder, which would then keep all as it is: remove "
                "its file and stop `aegate up`, or add another one first"
            )
        try:
            raw = without_object(found.raw, found.manifest)
        except NotEditable as error:
            raise _by_hand(found.manifest, error) from error
        if not wish.dry_run:
            _replace(Path(found.manifest.file), raw, before=found.raw)
        return before

    def _current(
        self, wish: Wish, row: Projection | None, crds: Mapping[str, CRD]
    ) -> tuple[_Found, Projection | None]:
        """Return the object, if it may be changed and is as the caller saw it."""
        found = self._look_up(wish.ref)
        if found is None:
            raise NotFound(f"there is no {wish.ref}: read the list again")
        value = members(found.manifest.value)
        if kept := keeper(value):
            touched = leaves({"spec": wish.spec}) if wish.spec else leaves({"spec": value.get("spec")})
            raise ManagedElsewhere(
                f"{wish.ref} must be changed where it is kept, in {kept}, which would undo what is changed here: "
                "change the manifest there",
                manager=kept,
                fields=tuple(sorted(".".join(map(str, path)) for path, _ in touched)),
            )
        right = _right(read_text(found.manifest.file, found.raw), wish.ref, row, crds)
        current = _projection(right, row) if right else None
        seen = current or row
        if wish.version is not None and seen is not None and spec_version(seen.spec) != wish.version:
            raise VersionConflict(
                f"{wish.ref} must be as it was read, got another: look at current, then decide", current=seen
            )
        return found, current

    def _look_up(self, ref: ResourceRef) -> _Found | None:
        """Return the object and the text of its file. Raises Conflict where several or none can be told."""
        reading = self._reading()
        standing = [m for m in reading.manifests if manifest_ref(m) == ref]
        if len(standing) > 1:
            places = " and ".join(f"{m.file}:{m.place.line}" for m in standing)
            raise Conflict(f"{ref} must be in the folder once, got it at {places}: remove one of them")
        if not standing:
            for problem in (*reading.problems, *reading.unreadable):
                raise Conflict(f"{ref} may be in a file that cannot be read: {problem}")
            return None
        file = Path(standing[0].file)
        raw = _read(file)
        again = [m for m in read_text(str(file), raw).manifests if manifest_ref(m) == ref]
        if len(again) != 1:
            raise Conflict(f"{ref} must stay in its file while it is read, got another text: try again")
        return _Found(again[0], raw)

    def _reading(self) -> Reading:
        reading = read_manifests([str(self._folder)])
        if not reading.files:
            reading.unreadable.clear()  # an empty folder holds nothing, and may be written into
        return reading

    def _free_name(self, ref: ResourceRef) -> Path:
        name = ref.key.name[:LONGEST_FILE_NAME]
        names = [
            name,
            f"{ref.key.namespace}-{name}",
            f"{name}-{ref.kind.lower()}",
            f"{name}-{secrets.token_hex(4)}",
        ]
        files = (self._folder / f"{each}.yaml" for each in names)
        return next(file for file in files if not file.exists())


def _judged(
    reading: Reading, ref: ResourceRef, in_force: Projection | None, crds: Mapping[str, CRD]
) -> Resource:
    """Return the resource. Raises InvalidManifest with all that is wrong with it; others in the file do not matter."""
    result = validate_reading(reading, old=_old(in_force), crds=crds)
    wrong = [problem for problem in result.problems if problem.resource in (ref, None)]
    if not wrong:
        for resource in result.resources:
            if ref_of(resource) == ref:
                return resource
    raise InvalidManifest(
        "; ".join(f"{problem.field}: {_said(problem)}" for problem in wrong),
        faults=tuple((problem.field, _said(problem)) for problem in wrong),
    )


def _right(
    reading: Reading, ref: ResourceRef, in_force: Projection | None, crds: Mapping[str, CRD]
) -> Resource | None:
    try:
        return _judged(reading, ref, in_force, crds)
    except InvalidManifest:
        return None


def _said(problem: Problem) -> str:
    """Return what is expected, without what came: whoever gave it knows, and nobody else shall."""
    if problem.is_rule:
        return problem.expected
    return f"must be {problem.expected}" + (f": {problem.advice}" if problem.advice else "")


def _old(in_force: Projection | None) -> OldVersions:
    return {} if in_force is None else {in_force.ref: to_manifest(in_force.resource())}


def _projection(resource: Resource, row: Projection | None) -> Projection:
    """Return the row that the supervisor will write."""
    if row is None:
        settled = replace(resource, metadata=replace(resource.metadata, generation=1))
        return project(settled, (), created_at=datetime.now(UTC))
    new = project(resource, row.conditions, created_at=row.created_at, endpoint=row.endpoint)
    return replace(new, uid=row.uid, generation=row.generation + (new.spec != row.spec))


def _by_hand(manifest: Manifest, error: NotEditable) -> Conflict:
    return Conflict(
        f"{manifest.file}:{manifest.place.line} must be a manifest that can be edited in place, got {error}: "
        "change it by hand"
    )


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise storage_error(f"{file} must be readable", error, file) from error


def _replace(file: Path, raw: bytes | None, *, before: bytes | None) -> None:
    """Put ``raw`` in the place of ``before`` (None: no file) in one step that a power loss has done or not done.

    Raises Conflict when the file is another one by now. Its mode stays, and a link stays a link.
    """
    target = file.resolve()
    part = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        if raw is not None:
            mode = target.stat().st_mode & 0o7777 if before is not None else None
            with part.open("xb") as written:
                written.write(raw)
                written.flush()
                if mode is not None:
                    os.fchmod(written.fileno(), mode)
                os.fsync(written.fileno())
        if before is None:
            os.link(part, target)
        elif target.read_bytes() != before:
            raise Conflict(f"{file} must stay the same while it is edited, got another text: try again")
        elif raw is None:
            target.unlink()
        else:
            part.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except FileExistsError as error:
        raise Conflict(f"{file} must be new, got one that is there: try again") from error
    except OSError as error:
        raise storage_error(f"{file} must be writable", error, target.parent) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
