"""`aegate fsck` as people call it: beside a running `aegate up`, after it, and on what it cannot check."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from pydicom.data import get_testdata_file

from tests.integration.cli.installations import QUICK, aegate, device, installation
from tests.integration.cli.refused import never_run
from tests.integration.peers import run_dcmtk
from tests.integration.waiting import eventually

CT = Path(str(get_testdata_file("CT_small.dcm")))


def test_running_and_stopped_installation_are_checked_and_mended(tmp_path: Path) -> None:
    with installation(tmp_path, {"ct1.yaml": device("ct1", more=QUICK)}) as up:
        sent = run_dcmtk("storescu", "-aet", "CT1", "-aec", "AEGATE", "127.0.0.1", str(up.dicom_port), CT)
        assert sent.returncode == 0
        [blob] = eventually(lambda: list(up.data.glob("blobs/*/*/*.dcm")), deadline_s=20)

        running = aegate("fsck", "--data", up.data)
        assert running.returncode == 0, running.stdout
        assert "0 mended, 0 wrong" in running.stdout
        refused = aegate("fsck", "--data", up.data, "--repair")
        assert refused.returncode == 2
        assert "in use by another `aegate up`" in refused.stderr

    stray = blob.parent / f"{'0' * 28}{blob.stem[-4:]}.dcm"
    stray.write_bytes(blob.read_bytes())
    damaged = aegate("fsck", "--data", up.data)
    assert damaged.returncode == 1
    assert f"WRONG   BLOB_UNKNOWN  {stray.stem}: " in damaged.stdout
    young = aegate("fsck", "--data", up.data, "--repair", "--settled", "60")
    assert young.returncode == 0
    assert "1 put lately and without a row yet; " in young.stdout
    mended = aegate("fsck", "--data", up.data, "--repair", "--output", "json")
    assert mended.returncode == 0
    said = json.loads(mended.stdout)
    assert [(f["kind"], f["subject"]) for f in said["mended"]] == [("BLOB_UNKNOWN", stray.stem)]
    assert said["wrong"] == []
    assert said["summary"]["arrivals"] == 2
    blob.unlink()
    lost = aegate("fsck", "--data", up.data, "--no-digests")
    assert lost.returncode == 1
    assert f"WRONG   BLOB_MISSING  {blob.stem}: " in lost.stdout


def test_database_of_another_schema_is_refused(tmp_path: Path, empty_database_url: str) -> None:
    never_run(tmp_path / "data")
    if empty_database_url.startswith("sqlite://"):
        sqlite3.connect(empty_database_url.removeprefix("sqlite://")).execute("CREATE TABLE t (x)").close()
    done = aegate("fsck", "--data", tmp_path / "data", "--database", empty_database_url)
    assert done.returncode == 2
    assert "the database must be of this version, and lacks 0001_initial" in done.stderr
