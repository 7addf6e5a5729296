"""What a dry run says is what the run does, whatever state the installation is in.

Each round adds studies, throws states at them by a seeded chance, and compares. States that cannot come about together
are among them: the promise has no exception.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import datetime

import pytest

from aegate_core.resources.values import Metadata, PatientPartition, Retention
from aegate_core.services import deliveries
from aegate_core.services.deliveries import SendByHand
from aegate_core.services.retention import Report, retain
from aegate_core.services.studies import close_due
from aegate_core.settings import DataFolder
from tests.dicom import Instance, ct
from tests.integration.intake.hospital import HOSPITAL, Place, at, key

DAY = 86_400
ROUNDS = 6
FINISHED = ("COMPLETED", "WARNING", "CANCELED", "FAILED")
STATES = (*FINISHED, "SCHEDULED", "RETRY", "IN_PROGRESS", "HELD")
INSTANCES = ("STORED", "WARNING", "CANCELED", "DEAD", "PENDING")
PARTITIONS = ("default/default", "default/research")


def rules(chance: random.Random, name: str) -> PatientPartition:
    return PatientPartition(
        Metadata(key(name)),
        retention=Retention(
            images_days=chance.choice([None, 1, 30, 90]),
            images_require_delivered=chance.random() < 0.6,
            images_require_committed=chance.random() < 0.1,
            finished_deliveries_days=chance.choice([1, 30, 90]),
        ),
    )


async def new_studies(place: Place, chance: random.Random, number: int, now: datetime) -> None:
    """Let images come, be closed and routed, and be sent by hand too; one of them comes twice."""
    for n in range(3):
        study = f"s{number}-{n}"
        for image in range(chance.randint(1, 3)):
            place.receive(ct(Instance(study=study, number=image)), when=now)
    place.receive(ct(Instance(study=f"s{number}-0")), when=now)
    await place.index(now)
    await close_due(place.db, now=at(600 + (now - at(0)).total_seconds()))
    ids = [int(r["id"]) for r in await place.db.fetch("SELECT id FROM study ORDER BY id DESC LIMIT 3")]
    async with place.db.transaction() as tx:
        request = SendByHand((chance.choice(ids),), (key("ws1"), key("pacs")), "anna", f"k{number}")
        await deliveries.send_by_hand(tx, request, now=now)


async def throw_states(place: Place, chance: random.Random, now: datetime) -> None:
    """Give studies, closes and queue items any state and any age."""
    for row in await place.db.fetch("SELECT id FROM study ORDER BY id"):
        age = at((now - at(0)).total_seconds() - chance.randint(0, 120) * DAY)
        await place.db.execute(
            "UPDATE study SET partition = $2, last_arrival_at = $3 WHERE id = $1",
            row["id"],
            chance.choice(PARTITIONS),
            age,
        )
    for row in await place.db.fetch("SELECT id FROM close_unit ORDER BY id"):
        if chance.random() < 0.15:
            await place.db.execute("UPDATE close_unit SET due_at = $2 WHERE id = $1", row["id"], now)
    for row in await place.db.fetch("SELECT id FROM delivery ORDER BY id"):
        await _throw_delivery(place, chance, int(row["id"]), now)


async def _throw_delivery(place: Place, chance: random.Random, item: int, now: datetime) -> None:
    state = chance.choice(FINISHED if chance.random() < 0.8 else STATES)
    finished = at((now - at(0)).total_seconds() - chance.randint(0, 120) * DAY) if state in FINISHED else None
    await place.db.execute(
        "UPDATE delivery SET state = $2, finished_at = $3, partition = $4 WHERE id = $1",
        item,
        state,
        finished,
        chance.choice(PARTITIONS),
    )
    rows = await place.db.fetch("SELECT id FROM delivery_instance WHERE delivery_id = $1 ORDER BY id", item)
    for row in rows:
        instance = "STORED" if state == "COMPLETED" else chance.choice(INSTANCES)
        await place.db.execute("UPDATE delivery_instance SET state = $2 WHERE id = $1", row["id"], instance)


async def wanted(place: Place) -> set[str]:
    """Return the arrivals that something still wants, asked in other words than retention does."""
    rows = await place.db.fetch(
        "SELECT a.id FROM arrival a WHERE a.study_id IN (SELECT study_id FROM delivery "
        "WHERE state NOT IN ('COMPLETED', 'WARNING', 'CANCELED', 'FAILED')) "
        "OR a.study_id IN (SELECT study_id FROM close_unit WHERE due_at IS NOT NULL OR closed_at IS NULL)"
    )
    return {str(r["id"]) for r in rows}


def images(place: Place) -> set[str]:
    return {p.stem for p in place.root.glob("blobs/*/*/*.dcm")}


def total(report: Report, name: str) -> int:
    return sum(int(getattr(p, name)) for p in report.partitions.values())


async def everything(place: Place) -> list[list[dict[str, object]]]:
    tables: Iterable[str] = ("arrival", "delivery", "delivery_instance", "delivered", "audit_event", "study")
    return [await place.db.fetch(f"SELECT * FROM {t} ORDER BY 1, 2") for t in tables]


@pytest.mark.parametrize("seed", range(4))
async def test_dry_run_says_what_the_run_does_in_any_state(place: Place, seed: int) -> None:
    chance = random.Random(seed)
    data, went, kept = DataFolder(place.root), 0, 0
    for number in range(ROUNDS):
        now = at((120 + number * chance.randint(0, 40)) * DAY)
        await place.apply(*HOSPITAL, rules(chance, "default"), rules(chance, "research"))
        await new_studies(place, chance, number, now)
        await throw_states(place, chance, now)
        before, files, still = await everything(place), images(place), await wanted(place) & images(place)
        items = await place.count("delivery")

        said = await retain(place.db, data, now=now, dry_run=True)
        assert (await everything(place), images(place)) == (before, files)

        did = await retain(place.db, data, now=now)
        assert did == said
        gone = files - images(place)
        assert len(gone) == total(did, "images")
        assert items - await place.count("delivery") == total(did, "deliveries")
        assert gone & still == set()
        assert await place.count("arrival", "removed_at IS NULL") == len(images(place))
        went, kept = went + len(gone), kept + sum(sum(p.kept.values()) for p in did.partitions.values())
    assert went > 0
    assert kept > 0
