"""Credit that is used and flows in again."""

from __future__ import annotations

import asyncio
import time

import pytest
from starlette.types import Message, Receive, Scope, Send

from aegate_graphql_api import door
from aegate_graphql_api.door import KEPT, Buckets, Door
from aegate_graphql_api.http_requests import MOST_COMMAS, Refusal, parsed_body
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
    counter = Door(Policy())
    for _ in range(2):
        counter.charge_operation("a", 1, guard_s=0.25)
    with counter.admitted("a"):
        pass


async def test_documents_of_one_caller_are_judged_with_pauses_between() -> None:
    counter, began, judged = Door(Policy()), time.monotonic(), []

    async def judge() -> None:
        await counter.wait_for_turn("a")
        judged.append(time.monotonic() - began)
        counter.take_turn("a", 0.011)

    await asyncio.gather(judge(), judge(), judge())
    assert judged[1] >= 0.04 and judged[2] >= 0.08
    assert counter._turns.seconds_until_credit("b", time.monotonic()) == 0, "another one does not wait"


async def test_known_documents_wait_for_nobody() -> None:
    counter, began = Door(Policy()), time.monotonic()
    for _ in range(50):
        counter.take_turn("a", 0.001)
        await counter.wait_for_turn("a")
    assert counter._turns.credit("a", began) == 0


async def test_a_stream_without_credit_waits_and_pays_what_it_tells() -> None:
    counter = Door(Policy(rate=1_000))
    counter.charge_rows("a", 2_100)
    began = time.monotonic()
    await counter.charge_message("a", 500)
    assert 0.1 <= time.monotonic() - began < 5
    with pytest.raises(Refusal) as refused, counter.admitted("a"):
        pass
    assert refused.value.code == "RATE_LIMITED"
    with counter.admitted("b"):
        pass


async def test_without_a_rate_no_stream_waits() -> None:
    counter = Door(Policy(rate=0))
    counter.charge_rows("a", 10**9)
    async with asyncio.timeout(1):
        await counter.charge_message("a", 10**9)


def test_rows_of_a_message_are_those_of_its_lists() -> None:
    assert rows_of({"queue": {"nodes": [{"instances": [1, 2]}, {}], "left": ["x"], "cursor": "c"}}) == 3
    assert rows_of({"queue": {"nodes": []}}) == 1
    assert rows_of({"dashboard": None}) == 1
    assert rows_of(None) == 1


def test_far_too_many_values_are_refused_before_they_are_made() -> None:
    body = b'{"query":"{ viewer { name } }","variables":{"x":[' + b"0," * 200_000 + b"0]}}"
    with pytest.raises(Refusal) as refused:
        parsed_body(body)
    assert (refused.value.status, refused.value.code) == (400, "TOO_COMPLEX")
    assert refused.value.details == {"limit": 5_000, "used": 5_001, "of": "values in variables"}
    most = b"[" + b"0," * MOST_COMMAS + b"0]"
    assert parsed_body(most) == [0] * (MOST_COMMAS + 1)


@pytest.mark.parametrize(("length", "closes"), [(65_536, False), (65_537, True)])
async def test_a_late_refusal_of_a_large_body_ends_its_connection(
    monkeypatch: pytest.MonkeyPatch, length: int, closes: bool
) -> None:
    monkeypatch.setattr(door, "LATE_S", 0)

    async def refusing(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": []})

    answers: list[Message] = []

    async def send(message: Message) -> None:
        answers.append(message)

    async def receive() -> Message:
        raise AssertionError("the body is not read")

    headers = [(b"content-length", str(length).encode())]
    scope: Scope = {"type": "http", "client": ("10.6.6.6", 1), "headers": headers}
    late = door.LateRefusals(refusing)
    burst = door.REFUSALS_A_SECOND * door.BURST_S
    for _ in range(burst + 5):
        await late(scope, receive, send)
    assert answers[:burst] == [{"type": "http.response.start", "status": 401, "headers": []}] * burst
    assert answers[-1]["headers"] == ([(b"connection", b"close")] if closes else [])
