"""The addresses of the nodes, looked up beside the hot path: an association never waits for a name server.

A name that stops resolving keeps its last addresses: a name server's outage must not shut devices out.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from aegate_scp.negotiation import Address, parse_address

Resolve = Callable[[str], frozenset[Address]]

_REFRESH_S = 60.0
"""A device that gets a new address by DHCP is known again after this; sooner when it has just been turned away."""
_EARLIEST_REFRESH_S = 2.0
_AT_ONCE = 16
"""Names looked up at the same time; a silent name server holds one for up to half a minute. By feel."""


def resolve_by_system(name: str) -> frozenset[Address]:
    """Ask the system's resolver; OSError when it does not know. Blocks as long as the resolver does."""
    return frozenset(parse_address(str(entry[4][0])) for entry in socket.getaddrinfo(name, None))


class NodeAddresses:
    """Addresses by node, kept fresh; a name whose server is silent holds up no other."""

    def __init__(self, resolve: Resolve = resolve_by_system) -> None:
        self._resolve = resolve
        self._changed = threading.Condition()
        self._names: frozenset[str] = frozenset()
        self._known: Mapping[str, frozenset[Address]] = {}
        self._answered: set[str] = set()
        """Names that were looked up since they are watched, with whatever result."""
        self._under_way: set[str] = set()
        self._at_once = threading.BoundedSemaphore(_AT_ONCE)
        self._wake = threading.Event()
        self._stopped = False
        self._last_s = float("-inf")
        self._thread = threading.Thread(target=self._run, name="resolver", daemon=True)
        self._thread.start()

    @property
    def known(self) -> Mapping[str, frozenset[Address]]:
        """What each node last resolved to; a node without addresses is absent."""
        return self._known

    def watch(self, nodes: Iterable[str], *, timeout_s: float) -> None:
        """Look these nodes up from now on; wait for the first answers at most ``timeout_s``."""
        literal = {node: found for node in nodes if (found := _literal(node))}
        names = frozenset(nodes) - literal.keys()
        with self._changed:
            kept = {name: found for name, found in self._known.items() if name in names}
            self._names, self._known = names, kept | literal
            self._answered &= names
            if names - kept.keys():
                self._wake.set()
                self._changed.wait_for(lambda: names <= self._answered | kept.keys(), timeout_s)

    def refresh_soon(self) -> None:
        """Somebody was turned away for the address: look again, but not faster than every two seconds."""
        if self._names and time.monotonic() - self._last_s >= _EARLIEST_REFRESH_S:
            self._wake.set()

    def stop(self) -> None:
        """Look nothing up any more; what is under way does not keep the process."""
        self._stopped = True
        self._wake.set()

    def _run(self) -> None:
        while not self._stopped:
            self._wake.wait(_REFRESH_S)
            self._wake.clear()
            self._last_s = time.monotonic()
            for name in sorted(self._names - self._under_way):
                self._begin(name)

    def _begin(self, name: str) -> None:
        self._under_way.add(name)
        try:
            threading.Thread(target=self._look_up, args=(name,), name=f"resolve-{name}", daemon=True).start()
        except RuntimeError:
            self._under_way.discard(name)  # out of threads: the next round tries again

    def _look_up(self, name: str) -> None:
        try:
            with self._at_once:
                found = self._resolve(name)
        except (OSError, ValueError):
            found = frozenset()
        with self._changed:
            self._under_way.discard(name)
            if name in self._names:
                self._answered.add(name)
                if found:
                    self._known = {**self._known, name: found}
            self._changed.notify_all()


def _literal(node: str) -> frozenset[Address]:
    try:
        return frozenset({ipaddress.ip_address(node)})
    except ValueError:
        return frozenset()
