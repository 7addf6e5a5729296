"""What a person sends: the current arrivals of studies, read from the index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aegate_core.database import Database


@dataclass(frozen=True, slots=True)
class StudyToSend:
    """A study with what is current in it."""

    study_id: int
    study_uid: str
    partition: str
    source_ae: str
    location_code: str | None
    arrival_ids: tuple[str, ...]
    size_bytes: int
    removed: int
    """How many of these images retention removed."""


async def studies(tx: Database, study_ids: Sequence[int]) -> list[StudyToSend]:
    """Return those of ``study_ids`` that exist and hold instances, in their order of ids.

    They are locked: retention removes nothing of them until the end of the transaction.
    """
    heads = await tx.fetch(
        "SELECT id, study_instance_uid, partition, source_ae, location_code FROM study WHERE id = ANY($1) ORDER BY id "
        "FOR UPDATE",
        list(study_ids),
    )
    current = await tx.fetch(
        "SELECT s.study_id AS study_id, a.id AS arrival_id, a.size_bytes AS size_bytes, "
        "a.removed_at AS removed_at FROM instance i "
        "JOIN series s ON s.id = i.series_id JOIN arrival a ON a.id = i.current_arrival_id "
        "WHERE s.study_id = ANY($1) ORDER BY s.study_id, s.id, i.id",
        list(study_ids),
    )
    found = []
    for head in heads:
        own = [r for r in current if r["study_id"] == head["id"]]
        if own:
            found.append(
                StudyToSend(
                    study_id=int(head["id"]),
                    study_uid=str(head["study_instance_uid"]),
                    partition=str(head["partition"]),
                    source_ae=str(head["source_ae"]),
                    location_code=head["location_code"],
                    arrival_ids=tuple(str(r["arrival_id"]) for r in own),
                    size_bytes=sum(int(r["size_bytes"]) for r in own),
                    removed=sum(r["removed_at"] is not None for r in own),
                )
            )
    return found
