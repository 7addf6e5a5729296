"""Associations leave audit rows: written by a listener without a database, taken up by the indexer, each once."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from aegate_core.database import Database, as_json, open_database
from aegate_core.services.associations import take_up
from aegate_core.services.entities import apply_configuration
from aegate_core.stores.spool import JOURNALS, SpoolFolder
from tests import dicom
from tests.integration.intake.hospital import HOSPITAL
from tests.integration.peers import run_dcmtk
from tests.integration.scp.listeners import RunningListener, associate, entity, running_listener
from tests.integration.scp.wires import associate_rq, connected
from tests.integration.waiting import eventually, eventually_async

CT = (str(CTImageStorage), [str(ExplicitVRLittleEndian)])


def everybody(process: str) -> bool:
    return True


async def _rows(db: Database) -> list[Mapping[str, Any]]:
    return await db.fetch(
        "SELECT actor, action, target, outcome, address, area, partition, detail FROM audit_event "
        "WHERE action LIKE '%ssociation%' ORDER BY id"
    )


async def _taken_up(db: Database, spool: Path, count: int) -> list[Mapping[str, Any]]:
    async def are_there() -> bool:
        await take_up(db, spool, everybody)
        return len(await _rows(db)) >= count

    await eventually_async(are_there, deadline_s=20, what=f"{count} rows")
    return await _rows(db)


def _echo(listener: RunningListener, calling: str, called: str = "AEGATE") -> int:
    return run_dcmtk("echoscu", "-aet", calling, "-aec", called, "127.0.0.1", str(listener.port)).returncode


def _detail(row: Mapping[str, Any]) -> dict[str, Any]:
    found = as_json(row["detail"])
    assert isinstance(found, dict)
    return {k: v for k, v in found.items() if k not in ("association", "seconds", "sizeBytes")}


async def test_accepted_ended_and_refused_associations_are_rows_each_once(
    database_url: str, tmp_path: Path
) -> None:
    async with open_database(database_url) as db:
        await apply_configuration(db, list(HOSPITAL), now=await db.time())
        listeners = (entity(verify_called_title=True), entity("mr1", node="192.0.2.1"))
        with running_listener(tmp_path, *listeners) as listener:
            assert _echo(listener, "CT1") == 0
            assert _echo(listener, "NOBODY") != 0
            assert _echo(listener, "MR1") != 0
            assert _echo(listener, "CT1", "ARCHIVE") != 0
            assoc = associate(listener.port, CT)
            assert assoc.send_c_store(dicom.ct()).Status == 0
            assoc.release()
            rows = await _taken_up(db, listener.spool, 7)
        assert sorted((r["action"], r["target"], r["outcome"], r["partition"]) for r in rows) == [
            ("acceptAssociation", "ApplicationEntity:default/ct1", "DONE", "default/default"),
            ("acceptAssociation", "ApplicationEntity:default/ct1", "DONE", "default/default"),
            ("endAssociation", "ApplicationEntity:default/ct1", "DONE", "default/default"),
            ("endAssociation", "ApplicationEntity:default/ct1", "DONE", "default/default"),
            ("refuseAssociation", "ApplicationEntity:", "REFUSED", None),
            ("refuseAssociation", "ApplicationEntity:default/ct1", "REFUSED", "default/default"),
            ("refuseAssociation", "ApplicationEntity:default/mr1", "REFUSED", None),
        ]
        assert {(r["actor"], r["address"], r["area"]) for r in rows} == {("listener", "127.0.0.1", "IMAGES")}
        (received,) = [d for r in rows if (d := _detail(r)).get("instances") == 1]
        titles = {"callingTitle": "CT1", "calledTitle": "AEGATE", "ae": "default/ct1"}
        assert received == titles | {"how": "released", "instances": 1}
        (stranger,) = [_detail(r) for r in rows if r["target"] == "ApplicationEntity:"]
        assert stranger == {
            "reason": "unknown_calling_title",
            "callingTitle": "NOBODY",
            "calledTitle": "AEGATE",
            "count": 1,
        }


async def test_beginning_survives_a_kill_and_no_kill_makes_two_rows_of_it(
    database_url: str, tmp_path: Path
) -> None:
    async with open_database(database_url) as db:
        with running_listener(tmp_path) as listener:
            with connected(listener.port) as peer:
                peer.send(associate_rq())
                eventually(lambda: listener.events("association.accepted"), what="an association")
                listener.child.kill()
                listener.child.wait()
            spool = listener.spool
        shutil.copytree(spool / JOURNALS, tmp_path / "copy")
        for _ in range(2):  # as if the indexer had died between its commit and the file's end
            rows = await _taken_up(db, spool, 1)
            assert [r["action"] for r in rows] == ["acceptAssociation"]
            shutil.rmtree(spool / JOURNALS)
            shutil.copytree(tmp_path / "copy", spool / JOURNALS)
        await asyncio.gather(*(take_up(db, spool, everybody) for _ in range(3)))
        assert len(await _rows(db)) == 1


async def test_half_a_line_is_said_and_holds_nothing_up(database_url: str, tmp_path: Path) -> None:
    async with open_database(database_url) as db:
        with closing(SpoolFolder(tmp_path / "spool", "p1")):
            folder = tmp_path / "spool" / JOURNALS / "p1"
            folder.mkdir(parents=True)
            whole = b'{"happened":"MISSED","at":"2026-01-01T00:00:00+00:00","ae":null,"peer":"","detail":{"count":3}}'
            (folder / "a.done").write_bytes(whole + b"\n" + whole[:20])
            assert await take_up(db, tmp_path / "spool", everybody) == 1
            assert list(folder.iterdir()) == []
        row = await db.fetch_one("SELECT action, outcome, origin FROM audit_event")
        assert row is not None
        assert (row["action"], row["outcome"], row["origin"]) == ("missAssociations", "FAILED", "a:0")
