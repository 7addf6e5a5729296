"""`aegate retention` as people call it: beside a running `aegate up`, and on what it cannot be used on."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from pydicom.data import get_testdata_file

from tests.integration.cli.installations import QUICK, aegate, device, installation
from tests.integration.peers import run_dcmtk
from tests.integration.waiting import eventually

CT = Path(str(get_testdata_file("CT_small.dcm")))
PARTITION = """
apiVersion: aegate.dev/v1alpha1
kind: PatientPartition
metadata:
  name: default
spec:
  retention: {images: {days: 1, requireDelivered: false}, audit: {days: 30}}
"""


def test_images_go_from_a_running_installation_as_the_dry_run_said(tmp_path: Path) -> None:
    files = {"ct1.yaml": device("ct1", more=QUICK), "default.yaml": PARTITION}
    with installation(tmp_path, files) as up:
        sent = run_dcmtk("storescu", "-aet", "CT1", "-aec", "AEGATE", "127.0.0.1", str(up.dicom_port), CT)
        assert sent.returncode == 0
        [blob] = eventually(lambda: list(up.data.glob("blobs/*/*/*.dcm")), deadline_s=20)
        with sqlite3.connect(up.data / "aegate.sqlite3", timeout=20) as db:
            eventually(
                lambda: db.execute("SELECT 1 FROM close_unit WHERE closes = 1").fetchall(), deadline_s=20
            )
            db.execute("UPDATE study SET last_arrival_at = '2020-01-01 00:00:00+00:00'")
        db.close()
        said = aegate("retention", "--data", up.data, "--dry-run", "--output", "json")
        assert blob.exists()
        done = aegate("retention", "--data", up.data, "--output", "json")
        assert (said.returncode, done.returncode) == (0, 0), done.stderr
        would, did = json.loads(said.stdout), json.loads(done.stdout)
        assert (would.pop("dryRun"), did.pop("dryRun")) == (True, False)
        assert would == did
        assert did["partitions"]["default/default"]["images"] == 1
        assert did["auditKept"] == ["default/default"]
        assert not blob.exists()

        answer = up.ask(
            "{ studies { nodes { instanceCount series { instances { nodes { removedAt } } } } } }"
        )
        [study] = answer["studies"]["nodes"]
        assert study["instanceCount"] == 1
        assert study["series"][0]["instances"]["nodes"][0]["removedAt"] is not None
