"""Manifests in a cluster: server-side apply under a field manager of our own, strictly decoded.

Each apply carries all fields that we own, so that what was changed before stays. The surprise: what another manager
owns with us cannot be removed by an apply, and what a POST made is owned by our name's ``Update``, another owner; in
both cases the whole wish goes as one merge patch, which takes fields from every owner.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import cast

from aegate_core.decisions.ownership import Owned, comes_back, keeper, owned_part, owners, rendered
from aegate_core.errors import (
    ClusterConflict,
    ClusterError,
    ClusterNotFound,
    ManagedElsewhere,
    NotFound,
    VersionConflict,
)
from aegate_core.resources.conditions import condition_from_json
from aegate_core.resources.merge import leaves, merged, value_at
from aegate_core.resources.parse import parse_resource
from aegate_core.resources.problems import Path
from aegate_core.resources.reference import ResourceRef
from aegate_core.resources.versions import spec_version
from aegate_core.resources.yaml_tree import members
from aegate_core.services.manifests.port import REQUESTED_BY, Wish
from aegate_core.services.manifests.refused import as_invalid
from aegate_core.stores.cluster import ClusterClient
from aegate_core.stores.cluster.client import Manifest
from aegate_core.stores.cluster.kinds import APPLICATION_ENTITY, IMAGE_ROUTE, PATIENT_PARTITION
from aegate_core.stores.index.projections import Projection, project

MANAGER = "aegate-api"
ATTEMPTS = 10
"""How often a write is tried whose object changed since it was read, such as by a new status."""
PAUSE_S = 0.02
LONGEST_PAUSE_S = 0.25
"""Before another attempt: several who change one object at once would else meet again and again."""
KINDS = {kind.name: kind for kind in (APPLICATION_ENTITY, IMAGE_ROUTE, PATIENT_PARTITION)}
_OWNER = re.compile(r'conflict with "([^"]*)"')
_OUR_NOTE: Path = ("metadata", "annotations", REQUESTED_BY)


class ClusterManifests:
    """Custom resources of the API server that ``client`` speaks to, as the field manager `MANAGER`."""

    is_local = False

    def __init__(self, client: ClusterClient) -> None:
        self._client = client

    async def read(self, ref: ResourceRef) -> Projection | None:
        """Return it as the API server has it."""
        try:
            return projection_of(await self._client.get(KINDS[ref.kind], ref.key))
        except ClusterNotFound:
            return None

    async def create(self, wish: Wish) -> Projection:
        """Create it, whoever else creates one of its name at the same time."""
        manifest = merged(_metadata(wish), {"spec": wish.spec})
        try:
            made = await self._client.create(
                KINDS[wish.ref.kind], cast("Manifest", manifest), dry_run=wish.dry_run
            )
        except ClusterConflict as error:
            raise VersionConflict(
                f"{wish.ref} must be new, got one that is there: change it, or choose another name",
                current=await self.read(wish.ref),
            ) from error
        except ClusterError as error:
            raise as_invalid(error) from error
        return projection_of(made)

    async def update(self, wish: Wish) -> Projection:
        """Apply what is wished together with all that we own."""
        for attempt in range(1, ATTEMPTS + 1):
            live = await self._current(wish)
            try:
                return projection_of(await self._write(wish, live))
            except ClusterConflict as error:
                if error.causes and not wish.take_over:
                    raise _owned_by_others(wish.ref, error) from error
                if attempt == ATTEMPTS:
                    raise VersionConflict(
                        f"{wish.ref} must stay the same while it is changed, got {ATTEMPTS} changes by others: "
                        "try again",
                        current=projection_of(live),
                    ) from error
                await _pause(attempt)
            except ClusterError as error:
                raise as_invalid(error) from error
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def delete(self, wish: Wish) -> Projection:
        """Delete that very object as the caller saw it."""
        for attempt in range(1, ATTEMPTS + 1):
            live = await self._current(wish)
            others = [o for o in owners(live) if o.manager != MANAGER]
            if others and not wish.take_over:
                raise _elsewhere(wish.ref, others[0].manager, rendered(p for o in others for p in o.paths))
            found = projection_of(live)
            metadata = cast("Mapping[str, str]", live["metadata"])
            version = metadata["resourceVersion"] if wish.version else ""
            try:
                if not wish.dry_run:
                    await self._client.delete(
                        KINDS[wish.ref.kind], wish.ref.key, uid=found.uid, resource_version=version
                    )
            except ClusterConflict:
                if attempt == ATTEMPTS:
                    raise
                await _pause(attempt)
                continue
            except ClusterNotFound as error:
                raise _absent(wish.ref) from error
            return found
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _current(self, wish: Wish) -> Manifest:
        """Return the object, if it may be changed and is as the caller saw it."""
        try:
            live = await self._client.get(KINDS[wish.ref.kind], wish.ref.key)
        except ClusterNotFound as error:
            raise _absent(wish.ref) from error
        if kept := keeper(live):
            touched = [path for path, _ in leaves({"spec": wish.spec})] if wish.spec else []
            owned = [path for owner in owners(live) if owner.manager != MANAGER for path in owner.paths]
            raise ManagedElsewhere(
                f"{wish.ref} must be changed where it is kept, in {kept}, which would undo what is changed here: "
                "change the manifest there",
                manager=kept,
                fields=rendered(touched or owned),
            )
        if wish.version is not None and spec_version(projection_of(live).spec) != wish.version:
            raise VersionConflict(
                f"{wish.ref} must be as it was read, got another: look at current, then decide",
                current=projection_of(live),
            )
        return live

    async def _write(self, wish: Wish, live: Manifest) -> Manifest:
        kind, owned = KINDS[wish.ref.kind], owners(live)
        patch = cast("dict[str, object]", merged(_metadata(wish), {}))
        held = _held(live, _taken_away(wish, live), owned)
        if (theirs := [o for o in held if o.manager != MANAGER]) and not wish.take_over:
            paths = (path for owner in theirs for path in owner.paths)
            raise _elsewhere(wish.ref, theirs[0].manager, rendered(paths))
        seen = {name: members(live["metadata"]).get(name) for name in ("uid", "resourceVersion")}
        if held:
            whole = {**patch, "spec": wish.spec}
            whole["metadata"] = {**members(patch["metadata"]), **seen, "labels": dict(wish.labels)}
            return await self._client.merge(kind, wish.ref.key, whole, dry_run=wish.dry_run)
        ours = [owner for owner in owned if owner.manager == MANAGER]
        manifest: object = {}
        for owner in ours:
            manifest = merged(manifest, owned_part(live, owner))
        manifest = merged(merged(manifest, patch), {"spec": wish.spec, "metadata": {"labels": wish.labels}})
        whole = cast("dict[str, object]", merged(manifest, {"metadata": seen}))
        try:
            return await self._client.apply(kind, whole, force=wish.take_over, dry_run=wish.dry_run)
        except ClusterConflict as error:
            if not error.causes or not _with_ourselves(error):
                raise
            return await self._client.apply(kind, whole, force=True, dry_run=wish.dry_run)


def projection_of(manifest: Mapping[str, object]) -> Projection:
    """Return an object as the row that the operator will make of it."""
    resource = parse_resource(manifest)
    status, metadata = members(manifest.get("status")), members(manifest["metadata"])
    listed = status.get("conditions")
    created = metadata.get("creationTimestamp")
    return project(
        resource,
        tuple(condition_from_json(condition) for condition in (listed if isinstance(listed, list) else [])),
        created_at=datetime.fromisoformat(str(created)) if created else datetime.now(UTC),
        endpoint=str(members(status.get("listener")).get("endpoint") or ""),
    )


def _metadata(wish: Wish) -> dict[str, object]:
    labels = {name: value for name, value in wish.labels.items() if value is not None}
    return {
        "metadata": {
            "namespace": wish.ref.key.namespace,
            "name": wish.ref.key.name,
            "annotations": {REQUESTED_BY: wish.requested_by[:256]},
            **({"labels": labels} if labels else {}),
        }
    }


def _taken_away(wish: Wish, live: Manifest) -> list[Path]:
    """Return what is there and shall not be: members given as null, and lists, whose items may go."""
    wished = {"spec": wish.spec, "metadata": {"labels": wish.labels}}
    found = []
    for path, value in leaves(wished):
        there = value_at(live, path)
        if (value is None and there is not None) or (
            isinstance(value, list) and isinstance(there, list) and any(item not in value for item in there)
        ):
            found.append(path)
    return found


def _held(live: Manifest, taken: list[Path], owned: list[Owned]) -> list[Owned]:
    """Return those owners, our own ``Apply`` left out, that would keep in place what is to go."""
    found = []
    for owner in owned:
        if (owner.manager, owner.operation) == (MANAGER, "Apply"):
            continue
        paths = {p: i for p, i in owner.paths.items() if any(p[: len(t)] == t for t in taken)}
        if paths:
            found.append(Owned(owner.manager, owner.operation, paths))
    return found


async def _pause(attempt: int) -> None:
    await asyncio.sleep(random.uniform(0, min(LONGEST_PAUSE_S, PAUSE_S * 2.0**attempt)))


def _with_ourselves(error: ClusterConflict) -> bool:
    """Say whether all that is in the way is our own from another kind of write, or the note of who asked."""
    return all(_manager(cause.message) == MANAGER or REQUESTED_BY in cause.field for cause in error.causes)


def _manager(message: str) -> str:
    found = _OWNER.search(message)
    return found[1] if found else "another manager"


def _owned_by_others(ref: ResourceRef, error: ClusterConflict) -> ManagedElsewhere:
    theirs = [c for c in error.causes if _manager(c.message) != MANAGER and REQUESTED_BY not in c.field]
    fields = tuple(sorted({cause.field.removeprefix(".") for cause in theirs}))
    return _elsewhere(ref, _manager(theirs[0].message) if theirs else "another manager", fields)


def _elsewhere(ref: ResourceRef, manager: str, fields: tuple[str, ...]) -> ManagedElsewhere:
    can_take_over = not comes_back(manager)
    step = (
        "change it there, or force it with takeOver: true" if can_take_over else "change the manifest there"
    )
    return ManagedElsewhere(
        f"{ref} has fields that belong to {manager}: {step}",
        manager=manager,
        fields=fields,
        can_take_over=can_take_over,
    )


def _absent(ref: ResourceRef) -> NotFound:
    return NotFound(f"there is no {ref}: read the list again")
