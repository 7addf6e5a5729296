"""Connections that never say what they want are closed; those that do are not, however long the answer takes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from aegate_graphql_api.arrivals import PatientProtocol
from tests.integration.waiting import take_s

REQUEST = b"GET / HTTP/1.1\r\nHost: aegate\r\n\r\n"


class Hasty(PatientProtocol):
    """Gives up after a moment."""

    headers_s = 0.3


async def slow(request: Request) -> Response:
    """Answer long after a connection without a request is closed."""
    await take_s(3 * Hasty.headers_s)
    return PlainTextResponse("here")


@pytest.fixture
async def port() -> AsyncIterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        app = Starlette(routes=[Route("/", slow)])
        config = uvicorn.Config(app, http=Hasty, log_config=None, access_log=False, lifespan="off")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve([listening]))
        yield int(listening.getsockname()[1])
        server.should_exit = True
        await serving


async def ends(port: int, say: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> bytes:
    """Return all that the server says until it ends the connection; ``say`` goes on beside it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    saying = asyncio.create_task(say(writer))
    async with asyncio.timeout(30):
        said = await reader.read()
    saying.cancel()
    await asyncio.gather(saying, return_exceptions=True)
    writer.close()
    return said


async def test_a_silent_connection_is_closed(port: int) -> None:
    async def nothing(writer: asyncio.StreamWriter) -> None:
        return

    assert await ends(port, nothing) == b""


async def test_headers_that_trickle_close_it(port: int) -> None:
    async def trickle(writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET / HTTP/1.1\r\n")
        while True:
            writer.write(b"X: y\r\n")
            await take_s(0.05)

    assert await ends(port, trickle) == b""


async def test_a_request_is_answered_however_long_it_takes_and_so_is_the_next(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(2):
        writer.write(REQUEST)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert await reader.readexactly(4) == b"here"
    writer.write(b"GET / HT")
    assert await reader.read() == b""
    writer.close()
