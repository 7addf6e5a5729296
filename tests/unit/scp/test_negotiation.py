"""The answers table of an A-ASSOCIATE-RQ, row by row, and the choice of transfer syntax."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
)

from aegate_core.decisions.listener_config import ListenerEntity
from aegate_core.dicom.ae_title import AETitle
from aegate_core.dicom.identifiers import ResourceKey
from aegate_scp.negotiation import (
    Directory,
    Load,
    Reason,
    Rejection,
    Request,
    choose_transfer_syntax,
    normalised_request,
    parse_address,
    read_request,
)

NODE = ipaddress.ip_address("10.0.0.7")
OTHER = ipaddress.ip_address("10.0.0.8")
ADDRESSES = {"10.0.0.7": frozenset({NODE}), "ct.example": frozenset({NODE})}
CT1 = ResourceKey("default", "ct1")
IDLE = Load({})


def entity(name: str = "ct1", **values: Any) -> ListenerEntity:
    defaults: dict[str, Any] = {
        "title": AETitle(name.upper()),
        "node": "10.0.0.7",
        "called_title": AETitle("AEGATE"),
    }
    return ListenerEntity(ResourceKey("default", name), **defaults | values)


def request(calling: str = "CT1", called: str = "AEGATE", address: Any = NODE) -> Request:
    return Request(called, calling, address)


def test_ae_that_calls_from_its_node_is_admitted() -> None:
    assert Directory([entity()]).admit(request(), ADDRESSES, IDLE) == entity()


def test_unknown_calling_title_is_rejected() -> None:
    verdict = Directory([entity()]).admit(request(calling="CT2"), ADDRESSES, IDLE)

    assert verdict == Rejection(Reason.UNKNOWN_CALLING_TITLE)
    assert isinstance(verdict, Rejection)
    assert verdict.answer == (1, 1, 3)
    assert verdict.encode() == bytes.fromhex("03000000000400010103")


def test_wrong_source_address_is_answered_like_an_unknown_title() -> None:
    verdict = Directory([entity()]).admit(request(address=OTHER), ADDRESSES, IDLE)

    assert verdict == Rejection(Reason.WRONG_SOURCE_ADDRESS, CT1)
    assert isinstance(verdict, Rejection)
    assert verdict.answer == (1, 1, 3)


def test_any_address_may_call_when_the_node_is_not_verified() -> None:
    ct1 = entity(verify_node=False)

    assert Directory([ct1]).admit(request(address=OTHER), {}, IDLE) == ct1


def test_host_name_matches_the_addresses_it_resolves_to() -> None:
    ct1 = entity(node="ct.example")

    assert Directory([ct1]).nodes == {"ct.example"}
    assert Directory([ct1]).admit(request(), ADDRESSES, IDLE) == ct1
    assert Directory([ct1]).admit(request(), {}, IDLE) == Rejection(Reason.WRONG_SOURCE_ADDRESS, CT1)


def test_source_ranges_stand_instead_of_the_node() -> None:
    ct1 = entity(source_ranges=("10.0.0.8/32", "fd00::/8"))
    directory = Directory([ct1])

    assert directory.nodes == set()
    assert directory.admit(request(address=OTHER), ADDRESSES, IDLE) == ct1
    assert directory.admit(request(address=ipaddress.ip_address("fd00::1")), ADDRESSES, IDLE) == ct1
    assert directory.admit(request(), ADDRESSES, IDLE) == Rejection(Reason.WRONG_SOURCE_ADDRESS, CT1)


def test_wrong_called_title_is_rejected_when_it_is_verified() -> None:
    verdict = Directory([entity(verify_called_title=True)]).admit(request(called="ARCHIVE"), ADDRESSES, IDLE)

    assert verdict == Rejection(Reason.WRONG_CALLED_TITLE, CT1)
    assert isinstance(verdict, Rejection)
    assert verdict.answer == (1, 1, 7)


@pytest.mark.parametrize("called", ["AEGATE", "aegate"])
def test_called_title_is_compared_without_regard_to_case(called: str) -> None:
    ct1 = entity(verify_called_title=True)

    assert Directory([ct1]).admit(request(called=called), ADDRESSES, IDLE) == ct1


def test_called_title_does_not_matter_unless_it_is_verified() -> None:
    assert Directory([entity()]).admit(request(called=""), ADDRESSES, IDLE) == entity()


def test_congestion_is_transient() -> None:
    verdict = Directory([entity()]).admit(request(), ADDRESSES, Load({}, is_congested=True))

    assert verdict == Rejection(Reason.CONGESTION, CT1)
    assert isinstance(verdict, Rejection)
    assert verdict.answer == (2, 3, 1)


def test_ae_at_its_limit_is_rejected_and_another_is_not() -> None:
    directory = Directory([entity(max_associations=2), entity("us1")])

    verdict = directory.admit(request(), ADDRESSES, Load({CT1: 2}))

    assert verdict == Rejection(Reason.LOCAL_LIMIT, CT1)
    assert isinstance(verdict, Rejection)
    assert verdict.answer == (2, 3, 2)
    assert directory.admit(request(), ADDRESSES, Load({CT1: 1})) == entity(max_associations=2)
    assert directory.admit(request(calling="US1"), ADDRESSES, Load({CT1: 2})) == entity("us1")


def test_stranger_learns_nothing_about_load() -> None:
    load = Load({CT1: 99}, is_congested=True)

    verdict = Directory([entity()]).admit(request(calling="X"), ADDRESSES, load)

    assert verdict == Rejection(Reason.UNKNOWN_CALLING_TITLE)


def test_exact_title_goes_before_one_of_another_case() -> None:
    upper, lower = entity("a", title=AETitle("CT")), entity("b", title=AETitle("ct"))
    directory = Directory([upper, lower])

    assert directory.admit(request(calling="ct"), ADDRESSES, IDLE) == lower
    assert directory.admit(request(calling="CT"), ADDRESSES, IDLE) == upper
    assert directory.admit(request(calling="Ct"), ADDRESSES, IDLE) == upper


def test_two_aes_of_one_title_are_told_apart_by_address() -> None:
    here = entity("a", title=AETitle("CT"))
    there = entity("b", title=AETitle("CT"), source_ranges=("10.0.0.8/32",))
    directory = Directory([here, there])

    assert directory.admit(request(calling="CT"), ADDRESSES, IDLE) == here
    assert directory.admit(request(calling="CT", address=OTHER), ADDRESSES, IDLE) == there


def pdu(called: bytes, calling: bytes) -> bytes:
    return bytes(10) + called + calling + b"the rest"


@pytest.mark.parametrize(
    ("called", "calling"),
    [
        (b"AEGATE          ", b"CT1             "),
        (b"AEGATE".ljust(16, b"\0"), b"CT1".ljust(16, b"\0")),
        (b"  AEGATE  \0\0\0\0\0\0", b" CT1 \0          "),
    ],
)
def test_padding_of_titles_is_dropped(called: bytes, calling: bytes) -> None:
    raw = pdu(called, calling)
    found = read_request(raw, NODE)

    assert (found.called, found.calling) == ("AEGATE", "CT1")
    assert normalised_request(raw, found) == pdu(b"AEGATE          ", b"CT1             ")


@given(called=st.binary(min_size=16, max_size=16), calling=st.binary(min_size=16, max_size=16))
def test_any_bytes_as_titles_become_titles_that_can_be_logged_and_decoded(
    called: bytes, calling: bytes
) -> None:
    raw = pdu(called, calling)
    found = read_request(raw, NODE)
    normalised = normalised_request(raw, found)

    assert len(normalised) == len(raw)
    assert normalised[42:] == b"the rest"
    for title in (normalised[10:26].decode("ascii"), normalised[26:42].decode("ascii")):
        assert title.isprintable()
        assert title.strip()
        assert "\\" not in title


@pytest.mark.parametrize(
    ("host", "expected"),
    [("10.0.0.7", "10.0.0.7"), ("::ffff:10.0.0.7", "10.0.0.7"), ("fe80::1%eth0", "fe80::1"), ("::1", "::1")],
)
def test_peer_addresses_are_compared_in_one_form(host: str, expected: str) -> None:
    assert parse_address(host) == ipaddress.ip_address(expected)


@pytest.mark.parametrize(
    ("proposed", "chosen"),
    [
        ([ImplicitVRLittleEndian], ImplicitVRLittleEndian),
        ([ImplicitVRLittleEndian, ExplicitVRLittleEndian], ExplicitVRLittleEndian),
        ([ExplicitVRLittleEndian, ImplicitVRLittleEndian], ExplicitVRLittleEndian),
        ([JPEGBaseline8Bit, ExplicitVRLittleEndian], JPEGBaseline8Bit),
        ([ExplicitVRLittleEndian, JPEG2000Lossless], ExplicitVRLittleEndian),
        ([ImplicitVRLittleEndian, JPEGBaseline8Bit], ImplicitVRLittleEndian),
        ([ExplicitVRBigEndian, ImplicitVRLittleEndian], ExplicitVRBigEndian),
        ([DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian], DeflatedExplicitVRLittleEndian),
        (["1.2.840.113619.5.2", ImplicitVRLittleEndian], ImplicitVRLittleEndian),
        (["1.2.840.113619.5.2"], "1.2.840.113619.5.2"),
        ([], None),
    ],
)
def test_transfer_syntax_is_the_requestors_first_with_explicit_before_implicit(
    proposed: list[str], chosen: str | None
) -> None:
    assert choose_transfer_syntax(proposed) == chosen
