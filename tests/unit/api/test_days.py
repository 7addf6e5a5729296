"""When today began, and what is no time zone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from aegate_graphql_api.errors import RequestRefused
from aegate_graphql_api.schema.categories import midnight


@pytest.mark.parametrize(
    ("zone", "now", "began"),
    [
        ("UTC", "2026-01-31T00:00:00", "2026-01-31T00:00:00"),
        ("Europe/Berlin", "2026-01-31T22:59:59", "2026-01-30T23:00:00"),
        ("Europe/Berlin", "2026-01-31T23:00:00", "2026-01-31T23:00:00"),
        ("Europe/Berlin", "2026-03-29T12:00:00", "2026-03-28T23:00:00"),  # summer begins in that day
        ("Europe/Berlin", "2026-10-25T23:30:00", "2026-10-25T23:00:00"),  # and has ended
        ("Asia/Kathmandu", "2026-06-01T00:00:00", "2026-05-31T18:15:00"),
        ("Pacific/Kiritimati", "2026-06-01T11:00:00", "2026-06-01T10:00:00"),
        ("Africa/Cairo", "2026-04-24T12:00:00", "2026-04-23T22:00:00"),  # the day begins at one o'clock
    ],
)
def test_today_begins_at_midnight_of_the_zone(zone: str, now: str, began: str) -> None:
    def at(text: str) -> datetime:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)

    assert midnight(zone, at(now)) == at(began)


@pytest.mark.parametrize(
    "zone",
    [
        "",
        "Europe",
        "europe/berlin?",
        "Mars/Olympus",
        "../etc/passwd",
        "/etc/localtime",
        "a\0b",
        "+02:00",
        "ü",
        "x" * 65,
    ],
)
def test_what_is_no_zone_is_refused_in_words(zone: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        midnight(zone, datetime.now(UTC))
    assert (refused.value.extensions or {})["code"] == "INVALID_VALUE"
    assert "Europe/Berlin" in refused.value.message
