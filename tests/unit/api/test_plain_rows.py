"""A row that is read past its object is answered as its object is, or not at all: whatever its values are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from graphql import GraphQLObjectType

from aegate_core.stores.listing import narrowed
from aegate_core.stores.queue.list_items import DESTINATIONS, ITEMS
from aegate_graphql_api.plain_lists import reader
from aegate_graphql_api.plain_rows import row_reader
from aegate_graphql_api.schema.queue_item import item_of
from aegate_graphql_api.schema.root import schema

AT = datetime(2026, 3, 1, 8, 30, tzinfo=UTC)
COLUMNS: dict[str, Any] = {
    **{"id": 17, "study_key": 1, "destination_key": 2, "destination": "default/pacs", "state": "COMPLETED"},
    **{"bumped_at": None, "supplementary": False, "available_at": AT, "created_at": AT, "started_at": AT},
    **{
        "finished_at": AT.replace(microsecond=5),
        "level": "Study",
        "unit_uid": "1.2",
        "source_ae": "default/ct1",
    },
    **{"partition": "default/default", "location_code": None, "priority": 50, "requested_by": "person:x"},
    **{"attempts": 1, "hold_code": None, "held_by": None, "hold_reason": None, "cancel_requested_by": None},
    **{"hold_requested_by": None, "instances_total": 3, "instances_done": 3, "instances_failed": 0},
    **{"size_bytes": 2**40, "error_code": None, "error_message": "ß \x7f", "version": 1},
}
ODDITIES: tuple[Any, ...] = (
    *(None, 0, 1, -1, 2**31, 2**40, True, 1.5, float("nan"), "", "x", b"x", [], {}, ValueError("odd")),
    *("HELD", "held", "2026-03-01 08:30:00+00:00", "2026-03-01T08:30:00.5+02:00", AT.replace(tzinfo=None)),
    *(
        AT.astimezone(timezone(timedelta(hours=2))),
        AT.replace(microsecond=123_456),
        AT.replace(year=1),
        "\ud800",
    ),
)


def kind() -> GraphQLObjectType:
    found = schema._schema.get_type("QueueItem")
    assert isinstance(found, GraphQLObjectType)
    return found


def answered(make: Any) -> bytes | None:
    try:
        return orjson.dumps(make())
    except Exception:  # what is unusual may raise anything
        return None


@pytest.mark.parametrize("column", COLUMNS)
def test_odd_values_are_answered_as_by_objects(column: str) -> None:
    plan = tuple(
        (f"a{n}", name, None)
        for n, (name, field) in enumerate(kind().fields.items())
        if getattr(field.resolve, "_is_default", False)
    )
    columns, read = row_reader(item_of, kind(), plan)
    by_object = reader(kind(), plan)
    # An id is also the item's private key, which is a number or fails; no row is without one.
    odd = ODDITIES if column != "id" else [n for n in ODDITIES if type(n) is int]
    for value in (COLUMNS[column], *odd):
        row = COLUMNS | {column: value}
        values = [row[name] for name in columns]
        short = answered(lambda values=values: read([[*values, "a key"]])[0])
        long = answered(lambda row=row: by_object(item_of(row)))
        if column in columns:
            assert short == long, value
        else:
            assert short is not None
    assert answered(lambda: read([])) == b"[]"


def test_a_list_is_narrowed_to_plain_columns_alone() -> None:
    assert narrowed(ITEMS, ("state", "destination")).select == "q.state AS state, d.ae AS destination"
    assert narrowed(ITEMS, ("state", "destination")).belongs is ITEMS.belongs
    assert narrowed(DESTINATIONS, ("ae",)).select == "d.ae AS ae"
    with pytest.raises(KeyError):
        narrowed(ITEMS, ("nothing",))
