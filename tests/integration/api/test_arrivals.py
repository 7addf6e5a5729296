"""Connections that never say what they want, or say too much, are closed; others are not, however long answers take."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from aegate_graphql_api.arrivals import (
    HELD_BYTES,
    MAX_HEADER_BYTES,
    MOST_UNHEARD_BYTES,
    Gathered,
    PatientProtocol,
)
from tests.integration.waiting import pass_turns, take_s

REQUEST = b"GET / HTTP/1.1\r\nHost: aegate\r\n\r\n"


class Hasty(PatientProtocol):
    """Gives up after a moment."""

    headers_s = 0.3


async def slow(request: Request) -> Response:
    """Answer long after a connection without a request is closed."""
    await take_s(3 * Hasty.headers_s)
    return PlainTextResponse("here")


async def headers(request: Request) -> Response:
    """Say which headers came, once the body is there."""
    size = len(await request.body())
    return PlainTextResponse(
        f"{size} {','.join(name for name in request.headers if name.startswith('x-'))}\r\n"
    )


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with serving(Hasty) as here:
        yield here


@pytest.fixture
async def patient_port() -> AsyncIterator[int]:
    async with serving(PatientProtocol) as here:
        yield here


@asynccontextmanager
async def serving(protocol: type[PatientProtocol]) -> AsyncIterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        app = Starlette(routes=[Route("/", slow), Route("/headers", headers, methods=["GET", "POST"])])
        config = uvicorn.Config(
            app,
            http=protocol,
            h11_max_incomplete_event_size=MOST_UNHEARD_BYTES,
            log_config=None,
            access_log=False,
            lifespan="off",
        )
        server = uvicorn.Server(config)
        running = asyncio.create_task(server._serve([listening]))
        yield int(listening.getsockname()[1])
        server.should_exit = True
        await running


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


POST = b"POST /headers HTTP/1.1\r\nHost: aegate\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
QUICK = b"GET /headers HTTP/1.1\r\nHost: aegate\r\n\r\n"


async def says(port: int, *sent: bytes) -> bytes:
    """Return what the server says until it ends the connection; parts are sent one by one."""

    async def say(writer: asyncio.StreamWriter) -> None:
        for part in sent:
            writer.write(part)
            await take_s(0.05)

    return await ends(port, say)


async def answers(port: int, *sent: bytes) -> list[bytes]:
    """Return the status lines of all that it says."""
    said = await says(port, *sent)
    return [line for line in said.split(b"\r\n") if b"HTTP/1.1 " in line]


@pytest.mark.parametrize(
    "sent",
    [
        POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        POST + b"Content-Length: -5\r\n\r\nhello",
        CHUNKED + b"hello\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"hello\r\n\r\n",
    ],
    ids=[
        "lengths",
        "less than none",
        "chunk",
        "TLS",
        "words",
    ],
)
async def test_what_is_no_http_is_refused(patient_port: int, sent: bytes) -> None:
    assert [line[-15:] for line in await answers(patient_port, sent)] == [b"400 Bad Request"]


@pytest.mark.parametrize(
    "sent",
    [
        (b"GET / HTTP/1.1\r\nX: " + b"y" * (MOST_UNHEARD_BYTES + 1),),
        (b"GET /" + b"y" * (MOST_UNHEARD_BYTES + 1),),
        (b"GET / HTTP/1.1\r\nX: ", *[b"y" * (MOST_UNHEARD_BYTES // 4)] * 5),
        (CHUNKED, b"0\r\nX: " + b"y" * MOST_UNHEARD_BYTES),
    ],
    ids=["header", "path", "header in pieces", "header behind a body"],
)
async def test_headers_end_somewhere(patient_port: int, sent: tuple[bytes, ...]) -> None:
    said = await says(patient_port, *sent)
    assert said.startswith(b"HTTP/1.1 431 ")
    assert said.count(b"HTTP/1.1 ") == 1
    assert b'"code":"TOO_LARGE"' in said
    assert f"{MAX_HEADER_BYTES} bytes".encode() in said


@pytest.mark.parametrize("method", [b"HEAD", b"GET"])
async def test_what_comes_behind_an_answer_ends_its_connection(patient_port: int, method: bytes) -> None:
    """And leaves no fault behind: pytest fails for one."""
    asked = CHUNKED.replace(b"POST", method, 1) + b"0\r\n"
    said = await says(patient_port, asked, b"X: " + b"y" * MOST_UNHEARD_BYTES)
    assert said.count(b"HTTP/1.1 ") <= 1


async def test_headers_that_may_be_come_in_pieces(patient_port: int) -> None:
    piece = b"y" * (MAX_HEADER_BYTES // 3)
    last = QUICK[:-2] + b"Connection: close\r\nX-Long: "
    assert await answers(patient_port, last + piece, piece, piece, b"\r\n\r\n") == [b"HTTP/1.1 200 OK"]


async def test_headers_behind_a_body_are_none(patient_port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", patient_port)
    writer.write(CHUNKED.replace(b"\r\n\r\n", b"\r\nX-Soon: 1\r\n\r\n") + b"0\r\nX-Late: 1\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    assert await reader.readline() == b"5 x-soon\r\n"
    writer.close()


async def test_requests_that_are_sent_ahead_are_answered_in_turn(patient_port: int) -> None:
    last = QUICK.replace(b"Host", b"Connection: close\r\nHost")
    assert await answers(patient_port, QUICK * 20 + last) == [b"HTTP/1.1 200 OK"] * 21


@pytest.mark.parametrize("is_apart", [False, True], ids=["in one packet", "in the next packet"])
async def test_a_body_is_a_body_whatever_protocol_is_offered_besides(
    patient_port: int, is_apart: bool
) -> None:
    """Otherwise it would be the next request: of whoever wrote the body, past what a proxy looked at."""
    head = (
        POST
        + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\nX-One: 1\r\n"
    )
    body = QUICK.replace(b"Host", b"X-Two: 2\r\nHost")
    reader, writer = await asyncio.open_connection("127.0.0.1", patient_port)
    writer.write(head + b"Content-Length: %d\r\n\r\n" % len(body))
    if is_apart:
        await writer.drain()
        await take_s(0.1)
    writer.write(body + b"rubbish\r\n\r\n")
    said = await reader.read()
    writer.close()
    assert said.count(b"HTTP/1.1 200 OK") == 1
    assert b"%d x-one\r\n" % len(body) in said and b"x-two" not in said


class Taking:
    """A transport that keeps what it is given to write."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.taken.append(data)

    def close(self) -> None:
        self.taken.append(b"closed")

    def is_closing(self) -> bool:
        return self.taken[-1:] == [b"closed"]


async def test_what_is_written_in_one_turn_goes_out_at_once() -> None:
    transport = Taking()
    gathered = Gathered(cast(Any, transport), asyncio.get_running_loop())
    gathered.write(b"head ")
    gathered.write(b"body")
    assert transport.taken == []
    await pass_turns(1)
    assert transport.taken == [b"head body"]
    gathered.write(b"x" * HELD_BYTES)
    assert transport.taken[1:] == [b"x" * HELD_BYTES]
    gathered.write(b"last")
    gathered.close()
    assert (transport.taken[2:], gathered.is_closing()) == ([b"last", b"closed"], True)
    await pass_turns(2)
    assert len(transport.taken) == 4
