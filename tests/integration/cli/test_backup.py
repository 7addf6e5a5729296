"""`aegate backup` beside a running `aegate up` while a device sends, and `aegate restore` of what it made."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from pydicom import dcmread

from tests import dicom
from tests.integration.cli.installations import QUICK, aegate, device, installation
from tests.integration.peers import run_dcmtk
from tests.integration.postgres import PostgresServer
from tests.integration.waiting import eventually


def test_backup_of_a_running_installation_has_all_that_was_acknowledged_before(tmp_path: Path) -> None:
    back_up_and_restore(tmp_path, (), ())


def test_backup_with_postgresql_is_the_same(tmp_path: Path, postgres: PostgresServer) -> None:
    source, restored = postgres.create("backed_up"), postgres.create("brought_back")
    back_up_and_restore(tmp_path, ("--database", source), ("--database", restored))


def back_up_and_restore(tmp_path: Path, source: Sequence[str], restored_into: Sequence[str]) -> None:
    """Back up while a device sends; restore, and find all that was acknowledged before the backup began."""
    folder = tmp_path / "images"
    folder.mkdir()
    studies = {n: dicom.ct_study(f"study {n}", 20) for n in (1, 2)}
    for n, study in studies.items():
        for number, ds in enumerate(study):
            dicom.write(ds, folder / f"{n}-{number}.dcm")
    with installation(tmp_path, {"ct1.yaml": device("ct1", more=QUICK)}, more=tuple(source)) as up:

        def send(n: int) -> None:
            files = sorted(folder.glob(f"{n}-*.dcm"))
            done = run_dcmtk("storescu", "-aet", "CT1", "127.0.0.1", str(up.dicom_port), *files)
            assert done.returncode == 0

        send(1)
        sending = threading.Thread(target=send, args=(2,))
        sending.start()
        made = aegate("backup", tmp_path / "target", "--data", up.data, *source)
        sending.join()
        assert made.returncode == 0, made.stderr
        inside = aegate("backup", up.data / "target", "--data", up.data, *source)
        assert (inside.returncode, "must lie outside of the data folder" in inside.stderr) == (2, True)

    restored = aegate("restore", tmp_path / "target", "--data", tmp_path / "restored", *restored_into)
    assert restored.returncode == 0, restored.stderr
    checked = aegate("fsck", "--data", tmp_path / "restored", *restored_into)
    assert (checked.returncode, "0 mended, 0 wrong" in checked.stdout) == (0, True), checked.stdout
    paths = [p for part in ("blobs", "spool") for p in (tmp_path / "restored" / part).rglob("*.dcm")]
    have = {str(dcmread(p, specific_tags=["SOPInstanceUID"]).SOPInstanceUID) for p in paths}
    assert {str(ds.SOPInstanceUID) for ds in studies[1]} <= have


def test_what_a_cluster_has_is_backed_up_from_where_its_images_are_mounted(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    """As docs/operations/backup.md has it: a folder of VERSION and the mounted images, and the database."""
    source, restored = postgres.create("of_a_cluster"), postgres.create("of_a_cluster_again")
    images = [dicom.write(ds, tmp_path / f"{n}.dcm") for n, ds in enumerate(dicom.ct_study("s", 5))]
    with installation(tmp_path, {"ct1.yaml": device("ct1", more=QUICK)}, more=("--database", source)) as up:
        sent = run_dcmtk("storescu", "-aet", "CT1", "127.0.0.1", str(up.dicom_port), *images)
        assert sent.returncode == 0
        count = "SELECT count(*) FROM arrival"
        eventually(lambda: postgres.run(count, database="of_a_cluster") == "5", deadline_s=60)
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    (mounted / "VERSION").write_text("1\n")
    (mounted / "blobs").symlink_to(up.data / "blobs")  # a mount, on a cluster's storage

    checked = aegate("fsck", "--data", mounted, "--database", source)
    assert (checked.returncode, "5 images" in checked.stdout) == (0, True), checked.stdout + checked.stderr
    made = aegate("backup", tmp_path / "target", "--data", mounted, "--database", source)
    assert made.returncode == 0, made.stderr

    new = ("--data", tmp_path / "new", "--database", restored)
    again = aegate("restore", tmp_path / "target", *new)
    assert again.returncode == 0, again.stderr
    assert aegate("fsck", *new).returncode == 0
    assert len(list((tmp_path / "new/blobs").rglob("*.dcm"))) == 5
