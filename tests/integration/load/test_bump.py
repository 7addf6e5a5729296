"""Fifty studies wait for one destination: what a person puts to the front is next, what they make urgent follows it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from aegate_scp.sink import Sink, SinkOptions
from tests import dicom
from tests.integration.cli.installations import QUICK, ROUTE, Up, device, installation
from tests.integration.peers import run_dcmtk
from tests.integration.waiting import eventually

STUDIES = 50
DESTINATIONS = "{ destinations { nodes { id ae } } }"
HOLD = "mutation($id: ID!) { holdDestination(id: $id) { __typename } }"
RESUME = "mutation($id: ID!) { resumeDestination(id: $id) { __typename } }"
BUMP = """
mutation($ids: [ID!]!) { bumpQueueItems(selection: {ids: $ids}) { ... on QueueItemsChanged { changedCount } } }
"""
URGENT = """
mutation($ids: [ID!]!) { setQueueItemPriority(selection: {ids: $ids}, priority: 100) {
  ... on QueueItemsChanged { changedCount } } }
"""
ITEMS = "{ queueItems(first: 100) { nodes { id state study { studyInstanceUid } whyNotMoving { code } } } }"


def send(up: Up, studies: Sequence[str], folder: Path) -> None:
    """Send one image of each study."""
    files = [
        dicom.write(dicom.ct(dicom.Instance(study=s)), folder / f"{n}.dcm") for n, s in enumerate(studies)
    ]
    to = ("-aet", "CT1", "-aec", "AEGATE", "127.0.0.1", str(up.dicom_port))
    assert run_dcmtk("storescu", *to, *files).returncode == 0


@pytest.mark.timeout(200)
def test_bumped_study_is_next_of_fifty(database_url: str, tmp_path: Path) -> None:
    names = [f"study {n}" for n in range(STUDIES)]
    with Sink(SinkOptions(tmp_path / "received", title="PACS")) as pacs:
        manifests = {
            "ct1.yaml": device("ct1", more=QUICK),
            "pacs.yaml": device("pacs", pacs.port, "  maxConnections: 1\n"),
            "route.yaml": ROUTE,
        }
        with installation(tmp_path, manifests, more=("--database", database_url)) as up:
            nodes = up.ask(DESTINATIONS)["destinations"]["nodes"]
            (pacs_id,) = [n["id"] for n in nodes if n["ae"] == "default/pacs"]
            up.ask(HOLD, id=pacs_id)
            send(up, names, tmp_path / "outgoing")
            waiting = eventually(lambda: all_wait(up), deadline_s=60, what="all studies wait")
            assert {w["whyNotMoving"]["code"] for w in waiting.values()} == {"DESTINATION_HELD"}
            bumped, urgent = (dicom.uid(n) for n in (names[-1], names[-2]))
            for mutation, study in ((URGENT, urgent), (BUMP, bumped)):
                changed = up.ask(mutation, ids=[waiting[study]["id"]])
                assert [c["changedCount"] for c in changed.values()] == [1]
            assert pacs.received == ()

            up.ask(RESUME, id=pacs_id)
            eventually(lambda: len(pacs.received) == STUDIES, deadline_s=90, what="all are sent")
            came = [r.sop_instance_uid for r in pacs.received]
    assert came[:2] == [image_of(names[-1]), image_of(names[-2])]
    assert sorted(came) == sorted(map(image_of, names))


def all_wait(up: Up) -> dict[str, dict[str, Any]] | None:
    """Return the items by study once all are there, all of them waiting."""
    nodes = up.ask(ITEMS)["queueItems"]["nodes"]
    found = {n["study"]["studyInstanceUid"]: n for n in nodes if n["state"] == "SCHEDULED"}
    return found if len(found) == STUDIES else None


def image_of(study: str) -> str:
    return str(dicom.ct(dicom.Instance(study=study)).SOPInstanceUID)
