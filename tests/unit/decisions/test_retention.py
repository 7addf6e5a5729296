"""What may go by age, and what keeps it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from aegate_core.decisions.retention import (
    KEPT_BECAUSE,
    Keep,
    StudyFacts,
    deliveries_due_before,
    images_due_before,
    why_kept,
)
from aegate_core.resources.values import Retention

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
DELIVERED = StudyFacts()
LOOSE = Retention(images_days=1, images_require_delivered=False)


def test_images_are_kept_for_ever_unless_days_are_given() -> None:
    assert images_due_before(Retention(), now=NOW) is None
    assert images_due_before(Retention(images_days=30), now=NOW) == NOW - timedelta(days=30)


def test_finished_queue_items_are_kept_ninety_days_unless_said_otherwise() -> None:
    assert deliveries_due_before(Retention(), now=NOW) == NOW - timedelta(days=90)
    assert deliveries_due_before(Retention(finished_deliveries_days=7), now=NOW) == NOW - timedelta(days=7)


def test_what_was_delivered_may_go() -> None:
    assert why_kept(DELIVERED, Retention(images_days=1)) is None


@pytest.mark.parametrize(
    ("facts", "keep"),
    [
        (StudyFacts(live_deliveries=1), Keep.IN_QUEUE),
        (StudyFacts(open_units=1), Keep.NOT_CLOSED),
        (StudyFacts(open_conflicts=1), Keep.CONFLICT),
    ],
)
def test_what_is_wanted_stays_whatever_the_rules_say(facts: StudyFacts, keep: Keep) -> None:
    assert why_kept(facts, LOOSE) is keep
    assert why_kept(facts, Retention(images_days=1)) is keep


@pytest.mark.parametrize(
    ("facts", "keep"),
    [(StudyFacts(not_taken=1), Keep.NOT_DELIVERED), (StudyFacts(only_here=1), Keep.ONLY_COPY)],
)
def test_what_was_not_delivered_stays_unless_that_is_not_required(facts: StudyFacts, keep: Keep) -> None:
    assert why_kept(facts, Retention(images_days=1)) is keep
    assert why_kept(facts, LOOSE) is None


def test_required_commitment_keeps_everything_while_nobody_can_commit() -> None:
    assert why_kept(DELIVERED, Retention(images_days=1, images_require_committed=True)) is Keep.NOT_COMMITTED


def test_every_reason_has_its_words() -> None:
    assert set(KEPT_BECAUSE) == set(Keep)
