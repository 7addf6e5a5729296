"""Tests of ports."""

from __future__ import annotations

import errno
import socket

import pytest

from aegate_cli.demo.scene import move_ports
from aegate_cli.ports import (
    Endpoint,
    PortUnavailable,
    ensure_bindable,
    ensure_loopback,
    explain_bind,
    parse_endpoint,
    reachable_host,
)
from aegate_cli.process import restart_delay_s
from aegate_core.errors import InvalidValue


def test_endpoints_are_read() -> None:
    assert parse_endpoint("127.0.0.1:8080", "--x") == Endpoint("127.0.0.1", 8080)
    assert parse_endpoint("[::1]:80", "--x") == Endpoint("::1", 80)
    assert str(Endpoint("::1", 80)) == "[::1]:80"


@pytest.mark.parametrize("text", ["", "8080", ":8080", "host:", "host:x", "host:65536"])
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="--x must be ADDRESS:PORT"):
        parse_endpoint(text, "--x")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_is_loopback(host: str) -> None:
    ensure_loopback(Endpoint(host, 1), "--x")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])
def test_tokens_stay_on_this_machine(host: str) -> None:
    with pytest.raises(InvalidValue, match="must be a loopback address"):
        ensure_loopback(Endpoint(host, 1), "--x")


def test_a_busy_port_is_found_busy() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortUnavailable, match="another program has the port"):
            ensure_bindable(Endpoint("127.0.0.1", port), purpose="it", remedy="Choose another")


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EACCES, "sysctl net.ipv4.ip_unprivileged_port_start=104"),
        (errno.EADDRNOTAVAIL, "none of this machine's"),
        (errno.ENOBUFS, "Choose another"),
    ],
)
def test_each_refusal_says_what_to_do(number: int, said: str) -> None:
    text = explain_bind(
        OSError(number, "x"), Endpoint("10.0.0.1", 104), purpose="it", remedy="Choose another"
    )
    assert said in text


def test_a_process_that_keeps_ending_is_started_ever_more_slowly() -> None:
    assert [restart_delay_s(n) for n in (0, 1, 2, 3, 7, 50)] == [0.5, 0.5, 1.0, 2.0, 30.0, 30.0]
    assert [restart_delay_s(n, longest_s=1.5) for n in (1, 2, 3)] == [0.5, 1.0, 1.5]


def test_only_ports_are_moved() -> None:
    text = "port: 11113 # was 11113\nlistener: {port: 11115}\nother: 11113\nport: 104\n"
    assert move_ports(text, {11113: 1, 11115: 2}) == (
        "port: 1 # was 11113\nlistener: {port: 2}\nother: 11113\nport: 104\n"
    )


@pytest.mark.parametrize(
    ("listening", "node", "host"),
    [
        ("10.0.0.1", "127.0.0.1", "10.0.0.1"),
        ("0.0.0.0", "127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "ct1.example.org", socket.gethostname()),
        ("::", "255.255.255.255", socket.gethostname()),
    ],
)
def test_a_device_is_told_an_address_that_it_can_reach(listening: str, node: str, host: str) -> None:
    assert reachable_host(listening, node) == host
