"""A hundred connections that send rubbish until they are told to end: the other process of `attackers`."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections import Counter
from collections.abc import Callable

import httpx

from tests.integration.api.attacks import OVER_HTTP, Asked

_fresh = itertools.count()

Attack = Callable[[], bytes]


def _body(name: str) -> Attack:
    """Return what makes the body of an attack of the table, each time another document, so that none is known."""
    (attack,) = (a for a in OVER_HTTP if isinstance(a, Asked) and a.name == name)

    def make() -> bytes:
        query = f"{attack.query}#{next(_fresh)}"
        return json.dumps({"query": query, "variables": dict(attack.variables)}).encode()

    return make


KINDS: dict[str, tuple[Attack, bool]] = {
    "documents of 1 MiB": (_body("a document of 1 MiB"), True),
    "unknown fields": (_body("a thousand unknown fields"), True),
    "unknown input fields": (_body("hundreds of unknown input fields"), True),
    "nested fragments": (_body("30 nested fragments"), True),
    "200,000 values": (_body("200,000 values nobody asked for"), True),
    "a search that finds nothing": (_body("operators of FTS5 in the search"), True),
    "no token": (lambda: b'{"query": "{ viewer { name } }"}', False),
    "1 MiB without a token": (lambda: b" " * 1_000_000, False),
}
"""What makes the body, and whether a token goes along."""


class Attackers:
    """So many connections, each of which sends again as soon as it is answered."""

    def __init__(self, kind: str, url: str, token: str) -> None:
        self._make, signed_in = KINDS[kind]
        self._url = url
        self._headers = {"Content-Type": "application/json"}
        if signed_in:
            self._headers["Authorization"] = f"Bearer {token}"
        self._over = asyncio.Event()
        self._begun = asyncio.Event()
        self.seen: Counter[int] = Counter()

    async def run(self, connections: int) -> None:
        """Attack until standard input says something; tell when the first answer is there."""
        asyncio.get_running_loop().add_reader(sys.stdin, self._over.set)
        attackers = [asyncio.create_task(self._attack()) for _ in range(connections)]
        await self._begun.wait()
        print("attacking", flush=True)
        await self._over.wait()
        for attacker in attackers:
            attacker.cancel()
        await asyncio.gather(*attackers, return_exceptions=True)

    async def _attack(self) -> None:
        while not self._over.is_set():
            async with httpx.AsyncClient(base_url=self._url, timeout=60, verify=False) as client:
                try:
                    while not self._over.is_set():
                        answer = await client.post("/graphql", content=self._make(), headers=self._headers)
                        self.seen[answer.status_code] += 1
                        self._begun.set()
                except httpx.HTTPError:
                    self.seen[0] += 1


def main() -> int:
    """Attack, and print how often each status came back."""
    kind, url, token, connections = sys.argv[1:]
    attackers = Attackers(kind, url, token)
    asyncio.run(attackers.run(int(connections)))
    print(", ".join(f"{status or 'cut'}: {count}" for status, count in sorted(attackers.seen.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
