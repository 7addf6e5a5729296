"""The audit on its way to a collector: what waits, as DICOM Audit Messages, and what became of it.

The outbox is the buffer: while the collector is away rows wait in the database, and nothing is lost by a kill. What was
sent and not yet struck out is sent again: at least once, as RFC 5425 knows no acknowledgement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from aegate_core.database import Database, as_datetime, as_json
from aegate_core.decisions.audit_message import AuditRow, AuditSource, Images, Peer, audit_message, outcome_of
from aegate_core.stores.index import audit_outbox

BATCH = 500


@dataclass(frozen=True, slots=True)
class Message:
    """A message to be sent; ``outcome`` is its EventOutcomeIndicator."""

    id: int
    outcome: int
    xml: bytes
    row: AuditRow


async def next_messages(db: Database, source: AuditSource, limit: int = BATCH) -> list[Message]:
    """Return what waits, the oldest first. Raises DatabaseUnavailable."""
    rows = [_row(found) for found in await audit_outbox.waiting(db, limit)]
    return [Message(row.id, outcome_of(row), audit_message(row, source), row) for row in rows]


def _row(found: Mapping[str, Any]) -> AuditRow:
    detail = cast("Mapping[str, Any]", as_json(found["detail"]))
    count = detail.get("images", detail.get("stored"))
    return AuditRow(
        id=int(found["id"]),
        at=as_datetime(found["at"]),
        detail=detail,
        peer=_peer(found, detail),
        images=Images(found["study_instance_uid"], _patient(found), count if isinstance(count, int) else None)
        if found["study_instance_uid"]
        else None,
        **{name: found[name] for name in ("actor", "address", "action", "target", "outcome", "area")},
    )


def _peer(found: Mapping[str, Any], detail: Mapping[str, Any]) -> Peer | None:
    if calling := detail.get("callingTitle"):
        return Peer(str(calling), str(found["address"]))
    return Peer(found["title"], found["node"]) if found["title"] else None


def _patient(found: Mapping[str, Any]) -> str:
    if not found["patient_id"]:
        return ""
    return f"{found['patient_id']}^^^{found['issuer']}" if found["issuer"] else str(found["patient_id"])
