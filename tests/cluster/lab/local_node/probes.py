"""Probes as kubelet makes them: over HTTP or TCP at the pod's address, or by a command; how often, and what counts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx

from tests.cluster.lab.local_node.api import moment
from tests.cluster.lab.local_node.specs import Manifest, port_number

Execute = Callable[[list[str], float], Awaitable[int]]
"""Run a command beside the container for at most so many seconds and return its exit code; 124 when it took longer.
"""


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe of a container."""

    said: Manifest
    container: Manifest
    ip: str
    execute: Execute

    async def follow(self, tell: Callable[[bool], Awaitable[None]]) -> None:
        """Probe for ever, and ``tell`` each time when enough in a row succeeded or failed."""
        await moment(self.said.get("initialDelaySeconds", 0))
        needed = {
            True: self.said.get("successThreshold", 1),
            False: self.said.get("failureThreshold", 3),
        }
        last, in_a_row = False, 0
        while True:
            good = await self.once()
            in_a_row = in_a_row + 1 if good is last else 1
            last = good
            if in_a_row >= needed[good]:
                await tell(good)
            await moment(self.said.get("periodSeconds", 10))

    async def once(self) -> bool:
        """Probe one time."""
        timeout_s = self.said.get("timeoutSeconds", 1)
        if http := self.said.get("httpGet"):
            return await self._http(http, timeout_s)
        if tcp := self.said.get("tcpSocket"):
            return await self._tcp(port_number(self.container, tcp["port"]), timeout_s)
        return await self.execute(self.said["exec"]["command"], timeout_s) == 0

    async def _http(self, said: Manifest, timeout_s: float) -> bool:
        host, port = said.get("host") or self.ip, port_number(self.container, said["port"])
        url = f"{said.get('scheme', 'HTTP').lower()}://{host}:{port}{said.get('path', '/')}"
        headers = {h["name"]: h["value"] for h in said.get("httpHeaders", [])}
        try:
            async with httpx.AsyncClient(verify=False, timeout=timeout_s, trust_env=False) as client:
                answer = await client.get(url, headers=headers)
        except httpx.HTTPError:
            return False
        return 200 <= answer.status_code < 400

    async def _tcp(self, port: int, timeout_s: float) -> bool:
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(self.ip, port), timeout_s)
        except OSError:  # a timeout is one, too
            return False
        writer.close()
        return True
