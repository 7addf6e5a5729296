"""A node is drained, and a node is lost: an association is only ever cut by the second, and no image by either."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.lab.control_plane import LOST_NODE_FLAGS
from tests.cluster.lab.starting import LabSettings, keep_logs, running_lab
from tests.cluster.release.edited import Edited, old_pods_end_well
from tests.cluster.release.hospital import RELEASE, Hospital, hospital
from tests.dicom import ct_study, write
from tests.integration.peers import run_dcmtk
from tests.integration.processes import process
from tests.integration.waiting import eventually

pytestmark = pytest.mark.full
NAME, TITLE = "ct-1", "CT_1"
OPERATOR = f"{RELEASE}-operator"


@pytest.fixture(scope="module")
def entity(
    say: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Edited]:
    """An AE of a hospital on two nodes of its own."""
    folder = tmp_path_factory.mktemp("nodes")
    with (
        running_lab(LabSettings(nodes=2, flags=LOST_NODE_FLAGS), say) as lab,
        hospital(lab, folder, "radiology") as made,
    ):
        made.install()
        made.add_ae(NAME)
        made.wait_until_ready(NAME)
        yield Edited(made, NAME)
        if request.session.testsfailed:
            say(f"logs of the lab, because a test failed: {keep_logs(lab)}")


def node_of(entity: Edited) -> int:
    """Return the number of the node that has the listener's pod: devices have to call that one; 0: none has."""
    there = [p for p in entity.live_pods() if "deletionTimestamp" not in p["metadata"]]
    names = {p["spec"].get("nodeName") for p in there}
    plan = entity.hospital.lab.plan
    return next((i for i in plan.node_numbers if plan.node_name(i) in names), 0)


def send_study(entity: Edited, folder: Path, name: str, images: int) -> tuple[str, int]:
    """Send a study, again and again until all of it is acknowledged; return its UID and how many images it has."""
    study = ct_study(name, images)
    files = [write(image, folder / name / f"{i}.dcm") for i, image in enumerate(study)]

    def is_sent() -> bool:
        if not (node := node_of(entity)):
            return False
        host, port = entity.hospital.address(NAME, node=node)
        return run_dcmtk("storescu", "-aet", TITLE, "-aec", "AEGATE", host, str(port), *files).returncode == 0

    eventually(is_sent, deadline_s=180, what=lambda: f"a device can send: {entity.conditions()}")
    return str(study[0].StudyInstanceUID), images


def test_a_drained_node_lets_its_associations_end(entity: Edited, tmp_path: Path) -> None:
    hospital, node = entity.hospital, node_of(entity)
    name = hospital.lab.plan.node_name(node)
    drain = ["kubectl", "drain", name, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=300s"]
    address = hospital.address(NAME, node=node)
    with old_pods_end_well(entity, tmp_path), hospital.paced_sender(address, TITLE, "drained") as sender:
        sender.goes_on()
        with process(drain, log=tmp_path / "drain.log", environ=hospital.lab.environ):
            eventually(
                lambda: any(ending for _, _, ending in entity.pods().values()),
                deadline_s=180,
                what="its pod is evicted",
            )
            sender.goes_on()
            eventually(
                lambda: node_of(entity) not in (0, node), deadline_s=120, what="another node has a pod"
            )
            eventually(entity.is_effective, deadline_s=180, what=entity.message)
            sender.goes_on()
            uid, images = send_study(entity, tmp_path, "elsewhere", 5)
            sender.stop()
            said = tmp_path / "drain.log"
            eventually(
                lambda: f"node/{name} drained" in said.read_text(), deadline_s=300, what="the node is drained"
            )
    hospital.lab.kubectl("uncordon", name)
    hospital.until_indexed({uid: images})
    hospital.until_nothing_is_lost()


def keep_operator_off(hospital: Hospital, node: int) -> None:
    """Have the operator on another node: what is lost is a listener, and who speaks of it is there."""
    name = hospital.lab.plan.node_name(node)
    hospital.lab.kubectl("cordon", name)
    hospital.scale(OPERATOR, 0)
    hospital.scale(OPERATOR, 1)
    hospital.lab.kubectl("uncordon", name)


def test_a_lost_node_loses_no_image(entity: Edited, tmp_path: Path) -> None:
    """What it has acknowledged and not indexed lies in the spool of a pod that is gone: another pod takes it over."""
    hospital, node = entity.hospital, node_of(entity)
    lab = hospital.lab
    keep_operator_off(hospital, node)
    hospital.database.stop()
    try:
        uid, images = send_study(entity, tmp_path, "before it was lost", 50)
        with hospital.never_hot():
            lab.node_kill(node)
            eventually(
                lambda: entity.says("Ready", "ListenerNotReady"),
                deadline_s=300,
                what=lambda: f"it is said that nobody listens: {entity.conditions()}",
            )
            eventually(
                lambda: node_of(entity) not in (0, node) and entity.is_effective(),
                deadline_s=300,
                what=lambda: f"another node has the listener: {entity.conditions()}",
            )
        second, more = send_study(entity, tmp_path, "after it was lost", 5)
    finally:
        hospital.database.start()
    lab.node_start(node)
    hospital.until_indexed({uid: images, second: more})
    eventually(entity.is_effective, deadline_s=180, what=entity.message)
