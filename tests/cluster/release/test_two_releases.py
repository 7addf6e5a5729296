"""Two releases without rights to the cluster, side by side in real pods: each serves its own, and one goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cluster.chart.rendering import sets
from tests.cluster.lab.lab import Lab
from tests.cluster.lab.starting import LabSettings, keep_logs, running_lab
from tests.cluster.release.hospital import Hospital, ground, received, studies
from tests.cluster.release.test_end_to_end import CHILDREN
from tests.dicom import ct_study, write
from tests.integration.peers import StoreSCP, store_scp
from tests.integration.waiting import eventually

ROOT = Path(__file__).parents[3]
NAME, TITLE = "ct-1", "CT_1"
"""Of a device in each of the two hospitals: a title has one owner within a release."""
IMAGES = 3
RELEASES = ("east", "west")
pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def lab(say: Callable[[str], None], request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A cluster of their own: a release of the whole cluster would look after what is theirs."""
    with running_lab(LabSettings(nodes=1), say) as made:
        made.apply(ROOT / "crds")
        yield made
        if request.session.testsfailed:
            say(f"logs of the lab, because a test failed: {keep_logs(made)}")


@pytest.fixture(scope="module")
def receivers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, StoreSCP]]:
    """An archive for each release."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(store_scp(tmp_path_factory.mktemp(name), title="PACS"))
            for name in RELEASES
        }


@pytest.fixture(scope="module")
def hospitals(
    lab: Lab, receivers: dict[str, StoreSCP], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Hospital]]:
    """Both are installed and serve a device, which has the same title in both."""
    folder = tmp_path_factory.mktemp("two")
    with ground(lab, folder) as under, ExitStack() as stack:
        made = {}
        for name in RELEASES:
            (folder / name).mkdir()
            here = under.hospital(
                folder / name, f"radiology-{name}", system=f"pacs-{name}", release=f"{name}-aegate"
            )
            made[name] = stack.enter_context(here)
        for one in made.values():
            one.install(*_namespaced(one), until_ready=False)
        for name, one in made.items():
            one.add_ae(NAME, study={"quietPeriodSeconds": 1})
            one.add_ae("pacs", port=receivers[name].port, listener={"mode": "None"})
            one.add_route("to-pacs", source=NAME, to="pacs")
        for one in made.values():
            one.install(*_namespaced(one))
            one.wait_until_ready(NAME)
        yield made


def _namespaced(one: Hospital) -> tuple[str, ...]:
    watched = f"watchNamespaces={{{one.system},{one.namespace}}}"
    return sets(watched, "crds.install=false", "rbac.aggregate=false", "listener.spool.type=EmptyDir")


def _send(one: Hospital, receiver: StoreSCP, folder: Path, name: str) -> str:
    """Send a study and see it arrive whole; return its UID."""
    study = ct_study(name, IMAGES)
    sent = {str(ds.SOPInstanceUID): ds.PixelData for ds in study}
    one.send(one.address(NAME), TITLE, [write(ds, folder / name / f"{n}.dcm") for n, ds in enumerate(study)])
    uid = str(study[0].StudyInstanceUID)
    eventually(lambda: received(receiver, uid) == sent, deadline_s=180, what=f"{name} has arrived")
    return uid


def test_each_serves_its_own_and_touches_nothing_of_the_other(
    hospitals: dict[str, Hospital], receivers: dict[str, StoreSCP], tmp_path: Path
) -> None:
    sent = {name: _send(one, receivers[name], tmp_path, name) for name, one in hospitals.items()}

    assert {name: len(receiver.received()) for name, receiver in receivers.items()} == dict.fromkeys(
        RELEASES, IMAGES
    )
    for name, one in hospitals.items():
        with one.api() as client:
            assert studies(client) == {sent[name]: IMAGES}
        account = f"system:serviceaccount:{one.system}:"
        asked = [r for r in one.lab.audit() if r.user.startswith(account) and r.resource]
        assert asked
        assert {r.namespace for r in asked} <= {one.system, one.namespace}
        assert [r for r in asked if r.is_forbidden] == []


def test_nothing_of_theirs_is_the_clusters(hospitals: dict[str, Hospital], lab: Lab) -> None:
    kinds = "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings"
    found = lab.get(kinds, "--selector=app.kubernetes.io/part-of=aegate")["items"]
    assert [one["metadata"]["name"] for one in found] == []


def test_one_goes_and_the_other_works_on(
    hospitals: dict[str, Hospital], receivers: dict[str, StoreSCP], tmp_path: Path
) -> None:
    goes, stays = hospitals["east"], hospitals["west"]
    before = {one.release: one.uids(*CHILDREN) for one in (goes, stays)}
    with stays.paced_sender(stays.address(NAME), TITLE, "beside") as sender:
        sender.goes_on()
        goes.helm("uninstall", goes.release, "--wait")
        sender.goes_on()
        _send(stays, receivers["west"], tmp_path, "afterwards")
        stays.kubectl("delete", "service", f"ae-{NAME}")
        eventually(
            lambda: f"Service/ae-{NAME}" in stays.uids("services"),
            deadline_s=60,
            what="its operator is at work",
        )
        sender.goes_on()
    stays.until_nothing_is_lost()
    kept = {name: uid for name, uid in before[stays.release].items() if name != f"Service/ae-{NAME}"}
    assert kept.items() <= stays.uids(*CHILDREN).items()
    assert goes.uids(*CHILDREN) == before[goes.release], "listeners outlive their release"
