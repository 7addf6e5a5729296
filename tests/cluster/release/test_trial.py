"""The PostgreSQL that the chart runs for trials, in a real pod: made once with its roles, and there again after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.chart.rendering import sets
from tests.cluster.lab.images import POSTGRES, postgres_image
from tests.cluster.lab.starting import LabSettings, keep_logs, running_lab
from tests.cluster.release.hospital import RELEASE, Hospital, received, trial_hospital
from tests.dicom import ct_study, write
from tests.integration.peers import store_scp
from tests.integration.waiting import eventually

NAME, TITLE = "ct-1", "CT_1"
IMAGES = 3
DATABASE, CLASS, USER = f"{RELEASE}-trial-database", "trial", 999
VALUES = sets(
    "database.trial.enabled=true",
    "database.trial.password=it's a trial: 16 and more",
    f"database.trial.image={POSTGRES}",
    f"database.trial.storageClassName={CLASS}",
    "database.trial.size=1Gi",
)
pytestmark = pytest.mark.full


@pytest.fixture
def trial(say: Callable[[str], None], tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Hospital]:
    """A release with nothing but what its chart brings, and a volume for the database."""
    image = postgres_image()
    with running_lab(LabSettings(nodes=1), say) as lab, trial_hospital(lab, tmp_path) as made:
        lab.load(image)
        made.make_volume(CLASS, CLASS, storage_class=CLASS, owner=USER)
        made.install(*VALUES)
        yield made
        if request.session.testsfailed:
            say(f"logs of the lab, because a test failed: {keep_logs(lab)}")


def test_a_trial_needs_nothing_but_its_chart(trial: Hospital, tmp_path: Path) -> None:
    study = ct_study("on trial", IMAGES)
    uid, sent = str(study[0].StudyInstanceUID), {str(ds.SOPInstanceUID): ds.PixelData for ds in study}
    with store_scp(tmp_path, title="PACS") as receiver:
        trial.add_ae(NAME, study={"quietPeriodSeconds": 1})
        trial.add_ae("pacs", port=receiver.port, listener={"mode": "None"})
        trial.add_route("to-pacs", source=NAME, to="pacs")
        trial.wait_until_ready(NAME)
        files = [write(ds, tmp_path / f"{n}.dcm") for n, ds in enumerate(study)]
        trial.send(trial.address(NAME), TITLE, files)
        eventually(lambda: received(receiver, uid) == sent, deadline_s=180, what="the archive has it")

    trial.kubectl("delete", "pod", f"{DATABASE}-0")
    trial.kubectl("rollout", "status", f"statefulset/{DATABASE}", "--timeout=180s")
    trial.install(*VALUES)
    trial.until_indexed({uid: IMAGES})
