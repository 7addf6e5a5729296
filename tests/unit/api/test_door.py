"""Credit that is used and flows in again."""

from __future__ import annotations

import asyncio
import time

import pytest

from aegate_graphql_api.door import KEPT, Buckets, Door
from aegate_graphql_api.http_requests import Refusal
from aegate_graphql_api.live.operation import rows_of
from aegate_graphql_api.policy import Policy


def test_credit_flows_in_up_to_the_burst_and_may_be_overdrawn() -> None:
    buckets = Buckets(rate=10, burst=20)
    assert buckets.credit("a", 0) == 20
    buckets.take("a", 50, 0)
    assert buckets.credit("a", 0) == -30
    assert buckets.seconds_until_credit("a", 0) == 3
    assert buckets.seconds_until_credit("a", 2) == 1
    assert buckets.seconds_until_credit("b", 0) == 0
    buckets.take("a", 5, 4)
    assert buckets.credit("a", 4) == 5
    assert buckets.credit("a", 1_000) == 20


def test_only_so_many_are_remembered_the_latest_ones() -> None:
    buckets = Buckets(rate=1, burst=1)
    buckets.take("first", 5, 0)
    for number in range(KEPT - 1):
        buckets.take(f"caller {number}", 5, 0)
    buckets.take("first", 1, 0)
    assert buckets.credit("first", 0) == -5
    buckets.take("one more", 5, 0)
    assert buckets.credit("caller 0", 0) == 1
    assert buckets.credit("first", 0) == -5
    assert len(buckets._known) == KEPT


def test_a_pause_of_the_process_costs_a_caller_no_more_than_the_worst_document() -> None:
    door = Door(Policy())
    for _ in range(2):
        door.charge_operation("a", 1, guard_s=0.25)
    with door.admitted("a"):
        pass


async def test_a_stream_without_credit_waits_and_pays_what_it_tells() -> None:
    door = Door(Policy(rate=1_000))
    door.charge_rows("a", 2_100)
    began = time.monotonic()
    await door.charge_message("a", 500)
    assert 0.1 <= time.monotonic() - began < 5
    with pytest.raises(Refusal) as refused, door.admitted("a"):
        pass
    assert refused.value.code == "RATE_LIMITED"
    with door.admitted("b"):
        pass


async def test_without_a_rate_no_stream_waits() -> None:
    door = Door(Policy(rate=0))
    door.charge_rows("a", 10**9)
    async with asyncio.timeout(1):
        await door.charge_message("a", 10**9)


def test_rows_of_a_message_are_those_of_its_lists() -> None:
    assert rows_of({"queue": {"nodes": [{"instances": [1, 2]}, {}], "left": ["x"], "cursor": "c"}}) == 3
    assert rows_of({"queue": {"nodes": []}}) == 1
    assert rows_of({"dashboard": None}) == 1
    assert rows_of(None) == 1
