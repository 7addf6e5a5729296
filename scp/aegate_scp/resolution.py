"""The addresses of the nodes, looked up beside the hot path: an association never waits for a name server.

A name that stops resolving keeps its last addresses: a name server's outage must not shut devices out. A pool may have
ten thousand names: a few threads look them up, each again when its last answer is a minute old. A name whose server
was silent last time shares a few of these threads with its like, so that the others always have some.
"""

from __future__ import annotations

import heapq
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from aegate_scp.negotiation import Address, parse_address

Resolve = Callable[[str], frozenset[Address]]

AT_ONCE = 16
"""Names looked up at the same time; a silent name server holds one for up to half a minute. By feel."""
SLOW_AT_ONCE = 4
"""Of these, names that took long last time."""
_NEXT = float("-inf")
"""Due before all others."""
_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class LookupTimes:
    """When names are looked up; a test makes them short."""

    refresh_s: float = 60.0
    """A device that gets a new address by DHCP is known again after this; sooner when it has just been turned away."""
    earliest_s: float = 2.0
    """How soon a name may be looked up again for that."""
    slow_s: float = 1.0
    """A name that took longer counts as slow."""


def resolve_by_system(name: str) -> frozenset[Address]:
    """Ask the system's resolver; OSError when it does not know. Blocks as long as the resolver does."""
    return frozenset(parse_address(str(entry[4][0])) for entry in socket.getaddrinfo(name, None))


@dataclass(slots=True, eq=False)
class _Name:
    """One name that is watched."""

    text: str
    due_s: float
    asked_s: float = float("-inf")
    is_under_way: bool = False
    is_slow: bool = False


class NodeAddresses:
    """Addresses by node, kept fresh; a name whose server is silent holds up no other."""

    def __init__(self, resolve: Resolve = resolve_by_system, times: LookupTimes = LookupTimes()) -> None:
        self._resolve = resolve
        self._times = times
        lock = threading.Lock()
        self._due_changed, self._idle = threading.Condition(lock), threading.Condition(lock)
        self._answered = threading.Condition(lock)
        self._names: dict[str, _Name] = {}
        self._known: dict[str, frozenset[Address]] = {}
        self._unanswered: set[str] = set()
        """Names that were not looked up since they are watched."""
        self._due: Mapping[bool, list[tuple[float, str]]] = {False: [], True: []}
        """Heaps, of names that were quick last time and of slow ones; an entry that is not as its name says is old."""
        self._slow_under_way = 0
        self._is_minded = False
        """Whether a thread waits for what is due next; all other idle ones wait for it."""
        self._stopped = False
        self._threads = 1
        threading.Thread(target=self._run, name="resolver", daemon=True).start()

    @property
    def known(self) -> Mapping[str, frozenset[Address]]:
        """What each node last resolved to; a node without addresses is absent."""
        return self._known

    def watch(self, nodes: Iterable[str], *, timeout_s: float) -> None:
        """Look these nodes up from now on; wait for the first answers at most ``timeout_s``."""
        wanted = frozenset(nodes)
        literal = {node: found for node in wanted if (found := _literal(node))}
        names = wanted - literal.keys()
        with self._answered:
            now = time.monotonic()
            new = names - self._names.keys()
            self._known = {n: found for n, found in self._known.items() if n in names} | literal
            self._unanswered = (self._unanswered & names) | new
            self._names = {n: self._names.get(n) or _Name(n, now) for n in names}
            for name in sorted(new):
                self._put(self._names[name])
            self._due_changed.notify()
            if new:
                self._answered.wait_for(lambda: not self._unanswered, timeout_s)

    def refresh_soon(self, nodes: Iterable[str]) -> None:
        """Somebody was turned away for the address: look his names up next, but not faster than every two seconds."""
        with self._due_changed:
            for node in nodes:
                name = self._names.get(node)
                if name is None or name.is_under_way:
                    continue
                earliest_s = name.asked_s + self._times.earliest_s
                due_s = _NEXT if earliest_s <= time.monotonic() else earliest_s
                if due_s < name.due_s:
                    name.due_s = due_s
                    self._put(name)
            self._due_changed.notify()

    def stop(self) -> None:
        """Look nothing up any more; what is under way does not keep the process."""
        with self._due_changed:
            self._stopped = True
            self._due_changed.notify()
            self._idle.notify_all()

    def _put(self, name: _Name) -> None:
        heapq.heappush(self._due[name.is_slow], (name.due_s, name.text))

    def _have_workers(self) -> None:
        """See that there are as many threads as can be of use; where there can be no more, one is enough."""
        while True:
            with self._due_changed:
                if self._threads >= min(AT_ONCE, len(self._names)) or self._stopped:
                    return
                number = self._threads
                self._threads += 1
            try:
                threading.Thread(target=self._run, name=f"resolver-{number}", daemon=True).start()
            except RuntimeError:
                with self._due_changed:
                    self._threads -= 1
                return

    def _run(self) -> None:
        while (name := self._next()) is not None:
            self._have_workers()
            began = time.monotonic()
            try:
                found = self._resolve(name.text)
            except (OSError, ValueError, MemoryError):
                found = frozenset()
            self._settle(name, found, is_slow=time.monotonic() - began > self._times.slow_s)

    def _next(self) -> _Name | None:
        """Wait for a name that is due and may be looked up now; None: to stop. One thread at a time minds the clock."""
        with self._due_changed:
            while not self._stopped:
                now = time.monotonic()
                due_s, lane = min((self._first(lane), lane) for lane in (False, True))
                if due_s <= now:
                    self._idle.notify()
                    return self._take_out(lane, now)
                if self._is_minded:
                    self._idle.wait()
                    continue
                self._is_minded = True
                self._due_changed.wait(None if due_s == _NEVER else due_s - now)
                self._is_minded = False
        return None

    def _first(self, is_slow: bool, /) -> float:
        """Return when the next name of a lane is due; never, where there is none, or no room for it."""
        heap = self._due[is_slow]
        while heap and not self._is_true(heap[0], is_slow=is_slow):
            heapq.heappop(heap)
        has_room = not is_slow or self._slow_under_way < SLOW_AT_ONCE
        return heap[0][0] if heap and has_room else _NEVER

    def _is_true(self, entry: tuple[float, str], *, is_slow: bool) -> bool:
        due_s, text = entry
        name = self._names.get(text)
        return name is not None and not name.is_under_way and (name.due_s, name.is_slow) == (due_s, is_slow)

    def _take_out(self, is_slow: bool, now: float, /) -> _Name:
        name = self._names[heapq.heappop(self._due[is_slow])[1]]
        name.is_under_way, name.asked_s = True, now
        self._slow_under_way += is_slow
        return name

    def _settle(self, name: _Name, found: frozenset[Address], *, is_slow: bool) -> None:
        with self._answered:
            self._slow_under_way -= name.is_slow
            name.is_under_way, name.is_slow = False, is_slow
            if self._names.get(name.text) is name:
                if found:
                    self._known[name.text] = found
                self._unanswered.discard(name.text)
                name.due_s = time.monotonic() + self._times.refresh_s
                self._put(name)
            if not self._unanswered:
                self._answered.notify_all()
            self._due_changed.notify()


def _literal(node: str) -> frozenset[Address]:
    try:
        return frozenset({ipaddress.ip_address(node)})
    except ValueError:
        return frozenset()
