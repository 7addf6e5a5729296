"""From a device outside the cluster, through real pods, to a receiver outside; and GraphQL tells the way."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.release.hospital import RELEASE, SYSTEM, Hospital, ask, received
from tests.dicom import ct_study, write
from tests.integration.peers import StoreSCP, store_scp
from tests.integration.waiting import eventually

CHILDREN = ("deployments", "services", "configmaps", "networkpolicies", "poddisruptionbudgets")
WAY = """query($uid: String!) {
  studies(first: 2, where: {studyInstanceUid: {eq: $uid}}) { nodes { studyInstanceUid } }
  queueItems(first: 9, where: {studyInstanceUid: {eq: $uid}}) { nodes { destinationAe state instancesDone } }
}"""


def test_study_goes_from_a_device_through_a_listener_of_its_own_to_its_receivers(
    example: Hospital, receivers: dict[str, StoreSCP], tmp_path: Path
) -> None:
    study = ct_study("of the emergency", 5)
    uid, sent = study[0].StudyInstanceUID, {ds.SOPInstanceUID: ds.PixelData for ds in study}
    files = [write(ds, tmp_path / f"{n}.dcm") for n, ds in enumerate(study)]

    example.send(example.address("ct-er"), "CT_ER", files)

    for name, receiver in receivers.items():
        eventually(lambda r=receiver: received(r, uid) == sent, deadline_s=120, what=f"{name} has it")  # type: ignore[misc]
    with example.api() as client:
        told = ask(client, WAY, uid=uid)
    assert [s["studyInstanceUid"] for s in told["studies"]["nodes"]] == [uid]
    items = {i["destinationAe"]: (i["state"], i["instancesDone"]) for i in told["queueItems"]["nodes"]}
    assert items == {
        f"{example.namespace}/pacs": ("COMPLETED", 5),
        f"{example.namespace}/ws-read-1": ("COMPLETED", 5),
    }


def test_a_device_is_refused_by_the_listener_of_another(example: Hospital, tmp_path: Path) -> None:
    file = write(ct_study("to the wrong door", 1)[0], tmp_path / "1.dcm")
    try:
        example.send(example.address("mr-1"), "CT_ER", [file])
    except AssertionError as refused:
        assert "Calling AE Title Not Recognized" in str(refused)
    else:
        raise AssertionError("MR_1's listener took an image of CT_ER")


def test_a_device_of_another_namespace_meets_the_same_worker_and_api(
    installed: Hospital, tmp_path: Path
) -> None:
    ward = installed.elsewhere("cardiology")
    study = ct_study("of another department", 2)
    uid, sent = study[0].StudyInstanceUID, {ds.SOPInstanceUID: ds.PixelData for ds in study}
    files = [write(ds, tmp_path / f"{n}.dcm") for n, ds in enumerate(study)]

    with store_scp(tmp_path, title="HEART") as heart:
        ward.add_ae("heart", port=heart.port)
        ward.add_ae("us-9", study={"quietPeriodSeconds": 1})
        ward.add_route("to-heart", source="us-9", to="heart")
        ward.wait_until_ready("us-9", "heart")
        ward.send(ward.address("us-9"), "US_9", files)
        eventually(lambda: received(heart, uid) == sent, deadline_s=120, what="its receiver has it")

    with installed.api() as client:
        told = ask(client, WAY, uid=uid)
    assert [i["destinationAe"] for i in told["queueItems"]["nodes"]] == [f"{ward.namespace}/heart"]
    assert [s["studyInstanceUid"] for s in told["studies"]["nodes"]] == [uid]


def test_devices_without_a_listener_of_their_own_share_a_pool(
    example: Hospital, receivers: dict[str, StoreSCP], tmp_path: Path
) -> None:
    for number in (1, 2):
        example.add_ae(f"xa-{number}", listener={"mode": "Shared"}, study={"quietPeriodSeconds": 1})
    example.wait_until_ready("xa-1", "xa-2")

    image = ct_study("through the pool", 1)[0]
    example.send(example.pool_address("default"), "XA_2", [write(image, tmp_path / "1.dcm")])

    sent = {image.SOPInstanceUID: image.PixelData}
    archive, uid = receivers["pacs"], image.StudyInstanceUID
    eventually(lambda: received(archive, uid) == sent, deadline_s=120, what="the archive has it")
    assert not [name for name in example.uids("deployments") if "xa-" in name]


def test_deleted_application_entity_takes_its_children_with_it_and_nothing_else(example: Hospital) -> None:
    before = example.uids(*CHILDREN)
    own = {name for name in before if name.endswith("/ae-us-cardio")}
    assert {name.partition("/")[0] for name in own} >= {"Deployment", "Service", "ConfigMap", "NetworkPolicy"}

    example.kubectl("delete", "applicationentity", "us-cardio")

    eventually(
        lambda: not own & example.uids(*CHILDREN).keys(),
        deadline_s=60,
        what="the children of us-cardio are gone",
    )
    after = example.uids(*CHILDREN)
    assert after == {name: uid for name, uid in before.items() if name not in own}


def test_helm_test_passes_and_leaves_no_application_entity(installed: Hospital) -> None:
    installed.helm("test", RELEASE, "--timeout=3m")
    left = installed.lab.get("applicationentities", f"--namespace={SYSTEM}")["items"]
    assert [ae["metadata"]["name"] for ae in left] == []
