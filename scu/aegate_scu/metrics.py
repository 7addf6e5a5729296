"""What a worker counts, for Prometheus. Labels are AE keys and fixed words, never a patient's."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_OUTCOMES = ("ROUTED", "NO_ROUTE", "STORED")
"""Of a close, as `aegate_core.services.studies.Closed` names them."""


class WorkerMetrics:
    """One registry a process (a test makes its own)."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.open_associations = Gauge(
            "aegate_push_associations_open", "Slots that this worker holds now.", ["ae"], registry=registry
        )
        self.instances = Counter(
            "aegate_instances_pushed", "C-STORE outcomes, by verdict.", ["ae", "verdict"], registry=registry
        )
        self.push_seconds = Histogram(
            "aegate_push_seconds", "From C-STORE-RQ to its answer.", buckets=_SECONDS, registry=registry
        )
        self.deliveries = Counter(
            "aegate_deliveries_settled",
            "Deliveries, by the state they went to.",
            ["ae", "state"],
            registry=registry,
        )
        self.breaker_opened = Counter(
            "aegate_breaker_opened", "Breakers that opened in this worker.", ["ae"], registry=registry
        )
        self.in_trouble = Gauge(
            "aegate_destination_in_trouble",
            "1: nothing is sent there until it stores again; absent: it is well, held or disabled.",
            ["ae"],
            registry=registry,
        )
        self.probes = Counter("aegate_probes", "Probes, by answer.", ["ae", "answer"], registry=registry)
        self.slots_lost = Counter("aegate_slots_lost", "Leases that ran out while held.", registry=registry)
        self.returned = Counter(
            "aegate_work_returned", "Deliveries of lost workers taken back.", registry=registry
        )
        self.closed = Counter(
            "aegate_units_closed", "Close units closed, by outcome.", ["outcome"], registry=registry
        )
        for outcome in _OUTCOMES:  # an alert that asks for the increase does not see the first one otherwise
            self.closed.labels(outcome)
        self.audit_waiting = Gauge(
            "aegate_audit_waiting",
            "Audit rows that the collector has not taken; 100,000 stands for more.",
            registry=registry,
        )
        self.is_collector_away = Gauge(
            "aegate_audit_collector_away", "1: the audit collector does not take it.", registry=registry
        )
        self.is_database_away = Gauge(
            "aegate_database_away", "1: the database does not answer.", registry=registry
        )
        self.operations_failed = Gauge(
            "aegate_operations_failed",
            "Changes of many that failed within a day, and that nobody resumed.",
            registry=registry,
        )
        self.certificate_not_after = Gauge(
            "aegate_client_certificate_not_after_seconds",
            "When the certificate that is shown with push.tls expires, as Unix time; none where there is none.",
            ["file"],
            registry=registry,
        )

    def identified(self, expires_at: datetime | None) -> None:
        """Show when our identity expires; None: there is none that could be read."""
        self.certificate_not_after.clear()
        if expires_at is not None:
            self.certificate_not_after.labels("tls.crt").set(expires_at.timestamp())

    def troubled(self, destinations: Iterable[str]) -> None:
        """Show these destinations, and no others, as in trouble."""
        self.in_trouble.clear()
        for ae in destinations:
            self.in_trouble.labels(ae).set(1)
