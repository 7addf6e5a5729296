"""The worker's side of the queue: take up work, record what the peer answered, settle what becomes of it.

Every function is one transaction, safe to repeat, and changes nothing once the slot is lost (SlotLost). The peer's
status decides; the tables of that are in `decisions.retry` and `decisions.breaker`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from aegate_core.database import Database
from aegate_core.decisions import breaker as circuit
from aegate_core.decisions.breaker import Breaker, BreakerState
from aegate_core.decisions.moving import OUR_FAULTS
from aegate_core.decisions.retry import (
    Tally,
    Verdict,
    break_backoff,
    decide_instance,
    final_state,
    is_poison,
    status_code,
)
from aegate_core.services.audit import record_sent
from aegate_core.stores.queue import breakers, claiming, clock_steps, outcomes, rollup, slots, upkeep
from aegate_core.stores.queue.breakers import BreakerRow, Probe
from aegate_core.stores.queue.claiming import Claim, ClaimedInstance
from aegate_core.stores.queue.history import Note, Transition, transition
from aegate_core.stores.queue.outcomes import DeliveryProgress, InstanceOutcome
from aegate_core.stores.queue.slots import SlotLost, Wishes

__all__ = [
    "Answer",
    "Claim",
    "ClaimedInstance",
    "Ending",
    "Probe",
    "Settled",
    "SlotLost",
    "Wishes",
    "claim",
    "record",
]

PROBE_PATIENCE = timedelta(seconds=60)
"""After so long another worker probes, if the one that took the probe died over it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of sending one instance; ``status`` None: there was no C-STORE response for it."""

    instance: ClaimedInstance
    verdict: Verdict
    status: int | None = None
    error_code: str | None = None
    """Where no status tells: NO_CONTEXT, TRANSCODING_FAILED, …"""
    delivered_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How the associations of a claim ended; without ``trouble``: released in good order."""

    trouble: str | None = None
    """Stable code and words for people, no patient data."""
    rejected: bool = False
    """The peer does not want us: permanently rejected, or not authorised."""
    broke_on: ClaimedInstance | None = None
    """The instance that was being sent when the association broke."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of the deliveries of a claim, by id, and of the breaker."""

    states: Mapping[int, str] = field(default_factory=dict)
    breaker: BreakerState = BreakerState.CLOSED
    was: BreakerState = BreakerState.CLOSED
    next_probe_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """The clock and the dice of one call: arguments, so that decisions stay repeatable."""

    now: datetime
    jitter: float = 0.5


async def claim(db: Database, worker: str, lease: timedelta, *, now: datetime) -> Claim | None:
    """Take a slot and what goes first over it; None when nothing may go."""
    if not await claiming.work_waits(db, now=now):
        return None

    async def work(tx: Database) -> Claim | None:
        return await claiming.claim(tx, worker, lease, now=now)

    return await db.atomically(work)


async def renew(db: Database, held: Claim, lease: timedelta, *, now: datetime) -> None:
    """Extend the lease. Raises SlotLost."""
    await slots.renew(db, held.slot_id, held.token, now + lease)


async def wishes(db: Database, held: Claim) -> Wishes:
    """Return what people want of what is being sent. Raises SlotLost."""
    return await slots.wishes(db, held.slot_id, held.token)


async def record(db: Database, held: Claim, answers: Sequence[Answer], moment: Moment) -> BreakerState:
    """Record answers in the order in which they came, and return the state of the breaker after them.

    Raises SlotLost, having recorded none.
    """

    async def work(tx: Database) -> BreakerState:
        deliveries = tuple(sorted({a.instance.delivery_id for a in answers}))
        await slots.lock_deliveries(tx, held.slot_id, held.token, deliveries)
        row = await breakers.lock(tx, held.destination_id)
        breaker = _breaker(row)
        written = []
        for answer in answers:
            breaker = await _heed(tx, held, breaker, answer, moment)
            written.append(_outcome(answer, breaker, moment.now))
        await outcomes.write(tx, written, now=moment.now)
        stored = any(o.state in outcomes.DONE for o in written)
        last_success = moment.now if stored else row.last_success_at
        await breakers.save(tx, held.destination_id, _row(breaker, last_success))
        return breaker.state

    return await db.atomically(work)


async def _heed(tx: Database, held: Claim, breaker: Breaker, answer: Answer, moment: Moment) -> Breaker:
    """Return the breaker after one answer; give attempts back once the destination is suspected."""
    if answer.verdict in (Verdict.STORED, Verdict.WARNING):
        return circuit.after_stored(breaker)
    if answer.verdict is not Verdict.SUSPECT:
        return breaker
    error = answer.error_code or status_code(answer.status)
    after = circuit.after_suspect(
        breaker, answer.instance.study_id, error, now=moment.now, jitter=moment.jitter
    )
    if after.suspects_destination and not breaker.suspects_destination:
        await outcomes.refund(tx, held.destination_id, after.refused_in_row)
    return after


def _outcome(answer: Answer, breaker: Breaker, now: datetime) -> InstanceOutcome:
    instance = answer.instance
    costs = not breaker.suspects_destination
    fate = decide_instance(answer.verdict, instance.attempts if costs else 0, costs=costs, now=now)
    stored = fate.state in outcomes.DONE
    return InstanceOutcome(
        id=instance.id,
        delivery_id=instance.delivery_id,
        state=fate.state,
        status=answer.status,
        attempts=fate.attempts,
        breaks=instance.breaks,
        broke_at=instance.broke_at,
        available_at=fate.available_at,
        error_code=None if stored else answer.error_code or status_code(answer.status),
        delivered_sha256=answer.delivered_sha256 if stored else None,
    )


async def settle(db: Database, held: Claim, ending: Ending, moment: Moment) -> Settled:
    """Give the slot back and move every delivery of the claim to where it goes next. Raises SlotLost."""

    async def work(tx: Database) -> Settled:
        await slots.lock_deliveries(tx, held.slot_id, held.token, held.delivery_ids)
        row = await breakers.lock(tx, held.destination_id)
        if ending.broke_on is not None:
            await outcomes.write(tx, [_broken(ending.broke_on, row, moment.now)], now=moment.now)
        breaker = _after_ending(_breaker(row), ending, moment)
        await breakers.save(tx, held.destination_id, _row(breaker, row.last_success_at))
        removed = await tx.fetch_value("SELECT gone_at FROM destination WHERE id = $1", held.destination_id)
        states = {}
        for delivery in await outcomes.progress(tx, held.delivery_ids):
            step = await _next_step(tx, delivery, ending, moment, removed=removed is not None)
            if not await transition(tx, [delivery.id], step):
                raise SlotLost(f"delivery {delivery.id} was changed by somebody else: settle nothing")
            states[delivery.id] = step.target
        await record_sent(tx, list(states), now=moment.now)
        await slots.release(tx, held.slot_id, held.token, now=moment.now)
        return Settled(states, breaker.state, BreakerState(row.state), breaker.next_probe_at)

    return await db.atomically(work)


def _broken(instance: ClaimedInstance, row: BreakerRow, now: datetime) -> InstanceOutcome:
    breaks = instance.breaks + 1
    broke_at = instance.broke_at or now
    poison = is_poison(breaks, broke_at, row.last_success_at)
    return InstanceOutcome(
        id=instance.id,
        delivery_id=instance.delivery_id,
        state="DEAD" if poison else "PENDING",
        status=None,
        attempts=instance.attempts,
        breaks=breaks,
        broke_at=broke_at,
        available_at=None if poison else now + break_backoff(breaks),
        error_code="POISON" if poison else "ASSOCIATION_BROKE",
    )


def _after_ending(breaker: Breaker, ending: Ending, moment: Moment) -> Breaker:
    if ending.trouble is None:
        return breaker
    decide = circuit.after_rejection if ending.rejected else circuit.after_trouble
    return decide(breaker, ending.trouble, now=moment.now, jitter=moment.jitter)


_UNSLOTTED: dict[str, object] = {
    "slot_id": None,
    "token": None,
    "cancel_requested_by": None,
    "hold_requested_by": None,
}


async def _next_step(
    tx: Database, delivery: DeliveryProgress, ending: Ending, moment: Moment, *, removed: bool
) -> Transition:
    """Return where a delivery goes next, its association being over."""
    if delivery.cancel_requested_by is not None and delivery.states.get("PENDING"):
        canceled = await outcomes.cancel_pending(tx, delivery.id, now=moment.now)
        states = {**delivery.states, "PENDING": 0, "CANCELED": delivery.states.get("CANCELED", 0) + canceled}
        delivery = replace(delivery, states=states)
    tally = Tally(**{name.lower(): n for name, n in delivery.states.items()})
    final = final_state(tally)
    if final is not None:
        return _finish(delivery, final, tally, moment)
    if delivery.hold_requested_by is not None:
        note = Note(delivery.hold_requested_by, moment.now, "HELD_BY_PERSON", delivery.hold_reason)
        holder: dict[str, object] = {"hold_code": "PERSON", "held_by": delivery.hold_requested_by}
        return Transition("IN_PROGRESS", "HELD", note, _UNSLOTTED | holder)
    if removed:
        note = Note("aegate", moment.now, "DESTINATION_GONE", "the Application Entity was removed")
        return Transition("IN_PROGRESS", "HELD", note, _UNSLOTTED | {"hold_code": "DESTINATION_GONE"})
    return _again(delivery, ending, moment)


def _finish(delivery: DeliveryProgress, final: str, tally: Tally, moment: Moment) -> Transition:
    columns: dict[str, object] = {"finished_at": moment.now, "available_at": moment.now}
    message = None
    if final == "FAILED":
        total = tally.stored + tally.warning + tally.dead + tally.canceled
        message = f"{tally.stored + tally.warning} of {total} delivered"
        columns |= {"error_code": delivery.first_error, "error_message": message}
    actor = delivery.cancel_requested_by if final == "CANCELED" else "peer"
    note = Note(actor or "peer", moment.now, delivery.first_error if final == "FAILED" else None, message)
    return Transition("IN_PROGRESS", final, note, _UNSLOTTED | columns)


def _again(delivery: DeliveryProgress, ending: Ending, moment: Moment) -> Transition:
    """Return the step of a delivery of which something is still to be sent.

    Destination trouble costs nothing and goes back in line; what has to wait by itself waits in RETRY.
    """
    code = delivery.first_error or (ending.trouble or "RETURNED").split(":", 1)[0]
    if delivery.next_due_at is None:
        note = Note("aegate", moment.now, code[:32], ending.trouble)
        return Transition("IN_PROGRESS", "SCHEDULED", note, _UNSLOTTED | {"available_at": moment.now})
    ours = code in OUR_FAULTS
    columns: dict[str, object] = {
        "available_at": delivery.next_due_at,
        "attempts": delivery.attempts,
        "error_code": code[:32],
        "error_message": ending.trouble or (None if ours else f"the peer answered {code}"),
    }
    return Transition(
        "IN_PROGRESS", "RETRY", Note("aegate", moment.now, code[:32], ending.trouble), _UNSLOTTED | columns
    )


async def promote(db: Database, *, now: datetime) -> int:
    """Make retries that are due ready again; return how many."""
    if not await upkeep.retries_wait(db, now=now):
        return 0

    async def work(tx: Database) -> int:
        return len(await upkeep.promote(tx, now=now))

    return await db.atomically(work)


async def reap(db: Database, *, now: datetime) -> tuple[int, int]:
    """Take back what lost workers held; return how many slots and deliveries."""
    if not await upkeep.work_is_lost(db, now=now):
        return 0, 0

    async def work(tx: Database) -> tuple[int, int]:
        freed, deliveries = await upkeep.reap(tx, now=now)
        return freed, len(deliveries)

    return await db.atomically(work)


async def pack_counts(db: Database, *, now: datetime) -> None:
    """Add up the counters of what was finished."""
    if await rollup.waits(db, now=now):
        await db.atomically(lambda tx: rollup.pack(tx, now=now))


async def bring_back(db: Database, lease: timedelta, *, now: datetime) -> int:
    """Let nothing wait for times that a clock wrote which was ahead; return how many did."""
    if not await clock_steps.are_ahead(db, now=now):
        return 0
    return await db.atomically(lambda tx: clock_steps.bring_back(tx, lease, now=now))


async def take_probe(db: Database, *, now: datetime) -> Probe | None:
    """Take a probe that is due; this worker alone does it then."""
    if not await breakers.probe_waits(db, now=now):
        return None

    async def work(tx: Database) -> Probe | None:
        return await breakers.take_probe(tx, PROBE_PATIENCE, now=now)

    return await db.atomically(work)


async def finish_probe(
    db: Database, probe: Probe, error: str | None, moment: Moment, *, rejected: bool = False
) -> Breaker:
    """Record a probe's answer (``error`` None: it was answered) and return the breaker after it."""

    async def work(tx: Database) -> Breaker:
        row = await breakers.lock(tx, probe.destination_id)
        breaker = circuit.after_probe(
            _breaker(row), error, rejected=rejected, now=moment.now, jitter=moment.jitter
        )
        await breakers.save(tx, probe.destination_id, _row(breaker, row.last_success_at))
        return breaker

    return await db.atomically(work)


def _breaker(row: BreakerRow) -> Breaker:
    return Breaker(
        state=BreakerState(row.state),
        since=row.since,
        failures_in_row=row.failures_in_row,
        refused_in_row=row.refused_in_row,
        last_error=row.last_error,
        next_probe_at=row.next_probe_at,
        backoff_s=row.backoff_s,
    )


def _row(breaker: Breaker, last_success_at: datetime | None) -> BreakerRow:
    return BreakerRow(
        state=breaker.state.value,
        since=breaker.since,
        failures_in_row=breaker.failures_in_row,
        refused_in_row=breaker.refused_in_row,
        last_error=breaker.last_error,
        next_probe_at=breaker.next_probe_at,
        backoff_s=breaker.backoff_s,
        last_success_at=last_success_at,
    )
