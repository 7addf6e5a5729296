"""Listeners that cannot start, claims that nobody binds, an operator that is away: it is said, and heals by itself.

Whoever sends meanwhile goes on: an open association is at the pod that was there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.chart.rendering import sets
from tests.cluster.release.edited import Edited, old_pods_end_well
from tests.cluster.release.hospital import RELEASE, Hospital
from tests.integration.waiting import eventually

NAME, TITLE = "ct-6", "CT_6"
OPERATOR = f"{RELEASE}-operator"


@pytest.fixture(scope="module")
def entity(installed: Hospital) -> Iterator[Edited]:
    """An AE whose device is this machine."""
    installed.add_ae(NAME)
    installed.wait_until_ready(NAME)
    yield Edited(installed, NAME)
    installed.kubectl("delete", "applicationentity", NAME)


def staying(entity: Edited) -> dict[str, tuple[str, int, bool]]:
    return {name: pod for name, pod in entity.pods().items() if not pod[2]}


def test_a_listener_that_crashes_at_once(entity: Edited) -> None:
    hospital = entity.hospital
    with hospital.never_hot(), hospital.paced_sender(hospital.address(NAME), TITLE, "crash") as sender:
        sender.goes_on()
        before = staying(entity)
        too_little = {"memory": "12Mi"}
        resources = {"requests": too_little, "limits": too_little}
        entity.patch({"listener": {"pod": {"resources": resources}}}, reason="ListenerNotReady")
        eventually(lambda: "CrashLoopBackOff" in entity.message(), deadline_s=120, what=entity.message)
        sender.goes_on()
        entity.patch({"listener": {"pod": None}})
        assert staying(entity) == before
        sender.goes_on()


def test_an_image_that_is_not_there(entity: Edited) -> None:
    hospital = entity.hospital
    with hospital.never_hot(rolls=2), hospital.paced_sender(hospital.address(NAME), TITLE, "image") as sender:
        sender.goes_on()
        before = staying(entity)
        hospital.install(*sets("image.names.listener=nobody"), until_ready=False)
        eventually(
            lambda: "ErrImageNeverPull" in entity.message(),
            deadline_s=180,
            what=lambda: str(entity.conditions()),
        )
        assert entity.says("Ready", "ListenerNotReady")
        sender.goes_on()
        hospital.install()
        eventually(
            lambda: staying(entity) == before and entity.is_effective(),
            deadline_s=180,
            what=lambda: f"{entity.pods()} are {before} again: {entity.conditions()}",
        )
        sender.goes_on()


def test_a_claim_that_nobody_binds_yet(installed: Hospital) -> None:
    late = Edited(installed, "ct-5")
    with installed.never_hot():
        installed.add_ae(
            late.name, listener={"spool": {"type": "PersistentVolumeClaim", "storageClassName": "late"}}
        )
        eventually(
            lambda: late.says("ResolvedRefs", "StoreNotFound"),
            deadline_s=120,
            what=lambda: str(late.conditions()),
        )
        assert "is not bound" in late.message("ResolvedRefs")
        installed.make_volume("late", "late", storage_class="late")
        eventually(late.is_effective, deadline_s=120, what=lambda: str(late.conditions()))
    installed.kubectl("delete", "applicationentity", late.name)


def test_an_operator_that_is_away(entity: Edited) -> None:
    hospital = entity.hospital
    with (
        hospital.never_hot(rolls=1),
        hospital.paced_sender(hospital.address(NAME), TITLE, "no operator") as sender,
    ):
        sender.goes_on()
        before = staying(entity)
        hospital.scale(OPERATOR, 0)
        with hospital.paced_sender(hospital.address(NAME), TITLE, "while it is away") as second:
            second.goes_on()
        patch = json.dumps({"spec": {"comment": "nobody looks"}})
        hospital.kubectl("patch", "applicationentity", NAME, "--type=merge", f"--patch={patch}")
        sender.goes_on()
        hospital.scale(OPERATOR, 1)
        eventually(entity.is_effective, deadline_s=120, what=entity.message)
        assert staying(entity) == before
        sender.goes_on()


def test_an_upgrade_that_rolls_every_listener(entity: Edited, tmp_path: Path) -> None:
    hospital = entity.hospital
    address = hospital.address(NAME)
    with (
        old_pods_end_well(entity, tmp_path),
        entity.hospital.paced_sender(address, TITLE, "upgrade") as sender,
    ):
        sender.goes_on()
        hospital.install(*sets("listener.graceSeconds=61", "listener.preStopSeconds=3"))
        eventually(
            lambda: entity.is_effective() and any(not ending for _, _, ending in entity.pods().values()),
            deadline_s=180,
            what=entity.message,
        )
        sender.goes_on()
    with hospital.paced_sender(hospital.address(NAME), TITLE, "after it") as sender:
        sender.goes_on()


def test_no_image_was_lost(entity: Edited) -> None:
    """Whatever these tests did to its listener meanwhile."""
    entity.hospital.until_nothing_is_lost()
