"""From a listener's journal into the audit: each record becomes one row, however often it is taken up.

The order is: rows committed, then the file goes. Killed between the two, the next one finds each row there already, by
the name of its file and the number of its line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from aegate_core.database import Database
from aegate_core.errors import InvalidInput
from aegate_core.events import AUDIT_LINE_UNREADABLE, Log
from aegate_core.services.audit import Area, Deed, record
from aegate_core.services.entities import Configuration, load_configuration
from aegate_core.steps import Step, reached
from aegate_core.stores.spool import AssociationRecord, Happened, journals

ACCEPTED = "acceptAssociation"
ENDED = "endAssociation"
REFUSED = "refuseAssociation"
MISSED = "missAssociations"

AT_ONCE = 500
"""Rows in one transaction."""

_ACTIONS = {
    Happened.ACCEPTED: ACCEPTED,
    Happened.ENDED: ENDED,
    Happened.REFUSED: REFUSED,
    Happened.MISSED: MISSED,
}

log = Log("intake")


async def take_up(
    db: Database,
    spool: Path,
    ours: Callable[[str], bool],
    configuration: Configuration | None = None,
) -> int:
    """Write what stands in the journals of listeners that are ``ours`` into the audit; return how many records.

    Safe to repeat, and for two at once. Raises DatabaseUnavailable, OSError: nothing is lost then.
    """
    paths = await asyncio.to_thread(lambda: list(journals(spool, ours)))
    if not paths:
        return 0
    known = await load_configuration(db, configuration)
    return sum([await _take_up_file(db, path, known) for path in paths])


async def _take_up_file(db: Database, path: Path, configuration: Configuration) -> int:
    try:
        lines = (await asyncio.to_thread(path.read_bytes)).splitlines()
    except FileNotFoundError:
        return 0  # another indexer has done it
    found: list[tuple[str, AssociationRecord]] = []
    for n, line in enumerate(lines):
        try:
            found.append((f"{path.stem}:{n}", AssociationRecord.from_line(line)))
        except InvalidInput as error:  # the last line, where the power went
            log(AUDIT_LINE_UNREADABLE, file=path.name, error=error.message)
    now = await db.time()
    for start in range(0, len(found), AT_ONCE):
        some = found[start : start + AT_ONCE]
        await db.atomically(lambda tx, s=some: _write(tx, s, configuration, now))  # type: ignore[misc]
    reached(Step.RECORDS_COMMITTED)
    await asyncio.to_thread(path.unlink, missing_ok=True)
    return len(found)


async def _write(
    tx: Database,
    records: list[tuple[str, AssociationRecord]],
    configuration: Configuration,
    now: datetime,
) -> None:
    for origin, said in records:
        at = min(said.at, now)  # a listener's clock may be ahead
        await record(tx, _deed(said, configuration), now=at, origin=origin)


def _deed(said: AssociationRecord, configuration: Configuration) -> Deed:
    entity = configuration.entities.get(said.ae) if said.ae else None
    outcome = {Happened.REFUSED: "REFUSED", Happened.MISSED: "FAILED"}.get(said.happened, "DONE")
    if said.happened is Happened.ENDED and said.detail.get("how") != "released":
        outcome = "FAILED"
    detail = dict(said.detail) | ({"ae": str(said.ae)} if said.ae else {})
    return Deed(
        "listener",
        _ACTIONS[said.happened],
        f"ApplicationEntity:{said.ae}" if said.ae else "ApplicationEntity:",
        outcome,
        address=said.peer,
        detail=detail,
        area=Area.IMAGES,
        partition=str(entity.partition) if entity else None,
    )
