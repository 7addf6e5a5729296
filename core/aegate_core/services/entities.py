"""What is configured: read by workers, indexers and the API, written by the local supervisor or the operator
alone.

The surprise: applying what is already in force writes nothing at all, so it may be done as often as one
likes, by two at once too. A resource whose newest manifest is wrong keeps its last good version
(``source_errors``).
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Literal

from aegate_core.database import Database
from aegate_core.decisions.references import Fault, Surroundings, decide_conditions
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.events import CONDITION_CHANGED, RESOURCE_APPLIED, Log
from aegate_core.resources.conditions import (
    Condition,
    ConditionType,
    Reason,
    find_condition,
    with_transition_times,
)
from aegate_core.resources.manifest_of import to_spec
from aegate_core.resources.reference import ResourceRef, ref_of
from aegate_core.resources.values import ApplicationEntity, ImageRoute, PatientPartition, Resource
from aegate_core.services.deliveries import Receivers, sync_destinations, sync_some_destinations
from aegate_core.stores.index.projections import (
    Projection,
    bury_projection,
    newest_change,
    project,
    read_locations,
    read_projections,
    read_tombstone,
    write_projection,
)

ADVISORY_LOCK = 0x6165636F6E66
"""``aeconf`` in ASCII: on PostgreSQL one apply at a time; on SQLite the write lock does it."""

Change = Literal["created", "updated", "removed", "unwatched", "observed"]
"""What happened to a row; "observed": the resource is the same, its conditions or its source are not."""

log = Log("entities")


@dataclass(frozen=True)
class Configuration:
    """All live resources and their conditions at one moment.

    Not accepted ones are in it: look at `is_accepted`.
    """

    entities: Mapping[ResourceKey, ApplicationEntity] = field(default_factory=dict)
    routes: Mapping[ResourceKey, ImageRoute] = field(default_factory=dict)
    partitions: Mapping[ResourceKey, PatientPartition] = field(default_factory=dict)
    locations: frozenset[str] = frozenset()
    conditions: Mapping[ResourceRef, tuple[Condition, ...]] = field(default_factory=dict)
    version: str = ""
    """Differs whenever anything was written."""

    def is_accepted(self, key: ResourceKey) -> bool:
        """Whether the AE is in force: another one may hold its title."""
        accepted = find_condition(
            self.conditions.get(ResourceRef("ApplicationEntity", key), ()), ConditionType.ACCEPTED
        )
        return accepted is None or accepted.is_true

    @cached_property
    def accepted_entities(self) -> tuple[ApplicationEntity, ...]:
        """The AEs in force: those that get a listener and may be sent to."""
        return tuple(ae for key, ae in self.entities.items() if self.is_accepted(key))


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying changed, and the conditions of everything that is live now."""

    changes: Mapping[ResourceRef, Change]
    conditions: Mapping[ResourceRef, tuple[Condition, ...]]
    version: str
    """Of the configuration as it is left: what `load_configuration` compares."""


async def load_configuration(db: Database, known: Configuration | None = None) -> Configuration:
    """Return what is in force. With ``known``, the same object again when nothing was written since: that is
    cheap.

    Raises InvalidResource for a row that this version cannot read.
    """
    version = await newest_change(db)
    if known is not None and known.version == version:
        return known
    rows = await read_projections(db)
    resources = [row.resource() for row in rows]
    return Configuration(
        entities={r.key: r for r in resources if isinstance(r, ApplicationEntity)},
        routes={r.key: r for r in resources if isinstance(r, ImageRoute)},
        partitions={r.key: r for r in resources if isinstance(r, PatientPartition)},
        locations=await read_locations(db),
        conditions={row.ref: row.conditions for row in rows},
        version=version,
    )


@dataclass(frozen=True, slots=True)
class Observed:
    """What whoever applies sees around the resources."""

    secrets: frozenset[str] | None = None
    """The names that exist; None where that is not known."""
    listener_troubles: Mapping[ResourceKey, str] = field(default_factory=dict)
    """AEs whose listener does not answer (yet), with a sentence that says why."""
    unresolved: Mapping[ResourceKey, Fault] = field(default_factory=dict)
    """AEs whose listener misses something that it needs."""
    progress: Mapping[ResourceKey, str] = field(default_factory=dict)
    """AEs whose listener is on its way to what is wished."""
    remarks: Mapping[ResourceKey, str] = field(default_factory=dict)
    """What people should know of a listener though nothing is wrong with it."""
    accepted: frozenset[ResourceKey] | None = None
    """AEs that hold their title; None: those that held it when it was applied last."""
    endpoints: Mapping[ResourceKey, str] = field(default_factory=dict)
    """host:port where each device calls us; AEs without a listener are not in it."""
    namespaces: Collection[str] = ()
    """Those that the resources speak for: of others only what `projector` wrote is touched. Empty: all there are."""
    projector: str = ""
    """The release that applies, namespace/name: what it wrote of a namespace that it has left goes. '': nobody's."""
    takes_over: bool = True
    """Rows of another release become its own: who begins to watch does it once, or two would do it for ever."""

    def speaks_for(self, namespace: str) -> bool:
        """Say whether all resources of a namespace are among those applied."""
        return not self.namespaces or namespace in self.namespaces

    def has_left(self, row: Projection) -> bool:
        """Say whether we wrote the row when we still watched its namespace, and nobody took it over."""
        is_ours = bool(self.projector) and row.projected_by == self.projector
        return is_ours and not self.speaks_for(row.ref.key.namespace)


NOTHING_OBSERVED = Observed()


async def apply_configuration(
    db: Database,
    resources: Sequence[Resource],
    *,
    source_errors: Mapping[ResourceRef, str] | None = None,
    observed: Observed = NOTHING_OBSERVED,
    now: datetime,
) -> Applied:
    """Make the projections, their conditions and the destinations what ``resources`` say; return what
    changed.

    What is not among them becomes a tombstone, unless ``source_errors`` names it: then the last good version
    stays and says so in its Stalled condition. A resource without uid is local: it gets one, and its
    generation is counted here.
    """
    errors = source_errors or {}

    async def work(tx: Database) -> tuple[Applied, dict[ResourceRef, Projection]]:
        await _wait_for_our_turn(tx)
        rows = {row.ref: row for row in await read_projections(tx, tombstones=True)}
        left = {r for r, row in rows.items() if row.is_live and observed.has_left(row)}
        stored = {r: row for r, row in rows.items() if observed.speaks_for(r.key.namespace)}
        living = _living(resources, stored, errors, now)
        accepted = _accepted(stored.values()) if observed.accepted is None else observed.accepted
        surroundings = Surroundings(
            locations=await read_locations(tx),
            secrets=observed.secrets,
            accepted=accepted,
            errors=errors,
            listener_troubles=observed.listener_troubles,
            unresolved=observed.unresolved,
            progress=observed.progress,
            remarks=observed.remarks,
        )
        wished = _wished(living, decide_conditions(living, surroundings), stored, observed, now)
        changes = await _write(tx, wished, stored, now)
        for ref in left:
            await bury_projection(tx, ref, now=now)
            changes[ref] = "unwatched"
        entities = [r for r in living if isinstance(r, ApplicationEntity)]
        others = [
            r.key
            for r in rows.keys() - stored.keys() - left
            if r.kind == "ApplicationEntity" and rows[r].is_live
        ]
        receivers = Receivers(entities, others, frozenset(r.key for r in left), _invalid(wished))
        await sync_destinations(tx, receivers, now=now)
        conditions = {ref: row.conditions for ref, row in wished.items()}
        return Applied(changes, conditions, await newest_change(tx)), stored

    applied, before = await db.atomically(work)
    _report(applied, before)
    return applied


async def apply_some(
    db: Database,
    changed: Mapping[ResourceRef, Resource | None],
    decided: Mapping[ResourceRef, tuple[Condition, ...]],
    *,
    observed: Observed = NOTHING_OBSERVED,
    now: datetime,
) -> None:
    """Make the rows and destinations of a few resources what they say, however many others there are; None: it is gone.

    ``decided``: the conditions of those that are live, without times. `apply_configuration` has to follow: rows of
    others whose conditions speak of these ones are as before. The resources are settled, and may be in force.
    """

    async def work(tx: Database) -> tuple[Applied, dict[ResourceRef, Projection]]:
        await _wait_for_our_turn(tx)
        rows = [await read_tombstone(tx, ref.kind, ref.key) for ref in changed]
        stored = {row.ref: row for row in rows if row is not None}
        living = [resource for resource in changed.values() if resource is not None]
        wished = _wished(living, decided, stored, observed, now)
        changes = await _write(tx, wished, stored, now)
        entities = [one for one in living if isinstance(one, ApplicationEntity)]
        removed = [ref.key for ref, one in changed.items() if one is None and ref.kind == "ApplicationEntity"]
        await sync_some_destinations(tx, entities, removed, _invalid(wished), now=now)
        return Applied(changes, {ref: row.conditions for ref, row in wished.items()}, ""), stored

    applied, before = await db.atomically(work)
    _report(applied, before)


async def _wait_for_our_turn(tx: Database) -> None:
    """Let nobody else apply until the transaction ends."""
    if not tx.is_sqlite:
        await tx.fetch("SELECT pg_advisory_xact_lock($1)", ADVISORY_LOCK)


def _living(
    resources: Iterable[Resource],
    stored: Mapping[ResourceRef, Projection],
    errors: Mapping[ResourceRef, str],
    now: datetime,
) -> list[Resource]:
    """Return all resources that are live from now on, with their uid and generation."""
    given = {ref_of(resource): resource for resource in resources}
    living = [_settled(resource, stored.get(ref), now) for ref, resource in given.items()]
    kept = [
        row.resource() for ref, row in stored.items() if row.is_live and ref in errors and ref not in given
    ]
    return living + kept


def _settled(resource: Resource, row: Projection | None, now: datetime) -> Resource:
    """Give a local resource its uid, generation and age; one that came back after a deletion is a new one."""
    metadata = resource.metadata
    if metadata.uid:
        return resource
    if row is None or not row.is_live:
        return replace(
            resource,
            metadata=replace(metadata, uid=str(uuid.uuid4()), generation=1, created_at=_timestamp(now)),
        )
    generation = row.generation if row.spec == to_spec(resource) else row.generation + 1
    return replace(
        resource,
        metadata=replace(metadata, uid=row.uid, generation=generation, created_at=_timestamp(row.created_at)),
    )


def _timestamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()


def _accepted(rows: Iterable[Projection]) -> frozenset[ResourceKey]:
    """Return the AEs that hold their title now."""
    held = set()
    for row in rows:
        accepted = find_condition(row.conditions, ConditionType.ACCEPTED)
        if row.is_live and row.ref.kind == "ApplicationEntity" and accepted is not None and accepted.is_true:
            held.add(row.ref.key)
    return frozenset(held)


def _wished(
    living: Sequence[Resource],
    decided: Mapping[ResourceRef, tuple[Condition, ...]],
    stored: Mapping[ResourceRef, Projection],
    observed: Observed,
    now: datetime,
) -> dict[ResourceRef, Projection]:
    wished = {}
    for resource in living:
        ref = ref_of(resource)
        row = stored.get(ref)
        before = row if row is not None and row.is_live else None
        conditions = with_transition_times(decided[ref], before.conditions if before else (), now=now)
        created = resource.metadata.created_at
        projection = project(
            resource,
            conditions,
            created_at=datetime.fromisoformat(created) if created else now,
            endpoint=observed.endpoints.get(ref.key, "") if ref.kind == "ApplicationEntity" else "",
        )
        is_theirs = before is not None and bool(before.projected_by) and not observed.takes_over
        by = before.projected_by if before is not None and is_theirs else observed.projector
        wished[ref] = replace(projection, projected_by=by)
    return wished


async def _write(
    tx: Database,
    wished: Mapping[ResourceRef, Projection],
    stored: Mapping[ResourceRef, Projection],
    now: datetime,
) -> dict[ResourceRef, Change]:
    changes: dict[ResourceRef, Change] = {}
    for ref, row in wished.items():
        old = stored.get(ref)
        if old == row:
            continue
        await write_projection(tx, row, now=now)
        changes[ref] = _change(old, row)
    for ref, row in stored.items():
        if row.is_live and ref not in wished:
            await bury_projection(tx, ref, now=now)
            changes[ref] = "removed"
    return changes


def _change(old: Projection | None, new: Projection) -> Change:
    if old is None or not old.is_live or old.uid != new.uid:
        return "created"
    return "updated" if (old.generation, old.labels) != (new.generation, new.labels) else "observed"


def _invalid(rows: Mapping[ResourceRef, Projection]) -> dict[ResourceKey, str]:
    """Return the AEs that nothing may be sent to, with the reason of the condition that says so."""
    invalid = {}
    for ref, row in rows.items():
        if ref.kind != "ApplicationEntity":
            continue
        accepted = find_condition(row.conditions, ConditionType.ACCEPTED)
        ready = find_condition(row.conditions, ConditionType.READY)
        if accepted is not None and not accepted.is_true:
            invalid[ref.key] = accepted.reason.value
        elif ready is not None and ready.reason in (Reason.ISCL_NOT_SUPPORTED, Reason.PRINT_NOT_AVAILABLE):
            invalid[ref.key] = ready.reason.value
    return invalid


def _report(applied: Applied, before: Mapping[ResourceRef, Projection]) -> None:
    """Log what changed, after it was committed."""
    for ref, change in applied.changes.items():
        conditions = applied.conditions.get(ref, ())
        if change != "observed":
            log(
                RESOURCE_APPLIED,
                kind=ref.kind,
                namespace=ref.key.namespace,
                name=ref.key.name,
                generation=conditions[0].observed_generation if conditions else None,
                change=change,
            )
        old = before.get(ref)
        _report_conditions(ref, conditions, old.conditions if old and old.is_live else ())


def _report_conditions(ref: ResourceRef, new: Iterable[Condition], old: Iterable[Condition]) -> None:
    known = {(c.type, c.status, c.reason) for c in old}
    for condition in new:
        is_no_news = condition.is_true and not known and condition.type is not ConditionType.STALLED
        if is_no_news or (condition.type, condition.status, condition.reason) in known:
            continue
        log(
            CONDITION_CHANGED,
            kind=ref.kind,
            namespace=ref.key.namespace,
            name=ref.key.name,
            type=condition.type.value,
            status=condition.status.value,
            reason=condition.reason.value,
            message=condition.message,
        )
