"""A listener of a pool: its AEs lie in files of a folder, each with a revision of its own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom.sop_class import Verification

from aegate_core.decisions.listener_config import ListenerEntity, entities_to_json
from tests.integration.peers import run_dcmtk
from tests.integration.scp.listeners import RunningListener, associate, entity, running_listener
from tests.integration.waiting import eventually


def tell(folder: Path, name: str, *entities: ListenerEntity) -> str:
    """Write a file of AEs in one step, as kubelet does; return its revision."""
    folder.mkdir(exist_ok=True)
    text = entities_to_json(entities)
    (folder / f"{name}.part").write_text(text)
    (folder / f"{name}.part").replace(folder / name)
    return hashlib.sha256(text.encode()).hexdigest()


def revisions(listener: RunningListener) -> dict[str, str]:
    found: dict[str, str] = json.loads(listener.get("/state")[1])["entities"]
    return found


def is_admitted(listener: RunningListener, title: str) -> bool:
    echo = run_dcmtk("echoscu", "-aet", title, "-aec", "AEGATE", "127.0.0.1", str(listener.port))
    return echo.returncode == 0


def test_aes_of_all_files_are_admitted_and_each_file_has_its_revision(tmp_path: Path) -> None:
    folder = tmp_path / "entities"
    told = {
        "000.json": tell(folder, "000.json", entity("ct1")),
        "001.json": tell(folder, "001.json", entity("mr1"), entity("mr2")),
    }
    environ = {"AEGATE_LISTENER_ENTITIES": str(folder)}
    with running_listener(tmp_path, entity("us1"), environ=environ) as listener:
        assert revisions(listener) == told
        assert [is_admitted(listener, t) for t in ("US1", "CT1", "MR1", "MR2", "XA1")] == [True] * 4 + [False]

        told["000.json"] = tell(folder, "000.json", entity("xa1"))
        told["002.json"] = tell(folder, "002.json")
        eventually(lambda: revisions(listener) == told, what="the changed file is in force")
        assert [is_admitted(listener, t) for t in ("CT1", "MR1", "XA1")] == [False, True, True]


def test_file_that_cannot_be_read_changes_nothing_and_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "entities"
    told = {"000.json": tell(folder, "000.json", entity("ct1"))}
    with running_listener(tmp_path, environ={"AEGATE_LISTENER_ENTITIES": str(folder)}) as listener:
        (folder / "001.json").write_text("[{]")
        eventually(lambda: json.loads(listener.get("/state")[1])["state"] == "degraded")
        assert "write them anew" in json.loads(listener.get("/state")[1])["message"]
        assert revisions(listener) == told
        assert is_admitted(listener, "CT1")


def test_ae_that_moves_between_files_is_in_both_for_a_while_and_counts_once(tmp_path: Path) -> None:
    folder = tmp_path / "entities"
    environ = {"AEGATE_LISTENER_ENTITIES": str(folder)}
    ae = entity("ct1", max_associations=1)
    tell(folder, "000.json", ae)
    with running_listener(tmp_path, entity("us1"), environ=environ) as listener:
        told = tell(folder, "001.json", ae)
        eventually(lambda: revisions(listener).get("001.json") == told)
        assoc = associate(listener.port, (Verification, [ImplicitVRLittleEndian]))
        assert assoc.is_established
        assert not is_admitted(listener, "CT1"), "it holds the one slot that there is"
        assoc.release()
        eventually(lambda: listener.open_associations() == 0)
        assert is_admitted(listener, "CT1")
        told = tell(folder, "000.json")
        eventually(lambda: revisions(listener).get("000.json") == told)
        assert is_admitted(listener, "CT1")


def test_folder_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    with running_listener(tmp_path, environ={"AEGATE_LISTENER_ENTITIES": str(folder)}) as listener:
        assert revisions(listener) == {}
        told = {"000.json": tell(folder, "000.json", entity("mr1"))}
        eventually(lambda: revisions(listener) == told, what="the file that came is in force")
        assert is_admitted(listener, "MR1")


def test_restriction_of_a_newer_operator_that_is_not_known_leaves_the_last_good_one_in_force(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "entities"
    good = tell(folder, "000.json", entity("ct1"))
    with running_listener(tmp_path, environ={"AEGATE_LISTENER_ENTITIES": str(folder)}) as listener:
        [line] = json.loads(entities_to_json([entity("mr1")]))
        (folder / "001.part").write_text(
            json.dumps([line | {"must_know": ["allowed_hours"], "allowed_hours": ""}])
        )
        (folder / "001.part").replace(folder / "001.json")

        [refused] = eventually(lambda: listener.events("listener.config_refused"))

        assert "got allowed_hours of a newer one: the last good one stays" in refused["error"]
        assert (is_admitted(listener, "CT1"), is_admitted(listener, "MR1")) == (True, False)
        assert revisions(listener) == {"000.json": good}
        assert json.loads(listener.get("/state")[1])["state"] == "degraded"


def test_lines_of_a_newer_operator_are_served_and_what_is_not_known_is_said_once(tmp_path: Path) -> None:
    folder = tmp_path / "entities"
    tell(folder, "000.json", entity("ct1"))
    with running_listener(tmp_path, environ={"AEGATE_LISTENER_ENTITIES": str(folder)}) as listener:
        for title in ("mr1", "mr2"):
            [line] = json.loads(entities_to_json([entity(title)]))
            text = json.dumps([line | {"newest": True}])
            (folder / "001.part").write_text(text)
            (folder / "001.part").replace(folder / "001.json")
            told = hashlib.sha256(text.encode()).hexdigest()
            eventually(lambda told=told: revisions(listener).get("001.json") == told)
            assert is_admitted(listener, title.upper())
        assert is_admitted(listener, "CT1")
        assert json.loads(listener.get("/state")[1])["state"] == "ready"
        assert [e["fields"] for e in listener.events("listener.config_fields_unknown")] == ["newest"]
