"""Who says whether the promise was kept: the devices' own records against the receiver's folder, and `aegate fsck`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from string import ascii_uppercase
from typing import Protocol

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
  JOIN delivery q ON q.id = i.delivery_id JOIN destination d ON d.id = q.destination_id
WHERE i.state IN ('STORED', 'WARNING') AND d.ae = $1
"""
_ENDED_BADLY = "SELECT count(*) AS n FROM delivery WHERE state IN ('WARNING', 'FAILED', 'CANCELED')"


class Judged(Protocol):
    """An installation: its data folder and its database."""

    @property
    def data(self) -> Path:
        """The data folder."""

    @property
    def url(self) -> str:
        """The database."""


def is_drained(stage: Judged) -> bool:
    """Whether nothing is left to be indexed, closed or sent."""
    return not list(stage.data.glob("spool/*/*/*/*.dcm")) and value(stage, _UNFINISHED) == 0


def verdicts(stage: Stage, acknowledged: Mapping[str, str]) -> list[str]:
    """Return what is wrong after the end, in words; nothing when the promise was kept."""
    return verdicts_of(stage, {"default/pacs": stage.received}, acknowledged)


def verdicts_of(stage: Judged, receivers: Mapping[str, Path], acknowledged: Mapping[str, str]) -> list[str]:
    """Return what is wrong where everything goes to each of several receivers, by destination and folder."""
    wrong = [w for ae, folder in receivers.items() for w in _at_receiver(stage, ae, folder, acknowledged)]
    badly = value(stage, _ENDED_BADLY)
    if badly:
        wrong.append(
            f"{badly} deliveries ended otherwise than COMPLETED, to a receiver that takes everything"
        )
    return [*wrong, *_files_left(stage), *_fsck(stage)]


def _at_receiver(stage: Judged, ae: str, folder: Path, acknowledged: Mapping[str, str]) -> list[str]:
    there: dict[str, set[str]] = {}
    for path in folder.glob("*.dcm"):
        there.setdefault(_uid(path), set()).add(data_digest(path))
    lost = sorted(acknowledged.keys() - there.keys())
    changed = sorted(uid for uid in acknowledged.keys() & there.keys() if {acknowledged[uid]} != there[uid])
    never = sorted({str(r["uid"]) for r in rows(stage, _DELIVERED, ae)} - there.keys())
    wrong = [f"acknowledged and not at the receiver: {uid} ({ae})" for uid in lost]
    wrong += [f"other bytes at the receiver: {uid} ({ae})" for uid in changed]
    return wrong + [f"reported delivered and not at the receiver: {uid} ({ae})" for uid in never]


def _files_left(stage: Judged) -> list[str]:
    left = [
        p for p in stage.data.glob("spool/**/*") if p.is_file() and p.suffix in (".dcm", ".part", ".json")
    ]
    copies = list(stage.data.glob("blobs/**/*.part"))
    return [f"a file is left that no row knows: {p.relative_to(stage.data)}" for p in (*left, *copies)]


def _fsck(stage: Judged) -> list[str]:
    done = aegate(
        *("fsck", "--data", stage.data, "--database", stage.url, "--settled", "0", "--output", "json"),
        timeout_s=600,
    )
    if done.returncode == 2:
        return [f"fsck could not check: {done.stderr}"]
    return [f"fsck: {f['kind']} {f['subject']}: {f['message']}" for f in json.loads(done.stdout)["wrong"]]


def value(stage: Judged, sql: str) -> int:
    """Return the one number that a query asks for."""
    (row,) = rows(stage, sql)
    return int(str(next(iter(row.values()))))


def rows(stage: Judged, sql: str, *values: object) -> list[dict[str, object]]:
    """Ask the database of an installation, over a connection of its own."""

    async def ask() -> list[dict[str, object]]:
        async with open_database(stage.url) as db:
            return await db.fetch(sql, *values)

    return asyncio.run(ask())


def received(stage: Stage) -> int:
    """Return how many objects the receiver holds; one that came twice counts once."""
    return received_in(stage.received)


def received_in(folder: Path) -> int:
    """Return how many objects a receiver's folder holds; one that came twice counts once."""
    return len({_uid(path) for path in folder.iterdir() if path.suffix == ".dcm"})


def _uid(path: Path) -> str:
    """Return the SOP Instance UID: ours calls a second copy ``<uid>-2.dcm``, dcmtk's calls a CT ``CT.<uid>.dcm``."""
    return path.stem.partition("-")[0].lstrip(f"{ascii_uppercase}.")
