"""What a listener tells the audit of its associations, by its journal in the spool; the indexer takes that up.

An association's beginning and end are written by its own thread, before anything else happens. Refusals are counted by
the entrance, which must not wait for a disk, and written a moment later: the first of its kind in a minute by itself,
what repeats it with the count. So ten thousand refusals of a scanner become a few hundred rows at most.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.events import AUDIT_RECORDS_MISSED, Log
from aegate_core.stores.spool import AssociationRecord, Happened, Journal
from aegate_scp.metrics import ListenerMetrics
from aegate_scp.receive import Peer

WINDOW_S = 60.0
"""How long refusals of one kind are counted before the next of them is told by itself."""
MOST_KINDS = 100
"""Of refusals in a window; of more kinds the reason and the count alone are told. By feel: a ward's mistakes, not a
scanner's tries."""
TURN_S = 1.0
_PAUSE_S = 0.1
"""Between two turns, at least, however many refusals wake us."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A kind of refusal: equal ones are counted together."""

    reason: str
    ae: ResourceKey | None = None
    calling: str | None = None
    """None, with the peer: of many."""
    called: str | None = None
    peer: str = ""


@dataclass(slots=True)
class _Counted:
    """How often it happened, and how much of that is written."""

    since: datetime
    until: datetime
    untold: int = 0
    is_told: bool = False


class AssociationLog:
    """Write the journal of one listener, from `start` to `stop`."""

    def __init__(
        self,
        journal: Journal,
        metrics: ListenerMetrics,
        *,
        now: Callable[[], datetime],
        window_s: float = WINDOW_S,
    ) -> None:
        self._journal = journal
        self._metrics = metrics
        self._now = now
        self._window_s = window_s
        self._window_ends_s: float | None = None
        self._lock = threading.Lock()
        self._refused: dict[Refusal, _Counted] = {}
        self._missed = 0
        self._wake = threading.Event()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="audit-journal", daemon=True)

    def start(self) -> None:
        """Begin to write refusals, and to bring all to the disk."""
        self._thread.start()

    def accepted(self, peer: Peer, contexts: int) -> None:
        """Tell that an association begins."""
        self._tell(Happened.ACCEPTED, peer, {"contexts": contexts})

    def ended(self, peer: Peer, detail: dict[str, object]) -> None:
        """Tell how it ended, and what was received by it."""
        self._tell(Happened.ENDED, peer, detail)

    def refused(self, refusal: Refusal) -> None:
        """Count a refusal. Never waits for the disk."""
        now = self._now()
        with self._lock:
            if refusal not in self._refused and len(self._refused) >= MOST_KINDS:
                refusal = Refusal(refusal.reason)
            counted = self._refused.setdefault(refusal, _Counted(now, now))
            if not counted.untold:
                counted.since = now
            counted.until = now
            counted.untold += 1
        self._wake.set()

    def stop(self) -> None:
        """Write all there is."""
        self._is_stopping = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=5)
        self._write_refusals(is_end=True)
        with suppress(OSError):
            self._journal.close()

    def _tell(self, happened: Happened, peer: Peer, detail: dict[str, object]) -> None:
        titles = {"callingTitle": peer.calling_title, "calledTitle": peer.called_title}
        said = {"association": peer.association} | titles | detail
        record = AssociationRecord(happened, self._now(), peer.ae, peer.address, said)
        if not self._journal.write(record.to_line()):
            with self._lock:
                self._missed += 1
                is_first = self._missed == 1
            self._metrics.missed_records.inc()
            if is_first:
                Log("scp")(AUDIT_RECORDS_MISSED, count=1)
        self._wake.set()

    def _run(self) -> None:
        while not self._is_stopping:
            self._wake.wait(TURN_S if self._has_work() else None)
            self._wake.clear()
            self._turn()
            if not self._is_stopping:
                time.sleep(_PAUSE_S)

    def _has_work(self) -> bool:
        return bool(self._refused or self._missed or self._journal.is_open)

    def _turn(self) -> None:
        now_s = time.monotonic()
        if self._window_ends_s is None and self._refused:
            self._window_ends_s = now_s + self._window_s
        is_end = self._window_ends_s is not None and now_s >= self._window_ends_s
        self._write_refusals(is_end=is_end)
        self._write_missed()
        with suppress(OSError):  # it is tried again, and what cannot be written is counted
            self._journal.turn()

    def _write_refusals(self, *, is_end: bool) -> None:
        """Write what is new of its kind; at the end of a window what repeated it, too, and begin another one."""
        with self._lock:
            due = [
                (refusal, counted.since, counted.until, counted.untold)
                for refusal, counted in self._refused.items()
                if counted.untold and (is_end or not (counted.is_told or refusal.calling is None))
            ]
        # They may take a quarter: of what was accepted each one counts.
        written = {
            refusal: count
            for refusal, since, until, count in due
            if self._journal.size_bytes < self._journal.most_bytes // 4
            and self._journal.write(_record(refusal, since, until, count).to_line())
        }
        with self._lock:
            for refusal, count in written.items():
                self._refused[refusal].untold -= count
                self._refused[refusal].is_told = True
            if is_end:
                self._begin_window()

    def _begin_window(self) -> None:
        """Forget what is told; what could not be is kept by its reason alone."""
        kept: dict[Refusal, _Counted] = {}
        for refusal, counted in self._refused.items():
            if counted.untold:
                of_many = kept.setdefault(Refusal(refusal.reason), _Counted(counted.since, counted.until))
                of_many.since = min(of_many.since, counted.since)
                of_many.until = max(of_many.until, counted.until)
                of_many.untold += counted.untold
        self._refused, self._window_ends_s = kept, None

    def _write_missed(self) -> None:
        with self._lock:
            missed = self._missed
        record = AssociationRecord(Happened.MISSED, self._now(), detail={"count": missed})
        if missed and self._journal.write(record.to_line()):
            with self._lock:
                self._missed -= missed


def _record(refusal: Refusal, since: datetime, until: datetime, count: int) -> AssociationRecord:
    detail: dict[str, object] = {"reason": refusal.reason, "count": count}
    if refusal.calling is not None:
        detail |= {"callingTitle": refusal.calling, "calledTitle": refusal.called}
    if count > 1:
        detail["since"] = since.isoformat()
    return AssociationRecord(Happened.REFUSED, until, refusal.ae, refusal.peer, detail)
