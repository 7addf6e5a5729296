"""One claim from beginning to end: the sending thread on one side, the queue's rows on the other.

Answers reach the database in batches of at most a hundred or half a second, so that a crash loses little. While the
database is away they wait, and nothing new is sent once the lease cannot be renewed.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

from aegate_core.database import Database, DatabaseClock
from aegate_core.decisions.breaker import BreakerState
from aegate_core.decisions.retry import Verdict, status_code
from aegate_core.errors import StorageError
from aegate_core.events import (
    BLOB_NOT_SENT,
    BREAKER_CLOSED,
    BREAKER_OPENED,
    DELIVERY_CLAIMED,
    DELIVERY_FINISHED,
    DELIVERY_RETRY,
    INSTANCE_DEAD,
    SLOT_LOST,
    Log,
)
from aegate_core.services import pushing
from aegate_core.services.audit import Called, record_call
from aegate_core.services.pushing import Answer, Claim, Ending, Moment, Settled, SlotLost
from aegate_core.stores.blobs import BlobStore
from aegate_scu.metrics import WorkerMetrics
from aegate_scu.peer import PeerAddress
from aegate_scu.push import Control, Push, push
from aegate_scu.settings import WorkerSettings

T = TypeVar("T")

BATCH = 100
BATCH_S = 0.5
"""How often answers are written and wishes read: a cancel takes effect within it, or one instance."""

RETRY_S = 1.0

log = Log("scu")


@dataclass(frozen=True, slots=True)
class Heard:
    """What the sending thread says."""

    answers: asyncio.Queue[Answer]
    calls: asyncio.Queue[Called]


@dataclass
class Delivering:
    """What one claim needs while it is sent."""

    db: Database
    clock: DatabaseClock
    settings: WorkerSettings
    metrics: WorkerMetrics
    executor: Executor
    blobs: BlobStore

    def moment(self) -> Moment:
        """Return the clock and the dice of now."""
        return Moment(self.clock.now(), random.random())


async def deliver(env: Delivering, claim: Claim, peer: PeerAddress, control: Control) -> None:
    """Send a claim and settle it; nothing is left to the caller, whatever happens to slot, peer or database."""
    began = time.monotonic()
    _log_claim(claim)
    answers: asyncio.Queue[Answer] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def report(answer: Answer, seconds: float) -> None:
        env.metrics.instances.labels(claim.ae, answer.verdict.value).inc()
        if seconds:
            env.metrics.push_seconds.observe(seconds)
        loop.call_soon_threadsafe(answers.put_nowait, answer)

    calls: asyncio.Queue[Called] = asyncio.Queue()

    def called(trouble: str | None) -> None:
        loop.call_soon_threadsafe(calls.put_nowait, Called(env.clock.now(), peer.calling_title, trouble))

    job = Push(claim, peer, env.blobs, control, report, called)
    sending = loop.run_in_executor(env.executor, push, job)
    renewing = asyncio.create_task(_keep_lease(env, claim, control))
    open_gauge = env.metrics.open_associations.labels(claim.ae)
    open_gauge.inc()
    try:
        await _accompany(env, claim, control, Heard(answers, calls), sending)
        ending = await sending
        settled = await persist(lambda: pushing.settle(env.db, claim, ending, env.moment()))
        _log_settled(env, claim, settled, ending, time.monotonic() - began)
    except SlotLost:
        control.lost = True
        env.metrics.slots_lost.inc()
        for delivery_id in claim.delivery_ids:
            log(SLOT_LOST, delivery=delivery_id, destination=claim.ae, slot=claim.slot_n, token=claim.token)
    finally:
        # Whatever ended this: nothing goes out that nobody would record.
        control.stop.set()
        renewing.cancel()
        await asyncio.wait({sending})
        await asyncio.gather(renewing, return_exceptions=True)
        open_gauge.dec()


async def _accompany(
    env: Delivering,
    claim: Claim,
    control: Control,
    heard: Heard,
    sending: asyncio.Future[Ending],
) -> None:
    """Write answers and pass on wishes until the thread is done and all is written."""
    while not (sending.done() and heard.answers.empty() and heard.calls.empty()):
        batch = await _next_batch(heard.answers, sending)
        await _record_calls(env, claim, heard.calls)
        if batch:
            await _record(env, claim, batch)
            _log_failed(claim, batch)
        if sending.done():
            continue
        control.wishes = await persist(lambda: pushing.wishes(env.db, claim))


async def _record_calls(env: Delivering, claim: Claim, calls: asyncio.Queue[Called]) -> None:
    """Leave a row for each association: which receiver was called, and whether it took it."""
    while not calls.empty():
        call = calls.get_nowait()
        await persist(lambda c=call: record_call(env.db, claim.ae, c))  # type: ignore[misc]


async def _record(env: Delivering, claim: Claim, batch: list[Answer]) -> None:
    await persist(lambda: pushing.record(env.db, claim, batch, env.moment()))


async def _keep_lease(env: Delivering, claim: Claim, control: Control) -> None:
    """Renew the lease until the slot is lost; beside everything else: a slow database takes its time over answers."""
    full_s = (env.settings.lease - env.settings.heartbeat).total_seconds()
    while True:
        await asyncio.sleep(max(0.0, control.lease_until - time.monotonic() - full_s))
        try:
            await _renew(env, claim, control)
        except SlotLost:
            control.lost = True
            return


async def _renew(env: Delivering, claim: Claim, control: Control) -> None:
    async def once() -> None:
        asked = time.monotonic()
        await pushing.renew(env.db, claim, env.settings.lease, now=env.clock.now())
        control.lease_until = asked + env.settings.lease.total_seconds()

    await persist(once)


async def _next_batch(answers: asyncio.Queue[Answer], sending: asyncio.Future[Ending]) -> list[Answer]:
    """Return what was answered within half a second; sooner when the thread is done or a hundred are there."""
    batch: list[Answer] = []
    end = time.monotonic() + BATCH_S
    while len(batch) < BATCH:
        while not answers.empty() and len(batch) < BATCH:
            batch.append(answers.get_nowait())
        left = end - time.monotonic()
        if sending.done() or left <= 0:
            break
        arrived = asyncio.ensure_future(answers.get())
        both: set[asyncio.Future[Answer] | asyncio.Future[Ending]] = {arrived, sending}
        await asyncio.wait(both, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if arrived.done():
            batch.append(arrived.result())
        else:
            arrived.cancel()
            await asyncio.wait({arrived})
            if not arrived.cancelled():
                batch.append(arrived.result())
    return batch


async def persist(work: Callable[[], Awaitable[T]]) -> T:
    """Return the result of ``work``, tried until the database takes it. Raises SlotLost."""
    while True:
        try:
            return await work()
        except StorageError:
            await asyncio.sleep(RETRY_S)


def _log_claim(claim: Claim) -> None:
    for delivery_id in claim.delivery_ids:
        count = sum(i.delivery_id == delivery_id for i in claim.instances)
        log(
            DELIVERY_CLAIMED,
            delivery=delivery_id,
            destination=claim.ae,
            slot=claim.slot_n,
            token=claim.token,
            instances=count,
        )


def _log_failed(claim: Claim, batch: list[Answer]) -> None:
    for answer in batch:
        instance = answer.instance
        of: dict[str, int | str] = {
            "delivery": instance.delivery_id,
            "destination": claim.ae,
            "arrival": instance.arrival_id,
        }
        if answer.verdict is Verdict.REFUSED:
            log(INSTANCE_DEAD, **of, status=answer.error_code or status_code(answer.status))
        elif answer.verdict is Verdict.UNREADABLE:
            log(BLOB_NOT_SENT, **of, error=answer.error_code)


def _log_settled(env: Delivering, claim: Claim, settled: Settled, ending: Ending, seconds: float) -> None:
    for delivery_id, state in settled.states.items():
        env.metrics.deliveries.labels(claim.ae, state).inc()
        if state in ("SCHEDULED", "RETRY"):
            log(DELIVERY_RETRY, delivery=delivery_id, destination=claim.ae, reason=ending.trouble or state)
        else:
            log(
                DELIVERY_FINISHED,
                delivery=delivery_id,
                destination=claim.ae,
                state=state,
                seconds=round(seconds, 3),
            )
    if settled.was is BreakerState.CLOSED and settled.breaker is not BreakerState.CLOSED:
        env.metrics.breaker_opened.labels(claim.ae).inc()
        next_probe = str(settled.next_probe_at)
        log(BREAKER_OPENED, destination=claim.ae, reason=ending.trouble, next_probe=next_probe)
    if settled.was is not BreakerState.CLOSED and settled.breaker is BreakerState.CLOSED:
        log(BREAKER_CLOSED, destination=claim.ae)
