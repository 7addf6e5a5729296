"""Addresses and ports: taken from the command line, tried before anything starts, explained when they cannot be had."""

from __future__ import annotations

import errno
import ipaddress
import socket
from dataclasses import dataclass

from aegate_core.errors import InvalidValue, StorageError

PRIVILEGED_BELOW = 1024


class PortUnavailable(StorageError):
    """A port cannot be bound; the message says what to do."""

    code = "PORT_UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where we listen."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_endpoint(text: str, option: str) -> Endpoint:
    """Return ``ADDR:PORT`` (``[::1]:8080`` for IPv6) as endpoint. Raises InvalidValue naming ``option``."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise InvalidValue(f"{option} must be ADDRESS:PORT such as 127.0.0.1:8080, got {text!r}")
    return Endpoint(host.removeprefix("[").removesuffix("]"), int(port))


def ensure_loopback(endpoint: Endpoint, option: str) -> None:
    """Refuse an address that other machines could reach: the local tokens are for this machine alone (security.md)."""
    try:
        is_loopback = ipaddress.ip_address(endpoint.host).is_loopback
    except ValueError:
        is_loopback = endpoint.host == "localhost"
    if not is_loopback:
        raise InvalidValue(
            f"{option} must be a loopback address, because local tokens are not for the network, "
            f"got {endpoint.host!r}: "
            f"use 127.0.0.1:{endpoint.port}, and an SSH tunnel to reach it from elsewhere"
        )


def ensure_bindable(endpoint: Endpoint, *, purpose: str, remedy: str) -> None:
    """Try to bind ``endpoint`` and let it go again.

    Raises PortUnavailable with what to do; ``remedy`` names the option.
    """
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((endpoint.host, endpoint.port))
        except OSError as error:
            raise PortUnavailable(explain_bind(error, endpoint, purpose=purpose, remedy=remedy)) from error


def explain_bind(error: OSError, endpoint: Endpoint, *, purpose: str, remedy: str) -> str:
    """Return what stands against binding and the next step, in one sentence."""
    where = f"{purpose} cannot listen on {endpoint}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"{where}: this system gives ports below {PRIVILEGED_BELOW} to root alone. "
            f"{remedy}, or let this user have it: "
            f"sudo sysctl net.ipv4.ip_unprivileged_port_start={endpoint.port}"
        )
    if error.errno == errno.EADDRINUSE:
        return (
            f"{where}: another program has the port (`ss -ltnp 'sport = :{endpoint.port}'` names it). "
            f"Stop that one, or {remedy[0].lower()}{remedy[1:]}"
        )
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return (
            f"{where}: the address is none of this machine's (`ip address` lists them). "
            f"{remedy}, or use 0.0.0.0 for all"
        )
    return f"{where}: {error.strerror or error}. {remedy}"


def reachable_host(listening: str, node: str) -> str:
    """Return under which of our addresses ``node`` reaches what listens on ``listening``.

    For 0.0.0.0 and :: that is the address from which this machine would call the node (no packet is sent), and our
    host's name where the node is a name or cannot be reached.
    """
    if listening not in ("0.0.0.0", "::"):
        return listening
    family = socket.AF_INET6 if ":" in node else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(ipaddress.ip_address(node)), 9))
            return str(probe.getsockname()[0])
        except (ValueError, OSError):
            return socket.gethostname()


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that nobody has just now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
