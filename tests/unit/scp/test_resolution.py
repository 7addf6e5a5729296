"""Addresses of nodes: looked up beside the hot path, kept when the name server is away."""

from __future__ import annotations

import ipaddress
import threading
from collections import Counter

from aegate_scp.negotiation import Address
from aegate_scp.resolution import AT_ONCE, SLOW_AT_ONCE, LookupTimes, NodeAddresses
from tests.integration.waiting import eventually

ONE, TWO = ipaddress.ip_address("10.0.0.1"), ipaddress.ip_address("10.0.0.2")


HOUR_S = 3600.0


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


class BusyServer:
    """Counts who asks what and how many do so at once; names that begin with ``away`` are answered late."""

    def __init__(self, *, late_s: float = 0.0) -> None:
        self.asked: Counter[str] = Counter()
        self.at_once: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.is_fast = threading.Event()
        self._late_s = late_s
        self._lock = threading.Lock()

    def __call__(self, name: str) -> frozenset[Address]:
        kind = "away" if name.startswith("away") else "there"
        with self._lock:
            self.asked[name] += 1
            self.at_once[kind] += 1
            self.most[kind] = max(self.most[kind], self.at_once[kind])
        if kind == "away":
            self.is_fast.wait(self._late_s)
        with self._lock:
            self.at_once[kind] -= 1
        return frozenset({ONE})


def resolver_threads() -> int:
    return sum(1 for thread in threading.enumerate() if thread.name.startswith("resolver"))


def test_ten_thousand_names_are_known_soon_and_take_a_few_threads() -> None:
    server, before = BusyServer(), resolver_threads()
    nodes = NodeAddresses(server)
    names = [f"ct-{i}.example.org" for i in range(10_000)]

    nodes.watch(names, timeout_s=60)

    assert len(nodes.known) == 10_000
    assert server.asked == Counter(names)
    assert server.most["there"] <= AT_ONCE
    assert resolver_threads() - before <= AT_ONCE + 1
    nodes.stop()
    eventually(lambda: resolver_threads() <= before, what="its threads end")


def test_every_name_is_looked_up_again_when_its_answer_is_old() -> None:
    server = NameServer(ct=ONE, mr=ONE)
    nodes = NodeAddresses(server, LookupTimes(refresh_s=0.05))
    nodes.watch(["ct", "mr"], timeout_s=10)

    server.names.update(ct=TWO, mr=TWO)

    eventually(lambda: nodes.known == {"ct": {TWO}, "mr": {TWO}})
    nodes.stop()


def test_names_whose_server_is_silent_leave_threads_to_all_others() -> None:
    server = BusyServer(late_s=0.05)
    away = [f"away-{i}" for i in range(100)]
    nodes = NodeAddresses(server, LookupTimes(refresh_s=0.0, slow_s=0.02))
    nodes.watch(away, timeout_s=60)
    server.most.clear()

    nodes.watch([*away, "ct"], timeout_s=60)

    eventually(lambda: sum(server.asked[name] for name in away) > 130, what="they are asked again")
    assert server.asked["ct"] > 100, "it is looked up again and again meanwhile"
    assert server.most == {"away": SLOW_AT_ONCE, "there": 1}
    server.is_fast.set()
    nodes.stop()


def test_name_of_a_device_that_was_turned_away_is_looked_up_next_and_no_other() -> None:
    server = BusyServer()
    nodes = NodeAddresses(server, LookupTimes(refresh_s=HOUR_S, earliest_s=0.0))
    nodes.watch(["ct", "mr"], timeout_s=10)

    nodes.refresh_soon(["ct", "10.0.0.1", "nobody"])

    eventually(lambda: server.asked["ct"] == 2)
    assert server.asked["mr"] == 1
    nodes.stop()


def test_somebody_who_calls_again_and_again_has_no_name_looked_up_more_often_than_every_two_seconds() -> None:
    server = BusyServer()
    nodes = NodeAddresses(server, LookupTimes(refresh_s=HOUR_S, earliest_s=HOUR_S))
    nodes.watch(["ct"], timeout_s=10)

    for _ in range(1000):
        nodes.refresh_soon(["ct"])
    nodes.watch(["ct", "mr"], timeout_s=10)

    assert server.asked == {"ct": 1, "mr": 1}
    nodes.stop()
