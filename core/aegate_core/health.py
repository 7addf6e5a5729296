"""Health, readiness and Prometheus metrics of a process, on an HTTP port of its own, from a thread of its own.

Never on the DICOM port: a load balancer's TCP check there would fill the association slots.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

_NO_DESCRIPTOR_S = 0.1

Check = Callable[[], str | None]
"""Returns None when all is well, else one sentence that says what is not."""

Report = Callable[[], Mapping[str, object]]


class HealthServer:
    """Serve ``/healthz``, ``/readyz`` and ``/metrics``; 200 when the check returns None, else 503 with its sentence.

    ``note``: what ``/readyz`` adds to its "ok" for people.
    """

    def __init__(
        self,
        address: tuple[str, int],
        *,
        registry: CollectorRegistry,
        alive: Check,
        ready: Check,
        note: Check = lambda: None,
    ) -> None:
        checks = {"/healthz": alive, "/readyz": ready}
        self._report: Report | None = None
        server = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                if self.path == "/metrics":
                    self._answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)
                elif self.path == "/state" and server._report:
                    self._answer(200, json.dumps(server._report()).encode(), "application/json")
                elif check := checks.get(self.path):
                    trouble = check()
                    said = note() if self.path == "/readyz" else None
                    well = f"ok: {said}" if said else "ok"
                    self._answer(503 if trouble else 200, (trouble or well).encode() + b"\n")
                else:
                    more = " /state" if server._report else ""
                    self._answer(404, f"paths: /healthz /readyz /metrics{more}\n".encode())

            def _answer(
                self, status: int, body: bytes, content_type: str = "text/plain; charset=utf-8"
            ) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing: a probe every second is no news."""

        self._server = (_ServerOfBoth if ":" in address[0] else _Server)(address, Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    @property
    def port(self) -> int:
        """The port that was really bound (port 0 asks for any)."""
        return int(self._server.server_address[1])

    def answer_state(self, report: Report) -> None:
        """Answer ``/state``, too: with what ``report`` returns, as JSON, for programs."""
        self._report = report

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and close the socket."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Accept a connection. Where no descriptor is left it stays in the backlog: without a pause we would spin."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(_NO_DESCRIPTOR_S)
            raise


class _ServerOfBoth(_Server):
    """On an address of IPv6; ``::`` takes IPv4 as well."""

    address_family = socket.AF_INET6

    def server_bind(self) -> None:
        """Take both families, whatever the machine's default is."""
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


@dataclass(frozen=True, slots=True)
class ProcessState:
    """What a process says of itself in its state file; whoever started it reads it."""

    process: str
    pid: int
    state: str
    """starting, ready, degraded, stopping or failed."""
    health_port: int = 0
    port: int = 0
    """The port it serves: DICOM or HTTP; 0 when it serves none."""
    generation: int = 0
    """Of the configuration that it has loaded."""
    message: str = ""

    def write(self, path: Path) -> bool:
        """Replace the state file in one step: a reader sees the old or the new one, never half.

        False when it cannot be written: a full disk must not end a process that has work to do.
        """
        part = path.with_suffix(".part")
        try:
            part.write_text(json.dumps(asdict(self)))
            part.replace(path)
        except OSError:
            return False
        return True


def read_state(path: Path) -> ProcessState | None:
    """Return what the process last said, or None while it has said nothing.

    A state is not fsynced: what a power loss leaves of one says nothing.
    """
    try:
        return ProcessState(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
