"""The way between an operator and its API server, for a test to spoil: cut, silent, slow. What goes through is TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.integration.waiting import take_s

_CHUNK_BYTES = 1 << 16


@dataclass
class Wire:
    """Relays connections to ``server``, each in two directions."""

    server: str
    delay_s: float = 0.0
    """How long each piece takes, in each direction."""
    is_cut: bool = False
    """Whether new connections are closed at once."""
    port: int = 0
    taken: int = 0
    """How many connections were opened, or tried."""
    _open: dict[asyncio.StreamWriter, asyncio.Event] = field(default_factory=dict)
    """Our side of each connection; the event: whether it still says anything."""
    _relays: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        """What the operator is to call."""
        return f"https://{urlsplit(self.server).hostname}:{self.port}"

    def cut(self) -> None:
        """End every connection, and let no new one through."""
        self.is_cut = True
        for writer in self._open:
            writer.transport.abort()

    def mend(self) -> None:
        """Let new connections through, at once."""
        self.is_cut, self.delay_s = False, 0.0

    def silence(self) -> int:
        """Let the connections that are open stay so and say nothing more; return how many there are."""
        for talks in self._open.values():
            talks.clear()
        return len(self._open)

    def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, in a task of its own."""
        self.taken += 1
        task = asyncio.create_task(self._relay(reader, writer))
        self._relays.add(task)
        task.add_done_callback(self._relays.discard)

    async def close(self) -> None:
        """End every connection; returns when none is served any more."""
        self.cut()
        for task in self._relays:
            task.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_cut:
            writer.transport.abort()
            return
        talks = asyncio.Event()
        talks.set()
        self._open[writer] = talks
        behind_writer = None
        try:
            target = urlsplit(self.server)
            behind_reader, behind_writer = await asyncio.open_connection(target.hostname, target.port)
            await asyncio.gather(
                self._copy(reader, behind_writer, talks), self._copy(behind_reader, writer, talks)
            )
        except OSError:
            pass  # one side is gone, and with it the other
        finally:
            del self._open[writer]
            for side in (writer, behind_writer):
                if side is not None:
                    side.transport.abort()

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, talks: asyncio.Event
    ) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            if self.delay_s:
                await take_s(self.delay_s)
            await talks.wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError


@asynccontextmanager
async def wire_to(server: str) -> AsyncIterator[Wire]:
    """Listen beside an API server, on its own address: its certificate is good there too."""
    wire = Wire(server)
    listening = await asyncio.start_server(wire.take, urlsplit(server).hostname, 0)
    wire.port = listening.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        listening.close()
        await wire.close()
