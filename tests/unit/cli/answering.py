"""A server that is no API, and hears what it is asked."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from tests.integration.identities import Identity


class Answering(NamedTuple):
    """Where it is, the paths that it was asked for, and the addresses that asked."""

    url: str
    asked: list[str]
    callers: list[str]


@contextmanager
def answering(
    status: int, body: str, host: str = "127.0.0.1", identity: Identity | None = None, **headers: str
) -> Iterator[Answering]:
    """Answer every POST with this; over TLS where it has an identity."""
    asked: list[str] = []
    callers: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            callers.append(self.client_address[0])
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer((host, 0), Handler) as server:
        if identity is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(identity.certificate, identity.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        scheme = "http" if identity is None else "https"
        yield Answering(f"{scheme}://{host}:{server.server_address[1]}/graphql", asked, callers)
        server.shutdown()
