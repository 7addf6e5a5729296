"""Arrivals that were only found: a blob without a row, listed as quarantined by a check that knows no sender.

Its device's spool may hold it all the same, where the check does not see that spool, and its indexer may come with it
an hour later, when the database is back. So such a row gives way to the indexer's, as if it were not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from aegate_core.database import Database
from aegate_core.dicom.identifiers import ResourceKey

UNKNOWN_SENDER = ResourceKey("unknown", "unknown")
"""The AE of a blob of which no row tells who sent it."""

ONLY_FOUND = f"(a.ae = '{UNKNOWN_SENDER}' AND a.outcome = 'QUARANTINED' AND a.removed_at IS NULL)"
"""SQL: the row ``a`` of an arrival gives way."""


async def settle_found(tx: Database, reasons: Mapping[str, str], *, now: datetime) -> None:
    """Bring the list of quarantined objects to what became of arrivals that stood on it as found.

    ``reasons`` has all arrivals just written: why one is quarantined, or '' for one that is indexed.
    """
    rows = await tx.fetch(
        "SELECT arrival_id FROM quarantined_object WHERE arrival_id = ANY($1) AND ae = $2",
        sorted(reasons),
        str(UNKNOWN_SENDER),
    )
    for arrival in (str(r["arrival_id"]) for r in rows):
        if reasons[arrival]:
            await tx.execute(
                "UPDATE quarantined_object SET reason = $2, ae = (SELECT a.ae FROM arrival a WHERE a.id = $1) "
                "WHERE arrival_id = $1",
                arrival,
                reasons[arrival],
            )
        else:
            await tx.execute(
                "UPDATE quarantined_object SET resolved_at = $2::timestamptz, resolved_by = 'aegate indexer', "
                "resolution = 'its listener had it in the spool: indexed' "
                "WHERE arrival_id = $1 AND resolved_at IS NULL",
                arrival,
                now,
            )
