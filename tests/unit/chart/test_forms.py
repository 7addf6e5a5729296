"""The forms of the chart's values are those that Kubernetes knows."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

import pytest

from aegate_core.resources.names import dns1123_subdomain, label_value
from aegate_core.resources.quantity import is_quantity
from tools.chart.forms import FORMS


def is_cidr(text: str) -> bool:
    address, slash, bits = text.partition("/")
    try:
        ipaddress.ip_interface(text)
    except ValueError:
        return False
    return slash == "/" and bits == str(int(bits)) and "%" not in address


JUDGES: dict[str, tuple[Callable[[str], bool], str]] = {
    "quantity": (is_quantity, "0 1 1. .5 +1 1.5Gi 500m 1e3 1E-3 1E 1Ki 1kI 1K 512MB 1gi 1e Gi . 1,5 ten 0x1"),
    "CIDR": (
        is_cidr,
        "10.0.0.0/8 10.1.2.3/8 0.0.0.0/0 1.2.3.4/32 1.2.3.4/33 256.0.0.0/8 01.0.0.0/8 10.0.0/8 10.0.0.0 10.0.0.0/ "
        "10.0.0.0/08 ::/0 ::1/128 ::1/129 1::/16 1:2:3:4:5:6:7:8/64 1:2:3:4:5:6:7::/64 ::2:3:4:5:6:7:8/64 "
        "1::3:4:5:6:7:8/64 1:2:3::6:7:8/99 1:2:3:4:5:6:7/64 1:2:3:4:5:6:7:8:9/64 1::2::3/64 :::/64 12345::/64 g::/8 "
        "1:2:3:4::5:6:7:8/64 fe80::1%eth0/64",
    ),
    "ConfigMap": (
        lambda text: not dns1123_subdomain(text),
        "a a-b a.b 1 a--b A a_b -a a- a..b .a a. a.-b a/b a:b",
    ),
    "label": (lambda text: not label_value(text), f"a A.b_c-1 -a a- a/b ä {'a' * 63} {'a' * 64}"),
}


@pytest.mark.parametrize("name", JUDGES)
def test_a_form_is_what_an_api_server_takes(name: str) -> None:
    judge, words = JUDGES[name]
    texts = words.split()
    taken = [text for text in texts if re.fullmatch(FORMS[name].pattern, text)]
    assert taken == [text for text in texts if judge(text)]
    assert 0 < len(taken) < len(texts)


def test_a_schedule_is_what_the_control_plane_can_read() -> None:
    """It reads them by robfig/cron: Sunday is 0 alone, and a time zone is a field of its own."""
    taken = ["17 2 * * *", "*/5 0-6 1,15 jan-MAR MON", "0 0 ? * 0", "59 23 31 12 6", "@daily", "@every 1h30m"]
    refused = ["", "daily", "@dayly", "60 0 * * *", "0 24 * * *", "0 0 0 * *", "0 0 32 * *", "0 0 * 13 *"]
    refused += [
        "0 0 * * 7",
        "0 0 * *",
        "0 0 * * * *",
        "*/0 * * * *",
        "TZ=UTC 0 0 * * *",
        "@every day",
        "1- * * * *",
    ]
    assert [text for text in (*taken, *refused) if re.fullmatch(FORMS["schedule"].pattern, text)] == taken
