"""Who says whether the promise was kept: the devices' own records against the receiver's folder, and `aegate fsck`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

from aegate_core.database import open_database
from tests.integration.cli.installations import aegate
from tests.integration.scu.clinic import data_digest
from tests.proofs.stage import Stage

_UNFINISHED = """
SELECT (SELECT count(*) FROM delivery WHERE state NOT IN ('COMPLETED', 'WARNING', 'FAILED', 'CANCELED'))
  + (SELECT count(*) FROM close_unit WHERE due_at IS NOT NULL) AS n
"""
_DELIVERED = """
SELECT a.sop_instance_uid AS uid FROM delivery_instance i JOIN arrival a ON a.id = i.arrival_id
WHERE i.state IN ('STORED', 'WARNING')
"""
_ENDED_BADLY = "SELECT count(*) AS n FROM delivery WHERE state IN ('WARNING', 'FAILED', 'CANCELED')"


def is_drained(stage: Stage) -> bool:
    """Whether nothing is left to be indexed, closed or sent."""
    return not list(stage.data.glob("spool/*/*/*/*.dcm")) and _value(stage, _UNFINISHED) == 0


def verdicts(stage: Stage, acknowledged: Mapping[str, str]) -> list[str]:
    """Return what is wrong after the end, in words; nothing when the promise was kept."""
    there: dict[str, set[str]] = {}
    for path in stage.received.glob("*.dcm"):
        there.setdefault(_uid(path), set()).add(data_digest(path))
    lost = sorted(acknowledged.keys() - there.keys())
    changed = sorted(uid for uid in acknowledged.keys() & there.keys() if {acknowledged[uid]} != there[uid])
    never = sorted(_column(stage, _DELIVERED) - there.keys())
    wrong = [f"acknowledged and not at the receiver: {uid}" for uid in lost]
    wrong += [f"other bytes at the receiver: {uid}" for uid in changed]
    wrong += [f"reported delivered and not at the receiver: {uid}" for uid in never]
    badly = _value(stage, _ENDED_BADLY)
    if badly:
        wrong.append(
            f"{badly} deliveries ended otherwise than COMPLETED, to a receiver that takes everything"
        )
    return [*wrong, *_files_left(stage), *_fsck(stage)]


def _files_left(stage: Stage) -> list[str]:
    left = [
        p for p in stage.data.glob("spool/**/*") if p.is_file() and p.suffix in (".dcm", ".part", ".json")
    ]
    copies = list(stage.data.glob("blobs/**/*.part"))
    return [f"a file is left that no row knows: {p.relative_to(stage.data)}" for p in (*left, *copies)]


def _fsck(stage: Stage) -> list[str]:
    done = aegate("fsck", "--data", stage.data, "--database", stage.url, "--output", "json", timeout_s=600)
    if done.returncode == 2:
        return [f"fsck could not check: {done.stderr}"]
    return [f"fsck: {f['kind']} {f['subject']}: {f['message']}" for f in json.loads(done.stdout)["wrong"]]


def _value(stage: Stage, sql: str) -> int:
    async def ask() -> int:
        async with open_database(stage.url) as db:
            return int(await db.fetch_value(sql))

    return asyncio.run(ask())


def _column(stage: Stage, sql: str) -> set[str]:
    async def ask() -> set[str]:
        async with open_database(stage.url) as db:
            return {str(r["uid"]) for r in await db.fetch(sql)}

    return asyncio.run(ask())


def received(stage: Stage) -> int:
    """Return how many objects the receiver holds; one that came twice counts once."""
    return len({_uid(path) for path in stage.received.iterdir() if path.suffix == ".dcm"})


def _uid(path: Path) -> str:
    """Return the SOP Instance UID; the receiver calls a second copy ``<uid>-2.dcm``."""
    return path.stem.partition("-")[0]
