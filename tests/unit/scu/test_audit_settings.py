"""Where the audit is exported to: what of the environment is taken, and what is refused in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from aegate_core.errors import InvalidValue
from aegate_scu.collector import CollectorAddress
from aegate_scu.settings import read_settings


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, None),
        ({"AEGATE_AUDIT_COLLECTOR": "tls://audit.example.org"}, CollectorAddress("audit.example.org", 6514)),
        ({"AEGATE_AUDIT_COLLECTOR": "tls://[::1]:1514"}, CollectorAddress("::1", 1514)),
        (
            {
                "AEGATE_AUDIT_COLLECTOR": "tls://a:1",
                "AEGATE_AUDIT_CA": "/ca",
                "AEGATE_AUDIT_CERTIFICATE": "/c",
                "AEGATE_AUDIT_KEY": "/k",
            },
            CollectorAddress("a", 1, Path("/ca"), Path("/c"), Path("/k")),
        ),
    ],
)
def test_collector_of_the_environment(
    environ: dict[str, str], found: CollectorAddress | None, tmp_path: Path
) -> None:
    assert read_settings({"AEGATE_DATA": str(tmp_path), **environ}).collector == found


@pytest.mark.parametrize(
    "text",
    ["audit:6514", "tcp://audit:6514", "tls://", "tls://a:b", "tls://a:99999", "tls://u:p@a:1", "tls://a/b"],
)
def test_what_is_no_collector_is_refused_with_the_form(text: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="AEGATE_AUDIT_COLLECTOR must be tls://host:port"):
        read_settings({"AEGATE_DATA": str(tmp_path), "AEGATE_AUDIT_COLLECTOR": text})


def test_a_certificate_needs_its_key(tmp_path: Path) -> None:
    environ = {
        "AEGATE_DATA": str(tmp_path),
        "AEGATE_AUDIT_COLLECTOR": "tls://a",
        "AEGATE_AUDIT_CERTIFICATE": "/c",
    }
    with pytest.raises(InvalidValue, match="AEGATE_AUDIT_KEY must both be given"):
        read_settings(environ)
