"""The audit's export as a step of a worker's loop: one worker has the lease, sends what waits, and strikes it out.

The lease is kept also while nothing waits: it is the sign of life by which workers without a collector leave it alone.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from aegate_core.database import Database, DatabaseClock
from aegate_core.events import AUDIT_COLLECTOR_AWAY, AUDIT_COLLECTOR_BACK, AUDIT_COLLECTOR_GONE, Log
from aegate_core.services.audit_export import BATCH, next_messages
from aegate_core.stores.index import audit_outbox
from aegate_scu.collector import Collector, CollectorAway
from aegate_scu.metrics import WorkerMetrics
from aegate_scu.settings import WorkerSettings

LEASE = timedelta(seconds=60)
"""Longer than a batch may take: connect, send, stand."""
RENEWAL = timedelta(seconds=20)
"""How often the lease is kept while nothing waits. Two may be missed."""

log = Log("scu")


class AuditExport:
    """What a worker does for the export; without an address it sees to it that nothing waits for nobody for long."""

    def __init__(
        self, db: Database, clock: DatabaseClock, settings: WorkerSettings, metrics: WorkerMetrics
    ) -> None:
        address = settings.collector
        self._db = db
        self._clock = clock
        self._collector = Collector(address) if address else None
        self._name = str(address) if address else None
        self._source = settings.audit_source
        self._worker = settings.worker
        self._metrics = metrics
        self._was_declared = False
        self._renew_at: datetime | None = None
        self.trouble: str | None = None
        """Why the collector does not take the audit; None: it does, or another worker exports."""

    async def step(self) -> None:
        """Send what waits, until nothing does or the collector is away. Raises StorageError."""
        await self._show_life()
        while self._collector is not None and self._name is not None:
            waiting = await audit_outbox.count_waiting(self._db)
            self._metrics.audit_waiting.set(waiting)
            if not waiting:
                return
            if not await self._is_ours(self._name):
                self.trouble = None
                return
            messages = await next_messages(self._db, self._source)
            if not messages:
                return
            try:
                await self._collector.send(messages)
            except CollectorAway as away:
                await self._note(str(away))
                return
            await self._note(None)
            ids = [message.id for message in messages]
            now = self._clock.now()
            await self._db.atomically(lambda tx, i=ids, n=now: self._struck(tx, i, n))  # type: ignore[misc]
            if len(messages) < BATCH:
                return

    async def end(self) -> None:
        """Close the connection and let another worker go on. Raises StorageError."""
        if self._collector is not None and self._name is not None:
            await self._collector.close()
            await audit_outbox.release(self._db, self._name, self._worker, now=self._clock.now())

    async def _show_life(self) -> None:
        """Keep the lease, and declare the collector where it is not known, or no more."""
        now = self._clock.now()
        if self._renew_at is not None and now < self._renew_at:
            return
        if self._name is None:
            await self._db.atomically(self._declare)
        elif not await self._is_ours(self._name) and not await audit_outbox.is_declared(self._db, self._name):
            is_new = await self._db.atomically(self._declare)
            if is_new and self._was_declared:
                log(AUDIT_COLLECTOR_GONE, collector=self._name)
            await self._is_ours(self._name)
        self._was_declared = True
        self._renew_at = now + RENEWAL

    async def _declare(self, tx: Database) -> bool:
        return await audit_outbox.set_collector(tx, self._name, now=self._clock.now())

    async def _is_ours(self, name: str) -> bool:
        now = self._clock.now()
        return await audit_outbox.lease(self._db, name, self._worker, until=now + LEASE, now=now)

    async def _struck(self, tx: Database, ids: list[int], now: datetime) -> None:
        assert self._name is not None, "only what has a collector is struck out"
        await audit_outbox.taken(tx, self._name, ids, now=now)

    async def _note(self, trouble: str | None) -> None:
        was, self.trouble = self.trouble, trouble
        self._metrics.is_collector_away.set(trouble is not None)
        if trouble is not None and trouble != was:
            log(AUDIT_COLLECTOR_AWAY, error=trouble)
            if self._name is not None:
                await audit_outbox.failed(self._db, self._name, trouble)
        elif was is not None and trouble is None:
            log(AUDIT_COLLECTOR_BACK)
