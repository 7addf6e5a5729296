"""How many streams there may be is a setting; what is no number is refused by its name."""

from __future__ import annotations

import pytest

from aegate_core.errors import InvalidValue
from aegate_graphql_api.settings import settings_from

PLACE = {"AEGATE_DATA": "/srv/aegate"}


def test_streams_are_bounded_unless_told_otherwise() -> None:
    settings = settings_from(PLACE)
    assert (settings.streams, settings.streams_by_caller) == (2500, 500)
    told = settings_from(PLACE | {"AEGATE_STREAMS": "7", "AEGATE_STREAMS_BY_CALLER": "100000"})
    assert (told.streams, told.streams_by_caller) == (7, 100_000)


@pytest.mark.parametrize("name", ["AEGATE_STREAMS", "AEGATE_STREAMS_BY_CALLER"])
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", "100001", "1000000000000", "²"])
def test_what_is_no_number_is_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidValue, match=name):
        settings_from(PLACE | {name: value})
