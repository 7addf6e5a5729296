"""What a person sends: the current arrivals of studies, of series or of single images, read from the index."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from aegate_core.database import Database
from aegate_core.resources.values import Level


@dataclass(frozen=True, slots=True)
class UnitToSend:
    """A study, series or image with what is current in it."""

    id: int
    """The row of the study, series or instance."""
    study_id: int
    uid: str
    partition: str
    source_ae: str
    location_code: str | None
    arrival_ids: tuple[str, ...]
    size_bytes: int
    removed: int
    """How many of these images retention removed."""


_INSTANCES = "instance i JOIN series r ON r.id = i.series_id JOIN study s ON s.id = r.study_id"
_HEADS = {
    Level.STUDY: ("study s", "s.id", "s.study_instance_uid"),
    Level.SERIES: ("series r JOIN study s ON s.id = r.study_id", "r.id", "r.series_instance_uid"),
    Level.IMAGE: (_INSTANCES, "i.id", "i.sop_instance_uid"),
}
"""What a unit is, by level: tables, key, UID."""


async def units(tx: Database, level: Level, ids: Sequence[int]) -> list[UnitToSend]:
    """Return those of ``ids`` that exist and hold instances, in their order of ids.

    Their studies are locked: retention removes nothing of them until the end of the transaction.
    """
    tables, key, uid = _HEADS[level]
    await tx.fetch(
        f"SELECT id FROM study WHERE id IN (SELECT s.id FROM {tables} WHERE {key} = ANY($1)) ORDER BY id FOR UPDATE",
        list(ids),
    )
    heads = await tx.fetch(
        f"SELECT {key} AS id, s.id AS study_id, {uid} AS uid, s.partition AS partition, s.source_ae AS source_ae, "
        f"s.location_code AS location_code FROM {tables} WHERE {key} = ANY($1) ORDER BY {key}",
        list(ids),
    )
    current = await tx.fetch(
        f"SELECT {key} AS unit_id, a.id AS arrival_id, a.size_bytes AS size_bytes, a.removed_at AS removed_at "
        f"FROM {_INSTANCES} JOIN arrival a ON a.id = i.current_arrival_id "
        f"WHERE {key} = ANY($1) ORDER BY s.id, r.id, i.id",
        list(ids),
    )
    own = defaultdict(list)
    for row in current:
        own[int(row["unit_id"])].append(row)
    return [
        UnitToSend(
            id=int(head["id"]),
            study_id=int(head["study_id"]),
            uid=str(head["uid"]),
            partition=str(head["partition"]),
            source_ae=str(head["source_ae"]),
            location_code=head["location_code"],
            arrival_ids=tuple(str(r["arrival_id"]) for r in images),
            size_bytes=sum(int(r["size_bytes"]) for r in images),
            removed=sum(r["removed_at"] is not None for r in images),
        )
        for head in heads
        if (images := own[int(head["id"])])
    ]
