"""Images in a bucket instead of a claim, in real pods: from a device to the receivers, and retention."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.cluster.chart.rendering import sets
from tests.cluster.release.hospital import SYSTEM, Hospital, received
from tests.dicom import ct_study, write
from tests.integration.bucket_server import NAME, BucketServer, bucket_server
from tests.integration.peers import StoreSCP
from tests.integration.waiting import eventually

SECRET, LISTENERS = "aegate-bucket", ("ct-er", "mr-1", "us-cardio")


@pytest.fixture
def bucket(example: Hospital, tmp_path: Path) -> Iterator[BucketServer]:
    """The release keeps its images in a bucket for a test, and on its volume again after it."""
    with bucket_server(tmp_path / "s3", host=str(example.lab.plan.machine)) as server:
        for space in (SYSTEM, example.namespace):
            files = (f"--from-file={file}" for file in server.secret.iterdir())
            example.lab.kubectl("create", "secret", "generic", SECRET, *files, f"--namespace={space}")
        s3 = {"bucket": NAME, "endpoint": server.bucket.endpoint, "prefix": server.prefix}
        example.install(*sets(*(f"blobs.s3.{key}={value}" for key, value in s3.items())))
        _until_rolled(example, with_bucket=True)
        yield server
        example.install()
        _until_rolled(example, with_bucket=False)


def _until_rolled(example: Hospital, *, with_bucket: bool) -> None:
    def follows(name: str) -> bool:
        return ("AEGATE_S3_BUCKET" in json.dumps(example.get("deployment", f"ae-{name}"))) is with_bucket

    for name in LISTENERS:
        eventually(partial(follows, name), deadline_s=120, what=f"the Deployment of {name} follows")
        example.kubectl("rollout", "status", f"deployment/ae-{name}", "--timeout=180s")
    # A worker of before looks for the images where they no longer are, and waits before it looks again.
    worker = ("rollout", "status", "deployment/aegate-worker", f"--namespace={SYSTEM}", "--timeout=180s")
    example.lab.kubectl(*worker)
    example.wait_until_ready(*LISTENERS)


def test_images_go_through_a_bucket_and_no_pod_mounts_a_claim_of_them(
    example: Hospital, receivers: dict[str, StoreSCP], bucket: BucketServer, tmp_path: Path
) -> None:
    study = ct_study("by the bucket", 5)
    uid, sent = study[0].StudyInstanceUID, {ds.SOPInstanceUID: ds.PixelData for ds in study}
    files = [write(ds, tmp_path / f"{n}.dcm") for n, ds in enumerate(study)]

    example.send(example.address("ct-er"), "CT_ER", files)

    for name, receiver in receivers.items():
        eventually(lambda r=receiver: received(r, uid) == sent, deadline_s=120, what=f"{name} has it")  # type: ignore[misc]
    assert len(bucket.names()) == 5
    for space in (SYSTEM, example.namespace):
        pods = example.lab.get("pods", "--field-selector=status.phase=Running", f"--namespace={space}")
        ours = [pod for pod in pods["items"] if "deletionTimestamp" not in pod["metadata"]]
        assert ours
        assert "aegate-blobs" not in json.dumps([pod["spec"]["volumes"] for pod in ours])
    job = ("job/by-hand", f"--namespace={SYSTEM}")
    example.lab.kubectl("create", "job", "by-hand", "--from=cronjob/aegate-retention", job[1])
    example.lab.kubectl("wait", *job, "--for=condition=complete", "--timeout=120s")
    assert len(bucket.names()) == 5
