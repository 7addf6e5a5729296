"""The operator put together: lists first, then watches and workers, the rows beside them, all in one event loop."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import aiohttp

from aegate_core.database import Database
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import AegateError, ClusterError
from aegate_core.events import RECONCILE_FAILED, Log, fault_text
from aegate_core.resources.crds import load_crds
from aegate_core.resources.reference import ResourceRef
from aegate_core.stores.cluster.client import ClusterClient
from aegate_core.stores.cluster.connection import ClusterConnection
from aegate_core.stores.cluster.kinds import APPLICATION_ENTITY
from aegate_core.stores.cluster.occasions import Reporter
from aegate_core.stores.cluster.session import RequestSeen, open_session
from aegate_operator.cache import Cache
from aegate_operator.declared import Declared
from aegate_operator.handlers import registry_of, watch
from aegate_operator.informer import Informer
from aegate_operator.liveness import Liveness
from aegate_operator.metrics import OperatorMetrics
from aegate_operator.pools import ref_of_pool
from aegate_operator.projection import Projection, ProjectionTimes
from aegate_operator.reconcile import Outcomes, Reconciler
from aegate_operator.reports import Reports, StateReader
from aegate_operator.resync import Resync, ResyncTimes, scopes
from aegate_operator.rollout import RolloutGate
from aegate_operator.settings import OperatorSettings
from aegate_operator.surface import Surface
from aegate_operator.watches import WatchBoard
from aegate_operator.work_queue import WorkQueue

MANAGER = "aegate-operator"
PROVE_EVERY_S = 5.0
FIRST_PASS_S = 60.0
"""How long rows wait at most for the first look at all: until then nobody knows how the listeners are."""

log = Log("operator")


@dataclass(frozen=True, slots=True)
class Times:
    """What a test makes short."""

    resync: ResyncTimes = field(default_factory=ResyncTimes)
    projection: ProjectionTimes = field(default_factory=ProjectionTimes)


class Operator:
    """Everything of one operator process but signals and health port."""

    def __init__(
        self,
        settings: OperatorSettings,
        connection: ClusterConnection,
        db: Database,
        reader: StateReader,
        *,
        times: Times | None = None,
    ) -> None:
        self.metrics = OperatorMetrics()
        self.queue: WorkQueue[ResourceRef] = WorkQueue(
            clock=time.monotonic, waited=self.metrics.queue_wait.observe
        )
        self.liveness = Liveness(time.monotonic, self.queue.longest_work_s)
        self.client = ClusterClient(connection, manager=MANAGER, seen=self._saw)
        times = times or Times()
        self._settings = settings
        self._connection = connection
        self._cache = Cache()
        installation = settings.installation
        self._declared = Declared(
            load_crds(),
            installation.watched_namespaces,
            release=f"{installation.namespace}/{installation.release}",
        )
        self._gate = RolloutGate(settings.installation.max_concurrent_rollouts, time.monotonic)
        self._reports = Reports(reader, changed=self._look_at_entity, clock=time.monotonic)
        outcomes = Outcomes()
        self.informer = Informer(
            self._cache,
            self._declared,
            self.queue.add,
            declared_changed=lambda ref: self.projection.edited(ref),
            installation=settings.installation,
        )
        self.projection = Projection(
            db,
            self._declared,
            outcomes,
            times=times.projection,
            locations_changed=self._look_at_everything,
        )
        outcomes.changed = self.projection.mark
        self._resync = Resync(
            self.client,
            self.informer,
            self.metrics,
            scopes(settings.installation.watched_namespaces),
            times.resync,
        )
        self.board = WatchBoard(self.liveness, begun_anew=self._resync.soon)
        self._reconciler = Reconciler(self._surface(), outcomes)
        self._outcomes = outcomes
        self._unmet: set[ResourceRef] = set()
        self._met_all = asyncio.Event()
        self._has_listed = False
        self.metrics.on_scrape(self.queue.__len__, self.liveness.silence_s, lambda: self._gate.counts)

    def trouble(self) -> str | None:
        """Return why it is not ready: until everything was listed, nothing is done."""
        if self._has_listed:
            return None
        return self._resync.trouble or "what the index holds is being read"

    def note(self) -> str | None:
        """Return what people should know though it is ready."""
        return "the database does not answer; rows will follow" if self.projection.is_away else None

    def projection_is_current(self) -> bool:
        """Whether everything was looked at and the rows say what is known."""
        return self._met_all.is_set() and not len(self.queue) and self.projection.is_current

    async def run(self, stop: asyncio.Event) -> None:
        """Do it until ``stop`` is set. Raises when kopf cannot go on."""
        async with self.client:
            stopping = asyncio.create_task(_until(stop))
            try:
                if await _first_of(stopping, asyncio.create_task(self._begin())):
                    works = [*self._works(), asyncio.create_task(self._watch(stop))]
                    await _first_of(stopping, *works)
            finally:
                stopping.cancel()

    async def _begin(self) -> None:
        await self._resync.first()
        self.liveness.resynced()
        await self.projection.prepare()
        self._unmet = set(self.informer.everything())
        for ref in self._unmet:
            self.queue.add(ref)
        if not self._unmet:
            self._met_all.set()
        self._has_listed = True

    def _resynced(self) -> None:
        self.liveness.resynced()
        self.projection.compared()

    def _works(self) -> list[asyncio.Task[None]]:
        workers = [self._work() for _ in range(self._settings.workers)]
        others = [
            self._project(),
            self._reports.run(),
            self._resync.run(
                enqueue=lambda ref, delay_s: self.queue.add(ref, delay_s=delay_s),
                done=self._resynced,
            ),
            self.board.run(),
            self._prove(),
        ]
        return [asyncio.create_task(work) for work in (*workers, *others)]

    async def _work(self) -> None:
        while True:
            ref = await self.queue.get()
            try:
                await self._look_at(ref)
            finally:
                self.queue.done(ref)
                self._unmet.discard(ref)
                if not self._unmet:
                    self._met_all.set()

    async def _look_at(self, ref: ResourceRef) -> None:
        began = time.monotonic()
        try:
            has_written = await self._reconciler.reconcile(ref)
        except AegateError as error:
            result = "refused" if isinstance(error, ClusterError) and error.status else "unavailable"
            self._again(ref, error.message, error.code)
        except Exception as error:
            # A worker's outermost loop: a fault in one AE must not keep the others from being looked after.
            result = "fault"
            self._again(ref, fault_text(error), "FAULT")
        else:
            result = "written" if has_written else "unchanged"
            self.queue.succeeded(ref)
            self.projection.looked_at(ref)
        self.metrics.reconciles.labels(result).inc()
        self.metrics.reconcile_seconds.observe(time.monotonic() - began)

    def _again(self, ref: ResourceRef, error: str, code: str) -> None:
        delay_s = self.queue.retry(ref)
        log(
            RECONCILE_FAILED,
            kind=ref.kind,
            namespace=ref.key.namespace,
            name=ref.key.name,
            error=error,
            code=code,
            retry_s=round(delay_s, 1),
        )

    async def _project(self) -> None:
        try:
            async with asyncio.timeout(FIRST_PASS_S):
                await self._met_all.wait()
        except TimeoutError:
            self._met_all.set()  # some AE keeps failing: the rows of all others must not wait for it
        await self.projection.run()

    async def _watch(self, stop: asyncio.Event) -> None:
        registry = registry_of(self.informer.saw, self._log_in)
        await watch(registry, namespaces=self._settings.installation.watched_namespaces, stop=stop)

    def _log_in(self) -> tuple[str, aiohttp.ClientSession]:
        session = open_session(self._connection, seen=self._saw_of_watches, agent=MANAGER)
        return self._connection.server, session

    async def _prove(self) -> None:
        """Ask the API server something when a watch is silent: a server that is away is no fault of ours."""
        while True:
            self.metrics.refresh()
            await asyncio.sleep(PROVE_EVERY_S)
            if self.liveness.needs_proof():
                namespaces = self._settings.installation.watched_namespaces or ("",)
                try:
                    async for _ in self.client.pages(APPLICATION_ENTITY, namespace=namespaces[0], limit=1):
                        break
                except ClusterError:
                    continue

    def _saw(self, request: RequestSeen) -> None:
        self.metrics.saw(request)
        if request.code and request.code < 500:
            self.liveness.answered()

    def _saw_of_watches(self, request: RequestSeen) -> None:
        self.metrics.saw(request)
        self.board.saw(request)

    def _look_at_entity(self, key: ResourceKey) -> None:
        self.queue.add(ref_of_pool(key) or ResourceRef(APPLICATION_ENTITY.name, key))

    def _look_at_everything(self) -> None:
        for ref in self.informer.everything():
            self.queue.add(ref)

    def _surface(self) -> Surface:
        return Surface(
            client=self.client,
            cache=self._cache,
            declared=self._declared,
            reports=self._reports,
            gate=self._gate,
            installation=self._settings.installation,
            metrics=self.metrics,
            reporter=Reporter("aegate.dev/operator", self._settings.instance),
            enqueue=self.queue.add,
        )


async def _until(stop: asyncio.Event) -> None:
    await stop.wait()


async def _first_of(stopping: asyncio.Task[None], *works: asyncio.Task[None]) -> bool:
    """Wait until one of ``works`` has ended, and end the others; False: it was told to stop. Raises what they raise."""
    try:
        await asyncio.wait({stopping, *works}, return_when=asyncio.FIRST_COMPLETED)
        for work in works:
            if work.done():
                work.result()
        return not stopping.done()
    finally:
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)
