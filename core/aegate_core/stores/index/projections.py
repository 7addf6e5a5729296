"""The rows that mirror custom resources: read all, write one, bury one.

A deleted resource's row stays as a tombstone (``deleted_at``), so that history can name it; when the resource
comes back it takes the same row again, under a new uid.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from aegate_core.database import Database, as_datetime, as_json
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.dicom.text import search_text
from aegate_core.resources.conditions import Condition, condition_from_json
from aegate_core.resources.manifest_of import API_VERSION, to_spec
from aegate_core.resources.parse import parse_resource
from aegate_core.resources.reference import ResourceRef, ref_of
from aegate_core.resources.values import ApplicationEntity, ImageRoute, Resource

TABLES: Mapping[str, str] = {
    "ApplicationEntity": "application_entity",
    "ImageRoute": "image_route",
    "PatientPartition": "patient_partition",
}


@dataclass(frozen=True, slots=True)
class Projection:
    """One row: the resource as it is in force, its conditions, and when it was deleted."""

    ref: ResourceRef
    uid: str
    generation: int
    labels: Mapping[str, str]
    spec: Mapping[str, object]
    conditions: tuple[Condition, ...]
    source: str
    created_at: datetime
    deleted_at: datetime | None = None
    endpoint: str = ""
    """host:port where a device calls us, of an AE that has a listener."""
    projected_by: str = ""
    """The release whose operator wrote the row, namespace/name; '' where there is none."""

    @property
    def is_live(self) -> bool:
        """Whether it is no tombstone."""
        return self.deleted_at is None

    def resource(self) -> Resource:
        """Return the value. Raises InvalidResource for what another version of aegate wrote."""
        return parse_resource(
            {
                "apiVersion": API_VERSION,
                "kind": self.ref.kind,
                "metadata": {
                    "namespace": self.ref.key.namespace,
                    "name": self.ref.key.name,
                    "uid": self.uid,
                    "generation": self.generation,
                    "labels": dict(self.labels),
                    "creationTimestamp": self.created_at.astimezone(UTC).isoformat(),
                },
                "spec": dict(self.spec),
            },
            source=self.source,
        )


async def read_projections(db: Database, *, tombstones: bool = False) -> list[Projection]:
    """Return all rows of all kinds, ordered by kind, namespace and name; tombstones only when asked for."""
    where = "" if tombstones else "WHERE deleted_at IS NULL"
    found: list[Projection] = []
    for kind, table in TABLES.items():
        rows = await db.fetch(f"SELECT * FROM {table} {where} ORDER BY namespace, name")
        found.extend(_projection(kind, row) for row in rows)
    return found


async def newest_change(db: Database) -> str:
    """Return a word that differs whenever a projection or a location was written; cheap to ask for."""
    parts = []
    for table in TABLES.values():
        row = await db.fetch_one(
            "SELECT count(*) AS n, count(deleted_at) AS d, max(updated_at) AS at, sum(generation) AS g "
            f"FROM {table}"
        )
        parts.append("/".join(str(value) for value in (row or {}).values()))
    return " ".join([*parts, *sorted(await read_locations(db))])


async def read_tombstone(db: Database, kind: str, key: ResourceKey) -> Projection | None:
    """Return the row of one resource, deleted or not; None when there never was one."""
    row = await db.fetch_one(
        f"SELECT * FROM {TABLES[kind]} WHERE namespace = $1 AND name = $2", key.namespace, key.name
    )
    return None if row is None else _projection(kind, row)


async def entities_of_partition(db: Database, partition: ResourceKey, *, limit: int) -> list[ResourceKey]:
    """Return the Application Entities whose images belong to a partition, in their order."""
    rows = await db.fetch(
        "SELECT namespace, name FROM application_entity WHERE partition = $1 AND deleted_at IS NULL "
        "ORDER BY namespace, name LIMIT $2",
        str(partition),
        limit,
    )
    return [ResourceKey(row["namespace"], row["name"]) for row in rows]


async def read_locations(db: Database) -> frozenset[str]:
    """Return the codes of all locations."""
    return frozenset(str(row["code"]) for row in await db.fetch("SELECT code FROM location"))


async def write_projection(tx: Database, row: Projection, *, now: datetime) -> None:
    """Insert the row, or replace all of it but its key."""
    resource = row.resource()
    values: dict[str, object] = {
        "namespace": row.ref.key.namespace,
        "name": row.ref.key.name,
        "uid": row.uid,
        "generation": row.generation,
        "labels": dict(row.labels),
        "spec": dict(row.spec),
        "conditions": json.dumps([condition.to_json() for condition in row.conditions], ensure_ascii=False),
        "source": row.source,
        "created_at": row.created_at,
        "updated_at": now,
        "deleted_at": row.deleted_at,
        "projected_by": row.projected_by or None,
        **searched_columns(resource),
    }
    if isinstance(resource, ApplicationEntity):
        values["endpoint"] = row.endpoint or None
    names = list(values)
    marks = ", ".join(f"${n}" for n in range(1, len(names) + 1))
    replaced = ", ".join(f"{name} = excluded.{name}" for name in names[2:])
    await tx.execute(
        f"INSERT INTO {TABLES[row.ref.kind]} ({', '.join(names)}) VALUES ({marks}) "
        f"ON CONFLICT (namespace, name) DO UPDATE SET {replaced}",
        *values.values(),
    )


async def bury_projection(tx: Database, ref: ResourceRef, *, now: datetime) -> None:
    """Make the row a tombstone."""
    await tx.execute(
        f"UPDATE {TABLES[ref.kind]} SET deleted_at = $1, updated_at = $1 "
        "WHERE namespace = $2 AND name = $3 AND deleted_at IS NULL",
        now,
        ref.key.namespace,
        ref.key.name,
    )


def project(
    resource: Resource, conditions: tuple[Condition, ...], *, created_at: datetime, endpoint: str = ""
) -> Projection:
    """Return the row that mirrors ``resource``, whose uid and generation are settled."""
    metadata = resource.metadata
    return Projection(
        ref=ref_of(resource),
        uid=metadata.uid,
        generation=metadata.generation,
        labels=dict(metadata.labels),
        spec=to_spec(resource),
        conditions=conditions,
        source=metadata.source,
        created_at=created_at,
        endpoint=endpoint,
    )


def _projection(kind: str, row: Mapping[str, Any]) -> Projection:
    deleted_at = row["deleted_at"]
    return Projection(
        ref=ResourceRef(kind, ResourceKey(row["namespace"], row["name"])),
        uid=row["uid"],
        generation=row["generation"],
        labels=cast("dict[str, str]", as_json(row["labels"])),
        spec=cast("dict[str, object]", as_json(row["spec"])),
        conditions=tuple(
            condition_from_json(condition)
            for condition in cast("list[dict[str, object]]", as_json(row["conditions"]))
        ),
        source=row["source"],
        created_at=as_datetime(row["created_at"]),
        deleted_at=None if deleted_at is None else as_datetime(deleted_at),
        endpoint=row.get("endpoint") or "",
        projected_by=row.get("projected_by") or "",
    )


def searched_columns(resource: Resource) -> dict[str, object]:
    """Return the columns of its table beside the shared ones."""
    name = resource.key.name
    if isinstance(resource, ApplicationEntity):
        return {
            "title": resource.title.value,
            "node": resource.node,
            "port": resource.port,
            "ability": resource.ability.value,
            "location_code": resource.location_code,
            "partition": str(resource.partition),
            "enabled": resource.enabled,
            "search_text": search_text(
                resource.title.value, name, resource.node, resource.location_code, resource.comment
            ),
        }
    if isinstance(resource, ImageRoute):
        return {"enabled": resource.enabled, "search_text": search_text(name, *resource.to, resource.comment)}
    return {
        "issuer": resource.issuer_of_patient_id,
        "search_text": search_text(name, resource.display_name, resource.issuer_of_patient_id),
    }
