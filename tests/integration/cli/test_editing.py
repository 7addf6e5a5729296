"""`aegate up` and its API, which changes the folder that it watches; and what dies between intent and outcome."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aegate_core.errors import PeerError
from tests.integration.cli.installations import Up, device, installation
from tests.integration.peers import StoreSCP
from tests.integration.processes import free_port
from tests.integration.waiting import eventually

PICKED_UP_S = 60
LIST = "{ applicationEntities { nodes { id name port comment version isStale } } }"
UPDATE = """
mutation($id: ID!, $port: Int!) {
  updateApplicationEntity(input: {id: $id, spec: {port: $port}}) {
    __typename
    ... on ApplicationEntityChanged { applicationEntity { version port } }
    ... on Problem { message }
  }
}
"""
CREATE = """
mutation {
  createApplicationEntity(input: {spec: {title: "MR_1", node: "127.0.0.1", port: 104}}) { __typename }
}
"""


VERIFY = """
mutation($id: ID!) {
  verifyApplicationEntity(id: $id) {
    ... on ApplicationEntityVerified { isAnswering trouble worker associationMs echoMs accepted { sopClass } }
    ... on Problem { code message }
  }
}
"""
C_ECHO = "1.2.840.10008.1.1"


def verify(up: Up, name: str) -> dict[str, Any]:
    answer: dict[str, Any] = up.ask(VERIFY, id=seen(up, name)["id"])["verifyApplicationEntity"]
    return answer


def seen(up: Up, name: str) -> dict[str, Any]:
    nodes = up.ask(LIST)["applicationEntities"]["nodes"]
    return next((node for node in nodes if node["name"] == name), {})


def audit(up: Up) -> list[tuple[str, str]]:
    with sqlite3.connect(f"file:{up.data / 'aegate.sqlite3'}?mode=ro", uri=True) as db:
        return db.execute("SELECT action, outcome FROM audit_event ORDER BY id").fetchall()


def test_what_the_api_writes_is_what_runs(tmp_path: Path) -> None:
    ct = "# the scanner\n" + device("ct1", more="  comment: room 4 # here\n")
    with installation(tmp_path, {"ct1.yaml": ct}) as up:
        before = seen(up, "ct1")
        assert before["isStale"] is False

        changed = up.ask(UPDATE, id=before["id"], port=11112)["updateApplicationEntity"]
        up.ask(CREATE)

        eventually(lambda: seen(up, "mr-1"), deadline_s=PICKED_UP_S, what="the new AE")
        after = eventually(
            lambda: (found := seen(up, "ct1"))["port"] == 11112 and found, deadline_s=PICKED_UP_S
        )
        assert after["version"] == changed["applicationEntity"]["version"]
        assert (up.folder / "ct1.yaml").read_text() == ct.replace("port: 104", "port: 11112")
        assert up.events("resource.refused") == []
        assert audit(up) == [
            ("updateApplicationEntity", "INTENT"),
            ("updateApplicationEntity", "DONE"),
            ("createApplicationEntity", "INTENT"),
            ("createApplicationEntity", "DONE"),
        ]


def test_a_device_is_asked_now(tmp_path: Path, start_store_scp: Callable[..., StoreSCP]) -> None:
    pacs = start_store_scp(title="PACS")
    folder = {"pacs.yaml": device("pacs", pacs.port), "ct1.yaml": device("ct1", free_port())}
    with installation(tmp_path, folder) as up:
        answers = verify(up, "pacs")
        assert (answers["isAnswering"], answers["trouble"]) == (True, None)
        assert C_ECHO in {context["sopClass"] for context in answers["accepted"]}
        assert len(answers["accepted"]) > 6
        assert min(answers["associationMs"], answers["echoMs"]) >= 0
        silent = verify(up, "ct1")
        assert silent["isAnswering"] is False
        assert silent["trouble"].startswith("CONNECT: ")
        assert audit(up) == [("verifyApplicationEntity", "DONE")] * 2


@pytest.mark.parametrize(
    ("step", "port", "outcome"), [("INTENT_RECORDED", 104, "FAILED"), ("RESOURCE_CHANGED", 11112, "DONE")]
)
def test_a_change_that_was_cut_off_is_settled_from_the_object(
    tmp_path: Path, step: str, port: int, outcome: str
) -> None:
    die_at = tmp_path / "die-at"
    die_at.write_text("never")
    environ = {"AEGATE_DIE_AT": str(die_at), "AEGATE_AUDIT_OPEN_S": "1"}
    with installation(tmp_path, {"ct1.yaml": device("ct1")}, environ=environ) as up:
        id = seen(up, "ct1")["id"]
        die_at.write_text(step)
        with pytest.raises((PeerError, OSError)):
            up.ask(UPDATE, id=id, port=11112)
        die_at.write_text("never")
        assert audit(up) == [("updateApplicationEntity", "INTENT")]

        eventually(lambda: len(audit(up)) == 2, deadline_s=PICKED_UP_S, what="the sweeper")

        assert audit(up)[1] == ("updateApplicationEntity", outcome)
        assert f"port: {port}\n" in (up.folder / "ct1.yaml").read_text()
        assert list(up.folder.glob(".*")) == []
