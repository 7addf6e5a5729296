"""What the operator counts, for Prometheus. Labels are kinds, names of AEs and fixed words."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.stores.cluster.session import RequestSeen

_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class OperatorMetrics:
    """One registry a process (a test makes its own)."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.reconciles = Counter(
            "aegate_operator_reconcile", "Looks at one resource, by result.", ["result"], registry=registry
        )
        self.reconcile_seconds = Histogram(
            "aegate_operator_reconcile_seconds",
            "How long a look took.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.queue_depth = Gauge(
            "aegate_operator_workqueue_depth", "Resources that are due or looked at.", registry=registry
        )
        self.queue_wait = Histogram(
            "aegate_operator_workqueue_wait_seconds",
            "From due to looked at.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.requests = Counter(
            "aegate_operator_api_requests",
            "Requests to the API server; code 0: no answer.",
            ["verb", "resource", "code"],
            registry=registry,
        )
        self.watch_age = Gauge(
            "aegate_operator_watch_last_event_seconds",
            "Since anything came on a watch, bookmarks included.",
            ["watch"],
            registry=registry,
        )
        self.ghosts = Counter(
            "aegate_operator_resync_ghosts", "Objects gone without a word of the watch.", registry=registry
        )
        self.drift = Counter(
            "aegate_operator_drift_repaired",
            "Children changed or deleted by others and put right.",
            ["kind"],
            registry=registry,
        )
        self.rollouts = Gauge(
            "aegate_operator_rollouts",
            "Listeners that roll, wait or failed because of the installation.",
            ["state"],
            registry=registry,
        )
        self.ready = Gauge(
            "aegate_ae_ready",
            "1 when the AE's Ready condition is True.",
            ["namespace", "name"],
            registry=registry,
        )
        self.certificate_ends = Gauge(
            "aegate_certificate_not_after",
            "When the listener's certificate ends, in seconds since 1970.",
            ["namespace", "name"],
            registry=registry,
        )

    def saw(self, request: RequestSeen) -> None:
        """Count a request to the API server."""
        self.requests.labels(request.verb, request.resource, str(request.code)).inc()

    def entity(self, key: ResourceKey, *, is_ready: bool, certificate_ends_at: str) -> None:
        """Show how an AE is."""
        self.ready.labels(key.namespace, key.name).set(is_ready)
        ends_at = _seconds(certificate_ends_at)
        if ends_at is None:
            _remove(self.certificate_ends, key)
        else:
            self.certificate_ends.labels(key.namespace, key.name).set(ends_at)

    def forget(self, key: ResourceKey) -> None:
        """Show nothing of an AE any more."""
        _remove(self.ready, key)
        _remove(self.certificate_ends, key)

    def on_scrape(
        self,
        depth: Callable[[], int],
        ages: Callable[[], Mapping[str, float]],
        rollouts: Callable[[], Mapping[str, int]],
    ) -> None:
        """Take these when they are asked for."""
        self.queue_depth.set_function(depth)
        self._ages, self._rollouts = ages, rollouts

    def refresh(self) -> None:
        """Bring up to date what is not counted but looked at."""
        for watch, age in self._ages().items():
            self.watch_age.labels(watch).set(age)
        for state, count in self._rollouts().items():
            self.rollouts.labels(state).set(count)


def _remove(gauge: Gauge, key: ResourceKey) -> None:
    with contextlib.suppress(KeyError):  # it was never shown
        gauge.remove(key.namespace, key.name)


def _seconds(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp() if text else None
    except ValueError:
        return None
