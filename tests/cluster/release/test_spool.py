"""An ApplicationEntity is deleted while the database is away: what its device was told is kept, is kept."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.release.hospital import Hospital
from tests.dicom import Instance, ct, ct_study, write
from tests.integration.waiting import eventually

NAME, IMAGES = "ct-8", 50
LATE = "ct-11"
POLICY = f"NetworkPolicy/drain-ae-{NAME}"


def test_acknowledged_images_of_a_deleted_entity_are_indexed_before_its_claim_goes(
    installed: Hospital, tmp_path: Path
) -> None:
    installed.add_ae(NAME)
    installed.wait_until_ready(NAME)
    address = installed.address(NAME)
    study = ct_study("acknowledged and not indexed", IMAGES)
    files = [write(ds, tmp_path / f"{n}.dcm") for n, ds in enumerate(study)]

    installed.database.stop()
    try:
        installed.send(address, "CT_8", files)
        installed.kubectl("delete", "applicationentity", NAME)
        eventually(
            lambda: f"Job/ae-{NAME}-drain" in installed.uids("jobs"),
            deadline_s=180,
            what="a Job is there for what is left in the spool",
        )
        assert f"PersistentVolumeClaim/ae-{NAME}-spool" in installed.uids("persistentvolumeclaims")
        eventually(
            lambda: POLICY in installed.uids("networkpolicies"), deadline_s=60, what="nobody calls its pod"
        )
    finally:
        installed.database.start()

    eventually(
        lambda: f"PersistentVolumeClaim/ae-{NAME}-spool" not in installed.uids("persistentvolumeclaims"),
        deadline_s=300,
        what="the spool's claim is gone",
    )
    eventually(
        lambda: POLICY not in installed.uids("networkpolicies"), deadline_s=60, what="its policy goes with it"
    )
    uid = study[0].StudyInstanceUID
    indexed = installed.database.run(
        f"SELECT count(*) FROM arrival JOIN study ON study.id = arrival.study_id WHERE study_instance_uid = '{uid}'",
        database="aegate",
    )
    assert indexed == str(IMAGES)


def test_an_entity_made_while_the_database_is_away(installed: Hospital, tmp_path: Path) -> None:
    """Its listener is there and takes images, and the rows that tell API and workers of it follow."""
    installed.database.stop()
    try:
        installed.add_ae(LATE)
        installed.wait_until_ready(LATE)
        assert f"Deployment/ae-{LATE}" in installed.uids("deployments")
        image = ct(Instance(study="nobody knows its sender yet"))
        installed.send(installed.address(LATE), "CT_11", [write(image, tmp_path / "1.dcm")])
    finally:
        installed.database.start()

    titles = f"SELECT spec->>'title' FROM application_entity WHERE name = '{LATE}'"
    eventually(
        lambda: installed.database.run(titles, database="aegate") == "CT_11",
        deadline_s=180,
        what="the database knows it",
    )
    stored = f"SELECT ae FROM arrival WHERE sop_instance_uid = '{image.SOPInstanceUID}'"
    eventually(
        lambda: installed.database.run(stored, database="aegate") == f"{installed.namespace}/{LATE}",
        deadline_s=180,
        what="its image is indexed",
    )
    installed.kubectl("delete", "applicationentity", LATE)
