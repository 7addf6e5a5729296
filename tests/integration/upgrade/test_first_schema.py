"""A data folder of the first schema opens in this version, whatever came since: nothing in it is lost or left behind.

``first-schema-*.tar.xz`` were written by the code that knew ``0001_initial`` alone and are never made anew. In each: a
study that the PACS got, one that waits for it, an ultrasound image that waits for a workstation, an object in
quarantine, and an image in the spool. The one of PostgreSQL has its index as ``index.sql``, plain text of pg_dump.
"""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest
from pydicom import dcmread

from aegate_core.database import ensure_schema
from tests.integration.cli.installations import QUICK, Up, aegate, device, installation
from tests.integration.peers import store_scp
from tests.integration.postgres import PostgresServer
from tests.integration.waiting import eventually

HERE = Path(__file__).parent
ROUTES = """
apiVersion: aegate.dev/v1alpha1
kind: ImageRoute
metadata: {name: ct-to-pacs}
spec: {from: {aes: [ct1]}, to: [pacs]}
---
apiVersion: aegate.dev/v1alpha1
kind: ImageRoute
metadata: {name: us-to-ws}
spec: {from: {aes: [us1]}, to: [ws1]}
"""
ITEMS = "{ queueItems { nodes { state } } }"


def unpack(url: str, root: Path, request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Put folder and index where they belong; return the options that name the database."""
    kind = url.partition(":")[0]
    with tarfile.open(HERE / f"first-schema-{kind}.tar.xz") as packed:
        packed.extractall(root, filter="data")
    root.chmod(0o700)
    if kind == "sqlite":
        return ()
    server: PostgresServer = request.getfixturevalue("postgres")
    psql = [server.binaries / "psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-h", server.folder, "-U", "aegate"]
    name = url.rpartition("@/")[2].partition("?")[0]
    subprocess.run([*psql, "-d", name, "-f", root / "index.sql"], check=True, capture_output=True, timeout=60)
    (root / "index.sql").unlink()
    return ("--database", url)


def states(up: Up) -> list[str]:
    return [item["state"] for item in up.ask(ITEMS)["queueItems"]["nodes"]]


async def test_data_folder_of_the_first_schema_opens_is_sound_and_sends_what_waits(
    tmp_path: Path, empty_database_url: str, request: pytest.FixtureRequest
) -> None:
    more = unpack(empty_database_url, tmp_path / "data", request)
    blobs = {p.name: p.read_bytes() for p in tmp_path.glob("data/blobs/*/*/*")}
    [spooled] = tmp_path.glob("data/spool/*/*/*/*.dcm")
    assert len(blobs) == 7

    early = aegate("fsck", "--data", tmp_path / "data", *more)
    assert early.returncode == 2
    assert "lacks 0002_retention: start `aegate up` once, which adds it" in early.stderr

    with store_scp(tmp_path, title="PACS") as pacs, store_scp(tmp_path, title="WS1") as ws1:
        manifests = {
            "ct1.yaml": device("ct1", more=QUICK),
            "us1.yaml": device("us1", more="  routeLevel: Image\n"),
            "pacs.yaml": device("pacs", pacs.port),
            "ws1.yaml": device("ws1", ws1.port),
            "routes.yaml": ROUTES,
        }
        with installation(tmp_path, manifests, more=more) as up:
            eventually(
                lambda: (len(pacs.received()), len(ws1.received())) == (3, 1),
                deadline_s=90,
                what="all is sent",
            )  # the study that waited and the image from the spool; the ultrasound image
            eventually(lambda: set(states(up)) == {"COMPLETED"}, deadline_s=90)

    url = more[1] if more else f"sqlite://{tmp_path / 'data' / 'aegate.sqlite3'}"
    await ensure_schema(url)
    sound = aegate("fsck", "--data", tmp_path / "data", *more)
    assert (sound.returncode, sound.stdout.splitlines()[-1].startswith("8 images of ")) == (0, True), (
        sound.stdout
    )
    kept = {p.name: p.read_bytes() for p in tmp_path.glob("data/blobs/*/*/*")}
    assert {name: kept[name] for name in blobs} == blobs
    assert kept.keys() - blobs.keys() == {spooled.name}
    assert (
        dcmread(tmp_path / "data" / "blobs" / spooled.stem[-4:-2] / spooled.stem[-2:] / spooled.name).Modality
        == "CT"
    )
