"""Who is not let in, and that they harm nobody: rejections, slow and silent clients, malformed PDUs, no room."""

from __future__ import annotations

import resource
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from aegate_core.stores.spool import room_of
from tests import dicom, sentinel
from tests.integration.peers import run_dcmtk
from tests.integration.scp.listeners import RunningListener, associate, entity, running_listener
from tests.integration.scp.wires import (
    EXPLICIT,
    RELEASE_RQ,
    associate_rq,
    connected,
    element,
    item,
    pdu,
    pdv,
    store_rq,
)
from tests.integration.waiting import eventually


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningListener]:
    """One for all tests that must leave it as it was: nothing stored, nobody associated."""
    with running_listener(tmp_path_factory.mktemp("listener")) as running:
        yield running


def echo(listener: RunningListener, calling: str = "CT1", called: str = "AEGATE") -> str:
    """Return what echoscu says; empty when all went well."""
    done = run_dcmtk("echoscu", "-aet", calling, "-aec", called, "127.0.0.1", str(listener.port))
    return "" if done.returncode == 0 else done.stdout


def rejections(listener: RunningListener) -> list[tuple[Any, ...]]:
    fields = ("reason", "calling", "called", "peer", "result", "source", "diagnostic")
    return [tuple(e[f] for f in fields) for e in listener.events("association.rejected")]


def test_stranger_wrong_address_and_wrong_called_title_are_rejected_as_the_table_says(tmp_path: Path) -> None:
    entities = (
        entity(verify_called_title=True),
        entity("mr1", node="192.0.2.1"),
        entity("us1", source_ranges=("127.0.0.0/8",), node="192.0.2.1"),
    )
    with running_listener(tmp_path, *entities) as listener:
        assert "Calling AE Title Not Recognized" in echo(listener, calling="NOBODY")
        assert "Calling AE Title Not Recognized" in echo(listener, calling="MR1")
        assert "Called AE Title Not Recognized" in echo(listener, called="ARCHIVE")
        assert echo(listener) == ""
        assert echo(listener, calling="US1", called="WHATEVER") == ""

        assert rejections(listener) == [
            ("unknown_calling_title", "NOBODY", "AEGATE", "127.0.0.1", 1, 1, 3),
            ("wrong_source_address", "MR1", "AEGATE", "127.0.0.1", 1, 1, 3),
            ("wrong_called_title", "CT1", "ARCHIVE", "127.0.0.1", 1, 1, 7),
        ]
        name = "aegate_associations_rejected_total"
        assert listener.metric(name, ae="", reason="unknown_calling_title") == 1
        assert listener.metric(name, ae="default/mr1", reason="wrong_source_address") == 1
        assert listener.metric(name, ae="default/ct1", reason="wrong_called_title") == 1
        assert "NOBODY" not in listener.get("/metrics")[1]
        assert listener.arrivals() == []


def test_host_name_of_a_node_is_resolved(tmp_path: Path) -> None:
    with running_listener(
        tmp_path, entity(node="localhost"), entity("mr1", node="nowhere.invalid")
    ) as listener:
        assert echo(listener) == ""
        assert "Calling AE Title Not Recognized" in echo(listener, calling="MR1")


@pytest.mark.parametrize(
    ("calling", "called"),
    [
        (b"CT1".ljust(16, b"\0"), b"AEGATE".ljust(16, b"\0")),
        (b"  CT1".ljust(16), b" AEGATE \0".ljust(16)),
        (b"ct1".ljust(16), b"aegate".ljust(16)),
    ],
)
def test_padded_and_lower_case_titles_are_understood(tmp_path: Path, calling: bytes, called: bytes) -> None:
    with (
        running_listener(tmp_path, entity(verify_called_title=True)) as listener,
        connected(listener.port) as peer,
    ):
        peer.associate(calling=calling, called=called)
        peer.send(pdu(4, pdv(3, store_rq())) + pdu(4, pdv(2, b"ab")))
        assert peer.status() == 0x0000
        peer.send(RELEASE_RQ)
        assert peer.receive_pdu() == (6, bytes(4))

        (arrival,) = listener.arrivals()
        assert arrival.side.calling_title.casefold() == "ct1"
        assert str(arrival.side.ae) == "default/ct1"


@pytest.mark.parametrize(
    "title",
    [bytes(16), b" " * 16, b"\\..\\..\\etc\\passwd"[:16], b"\xff" * 16, b"\x1b[31mRED\r\n".ljust(16)],
)
def test_hostile_title_is_rejected_and_can_be_logged(listener: RunningListener, title: bytes) -> None:
    before = len(rejections(listener))
    with connected(listener.port) as peer:
        peer.send(associate_rq(calling=title, called=title))

        assert peer.receive_pdu() == (3, bytes((0, 1, 1, 3)))
        assert peer.receive_pdu() == (0, b"")
    assert [r[0] for r in rejections(listener)[before:]] == ["unknown_calling_title"]
    assert "\x1b" not in listener.log.read_text()


def test_hostile_called_title_does_not_matter_when_it_is_not_verified(listener: RunningListener) -> None:
    for title in (bytes(16), b"A\\B".ljust(16), b"\xff" * 16):
        with connected(listener.port) as peer:
            peer.associate(called=title)
            peer.send(RELEASE_RQ)
            assert peer.receive_pdu()[0] == 6


def test_one_association_too_many_is_rejected_until_one_ends(tmp_path: Path) -> None:
    with (
        running_listener(tmp_path, entity(max_associations=2), entity("us1")) as listener,
        ExitStack() as stack,
    ):
        first, second = (stack.enter_context(connected(listener.port)) for _ in range(2))
        first.associate()
        second.associate()

        assert "Local Limit Exceeded" in echo(listener)
        assert echo(listener, calling="US1") == ""
        assert listener.open_associations() == 2

        first.send(RELEASE_RQ)
        assert first.receive_pdu()[0] == 6
        assert echo(listener) == ""
        assert [r[0] for r in rejections(listener)] == ["local_limit_exceeded"]


def test_device_with_one_slot_may_call_again_as_soon_as_it_has_released(tmp_path: Path) -> None:
    with running_listener(tmp_path, entity(max_associations=1)) as listener:
        for _ in range(30):
            with connected(listener.port) as peer:
                peer.associate()
                peer.send(RELEASE_RQ)
                assert peer.receive_pdu()[0] == 6

        eventually(lambda: listener.open_associations() == 0)
        assert rejections(listener) == []


def test_silent_connections_hold_no_slot_and_delay_nobody(tmp_path: Path) -> None:
    with running_listener(tmp_path, entity(max_associations=1)) as listener, ExitStack() as stack:
        silent = [stack.enter_context(connected(listener.port)) for _ in range(16)]
        eventually(lambda: listener.metric("aegate_connections_pending") == 16)

        one_more = stack.enter_context(connected(listener.port))
        assert one_more.seconds_until_closed() < 5
        assert listener.metric("aegate_connections_refused_total", reason="too_many_pending") == 1

        silent.pop().sock.close()
        eventually(lambda: listener.metric("aegate_connections_pending") == 15)
        assert echo(listener) == ""


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        pdu(4, bytes(100)),
        pdu(1, bytes(4)),
        struct.pack(">BBL", 1, 0, 262145),
        struct.pack(">BBL", 1, 0, 0xFFFFFFFF),
    ],
)
def test_what_is_no_associate_request_is_aborted(listener: RunningListener, first: bytes) -> None:
    with connected(listener.port) as peer:
        peer.send(first)

        assert peer.receive_pdu() == (7, bytes((0, 0, 2, 2)))
        assert peer.receive_pdu() == (0, b"")
    assert echo(listener) == ""


def test_abort_instead_of_a_request_is_not_answered(listener: RunningListener) -> None:
    with connected(listener.port) as peer:
        peer.send(pdu(7, bytes(4)))

        assert peer.receive_pdu() == (0, b"")
    refused = eventually(lambda: [e["reason"] for e in listener.events("connection.refused")])
    assert refused[-1] == "peer_aborted"


@pytest.mark.parametrize(
    "message",
    [
        pdu(4, pdv(3, store_rq()) + pdv(0, b"ab", context_id=3)),
        pdu(4, pdv(0, b"data without a command")),
        pdu(4, pdv(3, store_rq()) + pdv(3, store_rq())),
        pdu(4, pdv(3, b"\x08\0\0\0\x04\0\0\0abcd")),
        pdu(4, pdv(1, bytes(16 * 1024)) + pdv(1, b"a")),
        pdu(4, struct.pack(">LBB", 1, 1, 3)),
        pdu(4, struct.pack(">LBB", 0xFFFFFFFF, 1, 0)),
        pdu(4, b"abc"),
        struct.pack(">BBL", 4, 0, 0xFFFFFFFF),
        struct.pack(">BBL", 4, 0, 131072 + 13),
        struct.pack(">BBL", 5, 0, 0x7FFFFFFF),
        pdu(9, b""),
        associate_rq(),
    ],
)
def test_malformed_pdu_aborts_its_association_alone(listener: RunningListener, message: bytes) -> None:
    with connected(listener.port) as peer:
        peer.associate()
        peer.send(message)

        assert peer.receive_pdu()[0] == 7
        assert peer.receive_pdu()[0] == 0
    eventually(lambda: listener.open_associations() == 0)
    assert listener.arrivals() == []
    assert listener.leftovers() == []
    assert listener.events("process.failed") == []
    assert echo(listener) == ""


@pytest.mark.parametrize("source", [0, 1, 2, 255])
def test_abort_is_an_abort_whatever_source_it_names(tmp_path: Path, source: int) -> None:
    with running_listener(tmp_path) as listener, connected(listener.port) as peer:
        peer.associate()
        peer.send(pdu(7, bytes((0, 0, source, 99))))

        assert peer.receive_pdu()[0] == 0
        (ended,) = eventually(lambda: listener.events("association.ended"))
        assert ended["how"] == "peer_aborted"
        assert listener.events("process.failed") == []


def test_broken_items_in_an_associate_request_abort_it_alone(listener: RunningListener) -> None:
    whole = associate_rq(extra=item(0x58, b"\xff"))
    cut = whole[:-6]
    for request in (whole, struct.pack(">BBL", 1, 0, len(cut) - 6) + cut[6:]):
        with connected(listener.port) as peer:
            peer.send(request)
            assert peer.receive_pdu()[0] == 7
    eventually(lambda: listener.open_associations() == 0)
    assert echo(listener) == ""


def test_instance_with_a_uid_that_is_none_is_refused_and_the_next_is_taken(tmp_path: Path) -> None:
    with running_listener(tmp_path) as listener, connected(listener.port) as peer:
        peer.associate()
        peer.send(pdu(4, pdv(3, store_rq(b"../../etc")) + pdv(2, b"ab")))
        assert peer.status() == 0x0117
        peer.send(pdu(4, pdv(3, store_rq(data_set_type=0x0101))))
        assert peer.status() == 0x0110
        peer.send(pdu(4, pdv(3, store_rq()) + pdv(2, b"ab")))
        assert peer.status() == 0x0000

        assert [a.side.sop_instance_uid for a in listener.arrivals()] == ["1.2.3.4"]
        assert listener.metric("aegate_instances_received_total", ae="default/ct1", status="0x0117") == 1


def test_abort_or_end_in_the_middle_of_an_object_leaves_nothing(tmp_path: Path) -> None:
    with running_listener(tmp_path) as listener:
        for last_words in (pdu(7, bytes(4)), b""):
            with connected(listener.port) as peer:
                peer.associate()
                peer.send(pdu(4, pdv(3, store_rq())) + pdu(4, pdv(0, bytes(100_000))))
                eventually(listener.leftovers)
                peer.send(last_words)
            eventually(lambda: not listener.leftovers())

        assert listener.arrivals() == []
        ended = eventually(lambda: len(e := listener.events("association.ended")) == 2 and e)
        assert [e["how"] for e in ended] == ["peer_aborted", "connection_lost"]


def test_idle_association_is_aborted(tmp_path: Path) -> None:
    with running_listener(tmp_path, entity(network_idle_s=1)) as listener, connected(listener.port) as peer:
        peer.associate()
        peer.send(pdu(4, pdv(3, store_rq()) + pdv(0, b"ab")))

        assert peer.receive_pdu()[0] == 7
        (ended,) = eventually(lambda: listener.events("association.ended"))
        assert ended["how"] == "idle"
        assert listener.leftovers() == []


def test_association_longer_than_allowed_is_aborted_though_busy(tmp_path: Path) -> None:
    with (
        running_listener(tmp_path, entity(longest_association_s=1)) as listener,
        connected(listener.port) as peer,
    ):
        peer.associate()
        peer.send(pdu(4, pdv(3, store_rq()) + pdv(0, b"ab")))

        assert peer.receive_pdu()[0] == 7
        (ended,) = eventually(lambda: listener.events("association.ended"))
        assert ended["how"] == "too_long"


def test_above_the_watermark_new_associations_and_new_objects_are_refused_until_there_is_room(
    tmp_path: Path,
) -> None:
    full = {"watermark_used_percent": -1.0, "watermark_free_bytes": 2**62}
    with running_listener(tmp_path) as listener, connected(listener.port) as peer:
        peer.associate()
        listener.configure(**full)
        eventually(lambda: listener.events("spool.congested"))

        assert "Temporary Congestion" in echo(listener)
        peer.send(pdu(4, pdv(3, store_rq()) + pdv(2, bytes(1000))))
        assert peer.status() == 0xA700
        assert listener.state.state == "degraded"
        assert listener.arrivals() == []
        assert listener.leftovers() == []

        listener.configure()
        eventually(lambda: listener.events("spool.room"))
        peer.send(pdu(4, pdv(3, store_rq()) + pdv(2, bytes(1000))))
        assert peer.status() == 0x0000
        assert echo(listener) == ""
        assert listener.metric("aegate_instances_received_total", ae="default/ct1", status="0xA700") == 1


def test_little_room_is_said_before_anything_is_refused(tmp_path: Path) -> None:
    with running_listener(tmp_path) as listener:
        used = room_of(listener.spool).used_percent
        listener.configure(watermark_used_percent=used + 5, watermark_free_bytes=2**62)
        (event,) = eventually(lambda: listener.events("spool.nearly_full"))
        assert event["used_percent"] == pytest.approx(used, abs=4)

        warning = "spool is nearly full: make room, or new associations will be refused"
        assert listener.get("/readyz") == (200, f"ok: {warning}\n")
        assert listener.metric("aegate_spool_nearly_full") == 1
        assert listener.metric("aegate_spool_congested") == 0
        assert echo(listener) == ""
        eventually(lambda: (listener.state.state, listener.state.message) == ("ready", warning))

        listener.configure(watermark_used_percent=used + 50, watermark_free_bytes=2**62)
        eventually(lambda: listener.events("spool.eased"))
        assert listener.get("/readyz") == (200, "ok\n")
        assert listener.events("spool.congested") == []


def test_disk_that_is_full_in_the_middle_of_an_object_gives_out_of_resources_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    with running_listener(tmp_path) as listener, connected(listener.port) as peer:
        peer.associate()
        _, hard = resource.prlimit(listener.child.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(listener.child.pid, resource.RLIMIT_FSIZE, (1_000_000, hard))

        peer.send(
            pdu(4, pdv(3, store_rq(b"1.1"))) + 30 * pdu(4, pdv(0, bytes(100_000))) + pdu(4, pdv(2, b"ab"))
        )
        assert peer.status() == 0xA700
        assert listener.leftovers() == []

        # The rest of it has gone by, and the next one is taken.
        peer.send(pdu(4, pdv(3, store_rq(b"1.2")) + pdv(2, b"ab")))
        assert peer.status() == 0x0000
        assert [a.side.sop_instance_uid for a in listener.arrivals()] == ["1.2"]
        (refused,) = listener.events("instance.refused")
        assert (refused["status"], "EFBIG" in refused["reason"]) == ("0xA700", True)


def test_spool_that_cannot_be_written_gives_out_of_resources(tmp_path: Path) -> None:
    with running_listener(tmp_path) as listener, connected(listener.port) as peer:
        peer.associate()
        # A file stands where the folder of the AE's namespace belongs: not even root can write there.
        (listener.spool / "default").write_text("")

        peer.send(pdu(4, pdv(3, store_rq()) + pdv(2, bytes(1000))))

        assert peer.status() == 0xA700
        assert listener.arrivals() == []
        (refused,) = listener.events("instance.refused")
        assert (refused["status"], "ENOTDIR" in refused["reason"] or "EEXIST" in refused["reason"]) == (
            "0xA700",
            True,
        )


def test_spool_that_is_gone_is_congestion_and_comes_back(tmp_path: Path) -> None:
    with running_listener(tmp_path) as listener:
        listener.spool.rename(tmp_path / "away")
        eventually(lambda: listener.events("spool.congested"))
        assert "Temporary Congestion" in echo(listener)

        (tmp_path / "away").rename(listener.spool)
        eventually(lambda: listener.events("spool.room"))
        assert echo(listener) == ""


def test_patient_data_of_a_refused_object_stays_out_of_log_and_metrics(tmp_path: Path) -> None:
    with running_listener(tmp_path) as listener:
        assoc = associate(listener.port, (CTImageStorage, [ExplicitVRLittleEndian]))
        (listener.spool / "default").write_text("")
        assert assoc.send_c_store(dicom.ct()).Status == 0xA700
        assoc.abort()
        with connected(listener.port) as peer:
            peer.associate()
            peer.send(pdu(4, pdv(3, store_rq()) + pdv(0, sentinel.PATIENT_NAME.encode())))
            # pydicom warns of a UID that is none, and quotes it.
            body = element(0x0002, sentinel.PATIENT_NAME.encode()) + element(0x0100, b"\x30\0")
            body += element(0x0110, b"\1\0") + element(0x0800, b"\1\1")
            with connected(listener.port) as other:
                other.associate()
                other.send(pdu(4, pdv(3, element(0, struct.pack("<L", len(body))) + body)))
                assert other.receive_pdu()[0] == 7
            name = element(0x0010, sentinel.PATIENT_NAME.encode())
            peer.send(pdu(4, pdv(3, name)))
            assert peer.receive_pdu()[0] == 7
        sentinel.assert_absent(listener.get("/metrics")[1], "the metrics")
        sentinel.assert_absent(listener.log.read_bytes(), "the log")


@pytest.mark.parametrize("syntaxes", [b"", item(0x30, b"")], ids=["none", "empty"])
def test_context_without_abstract_syntax_is_refused_alone(tmp_path: Path, syntaxes: bytes) -> None:
    nameless = item(0x20, b"\3\0\0\0" + syntaxes + item(0x40, EXPLICIT.encode()))
    with running_listener(tmp_path) as listener:
        with connected(listener.port) as peer:
            peer.send(associate_rq(contexts=nameless))
            kind, _ = peer.receive_pdu()
            assert kind == 2
            peer.send(pdu(4, pdv(3, store_rq()) + pdv(2, b"ab")))
            assert peer.status() == 0x0000
            peer.send(RELEASE_RQ)
            assert peer.receive_pdu()[0] == 6
        assert listener.events("process.failed") == []
        assert len(listener.arrivals()) == 1
