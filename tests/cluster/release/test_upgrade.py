"""From an older version to this one, away with the release, and back under another name: no association is cut."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.chart.rendering import sets
from tests.cluster.lab.starting import LabSettings, keep_logs, running_lab
from tests.cluster.release.edited import Edited, old_pods_end_well
from tests.cluster.release.hospital import RELEASE, Hospital, hospital, received, studies
from tests.cluster.release.older import OlderVersion, older_version
from tests.cluster.release.test_end_to_end import CHILDREN
from tests.dicom import ct_study, write
from tests.integration.peers import StoreSCP, store_scp
from tests.integration.waiting import eventually

NAME, TITLE = "ct-1", "CT_1"
IMAGES = 10
OTHER = "imaging"
"""The release's name when it comes back."""


@pytest.fixture(scope="module")
def older() -> OlderVersion:
    return older_version()


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreSCP]:
    with store_scp(tmp_path_factory.mktemp("receiver"), title="PACS") as receiver:
        yield receiver


@pytest.fixture(scope="module")
def entity(
    older: OlderVersion,
    receiver: StoreSCP,
    say: Callable[[str], None],
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[Edited]:
    """An AE of a hospital that has the older version installed; what it sends goes to the receiver."""
    folder = tmp_path_factory.mktemp("upgrade")
    with (
        running_lab(LabSettings(nodes=1), say) as lab,
        # The older version has no place for an authority.
        hospital(lab, folder, "radiology", sslmode="require") as made,
    ):
        for image in older.images:
            lab.load(image)
        made.install(chart=older.chart, tag=older.tag)
        made.add_ae(NAME, study={"quietPeriodSeconds": 1})
        made.add_ae("pacs", port=receiver.port, listener={"mode": "None"})
        made.add_route("to-pacs", source=NAME, to="pacs")
        made.wait_until_ready(NAME)
        yield Edited(made, NAME)
        if request.session.testsfailed:
            say(f"logs of the lab, because a test failed: {keep_logs(lab)}")


def send_study(entity: Edited, receiver: StoreSCP, folder: Path, name: str) -> str:
    """Send a study and see it arrive; return its UID."""
    study = ct_study(name, IMAGES)
    uid = str(study[0].StudyInstanceUID)
    files = [write(image, folder / name / f"{i}.dcm") for i, image in enumerate(study)]
    entity.hospital.send(entity.hospital.address(NAME), TITLE, files)
    eventually(lambda: len(received(receiver, uid)) == IMAGES, deadline_s=180, what=f"{name} is delivered")
    return uid


def images(entity: Edited) -> set[str]:
    """Return the images that the listener's pods run, and their sidecars."""
    return {
        container["image"]
        for pod in entity.live_pods()
        if "deletionTimestamp" not in pod["metadata"]
        for container in (*pod["spec"]["containers"], *pod["spec"]["initContainers"])
    }


def versions(made: Hospital) -> set[str]:
    """Return the tags of the images that the release's own pods run."""
    pods = made.lab.get("pods", f"--namespace={made.system}", "--selector=app.kubernetes.io/part-of=aegate")
    running = [pod for pod in pods["items"] if pod["status"]["phase"] == "Running"]
    return {c["image"].rpartition(":")[2] for pod in running for c in pod["spec"]["containers"]}


def schema(made: Hospital) -> int:
    """Return how many migrations its database has seen."""
    return int(made.database.run("SELECT count(*) FROM tortoise_migrations", database="aegate"))


def migrate(made: Hospital) -> None:
    """Bring the schema to this version, as the chart's Job does: as its owner, with everybody's role."""
    roles = ("api", "indexer", "operator", "worker")
    subprocess.run(
        [sys.executable, "-m", "aegate_core.database", "migrate"],
        env={
            **os.environ,
            "AEGATE_DATABASE_URL": f"postgres://aegate_owner@/aegate?host={made.database.folder}",
            "AEGATE_ROLES": ",".join(f"{role}=aegate_{role}" for role in roles),
        },
        check=True,
        timeout=120,
    )


def test_old_code_works_on_the_new_schema(
    entity: Edited, receiver: StoreSCP, older: OlderVersion, tmp_path: Path
) -> None:
    """An upgrade stops after its first step: intake, index, routing and push go on, of pods that start now, too."""
    made = entity.hospital
    before = schema(made)
    with made.paced_sender(made.address(NAME), TITLE, "the schema changes") as sender:
        sender.goes_on()
        migrate(made)
        sender.goes_on()
    assert schema(made) > before
    made.scale(f"{RELEASE}-worker", 0)
    made.scale(f"{RELEASE}-worker", 1)
    uid = send_study(entity, receiver, tmp_path, "old code, new schema")
    made.until_indexed({uid: IMAGES})
    made.until_nothing_is_lost()
    assert images(entity) == {f"localhost/aegate/scp:{older.tag}"}
    assert versions(made) == {older.tag}


def test_upgrade(entity: Edited, receiver: StoreSCP, older: OlderVersion, tmp_path: Path) -> None:
    """Old and new pods work side by side on the new schema, and the old ones end after the release."""
    made = entity.hospital
    assert images(entity) == {f"localhost/aegate/scp:{older.tag}"}
    first = send_study(entity, receiver, tmp_path, "before")
    address = made.address(NAME)
    with old_pods_end_well(entity, tmp_path), made.paced_sender(address, TITLE, "upgrade") as sender:
        sender.goes_on()
        made.install()
        eventually(
            lambda: images(entity) == {f"localhost/aegate/scp:{made.lab.tag}"} and entity.is_effective(),
            deadline_s=300,
            what=lambda: f"the listener is of this version: {entity.conditions()}",
        )
        sender.goes_on()
        second = send_study(entity, receiver, tmp_path, "meanwhile")
    made.until_indexed({first: IMAGES, second: IMAGES})
    made.until_nothing_is_lost()


def test_uninstall_and_back_under_another_name(entity: Edited, receiver: StoreSCP, tmp_path: Path) -> None:
    made, before = entity.hospital, images(entity)
    with made.api() as client:
        known = studies(client)
    with made.paced_sender(made.address(NAME), TITLE, "uninstalled") as sender:
        sender.goes_on()
        made.helm("uninstall", RELEASE, "--wait")
        sender.goes_on()
        with made.paced_sender(made.address(NAME), TITLE, "nobody is there") as second:
            second.goes_on()
        made.install("--take-ownership", *sets("adopt=true"), release=OTHER)
        eventually(entity.is_effective, deadline_s=180, what=lambda: str(entity.conditions()))
        sender.goes_on()
        back = send_study(entity, receiver, tmp_path, "after it came back")
    assert images(entity) == before
    made.until_indexed({**known, back: IMAGES}, release=OTHER)
    made.until_nothing_is_lost()


@pytest.mark.full
def test_uninstall_and_back_under_the_same_name(entity: Edited, receiver: StoreSCP, tmp_path: Path) -> None:
    """What outlives a release is its own when it comes back: nothing has to be told."""
    made, before = entity.hospital, entity.pods()
    children = made.uids(*CHILDREN)
    with made.api(OTHER) as client:
        known = studies(client)
    with made.paced_sender(made.address(NAME), TITLE, "uninstalled again") as sender:
        sender.goes_on()
        made.helm("uninstall", OTHER, "--wait")
        sender.goes_on()
        made.install(release=OTHER)
        eventually(entity.is_effective, deadline_s=180, what=lambda: str(entity.conditions()))
        sender.goes_on()
        back = send_study(entity, receiver, tmp_path, "after it came back again")
    assert entity.pods() == before
    assert made.uids(*CHILDREN) == children
    made.until_indexed({**known, back: IMAGES}, release=OTHER)
    made.until_nothing_is_lost()
