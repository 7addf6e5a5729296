"""A mailbox keeps the newest of each object, stays within its bounds, and tells who may see what; watches agree."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from aegate_core.stores.changes.feed import START, Changed, Position
from aegate_core.stores.listing import AllOf, Compare, Op
from aegate_core.stores.scope import ALL_ROWS, Scope
from aegate_graphql_api.errors import RequestRefused
from aegate_graphql_api.live import hub
from aegate_graphql_api.live.hub import Delivered, Interest, Mailbox, News
from aegate_graphql_api.live.streams import Ending
from aegate_graphql_api.live.watching import Watch, one_of
from aegate_graphql_api.schema.change import decode_cursor, encode_cursor

AT = datetime(2026, 11, 24, tzinfo=UTC)


def news(number: int, key: str = "1", action: str = "CHANGED", partition: str = "default/default") -> News:
    position = Position(number, AT)
    change = Changed(position, "QUEUE_ITEM", action, key, "HELD", partition, None)
    return News(change, {"id": int(key), "n": number})


def mailbox() -> Mailbox:
    return Mailbox(Interest(frozenset({"QUEUE_ITEM"}), ALL_ROWS), START, lambda: Position(9, AT))


def shown(delivered: Delivered) -> list[tuple[str, str, int]]:
    return [(n.change.key, n.change.action, n.change.position.number) for n in delivered.news]


async def test_mailbox_keeps_the_newest_of_each_object_and_that_it_is_new() -> None:
    box = mailbox()
    box.put([news(1, "1", "CREATED"), news(2, "2")])
    box.put([news(3, "1"), news(4, "3", "CREATED"), news(5, "3", "REMOVED")])
    delivered = await box.take()
    assert shown(delivered) == [("2", "CHANGED", 2), ("1", "CREATED", 3), ("3", "REMOVED", 5)]
    assert (delivered.position, delivered.is_overrun) == (Position(9, AT), False)


async def test_mailbox_leaves_out_what_was_told_otherwise() -> None:
    box = mailbox()
    box.put([news(1, "1"), news(3, "3")])
    box.leave_out(Position(2, AT))
    box.put([news(2, "2"), news(4, "4")])
    assert shown(await box.take()) == [("3", "CHANGED", 3), ("4", "CHANGED", 4)]


async def test_mailbox_that_nobody_empties_holds_nothing_and_asks_for_a_snapshot() -> None:
    box = mailbox()
    for n in range(1, 3 * hub.MAILBOX):
        box.put([news(n, str(n))])
        assert len(box._waiting) <= hub.MAILBOX
    assert (await box.take()).is_overrun
    box.put([news(1)])
    assert not (await box.take()).is_overrun


def test_interest_is_in_what_is_watched_and_seen_alone() -> None:
    watch = Watch(one_of("ids", [1, 2], "id"))
    interest = Interest(frozenset({"QUEUE_ITEM"}), Scope(partitions=frozenset({"a/a"})), watch)
    assert interest.wants(news(1, "1", partition="a/a"))
    assert not interest.wants(news(1, "1", partition="b/b"))
    assert not interest.wants(news(1, "3", partition="a/a"))
    gone = Changed(Position(3, AT), "QUEUE_ITEM", "REMOVED", "3", None, "a/a", None)
    assert interest.wants(News(gone))
    assert not interest.wants(News(gone._replace(kind="STUDY")))


async def test_failure_of_the_reader_reaches_every_subscriber() -> None:
    box = mailbox()
    taking = asyncio.create_task(box.take())
    box.fail(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await taking


def test_watch_is_the_same_filter_and_question() -> None:
    watch = Watch((*one_of("states", ["HELD"], "state"), *one_of("studyIds", [3, 1], "study", "study_key")))
    assert watch.filter() == AllOf((Compare("state", Op.IN, ["HELD"]), Compare("study", Op.IN, [1, 3])))
    assert watch.holds({"state": "HELD", "study_key": 3})
    assert not watch.holds({"state": "HELD", "study_key": 2})
    assert one_of("states", None, "state") == ()


@pytest.mark.parametrize("values", [[], ["a\0"], [str(n) for n in range(101)]])
def test_values_that_cannot_be_watched_are_refused(values: list[object]) -> None:
    with pytest.raises(RequestRefused, match="destinations must hold"):
        one_of("destinations", values, "destination")


def test_cursor_is_what_it_was() -> None:
    for position in (START, Position(7, AT), Position(2**63 - 1, AT)):
        assert decode_cursor(encode_cursor(position)) == position


def test_reason_fits_into_a_close_frame() -> None:
    ending = Ending(1012, "SERVER_STOPPING", "the server " * 20, 99_999)
    assert len(ending.reason.encode()) == 123
    assert ending.reason.startswith("SERVER_STOPPING: retryAfterMs=99999 ")
