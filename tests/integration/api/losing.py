"""A way to an API on which answers are lost: what was asked is done, and nobody hears of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass


@dataclass
class Way:
    """The way; ``losses`` more answers to requests with ``word`` in them are lost."""

    port: int
    word: bytes = b""
    losses: int = 0


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return head + await reader.readexactly(int(length[1]) if length else 0)


@asynccontextmanager
async def losing(port: int) -> AsyncIterator[Way]:
    """Lead to an API on a port of this machine, one request a connection."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            asked = await _message(reader)
            upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", port)
            with closing(upstream):
                upstream.write(asked)
                answer = await _message(upstream_reader)
            if way.losses and way.word in asked:
                way.losses -= 1
            else:
                writer.write(answer)

    async with await asyncio.start_server(pass_on, "127.0.0.1", 0) as server:
        way = Way(server.sockets[0].getsockname()[1])
        yield way
