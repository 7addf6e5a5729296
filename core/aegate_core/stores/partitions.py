"""Of which patient partition rows are, by the kind of thing that they are."""

from __future__ import annotations

from collections.abc import Sequence

from aegate_core.database import Database

TABLES = {
    "QueueItem": ("delivery t", "t.id"),
    "Study": ("study t", "t.id"),
    "Series": ("series r JOIN study t ON t.id = r.study_id", "r.id"),
    "Instance": (
        "instance x JOIN series r ON r.id = x.series_id JOIN study t ON t.id = r.study_id",
        "x.id",
    ),
    "CloseUnit": ("close_unit u JOIN study t ON t.id = u.study_id", "u.id"),
    "Conflict": ("conflict c JOIN study t ON t.id = c.study_id", "c.id"),
    "Operation": ("operation_partition t", "t.operation_id"),
    # Of an AE that is gone as well; of one that never was, and so of what it sent, it is none.
    "Destination": ("application_entity t", "t.namespace || '/' || t.name"),
    "QuarantinedObject": (
        "quarantined_object o LEFT JOIN application_entity t ON t.namespace || '/' || t.name = o.ae",
        "o.arrival_id",
    ),
}
"""Where a kind's partition is found, that of ``t``, and what its keys are there."""


async def partition_of(tx: Database, kind: str, keys: Sequence[int] | Sequence[str]) -> str | None:
    """Return the patient partition that all of these are of; None: they are of several, or of none."""
    table, key = TABLES[kind]
    found = await tx.fetch(
        f"SELECT DISTINCT t.partition AS partition FROM {table} WHERE {key} = ANY($1)", list(keys)
    )
    return found[0]["partition"] if len(found) == 1 else None
