"""The audit reaches a real syslog server over TLS, in the form of PS3.15, however often that server is away."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from lxml import etree

from aegate_core.database import Database, DatabaseClock, open_database
from aegate_core.decisions.audit_message import AuditSource
from aegate_core.events import AUDIT_COLLECTOR_GONE
from aegate_core.services.audit import Area, Deed, record
from aegate_core.stores.index import audit_outbox
from aegate_scp.sink import Sink, SinkOptions
from aegate_scu.collector import CollectorAddress
from aegate_scu.exporting import AuditExport
from aegate_scu.metrics import WorkerMetrics
from tests.dicom import ct_study
from tests.integration.audit.syslog import SyslogServer, syslog_server
from tests.integration.identities import Authority
from tests.integration.scu.clinic import Clinic, clinic, entity, reaches
from tests.integration.waiting import eventually_async

SCHEMA = etree.RelaxNG(etree.parse(Path(__file__).parent / "audit_message.rng"))
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
CT1 = "ApplicationEntity:default/ct1"
CALLS = {"callingTitle": "CT1", "calledTitle": "AEGATE", "association": "0a1b2c3d"}


@pytest.fixture
def server(tmp_path: Path) -> SyslogServer:
    (tmp_path / "syslog").mkdir()
    return syslog_server(tmp_path / "syslog")


async def _through(db: Database) -> None:
    async def empty() -> bool:
        return await audit_outbox.count_waiting(db) == 0

    await eventually_async(empty, deadline_s=30, what="nothing waits for the collector")


async def _collected(here: Clinic, server: SyslogServer) -> None:
    await audit_outbox.set_collector(here.db, str(server.address), now=datetime.now(UTC))


def _event(message: ET.Element) -> tuple[str, str, str]:
    """Return code of the event, our action, and the outcome."""
    head = message.find("EventIdentification")
    assert head is not None
    event, kind = head.find("EventID"), head.findall("EventTypeCode")[-1]
    assert event is not None
    return event.attrib["csd-code"], kind.attrib["csd-code"], head.attrib["EventOutcomeIndicator"]


async def _study(db: Database) -> None:
    """Insert the study that a clinic's first queue item is of."""
    await db.execute(
        "INSERT INTO patient (id, partition, issuer, patient_id, unidentified_study_uid, name_alphabetic, "
        "name_ideographic, name_phonetic, birth_date, sex, search_text, source, created_at, updated_at) VALUES "
        "(1, 'default/default', 'HOSPITAL', '4711', '', '', '', '', '', '', '', 'DICOM', $1, $1)",
        NOW,
    )
    await db.execute(
        "INSERT INTO study (id, partition, study_instance_uid, patient_id, accession_number, study_id, study_date, "
        "study_time, description, referring_physician, modalities, document_type, source_ae, first_arrival_at, "
        "last_arrival_at, series_count, instance_count, size_bytes, search_text) VALUES (1, 'default/default', "
        "'2.25.1', 1, '', '', '', '', '', '', '[]', '', 'default/ct1', $1, $1, 0, 0, 0, '')",
        NOW,
    )


async def test_each_kind_of_row_arrives_as_a_message_of_the_standards_schema(
    database_url: str, tmp_path: Path, server: SyslogServer
) -> None:
    async with clinic(database_url, tmp_path) as here:
        await _collected(here, server)
        for deed in (
            Deed(
                "anna <&\x07ö>", "holdQueueItems", "QueueItem:1", detail={"reason": "why"}, address="10.1.2.3"
            ),
            Deed("ben", "updateApplicationEntity", "ApplicationEntity:a/b", "FAILED", area=Area.ENTITIES),
            Deed("cora", "readPatientData", "Operation:Studies", area=Area.ACCESS, address="ws1.example.org"),
            Deed(
                "listener",
                "refuseAssociation",
                "ApplicationEntity:default/ct1",
                "REFUSED",
                address="10.9.9.9",
                detail={"ae": "default/ct1", "callingTitle": "EVIL", "reason": "address"},
                area=Area.IMAGES,
            ),
            Deed("retention", "remove-images", "Study:999", area=Area.IMAGES),
            Deed("listener", "acceptAssociation", CT1, address="10.1.1.1", detail=CALLS, area=Area.IMAGES),
            Deed("listener", "endAssociation", CT1, detail=CALLS | {"instances": 3}, area=Area.IMAGES),
            Deed(
                "listener", "endAssociation", CT1, "FAILED", detail=CALLS | {"how": "idle"}, area=Area.IMAGES
            ),
            Deed(
                "worker", "callAssociation", CT1, "FAILED", detail={"error": "CONNECT: x"}, area=Area.IMAGES
            ),
        ):
            await record(here.db, deed, now=NOW)
        with server.running():
            source = AuditSource("aegate-test", "clinic")
            async with here.worker(collector=server.address, audit_source=source):
                await _through(here.db)
        lines, messages = server.lines(), server.messages()
        for _, msgid, text in lines:
            assert msgid == "DICOM+RFC3881"
            SCHEMA.assertValid(etree.fromstring(text.encode()))
        assert [_event(m) for m in messages] == [
            ("110100", "holdQueueItems", "0"),
            ("110113", "updateApplicationEntity", "8"),
            ("110112", "readPatientData", "0"),
            ("110113", "refuseAssociation", "4"),
            ("110105", "remove-images", "0"),
            ("110102", "acceptAssociation", "0"),
            ("110104", "endAssociation", "0"),
            ("110100", "endAssociation", "8"),
            ("110102", "callAssociation", "8"),
        ]
        assert [priority for priority, _, _ in lines] == [85, 83, 85, 84, 85, 85, 85, 83, 83]
        who = [m.findall("ActiveParticipant")[0].attrib for m in messages]
        assert who[0]["UserID"] == "anna <&ö>"
        assert (who[0]["NetworkAccessPointID"], who[0]["NetworkAccessPointTypeCode"]) == ("10.1.2.3", "2")
        assert (who[2]["NetworkAccessPointID"], who[2]["NetworkAccessPointTypeCode"]) == (
            "ws1.example.org",
            "1",
        )
        assert (who[3]["UserID"], who[3]["NetworkAccessPointID"]) == ("EVIL", "10.9.9.9")
        sources = {m.find("AuditSourceIdentification").attrib["AuditSourceID"] for m in messages}  # type: ignore[union-attr]
        assert sources == {"aegate-test"}


async def test_images_that_were_sent_are_told_with_study_patient_and_receiver(
    database_url: str, tmp_path: Path, server: SyslogServer
) -> None:
    async with clinic(database_url, tmp_path) as here:
        with Sink(SinkOptions(tmp_path / "sink")) as scp, server.running():
            await here.configure(entity(scp.port))
            await _study(here.db)
            item = await here.enqueue(*await here.store(*ct_study("s1", 2)))
            async with here.worker(collector=server.address):
                await reaches(here, item, "COMPLETED")
                await _through(here.db)
                rows = await here.db.fetch("SELECT action FROM audit_event")
                assert [r["action"] for r in rows] == ["callAssociation", "sendImages"]
        call, message = server.messages()
        assert _event(call) == ("110102", "callAssociation", "0")
        SCHEMA.assertValid(etree.fromstring(ET.tostring(message)))
        assert _event(message) == ("110104", "sendImages", "0")
        named = [o.attrib["ParticipantObjectID"] for o in message.findall("ParticipantObjectIdentification")]
        assert named == ["2.25.1", "4711^^^HOSPITAL"]
        count = message.find("ParticipantObjectIdentification/ParticipantObjectDescription/SOPClass")
        assert count is not None
        assert count.attrib["NumberOfInstances"] == "2"
        roles = [p.find("RoleIDCode").attrib["csd-code"] for p in message.findall("ActiveParticipant")]  # type: ignore[union-attr]
        assert roles == ["110153", "110152"]


async def test_what_the_collector_misses_waits_and_comes_once_it_is_back(
    database_url: str, tmp_path: Path, server: SyslogServer
) -> None:
    async with clinic(database_url, tmp_path) as here:
        await _collected(here, server)

        async def write(first: int, last: int) -> None:
            for n in range(first, last):
                await record(here.db, Deed("anna", "holdQueueItems", f"QueueItem:{n}"), now=NOW)

        async def said() -> str | None:
            found: Any = await here.db.fetch_value("SELECT last_error FROM audit_collector")
            return None if found is None else str(found)

        await write(0, 3)
        async with here.worker(collector=server.address) as worker:

            async def is_away() -> bool:
                return "does not take the audit" in (await said() or "")

            await eventually_async(is_away, deadline_s=20, what="the collector is away")
            assert worker.trouble() is None
            assert await audit_outbox.count_waiting(here.db) == 3
            with server.running():
                await _through(here.db)
                assert await said() is None
            await write(3, 6)
            await eventually_async(is_away, deadline_s=20, what="it is away again")
            with server.running():
                await _through(here.db)
        found = [
            m.find("ParticipantObjectIdentification").attrib["ParticipantObjectID"] for m in server.messages()
        ]  # type: ignore[union-attr]
        assert list(dict.fromkeys(found)) == [f"QueueItem:{n}" for n in range(6)]


async def test_nothing_waits_before_a_collector_is_known_and_two_workers_send_each_row_once(
    database_url: str, tmp_path: Path, server: SyslogServer
) -> None:
    async with clinic(database_url, tmp_path) as here:
        await record(here.db, Deed("anna", "before", "QueueItem:0"), now=NOW)
        assert await audit_outbox.count_waiting(here.db) == 0
        with server.running():
            async with (
                here.worker("w1", collector=server.address),
                here.worker("w2", collector=server.address),
            ):

                async def declared() -> bool:
                    return await here.db.fetch_value("SELECT count(*) FROM audit_collector") == 1

                await eventually_async(declared, what="the collector is known")
                for n in range(20):
                    await record(here.db, Deed("anna", "after", f"QueueItem:{n}"), now=NOW)
                await _through(here.db)
        assert [_event(m)[1] for m in server.messages()] == ["after"] * 20


class Moment:
    """A monotonic clock that the test moves."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


async def _export(here: Clinic, moment: Moment, collector: CollectorAddress | None) -> AuditExport:
    clock = DatabaseClock(moment)
    await clock.look(here.db)
    name = "with" if collector else "without"
    return AuditExport(here.db, clock, here.settings(name, collector=collector), WorkerMetrics())


async def test_worker_without_a_collector_leaves_what_waits_until_nobody_exports_for_a_day(
    database_url: str, tmp_path: Path, server: SyslogServer
) -> None:
    moment = Moment()
    async with clinic(database_url, tmp_path) as here:
        exporting = await _export(here, moment, server.address)
        await exporting.step()
        await record(here.db, Deed("anna", "holdQueueItems", "QueueItem:1"), now=NOW)
        await exporting.end()
        old = await _export(here, moment, None)
        for seconds, waiting in ((0, 1), (3600, 1), (86_000, 1), (86_500, 0)):
            moment.seconds = seconds
            await old.step()
            assert await audit_outbox.count_waiting(here.db) == waiting
        assert await here.db.fetch_value("SELECT count(*) FROM audit_collector") == 0


async def test_exporter_with_nothing_to_send_shows_a_sign_of_life(
    database_url: str, tmp_path: Path, server: SyslogServer
) -> None:
    moment = Moment()
    async with clinic(database_url, tmp_path) as here:
        exporting = await _export(here, moment, server.address)
        old = await _export(here, moment, None)
        for hour in range(50):
            moment.seconds = hour * 3600
            await exporting.step()
            await old.step()
        assert await here.db.fetch_value("SELECT worker FROM audit_collector") == "with"
        await record(here.db, Deed("anna", "holdQueueItems", "QueueItem:1"), now=NOW)
        assert await audit_outbox.count_waiting(here.db) == 1


async def test_exporter_whose_collector_was_struck_out_declares_it_again_and_says_so(
    database_url: str, tmp_path: Path, server: SyslogServer, caplog: pytest.LogCaptureFixture
) -> None:
    moment = Moment()
    async with clinic(database_url, tmp_path) as here:
        exporting = await _export(here, moment, server.address)
        await exporting.step()
        await here.db.execute("DELETE FROM audit_collector")
        caplog.clear()
        for seconds, declared in ((19, 0), (20, 1), (60, 1)):
            moment.seconds = seconds
            await exporting.step()
            assert await here.db.fetch_value("SELECT count(*) FROM audit_collector") == declared
        assert [getattr(r, "event", None) for r in caplog.records].count(AUDIT_COLLECTOR_GONE) == 1


async def test_collector_of_a_version_that_showed_no_life_gets_its_day_too(database_url: str) -> None:
    async with open_database(database_url) as db:
        await db.execute("INSERT INTO audit_collector (name) VALUES ('audit:6514')")
        for hours, left in ((0, 1), (23, 1), (25, 0)):
            await audit_outbox.set_collector(db, None, now=NOW + timedelta(hours=hours))
            assert await db.fetch_value("SELECT count(*) FROM audit_collector") == left


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("authority", "shows a certificate that is not valid for us"),
        ("no identity", "does not take the audit"),
        ("no file", "must be readable PEM files"),
        ("port", "Connect call failed"),
    ],
)
async def test_what_is_wrong_with_the_collector_is_said(
    tmp_path: Path, server: SyslogServer, sqlite_template: Path, wrong: str, said: str
) -> None:
    address: CollectorAddress = server.address
    if wrong == "authority":
        Authority.make(tmp_path / "other")
        address = replace(address, ca=tmp_path / "other" / "ca.crt")
    elif wrong == "no identity":
        address = replace(address, certificate=None, key=None)
    elif wrong == "no file":
        address = replace(address, ca=tmp_path / "absent.pem")
    else:
        address = replace(address, port=1)
    path = tmp_path / "index.sqlite3"
    path.write_bytes(sqlite_template.read_bytes())
    async with clinic(f"sqlite://{path}", tmp_path) as here:
        await audit_outbox.set_collector(here.db, str(address), now=datetime.now(UTC))
        await record(here.db, Deed("anna", "holdQueueItems", "QueueItem:1"), now=NOW)
        with server.running():
            async with here.worker(collector=address):

                async def told() -> bool:
                    error = await here.db.fetch_value("SELECT last_error FROM audit_collector")
                    return said in str(error)

                await eventually_async(told, deadline_s=20, what=f"it says {said}")
        assert server.lines() == []
        assert await audit_outbox.count_waiting(here.db) == 1
