"""What listeners say of themselves on their health port, ``GET /state``: which configuration each pod has in force.

Asked often while a pod is not yet where it should be, rarely afterwards. A pod that does not answer is told from one
that has not been asked.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import aiohttp

from aegate_core.dicom.identifiers import ResourceKey
from aegate_operator.pods import Pod
from aegate_operator.work_queue import WorkQueue

HEALTH_PORT = 8080
TIMEOUT_S = 3.0
SOON_S = 0.5
"""How often a pod is asked that is not where it should be: an edit is in force within five seconds, and known."""
LATER_S = 5.0
"""The same after half a minute."""
RARELY_S = 60.0
"""How often all others are asked: for certificates that run out."""
PATIENCE_S = 30.0
READERS = 16
LARGEST_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Report:
    """What one pod said."""

    revision: str = ""
    state: str = ""
    message: str = ""
    problem: str = ""
    """Why it said nothing that can be used; empty: it did."""
    certificate_problem: str = ""
    certificate_message: str = ""
    certificate_ends_at: str = ""
    entities: Mapping[str, str] = field(default_factory=dict)
    """Of a pool's pod: the revision of each file of AEs."""


def stand(revision: str, entities: Mapping[str, str]) -> str:
    """Return one word for all that a pod has in force: the revision itself where it has one file."""
    if not entities:
        return revision
    return hashlib.sha256(json.dumps(sorted(entities.items())).encode()).hexdigest()


class StateReader(Protocol):
    """Asks a pod how it is."""

    async def read(self, pod: Pod) -> Report:
        """Return its answer, or one with a problem. Never raises for what a pod does."""
        ...


class HTTPStateReader:
    """The reader for real pods. Use as an async context manager."""

    def __init__(self, *, port: int = HEALTH_PORT, timeout_s: float = TIMEOUT_S) -> None:
        self._port = port
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> HTTPStateReader:
        self._session = aiohttp.ClientSession(timeout=self._timeout, trust_env=False)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def read(self, pod: Pod) -> Report:
        """Return its answer, or one with a problem."""
        host = f"[{pod.address}]" if ":" in pod.address else pod.address
        if self._session is None:
            raise AssertionError("the reader is used as an async context manager")
        try:
            async with self._session.get(f"http://{host}:{self._port}/state") as response:
                raw = await response.content.read(LARGEST_BYTES)
                return read_report(raw) if response.status == 200 else _no_report(f"HTTP {response.status}")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return _no_report(type(error).__name__)


def _no_report(why: str) -> Report:
    return Report(problem=f"does not answer on its health port ({why})")


def read_report(raw: bytes) -> Report:
    """Return the report in an answer; one of another form is a problem of its own."""
    try:
        said = json.loads(raw)
        certificate = said.get("certificate") or {}
        return Report(
            revision=str(said["revision"]),
            entities={str(name): str(r) for name, r in (said.get("entities") or {}).items()},
            state=str(said["state"]),
            message=str(said.get("message") or ""),
            certificate_problem=str(certificate.get("problem") or ""),
            certificate_message=str(certificate.get("message") or ""),
            certificate_ends_at=str(certificate.get("notAfter") or ""),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return Report(problem=f"answers on its health port in another form ({type(error).__name__})")


@dataclass(slots=True)
class _Watched:
    pod: Pod
    entity: ResourceKey
    wished: str
    since: float
    """When pod or wish changed last."""
    report: Report | None = None


class Reports:
    """The newest report of every pod; ``changed`` is told of an AE whose pods say something new."""

    def __init__(
        self, reader: StateReader, *, changed: Callable[[ResourceKey], None], clock: Callable[[], float]
    ) -> None:
        self._reader = reader
        self._changed = changed
        self._clock = clock
        self._queue: WorkQueue[str] = WorkQueue(clock=clock)
        self._watched: dict[str, _Watched] = {}
        self._of: dict[ResourceKey, set[str]] = {}

    def of(self, pods: Mapping[str, Pod]) -> dict[str, Report]:
        """Return the reports of those pods that have been asked."""
        known = ((uid, self._watched.get(uid)) for uid in pods)
        return {uid: w.report for uid, w in known if w is not None and w.report is not None}

    def watch(self, entity: ResourceKey, pods: Mapping[str, Pod], wished: str) -> None:
        """Ask these pods of ``entity`` until they have ``wished`` in force; all others of it are forgotten."""
        for uid in self._of.pop(entity, set()) - pods.keys():
            self._watched.pop(uid, None)
        if pods:
            self._of[entity] = set(pods)
        for uid, pod in pods.items():
            before = self._watched.get(uid)
            if before is not None and (before.pod, before.wished) == (pod, wished):
                continue
            is_new = before is None or before.wished != wished
            since = self._clock() if is_new or before is None else before.since
            self._watched[uid] = _Watched(pod, entity, wished, since, before.report if before else None)
            self._queue.add(uid)

    async def run(self) -> None:
        """Ask, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(READERS):
                group.create_task(self._ask())

    async def _ask(self) -> None:
        while True:
            uid = await self._queue.get()
            try:
                watched = self._watched.get(uid)
                # Also one that is not ready: without its certificate it never will be, and says so here.
                if watched is not None and watched.pod.address and not watched.pod.is_leaving:
                    report = await self._reader.read(watched.pod)
                    self._take(uid, report)
            finally:
                self._queue.done(uid)

    def _take(self, uid: str, report: Report) -> None:
        watched = self._watched.get(uid)
        if watched is None:
            return
        is_news, watched.report = report != watched.report, report
        if (
            stand(report.revision, report.entities) == watched.wished
            and report.state == "ready"
            and not report.problem
        ):
            delay_s = RARELY_S
        else:
            delay_s = SOON_S if self._clock() - watched.since < PATIENCE_S else LATER_S
        self._queue.add(uid, delay_s=delay_s)
        if is_news:
            self._changed(watched.entity)
