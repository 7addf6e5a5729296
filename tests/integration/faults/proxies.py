"""A TCP proxy before PostgreSQL that can be slow, deaf, cut or led elsewhere, and that lets statements fail.

A statement fails as PostgreSQL itself fails it: the server is made to raise the error in the very session, so that the
transaction is over there, too. The proxy knows of the protocol only what that needs (Frontend/Backend Protocol 3.0).
"""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.processes import free_port, is_listening
from tests.integration.waiting import eventually

_SSL, _GSS = 80877103, 80877104
_RAISE = "DO $$BEGIN RAISE EXCEPTION 'made to fail' USING ERRCODE = '{}'; END$$"


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement on its way to the server."""

    sql: str
    phase: str
    """PARSE, EXECUTE, or QUERY where it comes as text."""
    in_transaction: bool
    session: int
    """Which connection it came over."""


Fault = Callable[[Statement], str | None]
"""Returns the SQLSTATE with which the statement fails, CUT or CUT_AFTER to cut its connection, or None: it passes."""
CUT, CUT_AFTER = "CUT", "CUT_AFTER"
"""Before the server gets the statement; when the server has done it, and the client does not know."""


@dataclass
class PostgresProxy:
    """A port of 127.0.0.1 that leads to a server's socket. Its knobs may be turned at any time, from any thread."""

    port: int
    target: Path
    """The folder with the server's Unix socket, where new connections lead."""
    delay_s: float = 0.0
    """How long each batch of bytes to the server is held back."""
    fault: Fault = lambda statement: None
    statements: int = 0
    """How many statements passed or failed."""
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _hears: asyncio.Event = field(default_factory=asyncio.Event)
    _open: set[_Session] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def url(self, database: str, user: str = "aegate", host: str = "127.0.0.1") -> str:
        """Return the URL of ``database`` behind the proxy."""
        return f"postgres://{user}@{host}:{self.port}/{database}"

    def deafen(self, *, only_open: bool = False) -> None:
        """Pass nothing any more and close nothing, as a network that swallows packets does.

        ``only_open``: connections made later are well, as behind a firewall that forgot the earlier ones.
        """
        self._call(self._deafen, only_open)

    def hear(self) -> None:
        """Pass everything again; what was held back, too."""
        self._call(self._hears.set)

    def cut(self) -> None:
        """End all open connections."""
        self._call(self._cut)

    def _call(self, work: Callable[..., None], *arguments: object) -> None:
        done = threading.Event()

        def run() -> None:
            work(*arguments)
            done.set()

        self._loop.call_soon_threadsafe(run)
        assert done.wait(30), "the proxy's loop turns"

    def _deafen(self, only_open: bool) -> None:
        if only_open:
            for session in self._open:
                session.hears = asyncio.Event()
        else:
            self._hears.clear()

    def _cut(self) -> None:
        for session in self._open:
            session.close()

    async def _serve(self) -> None:
        self._hears.set()
        server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        async with server:
            await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = _Session(self, reader, writer, self._hears)
        self._open.add(session)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await session.run()
        finally:
            self._open.discard(session)
            session.close()


@dataclass(eq=False)
class _Session:
    """One client's connection and its way to the server."""

    proxy: PostgresProxy
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    hears: asyncio.Event
    _server: asyncio.StreamWriter | None = None
    _texts: dict[str, str] = field(default_factory=dict)
    """SQL by the name of its prepared statement."""
    _status: bytes = b"I"
    """What the server said last: idle, in a transaction, in a failed one."""
    _failing: bool = False
    """An error is being raised for the client's statement; the rest of what it sent is dropped."""
    _ready: asyncio.Future[bytes] | None = None
    _is_last: bool = False
    """The client hears nothing of what it is being answered."""

    def close(self) -> None:
        """End both sides."""
        for writer in (self.writer, self._server):
            if writer is not None:
                writer.close()

    async def run(self) -> None:
        """Pass on, both ways, until one side ends."""
        first = await self._startup()
        answers, self._server = await asyncio.open_unix_connection(self.proxy.target / ".s.PGSQL.5432")
        self._server.write(first)
        ways = [asyncio.ensure_future(self._requests()), asyncio.ensure_future(self._answers(answers))]
        _, left = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in left:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)

    async def _startup(self) -> bytes:
        """Return the client's first message to the server; encryption is declined."""
        while True:
            await self.hears.wait()
            head = await self.reader.readexactly(8)
            length, code = struct.unpack("!ii", head)
            if code not in (_SSL, _GSS):
                return head + await self.reader.readexactly(length - 8)
            self.writer.write(b"N")

    async def _requests(self) -> None:
        assert self._server is not None
        while True:
            kind, body = await _message(self.reader)
            if self.proxy.delay_s and kind in b"QSH":  # what the client waits for an answer to
                with suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.Event().wait(), self.proxy.delay_s)
            await self.hears.wait()
            if self._ready is not None:
                if kind == b"S":
                    self.writer.write(_packed(b"Z", await self._ready))
                    self._ready = None
                continue
            statement = self._statement(kind, body)
            wish = self._wish(statement) if statement else None
            if wish == CUT:
                return
            self._is_last = wish == CUT_AFTER
            if wish in (None, CUT_AFTER):
                self._server.write(_packed(kind, body))
                await self._server.drain()
                continue
            self._failing = True
            self._ready = asyncio.get_running_loop().create_future()
            undo = "ROLLBACK; " if statement and statement.sql.startswith("COMMIT") else ""
            self._server.write(_packed(b"Q", (undo + _RAISE.format(wish)).encode() + b"\0"))
            if kind == b"Q":
                self.writer.write(_packed(b"Z", await self._ready))
                self._ready = None

    async def _answers(self, reader: asyncio.StreamReader) -> None:
        while True:
            kind, body = await _message(reader)
            await self.hears.wait()
            if self._is_last:
                if kind == b"Z":
                    return
                continue
            if kind == b"Z":
                self._status = body
            if kind == b"Z" and self._failing:
                assert self._ready is not None
                self._failing = False
                self._ready.set_result(body)
                continue
            if self._failing and kind != b"E":
                continue
            self.writer.write(_packed(kind, body))
            await self.writer.drain()

    def _statement(self, kind: bytes, body: bytes) -> Statement | None:
        in_transaction = self._status == b"T"
        if kind == b"Q":
            return Statement(body[:-1].decode(), "QUERY", in_transaction, id(self))
        if kind == b"P":
            name, sql = body.split(b"\0", 2)[:2]
            self._texts[name.decode()] = sql.decode()
            return Statement(sql.decode(), "PARSE", in_transaction, id(self))
        if kind == b"B":
            name = body.split(b"\0", 2)[1]
            return Statement(self._texts.get(name.decode(), ""), "EXECUTE", in_transaction, id(self))
        return None

    def _wish(self, statement: Statement) -> str | None:
        self.proxy.statements += 1
        return self.proxy.fault(statement)


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    return head[:1], await reader.readexactly(int.from_bytes(head[1:], "big") - 4)


def _packed(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


@contextmanager
def postgres_proxy(target: Path) -> Iterator[PostgresProxy]:
    """Run a proxy before the server whose socket lies in ``target`` until the end of the block."""
    proxy = PostgresProxy(free_port(), target)
    serving: list[asyncio.Task[None]] = []

    def turn() -> None:
        asyncio.set_event_loop(proxy._loop)
        serving.append(proxy._loop.create_task(proxy._serve()))
        with suppress(asyncio.CancelledError):
            proxy._loop.run_until_complete(serving[0])
        rest = asyncio.all_tasks(proxy._loop)
        for task in rest:
            task.cancel()
        proxy._loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
        proxy._loop.close()

    thread = threading.Thread(target=turn, name="proxy", daemon=True)
    thread.start()
    eventually(lambda: is_listening(proxy.port), deadline_s=30, what="the proxy listens")
    try:
        yield proxy
    finally:
        proxy._call(proxy._cut)
        proxy._call(lambda: serving[0].cancel())
        thread.join(30)
