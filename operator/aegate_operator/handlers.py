"""Where kopf meets the operator: it watches and hands over each event, and does nothing else.

No handler patches, raises or indexes: no finalizer, no annotation, no index. kopf keeps its own book of nothing then,
and a restart has nothing to catch up with but lists. (Its index makes the start worse than linear; a worker limit
deadlocks with one, nolar/kopf#1243.)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import aiohttp
import kopf

from aegate_core.stores.cluster.client import Manifest
from aegate_core.stores.cluster.kinds import Kind
from aegate_operator.cache import DECLARED, WATCHED
from aegate_operator.resync import LABELS

Saw = Callable[[Kind, str | None, Manifest], None]

SERVER_TIMEOUT_S = 600
"""How long the API server keeps a watch open; then it is begun anew where it stood."""
_ERRORS_S = (1, 1, 2, 3, 5, 8, 13, 21, *[30] * 1_000)
"""Pauses between attempts while the API server says no: eight hours, then the process ends and is started anew."""

_LISTED_AT_ONCE = 50
"""Objects of a first list that are in memory at once, of each kind: what many take is never all given back."""
_TASK_RESTS_S = 0.1
"""How long kopf keeps a task for an object of which nothing new comes; each was one more while the first lists came."""


class _NoLastState(kopf.DiffBaseStorage):
    """Keeps no last handled state: kopf builds it for every event, by deep copies, though nobody asks for a diff."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        """Nothing is kept."""


class _NoProgress(kopf.ProgressStorage):
    """Keeps no progress of handlers: those of events have none."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        """Nothing is kept."""

    def purge(self, **_: Any) -> None:
        """Nothing is kept."""

    def touch(self, **_: Any) -> None:
        """Nothing is kept."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


def operator_settings() -> kopf.OperatorSettings:
    """Return how kopf watches."""
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.posting.enabled = False  # events of our own, on condition changes only
    settings.scanning.disabled = True  # kinds are known; namespaces are named, or all
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    settings.networking.error_backoffs = _ERRORS_S
    settings.watching.server_timeout = SERVER_TIMEOUT_S
    settings.watching.client_timeout = SERVER_TIMEOUT_S + 30
    settings.watching.connect_timeout = 10
    settings.watching.chunk_size = _LISTED_AT_ONCE
    settings.queueing.idle_timeout = _TASK_RESTS_S
    settings.persistence.diffbase_storage = _NoLastState()
    settings.persistence.progress_storage = _NoProgress()
    for kind in WATCHED:
        if kind not in DECLARED:
            settings.watching.label_selectors[kind.group, kind.version, kind.plural] = LABELS
    return settings


def registry_of(saw: Saw, login: Callable[[], tuple[str, aiohttp.ClientSession]]) -> kopf.OperatorRegistry:
    """Return handlers that hand each event of our kinds to ``saw``; ``login`` gives server and session."""
    registry = kopf.OperatorRegistry()

    async def log_in(**_: Any) -> kopf.AiohttpSession:
        server, session = login()
        return kopf.AiohttpSession(server=server, aiohttp_session=session)

    kopf.on.login(registry=registry)(log_in)
    for kind in WATCHED:
        kopf.on.event(kind.group, kind.version, kind.plural, registry=registry)(_handler(kind, saw))
    return registry


def _handler(kind: Kind, saw: Saw) -> Callable[..., Any]:
    async def handle(event: Any, **_: Any) -> None:
        saw(kind, event["type"], dict(event["object"]))

    handle.__name__ = f"saw_{kind.plural}"
    return handle


async def watch(registry: kopf.OperatorRegistry, *, namespaces: tuple[str, ...], stop: asyncio.Event) -> None:
    """Watch until ``stop`` is set, or until a signal. Raises what kopf cannot go on after."""
    logging.getLogger("kopf").setLevel(logging.WARNING)
    await kopf.operator(
        registry=registry,
        settings=operator_settings(),
        clusterwide=not namespaces,
        namespaces=namespaces,
        stop_flag=stop,
    )
