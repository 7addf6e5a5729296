"""Addresses of nodes: looked up beside the hot path, kept when the name server is away."""

from __future__ import annotations

import ipaddress

from aegate_scp.negotiation import Address
from aegate_scp.resolution import NodeAddresses
from tests.integration.waiting import eventually

ONE, TWO = ipaddress.ip_address("10.0.0.1"), ipaddress.ip_address("10.0.0.2")


class NameServer:
    """Answers what it is told, or not at all."""

    def __init__(self, **names: Address) -> None:
        self.names = dict(names)

    def __call__(self, name: str) -> frozenset[Address]:
        if name not in self.names:
            raise OSError("no such name")
        return frozenset({self.names[name]})


def test_literal_addresses_and_names_are_known_at_once() -> None:
    nodes = NodeAddresses(NameServer(ct=ONE))

    nodes.watch(["ct", "10.0.0.2", "fd00::1", "nowhere"], timeout_s=10)

    assert nodes.known == {
        "ct": {ONE},
        "10.0.0.2": {TWO},
        "fd00::1": {ipaddress.ip_address("fd00::1")},
    }
    nodes.stop()


def test_name_that_is_not_watched_any_more_is_forgotten_and_the_others_are_kept() -> None:
    server = NameServer(ct=ONE, mr=TWO)
    nodes = NodeAddresses(server)
    nodes.watch(["ct", "mr"], timeout_s=10)
    server.names.clear()

    nodes.watch(["ct"], timeout_s=10)

    assert nodes.known == {"ct": {ONE}}
    nodes.stop()


def test_silent_name_server_does_not_hold_up_a_change_for_longer_than_allowed() -> None:
    def never(name: str) -> frozenset[Address]:
        eventually(lambda: released, deadline_s=20)
        return frozenset({ONE})

    released: list[bool] = []
    nodes = NodeAddresses(never)

    nodes.watch(["ct", "10.0.0.2"], timeout_s=0.05)

    assert nodes.known == {"10.0.0.2": {TWO}}
    released.append(True)
    eventually(lambda: nodes.known.get("ct") == {ONE})
    nodes.stop()


def test_name_without_an_answer_holds_up_no_other_name() -> None:
    released: list[bool] = []

    def resolve(name: str) -> frozenset[Address]:
        if name == "away":
            eventually(lambda: released, deadline_s=20)
            raise OSError("timed out")
        return frozenset({ONE})

    nodes = NodeAddresses(resolve)
    nodes.watch(["away", "ct"], timeout_s=0.05)
    eventually(lambda: nodes.known == {"ct": {ONE}})

    nodes.watch(["away", "ct", "mr"], timeout_s=0.05)

    eventually(lambda: nodes.known == {"ct": {ONE}, "mr": {ONE}})
    released.append(True)
    nodes.stop()


def test_name_that_is_none_is_an_answer_too() -> None:
    nodes = NodeAddresses(NameServer())

    nodes.watch(["nowhere"], timeout_s=10)

    assert nodes.known == {}
    nodes.stop()
