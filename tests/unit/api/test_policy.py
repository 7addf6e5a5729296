"""What an administrator may set, and what is said of values that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from aegate_core.errors import InvalidValue
from aegate_graphql_api.policy import Policy, policy_from


def test_nothing_set_gives_the_defaults() -> None:
    assert policy_from({}) == Policy()


def test_all_can_be_set() -> None:
    environ = {
        "AEGATE_OPERATION_SECONDS": "5",
        "AEGATE_RATE": "0",
        "AEGATE_AT_ONCE": "7",
        "AEGATE_DOCUMENTS": "/etc/aegate/documents",
        "AEGATE_ONLY_TRUSTED": "yes",
        "AEGATE_ORIGINS": "https://viewer.example.org, http://localhost:5173",
        "AEGATE_FAST_LISTS": "no",
    }
    assert policy_from(environ) == Policy(
        operation_s=5,
        rate=0,
        at_once=7,
        documents=Path("/etc/aegate/documents"),
        only_trusted=True,
        introspection=False,
        origins=("https://viewer.example.org", "http://localhost:5173"),
        fast_lists=False,
    )
    assert policy_from({**environ, "AEGATE_INTROSPECTION": "yes"}).introspection


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AEGATE_OPERATION_SECONDS", "0"),
        ("AEGATE_OPERATION_SECONDS", "soon"),
        ("AEGATE_RATE", "-1"),
        ("AEGATE_AT_ONCE", "501"),
        ("AEGATE_ONLY_TRUSTED", "true"),
        ("AEGATE_ONLY_TRUSTED", "yes"),
        ("AEGATE_INTROSPECTION", "off"),
        ("AEGATE_ORIGINS", "*"),
        ("AEGATE_ORIGINS", "https://viewer.example.org/page"),
        ("AEGATE_ORIGINS", "viewer.example.org"),
        ("AEGATE_ORIGINS", "https://*.example.org"),
    ],
)
def test_what_cannot_be_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(InvalidValue, match=name):
        policy_from({name: value})
