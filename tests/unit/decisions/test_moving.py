"""Why an item does not move: one answer for each of the reasons."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegate_core.decisions.breaker import BreakerState
from aegate_core.decisions.moving import (
    DestinationFacts,
    ItemFacts,
    NotMovingCode,
    WorkerFacts,
    why_not_moving,
)

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
PACS = DestinationFacts("default/pacs", 3)
READY = ItemFacts("SCHEDULED")
ALIVE = WorkerFacts(alive=True, last_seen_at=NOW)
OPEN = replace(
    PACS, breaker=BreakerState.OPEN, breaker_since=NOW, last_error="CONNECT: refused", next_probe_at=NOW
)


@pytest.mark.parametrize(
    ("item", "destination", "workers", "code", "text"),
    [
        (READY, PACS, ALIVE, "READY", "number 1 in line for default/pacs"),
        (
            READY,
            replace(PACS, slots_used=3),
            ALIVE,
            "SLOTS_FULL",
            "3 of 3 connections to default/pacs are in use",
        ),
        (
            READY,
            PACS,
            WorkerFacts(alive=False, last_seen_at=NOW),
            "NO_WORKER",
            "no worker runs; the last one was seen at 2026-11-24 12:00:00 UTC",
        ),
        (READY, PACS, WorkerFacts(alive=False), "NO_WORKER", "no worker runs; none was ever seen"),
        (
            READY,
            OPEN,
            ALIVE,
            "BREAKER_OPEN",
            "default/pacs is in trouble since 2026-11-24 12:00:00 UTC: CONNECT: refused",
        ),
        (
            READY,
            replace(PACS, held_at=NOW, held_by="ann", hold_reason="upgrade"),
            ALIVE,
            "DESTINATION_HELD",
            "default/pacs is held by ann: upgrade",
        ),
        (
            READY,
            replace(PACS, enabled=False),
            ALIVE,
            "DESTINATION_DISABLED",
            "default/pacs has enabled: false",
        ),
        (
            READY,
            replace(PACS, invalid_condition="TitleConflict"),
            ALIVE,
            "DESTINATION_INVALID",
            "default/pacs cannot be sent to: TitleConflict",
        ),
        (
            READY,
            replace(PACS, gone_at=NOW),
            ALIVE,
            "DESTINATION_GONE",
            "the Application Entity default/pacs was removed",
        ),
        (
            ItemFacts("RETRY", attempts=2, available_at=NOW, error_message="the peer answered STATUS_C000"),
            PACS,
            ALIVE,
            "BACKOFF",
            "tried 2 times, last: the peer answered STATUS_C000",
        ),
        (
            ItemFacts("RETRY", available_at=NOW, error_message="BROKEN: SINK ended the association"),
            PACS,
            ALIVE,
            "BACKOFF",
            "BROKEN: SINK ended the association",
        ),
        (
            ItemFacts("RETRY", available_at=NOW, error_code="BLOB_UNREADABLE"),
            PACS,
            ALIVE,
            "BACKOFF",
            "our own storage is at fault, not the receiver: the file of at least one instance cannot be read",
        ),
        (
            ItemFacts("RETRY", available_at=NOW, error_code="BLOB_DAMAGED"),
            PACS,
            ALIVE,
            "BACKOFF",
            "our own storage is at fault, not the receiver: the file of at least one instance is not what arrived",
        ),
        (
            ItemFacts("RETRY", available_at=NOW, error_code="NO_ROOM_TO_CONVERT"),
            PACS,
            ALIVE,
            "BACKOFF",
            "our own storage is at fault, not the receiver: there is no room to convert at least one instance for it",
        ),
        (
            ItemFacts("RETRY", available_at=NOW, error_code="DECODER_LOST"),
            PACS,
            ALIVE,
            "BACKOFF",
            "our own worker is at fault, not the receiver: the decoder of at least one instance was killed, or could "
            "not be started",
        ),
        (
            ItemFacts("HELD", hold_code="PERSON", held_by="ann", hold_reason="ask the ward"),
            PACS,
            ALIVE,
            "HELD",
            "held by ann: ask the ward",
        ),
        (
            ItemFacts("HELD", hold_code="PATIENT_MISMATCH"),
            PACS,
            ALIVE,
            "PATIENT_MISMATCH",
            "its study arrived before under another patient id",
        ),
        (
            ItemFacts("HELD", hold_code="NEEDS_RECONCILIATION"),
            PACS,
            ALIVE,
            "NEEDS_RECONCILIATION",
            "its patient or order is not matched uniquely",
        ),
        (
            ItemFacts("HELD", hold_code="DESTINATION_GONE"),
            PACS,
            ALIVE,
            "DESTINATION_GONE",
            "the Application Entity default/pacs was removed",
        ),
        (
            ItemFacts(
                "IN_PROGRESS",
                instances_total=120,
                instances_done=30,
                started_at=NOW - timedelta(seconds=10),
            ),
            PACS,
            ALIVE,
            "SENDING",
            "being sent: 30 of 120 instances, 3.0 a second",
        ),
        (
            ItemFacts(
                "FAILED",
                instances_total=120,
                instances_done=118,
                instances_failed=2,
                error_code="STATUS_A900",
            ),
            PACS,
            ALIVE,
            "DEAD",
            "118 of 120 delivered, 2 given up: STATUS_A900 (STATUS_A900)",
        ),
    ],
)
def test_every_reason_has_its_sentence(
    item: ItemFacts, destination: DestinationFacts, workers: WorkerFacts, code: str, text: str
) -> None:
    answer = why_not_moving(item, destination, workers, now=NOW)
    assert answer is not None
    assert (answer.code.value, answer.text) == (code, text)
    assert answer.next_step


@pytest.mark.parametrize("state", ["SCHEDULED", "RETRY", "IN_PROGRESS"])
def test_without_a_worker_nothing_is_promised(state: str) -> None:
    item = ItemFacts(state, available_at=NOW)
    for destination in (PACS, OPEN, replace(PACS, slots_used=3)):
        answer = why_not_moving(item, destination, WorkerFacts(alive=False), now=NOW)
        assert answer is not None
        assert (answer.code, answer.until) == (NotMovingCode.NO_WORKER, None)
    held = replace(PACS, held_at=NOW)
    answer = why_not_moving(ItemFacts("RETRY"), held, WorkerFacts(alive=False), now=NOW)
    assert answer is not None and answer.code is NotMovingCode.DESTINATION_HELD


def test_trial_lets_one_go_and_tells_the_others() -> None:
    trial = replace(OPEN, breaker=BreakerState.TRIAL, next_probe_at=None)
    first = why_not_moving(READY, trial, ALIVE, now=NOW)
    others = why_not_moving(READY, replace(trial, slots_used=1), ALIVE, now=NOW)
    assert first is not None and others is not None
    assert (first.code, others.code) == (NotMovingCode.READY, NotMovingCode.BREAKER_OPEN)
    assert "trial delivery" in others.next_step


@pytest.mark.parametrize("state", ["COMPLETED", "WARNING", "CANCELED"])
def test_finished_items_need_no_reason(state: str) -> None:
    assert why_not_moving(ItemFacts(state), OPEN, ALIVE, now=NOW) is None


@given(
    st.sampled_from(["SCHEDULED", "RETRY", "HELD", "IN_PROGRESS", "FAILED"]),
    st.sampled_from(list(BreakerState)),
    st.booleans(),
    st.integers(0, 5),
)
def test_every_unfinished_item_has_an_answer(
    state: str, breaker: BreakerState, alive: bool, used: int
) -> None:
    destination = replace(PACS, breaker=breaker, slots_used=used)
    assert why_not_moving(ItemFacts(state), destination, WorkerFacts(alive=alive), now=NOW) is not None
