"""`aegate backup` beside a running `aegate up` while a device sends, and `aegate restore` of what it made."""

from __future__ import annotations

import threading
from pathlib import Path

from pydicom import dcmread

from tests import dicom
from tests.integration.cli.installations import QUICK, aegate, device, installation
from tests.integration.cli.test_fsck import never_run
from tests.integration.peers import run_dcmtk


def test_backup_of_a_running_installation_has_all_that_was_acknowledged_before(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    studies = {n: dicom.ct_study(f"study {n}", 20) for n in (1, 2)}
    for n, study in studies.items():
        for number, ds in enumerate(study):
            dicom.write(ds, folder / f"{n}-{number}.dcm")
    with installation(tmp_path, {"ct1.yaml": device("ct1", more=QUICK)}) as up:

        def send(n: int) -> None:
            files = sorted(folder.glob(f"{n}-*.dcm"))
            done = run_dcmtk("storescu", "-aet", "CT1", "127.0.0.1", str(up.dicom_port), *files)
            assert done.returncode == 0

        send(1)
        sending = threading.Thread(target=send, args=(2,))
        sending.start()
        made = aegate("backup", tmp_path / "target", "--data", up.data)
        sending.join()
        assert made.returncode == 0, made.stderr
        inside = aegate("backup", up.data / "target", "--data", up.data)
        assert (inside.returncode, "must lie outside of the data folder" in inside.stderr) == (2, True)

    restored = aegate("restore", tmp_path / "target", "--data", tmp_path / "restored")
    assert restored.returncode == 0, restored.stderr
    checked = aegate("fsck", "--data", tmp_path / "restored")
    assert (checked.returncode, "0 mended, 0 wrong" in checked.stdout) == (0, True), checked.stdout
    paths = [p for part in ("blobs", "spool") for p in (tmp_path / "restored" / part).rglob("*.dcm")]
    have = {str(dcmread(p, specific_tags=["SOPInstanceUID"]).SOPInstanceUID) for p in paths}
    assert {str(ds.SOPInstanceUID) for ds in studies[1]} <= have


def test_index_in_postgresql_is_refused_with_what_to_do(tmp_path: Path) -> None:
    never_run(tmp_path / "data")
    url = "postgres://nobody@127.0.0.1:1/none"
    done = aegate("backup", tmp_path / "target", "--data", tmp_path / "data", "--database", url)
    assert done.returncode == 2
    assert "run pg_dump first and copy the folder blobs after it" in done.stderr
    assert not (tmp_path / "target").exists()
