"""List everything: once before anything is done, then every ten minutes, and soon after a watch had to begin anew.

Nothing is pruned, buried or decided before every list is complete: half a list looks like many deletions.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aegate_core.errors import ClusterError
from aegate_core.events import CLUSTER_AWAY, CLUSTER_BACK, GHOSTS_FOUND, LISTED, Log
from aegate_core.resources.reference import ResourceRef
from aegate_core.stores.cluster.client import ClusterClient, Listing
from aegate_core.stores.cluster.kinds import POD
from aegate_operator.cache import CHILDREN, DECLARED, frozen
from aegate_operator.informer import Informer, Scope
from aegate_operator.metrics import OperatorMetrics

INTERVAL_S = 600.0
SPREAD_S = 60.0
"""Over how long the compares after a resync are spread."""
RETRY_S = 2.0
GATHER_S = 2.0
"""After an API server was away all watches begin anew, each in its own time: one list serves them all."""
PAGE = 100
"""Objects in one answer of a list. As Python has them, a hundred Deployments or pods take 10 MB, and memory that was
taken once is seldom given back."""
LABELS = "app.kubernetes.io/managed-by=aegate-operator"
"""Of all children and their pods: asked of the API server, so that nobody else's objects come."""

log = Log("operator")


@dataclass(frozen=True, slots=True)
class ResyncTimes:
    """When it is done; a test makes them short."""

    interval_s: float = INTERVAL_S
    spread_s: float = SPREAD_S
    retry_s: float = RETRY_S
    gather_s: float = GATHER_S
    jitter: Callable[[], float] = random.random

    def next_s(self) -> float:
        """Return how long until the next one: 10 minutes, 10 % more or less."""
        return self.interval_s * (0.9 + 0.2 * self.jitter())


def scopes(namespaces: Sequence[str]) -> list[Scope]:
    """Return all lists and watches; without namespaces they are of the whole cluster. Children come first.

    So that an AE, when it is taken up, is known to have children already.
    """
    return [
        Scope(kind, namespace) for kind in (*CHILDREN, POD, *DECLARED) for namespace in (namespaces or ("",))
    ]


class Resync:
    """Lists, and has everything compared."""

    def __init__(
        self,
        client: ClusterClient,
        informer: Informer,
        metrics: OperatorMetrics,
        scopes: Sequence[Scope],
        times: ResyncTimes,
    ) -> None:
        self._client = client
        self._informer = informer
        self._metrics = metrics
        self._scopes = scopes
        self._times = times
        self._wanted = asyncio.Event()
        self._away_since: float | None = None
        self.trouble = "not everything has been listed yet"
        """Why there is no whole list; empty: there is one."""

    def soon(self) -> None:
        """Do it soon: a watch may have missed something."""
        self._wanted.set()

    async def first(self) -> None:
        """List everything; return when every list is complete, however long the API server is away."""
        while True:
            if await self._try():
                return
            await asyncio.sleep(self._times.retry_s)

    async def run(self, *, enqueue: Callable[[ResourceRef, float], None], done: Callable[[], None]) -> None:
        """Do it again and again, until cancelled; ``enqueue`` gets each resource and after how long to look at it."""
        delay_s = self._times.next_s()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._wanted.wait()
                await asyncio.sleep(self._times.gather_s)
            self._wanted.clear()
            if await self._try():
                for ref in self._informer.everything():
                    enqueue(ref, self._times.jitter() * self._times.spread_s)
                done()
                delay_s = self._times.next_s()
            else:
                delay_s = self._times.retry_s

    async def _try(self) -> bool:
        began = time.monotonic()
        try:
            listings = [(scope, await self._list(scope)) for scope in self._scopes]
        except ClusterError as error:
            self.trouble = error.message
            if self._away_since is None:
                self._away_since = began
                log(CLUSTER_AWAY, error=error.message, retry_s=self._times.retry_s)
            return False
        if self._away_since is not None:
            log(CLUSTER_BACK, away_s=round(time.monotonic() - self._away_since, 1))
            self._away_since = None
        self.trouble = ""
        for scope, listing in listings:
            ghosts = self._informer.listed(scope, listing)
            if ghosts:
                self._metrics.ghosts.inc(ghosts)
                log(GHOSTS_FOUND, kind=scope.kind.name, count=ghosts)
        objects = sum(len(listing.items) for _, listing in listings)
        log(LISTED, objects=objects, seconds=round(time.monotonic() - began, 2))
        return True

    async def _list(self, scope: Scope) -> Listing[bytes]:
        labels = "" if scope.kind in DECLARED else LABELS
        return await self._client.list_kept(
            scope.kind, keep=frozen, namespace=scope.namespace, labels=labels, limit=PAGE
        )
