"""How long each watch has said nothing, bookmarks included: kopf hands those to nobody, so the bytes are looked at.

The surprise: nothing is put between kopf and its watch. The session it uses tells of each answer, and an answer that is
still being read counts its bytes itself.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from aegate_core.stores.cluster.session import RequestSeen
from aegate_operator.liveness import Liveness

LOOK_EVERY_S = 5.0


@dataclass(slots=True)
class _Open:
    response: aiohttp.ClientResponse
    size_bytes: int = -1


class WatchBoard:
    """Sees the requests of the watching session.

    ``begun_anew``: a watch had to list again, and may have missed something.
    """

    def __init__(self, liveness: Liveness, *, begun_anew: Callable[[], None]) -> None:
        self._liveness = liveness
        self._begun_anew = begun_anew
        self._open: dict[str, _Open] = {}
        self._lists: Counter[str] = Counter()

    def saw(self, request: RequestSeen) -> None:
        """Take note of a request whose head was answered, or that failed."""
        if request.code and request.code < 500:
            self._liveness.answered()
        name = f"{request.resource} in {request.namespace or 'all namespaces'}"
        if request.verb == "watch":
            if request.response is not None and request.code == 200:
                self._open[name] = _Open(request.response)
                self._liveness.heard(name)
        elif request.verb == "list" and request.resource:
            self._lists[name] += 1
            if self._lists[name] > 1 and name in self._open:
                self._begun_anew()

    def look(self) -> None:
        """Take note of every watch on which something has come since the last look."""
        for name, watch in self._open.items():
            size_bytes = watch.response.content.total_bytes
            if size_bytes != watch.size_bytes:
                watch.size_bytes = size_bytes
                self._liveness.heard(name)

    async def run(self) -> None:
        """Look every few seconds, until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_EVERY_S)
