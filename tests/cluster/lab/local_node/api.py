"""A client of the API server, just large enough for a node: one object at a time, and watches that begin anew by
themselves.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

MERGE_PATCH = "application/merge-patch+json"
JSON = "application/json"

TRY_AGAIN_S = 0.5


@dataclass(frozen=True, slots=True)
class Change:
    """What a watch tells."""

    kind: str
    """LISTED (all there is now: what is not in it is gone), ADDED, MODIFIED or DELETED."""
    value: Mapping[str, Any]
    """The object; of LISTED the list."""


class Client:
    """Speaks as the user of a kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        said = json.loads(kubeconfig.read_text())
        cluster, user = said["clusters"][0]["cluster"], said["users"][0]["user"]
        self.url = httpx.URL(cluster["server"])
        trusted = ssl.create_default_context(cafile=cluster["certificate-authority"])
        trusted.load_cert_chain(user["client-certificate"], user["client-key"])
        limits = httpx.Limits(max_connections=20)
        self._http = httpx.AsyncClient(
            base_url=self.url, verify=trusted, timeout=30, limits=limits, trust_env=False
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def get(self, path: str) -> dict[str, Any] | None:
        """Return an object, None when there is none."""
        return await self.send("GET", path)

    async def send(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, kind: str = JSON
    ) -> dict[str, Any] | None:
        """Return the answer, None for 404; tried again for as long as the API server is away or busy.

        Raises httpx.HTTPStatusError for any other refusal.
        """
        while True:
            try:
                answer = await self._http.request(
                    method,
                    path,
                    content=None if body is None else json.dumps(body),
                    headers={"Content-Type": kind},
                )
            except httpx.TransportError:
                await moment()
                continue
            if answer.status_code == 429 or answer.status_code >= 500:
                await moment()
                continue
            if answer.status_code == 404:
                return None
            answer.raise_for_status()
            found: dict[str, Any] = answer.json()
            return found

    async def watch(self, path: str, **selectors: str) -> AsyncIterator[Change]:
        """Yield everything that happens to the objects of a path, for ever."""
        while True:
            listed = await self.send("GET", str(httpx.URL(path, params=selectors)))
            if listed is None:
                raise LookupError(f"{path} must be something that the API server has")
            yield Change("LISTED", listed)
            version = listed["metadata"]["resourceVersion"]
            asked = {**selectors, "watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true"}
            try:
                async for change in self._changes(path, asked):
                    yield change
            except httpx.TransportError:
                await moment()

    async def _changes(self, path: str, asked: Mapping[str, str]) -> AsyncIterator[Change]:
        timeout = httpx.Timeout(30, read=None)
        async with self._http.stream("GET", path, params=asked, timeout=timeout) as answer:
            if answer.status_code != 200:
                return
            async for line in answer.aiter_lines():
                event = json.loads(line)
                if event["type"] == "ERROR":  # too old: list again
                    return
                if event["type"] != "BOOKMARK":
                    yield Change(event["type"], event["object"])


async def moment(seconds: float = TRY_AGAIN_S) -> None:
    """Let some time pass."""
    await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=seconds)
