"""What an indexer counts, for Prometheus. Labels are AE keys and fixed words: never a title off the wire, never a
patient.
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from aegate_core.services.intake import BatchResult
from aegate_core.stores.index.progress import Waiting

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class IndexerMetrics:
    """One registry a process (a test makes its own)."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.arrivals = Counter(
            "aegate_arrivals_indexed",
            "Arrivals taken into the index, by outcome.",
            ["outcome"],
            registry=registry,
        )
        self.batch_seconds = Histogram(
            "aegate_index_batch_seconds",
            "From spool to commit of a batch.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.waiting = Gauge(
            "aegate_spool_arrivals", "Acknowledged, not yet indexed.", ["ae"], registry=registry
        )
        self.unreadable = Gauge(
            "aegate_spool_unreadable", "Acknowledged, cannot be read from the disk now.", registry=registry
        )
        self.is_database_away = Gauge(
            "aegate_database_away", "1: the database does not answer.", registry=registry
        )
        self.scanned_at = Gauge(
            "aegate_spool_scanned_timestamp_seconds",
            "When the spool was last looked into.",
            registry=registry,
        )

    def count(self, result: BatchResult, seconds: float) -> None:
        """Count a batch in."""
        self.arrivals.labels("NEW").inc(result.new)
        self.arrivals.labels("DUPLICATE").inc(result.duplicates)
        self.arrivals.labels("CONFLICT").inc(result.conflicts)
        self.arrivals.labels("QUARANTINED").inc(result.quarantined)
        self.batch_seconds.observe(seconds)

    def show_waiting(self, waiting: Mapping[str, Waiting]) -> None:
        """Show what waits now; AEs without anything disappear."""
        self.waiting.clear()
        for ae, what in waiting.items():
            self.waiting.labels(ae).set(what.arrivals)
