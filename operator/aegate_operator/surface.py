"""What the operator's steps work on: the cluster as it is known, and the ways to change it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from aegate_core.resources.reference import ResourceRef
from aegate_core.stores.cluster.client import ClusterClient
from aegate_core.stores.cluster.occasions import Reporter
from aegate_operator.cache import Cache
from aegate_operator.declared import Declared
from aegate_operator.installation import Installation
from aegate_operator.metrics import OperatorMetrics
from aegate_operator.reports import Reports
from aegate_operator.rollout import RolloutGate


class Enqueue(Protocol):
    """Has something looked at soon."""

    def __call__(self, key: ResourceRef, *, delay_s: float = 0.0) -> None:
        """Look at ``key`` after ``delay_s``, or earlier when that was said before."""


@dataclass(frozen=True)
class Surface:
    """All of it."""

    client: ClusterClient
    cache: Cache
    declared: Declared
    reports: Reports
    gate: RolloutGate
    installation: Installation
    metrics: OperatorMetrics
    reporter: Reporter
    enqueue: Enqueue
    """Look at another resource soon."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
