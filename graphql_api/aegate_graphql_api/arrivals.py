"""How long a connection may take to say what it wants, and in how many headers: uvicorn alone knows no end of either.

Without it five hundred connections that send a byte now and then keep everybody else out.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import Any, cast

import h11
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from aegate_graphql_api.errors import problem_body

HEADERS_S = 10.0
"""By feel: a request line and its headers are one packet, or a few."""

MAX_HEADER_BYTES = 32 * 1024
"""Of a request's headers together: a token of a few KiB, and what proxies add. The parser itself would take more."""

MOST_UNHEARD_BYTES = 64 * 1024
"""Of a request line and headers that are not whole yet: room for what may come, whatever pieces it comes in."""

HELD_BYTES = 64 * 1024
"""Of an answer, before it is written although more of it may come in the same turn of the loop."""


class PatientProtocol(H11Protocol):
    """Closes a connection whose request is not whole within `headers_s` of its first byte, or of connecting.

    The rest of a body that was refused has as long.
    """

    headers_s = HEADERS_S
    _hurry: asyncio.TimerHandle | None = None
    _written: Gathered

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Begin to wait for the first request."""
        self._written = Gathered(transport, self.loop)
        super().connection_made(cast("asyncio.Transport", self._written))
        self._begin_to_wait()

    def data_received(self, data: bytes) -> None:
        """Take what came; wait on when it is not a whole header yet."""
        super().data_received(data)
        if self._is_asked():
            self._stop_waiting()
        elif self._hurry is None:
            self._begin_to_wait()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Leave the connection to the WebSocket, which writes as it likes."""
        self._written.flush()
        self.transport = self._written.transport
        super().handle_websocket_upgrade(event)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; headers of which more came than is kept of them, as those that came at once."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()  # it was answered before what came behind it
            return
        error = sys.exception()
        if not isinstance(error, h11.RemoteProtocolError) or error.error_status_hint != 431:
            super().send_400_response(msg)
            return
        answer = _too_many_headers(len(self.conn.trailing_data[0]))
        head = [*answer.raw_headers, (b"connection", b"close")]
        with suppress(h11.LocalProtocolError):  # to HEAD goes no body
            for event in (
                h11.Response(status_code=answer.status_code, headers=head),
                h11.Data(data=bytes(answer.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event))
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _is_asked(self) -> bool:
        """Whether a request is being answered, or the connection is no longer ours: a WebSocket."""
        answering = self.cycle is not None and not self.cycle.response_complete
        return answering or self.transport.get_protocol() is not self

    def _begin_to_wait(self) -> None:
        self._hurry = self.loop.call_later(self.headers_s, self._give_up)

    def _stop_waiting(self) -> None:
        if self._hurry is not None:
            self._hurry.cancel()
            self._hurry = None

    def _give_up(self) -> None:
        self._hurry = None
        if not self._is_asked():
            self.transport.close()


class Gathered:
    """A transport that writes what is written in one turn of the loop at once.

    uvicorn writes headers and body apart: two packets, and the client wakes twice.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.transport = transport
        self._loop = loop
        self._held: list[bytes] = []
        self._held_bytes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    def write(self, data: bytes) -> None:
        """Write soon; what is much, now, so that the transport can tell that the client is slow."""
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes >= HELD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write now what is held."""
        if self._held:
            held, self._held, self._held_bytes = self._held, [], 0
            self.transport.write(held[0] if len(held) == 1 else b"".join(held))

    def close(self) -> None:
        """Close, once everything is written."""
        self.flush()
        self.transport.close()


class FewHeaders:
    """Refuses requests whose headers are too large."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 431."""
        app = self._app
        if scope["type"] == "http":
            used = sum(len(name) + len(value) for name, value in scope["headers"])
            if used > MAX_HEADER_BYTES:
                app = _too_many_headers(used)
        await app(scope, receive, send)


def _too_many_headers(used: int) -> JSONResponse:
    message = f"the headers may have {MAX_HEADER_BYTES} bytes together, got more: send fewer"
    return JSONResponse(problem_body("TOO_LARGE", message, {"limit": MAX_HEADER_BYTES, "used": used}), 431)
