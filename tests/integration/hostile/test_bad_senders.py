"""Peers that send to us as no device should: what they take from us is bounded, and a good device does not feel it."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Callable
from contextlib import ExitStack, suppress
from io import BytesIO
from pathlib import Path

import pytest

from aegate_core.dicom.part10 import read_file_meta
from aegate_core.stores.spool import JOURNALS
from aegate_scp.server import MAX_PENDING
from tests.integration.hostile.objects import INDEXED, QUARANTINED
from tests.integration.hostile.silence import LEAST_SHARE, OBJECT, share_beside_silence, silent_sockets
from tests.integration.intake.hospital import Place
from tests.integration.processes import forget_peak, peak_rss_bytes
from tests.integration.scp.listeners import RunningListener, entity, running_listener
from tests.integration.scp.wires import (
    CT,
    RELEASE_RQ,
    Peer,
    associate_rq,
    connected,
    element,
    item,
    pdu,
    pdv,
    store_rq,
)
from tests.integration.waiting import eventually

SILENT = 200


def test_data_set_that_never_ends_stops_at_the_watermark_and_gives_its_room_back(tmp_path: Path) -> None:
    full = {"watermark_used_percent": -1.0, "watermark_free_bytes": 2**62}
    with running_listener(tmp_path) as listener, connected(listener.port) as peer:
        peer.associate()
        fragment = pdu(4, pdv(0, bytes(120_000)))
        peer.send(pdu(4, pdv(3, store_rq())) + fragment * 10)
        eventually(listener.leftovers)
        before = listener.rss_bytes()
        listener.configure(**full)

        def refused() -> bool:
            peer.send(fragment * 100)
            return bool(listener.events("instance.refused"))

        eventually(refused, deadline_s=30)
        assert listener.leftovers() == []
        peer.send(fragment * 100)
        assert listener.leftovers() == []
        assert listener.rss_bytes() - before < 16 << 20

        listener.configure()
        eventually(lambda: listener.events("spool.room"))
        peer.send(pdu(4, pdv(2, b"ab")))
        assert peer.status() == 0xA700
        assert listener.arrivals() == []
        peer.send(pdu(4, pdv(3, store_rq()) + pdv(2, b"ab")))
        assert peer.status() == 0x0000


def test_fragments_without_a_byte_in_them_cost_nothing_and_the_object_is_whole(tmp_path: Path) -> None:
    with running_listener(tmp_path) as listener, connected(listener.port) as peer:
        peer.associate()
        before = listener.rss_bytes()
        command = store_rq()
        peer.send(pdu(4, pdv(1, b"") * 10_000) * 10)
        peer.send(
            b"".join(pdu(4, pdv(1, command[n : n + 1])) for n in range(len(command))) + pdu(4, pdv(3, b""))
        )
        peer.send(pdu(4, pdv(0, b"") * 10_000) * 10)
        peer.send(pdu(4, (pdv(0, b"a") + pdv(0, b"")) * 5_000) * 4 + pdu(4, pdv(2, b"")))

        assert peer.status() == 0x0000
        (arrival,) = listener.arrivals()
        content = arrival.path.read_bytes()[arrival.side.data_offset :]
        assert content == b"a" * 20_000
        assert listener.rss_bytes() - before < 16 << 20


_BODY = element(0x0002, CT.encode()) + element(0x0100, b"\1\0") + element(0x0110, b"\7\0")


@pytest.mark.parametrize(
    "command",
    [
        element(0, struct.pack("<L", 0xFFFFFFF0))
        + _BODY
        + struct.pack("<HHL", 0, 0x0800, 0xFFFFFFFF)
        + b"\1\0",
        element(0, bytes(4)) + _BODY + struct.pack("<HHL", 0, 0x0800, 4) + b"\1\0",
        _BODY + struct.pack("<HHL", 0, 0x1000, 0x7FFFFFFF),
        _BODY + b"\0\0\0",
        struct.pack("<HHL", 0, 0x0100, 0),
        element(0x0100, b"\1") * 100,
        b"",
    ],
)
def test_command_set_that_lies_about_lengths_ends_its_association_alone(
    tmp_path: Path, command: bytes
) -> None:
    with running_listener(tmp_path) as listener, connected(listener.port) as peer:
        peer.associate()
        peer.send(pdu(4, pdv(3, command)))

        assert peer.receive_pdu()[0] == 7
        assert listener.arrivals() == []
        assert listener.events("process.failed") == []
        _stores(listener)


_CLOSED = 3
"""A context that nobody has accepted."""
_ENDLESS = {
    "request": (False, struct.pack(">BBL", 1, 0, 0xFFFFFFFF)),
    "data before a request": (False, struct.pack(">BBL", 4, 0, 0xFFFFFFFF)),
    "data": (True, struct.pack(">BBL", 4, 0, 0xFFFFFFFF)),
    "release": (True, struct.pack(">BBL", 5, 0, 0xFFFFFFFF)),
    "abort": (True, struct.pack(">BBL", 7, 0, 0xFFFFFFFF)),
    "of no kind": (True, struct.pack(">BBL", 9, 0, 0xFFFFFFFF)),
    "fragment": (True, struct.pack(">BBLLBB", 4, 0, 100_000, 0xFFFFFFFF, 1, 0)),
    "for a closed context": (True, pdu(4, pdv(3, store_rq())) + pdu(4, pdv(0, bytes(100_000), _CLOSED)) * 4),
    "command for a closed context": (True, pdu(4, pdv(1, bytes(100_000), _CLOSED)) * 4),
}
FLOOD_BYTES, _BLOCK = 64 << 20, bytes(1 << 20)


def test_pdus_of_4_gib_and_data_for_a_closed_context_cost_no_memory(tmp_path: Path) -> None:
    with running_listener(tmp_path) as listener:
        _stores(listener)
        pid = listener.child.pid
        for is_associated, said in _ENDLESS.values():
            forget_peak(pid)
            before = peak_rss_bytes(pid)
            with connected(listener.port) as peer:
                if is_associated:
                    peer.associate()
                peer.send(said)
                with suppress(ConnectionError):  # it hangs up
                    for _ in range(FLOOD_BYTES // len(_BLOCK)):
                        peer.send(_BLOCK)
            eventually(lambda: listener.open_associations() == 0)
            assert peak_rss_bytes(pid) - before < 8 << 20
        assert len(listener.arrivals()) == 1
        assert listener.leftovers() == listener.events("process.failed") == []
        _stores(listener)


def _stores(listener: RunningListener, calling: bytes = b"CT1") -> None:
    """See that a good device is served."""
    with connected(listener.port) as good:
        good.associate(calling=calling.ljust(16))
        good.send(OBJECT)
        assert good.status() == 0x0000
        good.send(RELEASE_RQ)
        assert good.receive_pdu()[0] == 6


ABORT = pdu(7, bytes(4))
_WHOLE = associate_rq()
STATES: dict[str, tuple[bytes, ...]] = {
    "connected": (),
    "half a request": (_WHOLE[:40],),
    "established": (_WHOLE,),
    "half a header": (_WHOLE, b"\4\0\0"),
    "half a command": (_WHOLE, pdu(4, pdv(1, store_rq()[:30]))),
    "command": (_WHOLE, pdu(4, pdv(3, store_rq()))),
    "half a data set": (_WHOLE, pdu(4, pdv(3, store_rq()) + pdv(0, bytes(9000)))),
    "half a fragment": (_WHOLE, pdu(4, pdv(3, store_rq())) + pdu(4, pdv(2, bytes(9000)))[:5000]),
    "answer unread": (_WHOLE, OBJECT),
    "release unread": (_WHOLE, RELEASE_RQ),
}


def test_end_in_every_state_leaves_nothing_and_the_slot_is_free(tmp_path: Path) -> None:
    with running_listener(tmp_path, entity(max_associations=1)) as listener:
        _stores(listener)  # from then on it holds the folder of the device open
        eventually(lambda: listener.open_associations() == 0)
        descriptors = _descriptors(listener)
        for last in (ABORT, b"", None):
            for said in STATES.values():
                with connected(listener.port) as peer:
                    for part in said:
                        peer.send(part)
                    if last is None:  # a reset: what a cable pulled and a device switched off look like
                        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    else:
                        peer.send(last)
                eventually(lambda: listener.open_associations() == 0)

        eventually(lambda: _descriptors(listener) <= descriptors)
        eventually(lambda: not listener.leftovers())
        assert listener.events("process.failed") == []
        _stores(listener)


def _descriptors(listener: RunningListener) -> int:
    """Count what it holds open, but for one file of its journal: open or not, as its last turn left it."""
    held = []
    for descriptor in Path(f"/proc/{listener.child.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it has closed it meanwhile
            held.append(str(descriptor.readlink()))
    return len(held) - any(f"/{JOURNALS}/" in path for path in held)


def test_half_a_pdu_and_then_silence_is_cut_and_one_byte_at_a_time_holds_up_nobody(tmp_path: Path) -> None:
    with (
        running_listener(tmp_path, entity(network_idle_s=1), entity("us1")) as listener,
        connected(listener.port) as stays,
        connected(listener.port) as trickles,
    ):
        stays.associate()
        stays.send(OBJECT[:50])
        trickles.associate(calling=b"US1".ljust(16))
        for byte in OBJECT[:40]:
            trickles.send(bytes((byte,)))
            _stores(listener)
        assert stays.seconds_until_closed() < 10
        trickles.send(OBJECT[40:])
        assert trickles.status() == 0x0000


def test_two_hundred_associations_at_once_are_served_and_one_more_is_told_to_wait(tmp_path: Path) -> None:
    with (
        running_listener(tmp_path, entity(max_associations=200), entity("us1")) as listener,
        ExitStack() as stack,
    ):
        before = listener.rss_bytes()
        peers: list[Peer] = []
        for _ in range(200):
            peers.append(stack.enter_context(connected(listener.port)))
            peers[-1].associate()
        with connected(listener.port) as one_more:
            one_more.send(_WHOLE)
            assert one_more.receive_pdu() == (3, bytes((0, 2, 3, 2)))
        for peer in peers:
            peer.send(OBJECT)
        assert {peer.status() for peer in peers} == {0x0000}
        assert listener.open_associations() == 200
        assert listener.rss_bytes() - before < 200 << 20  # a buffer and two threads each
        _stores(listener, b"US1")
        for peer in peers:
            peer.send(ABORT)
        eventually(lambda: listener.open_associations() == 0)
        assert len(listener.arrivals()) == 201


def test_request_of_128_contexts_of_many_syntaxes_is_answered_in_full(tmp_path: Path) -> None:
    syntaxes = b"".join(item(0x40, f"1.2.840.10008.1.2.4.{n}".encode()) for n in range(50, 90))
    contexts = b"".join(
        item(0x20, bytes((number, 0, 0, 0)) + item(0x30, CT.encode()) + syntaxes)
        for number in range(1, 256, 2)
    )
    whole = associate_rq()
    one, end = whole.index(b"\x20\0\0", 74), whole.index(b"\x50\0\0", 74)
    request = pdu(1, whole[6:one] + contexts + whole[end:])
    with running_listener(tmp_path) as listener, connected(listener.port) as peer:
        before = listener.rss_bytes()
        peer.send(request)
        kind, body = peer.receive_pdu()
        assert (kind, len(re.findall(rb"\x21\0\0[^\0]", body))) == (2, 128)
        assert listener.rss_bytes() - before < 32 << 20
        peer.send(RELEASE_RQ)
        assert peer.receive_pdu()[0] == 6


def test_two_hundred_silent_sockets_do_not_slow_a_good_device_down(tmp_path: Path) -> None:
    with running_listener(tmp_path, entity(max_associations=5)) as listener:
        assert share_beside_silence(listener, SILENT) >= LEAST_SHARE


def test_more_silent_sockets_than_may_wait_keep_no_device_out(tmp_path: Path) -> None:
    with running_listener(tmp_path) as listener, silent_sockets(listener.port, 2 * MAX_PENDING):
        for _ in range(5):
            _stores(listener)
        assert listener.metric("aegate_connections_pending") <= MAX_PENDING
        assert listener.metric("aegate_connections_refused_total", reason="too_many_pending") >= MAX_PENDING
        assert listener.events("process.failed") == []


OVER_THE_NETWORK: dict[str, Callable[[str], bytes]] = dict(list(INDEXED.items())[::2]) | {
    name: make
    for name, (_, make) in QUARANTINED.items()
    if name not in ("zero bytes", "no data set", "zeros", "no transfer syntax", "not deflated")
}
"""Every second of those that are indexed, and all that have a data set to send."""


async def test_hostile_objects_over_the_network_are_acknowledged_and_then_indexed_or_quarantined(
    place: Place, tmp_path: Path
) -> None:
    sent = {name: make(name) for name, make in sorted(OVER_THE_NETWORK.items())}
    with (
        running_listener(tmp_path, spool=str(tmp_path / "spool")) as listener,
        connected(listener.port) as peer,
    ):
        peer.associate()
        for number, content in enumerate(sent.values()):
            send_bare(peer, content, number)
            assert peer.status() == 0x0000
        arrivals = sorted(listener.arrivals(), key=lambda a: int(a.side.sop_instance_uid.split(".")[-1]))

    got = [a.path.read_bytes()[a.side.data_offset :] for a in arrivals]
    assert got == [content[_data_offset(content) :] for content in sent.values()]
    result = await place.index_some(arrivals, arrivals[0].side.received_at)
    assert len(sent) >= 20
    assert (result.arrivals, result.quarantined, result.left) == (
        len(sent),
        sum(1 for name in sent if name in QUARANTINED),
        (),
    )


def send_bare(peer: Peer, content: bytes, number: int) -> None:
    """Send the data set of a file, whatever it is."""
    peer.send(pdu(4, pdv(3, store_rq(b"1.2.3.%d" % number))))
    data_set = content[_data_offset(content) :]
    pieces = range(0, len(data_set), 100_000)
    for at in pieces:
        peer.send(pdu(4, pdv(2 if at == pieces[-1] else 0, data_set[at : at + 100_000])))


def _data_offset(content: bytes) -> int:
    return read_file_meta(BytesIO(content)).data_offset
