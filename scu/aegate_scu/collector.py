"""The connection to an audit collector: syslog over TLS (RFC 5425), messages as RFC 5424 and PS3.15 A.6 have them.

Syslog has no acknowledgement. So a message counts as taken when the collector's machine has all bytes of it (TCP says
so) and the connection has stood for a moment after that: a collector that is stopped or refuses ends it at once.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import ssl
import struct
import termios
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from urllib.parse import urlsplit

from aegate_core.decisions.audit_message import MINOR, SERIOUS, SUCCESS
from aegate_core.errors import InvalidInput, InvalidValue
from aegate_core.services.audit_export import Message

PORT = 6514
"""RFC 5425 4.1."""

CONNECT_S = 10.0
SEND_S = 30.0
STANDS_S = 1.0
"""How long the connection must stand after the last byte was taken. By feel: a collector that ends closes at once."""

_LOOK_S = 0.02
_FACILITY = 10
"""Security and authorization messages, PS3.15 A.6."""
_SEVERITIES = {SUCCESS: 5, MINOR: 4, SERIOUS: 3}


@dataclass(frozen=True, slots=True)
class CollectorAddress:
    """Where the audit goes, and with which certificates; None of ``ca``: the system's authorities."""

    host: str
    port: int = PORT
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class CollectorAway(Exception):
    """The collector did not take it; the text says why, and is for people."""


def parse_collector(text: str) -> tuple[str, int]:
    """Return host and port of ``tls://host:6514``. Raises InvalidValue."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port or PORT
    except ValueError:
        host, port, parts = None, 0, urlsplit("")
    if parts.scheme != "tls" or not host or parts.path or parts.query or parts.username:
        raise InvalidValue(
            "AEGATE_AUDIT_COLLECTOR must be tls://host:port such as tls://audit.example.org:6514, got another form: "
            "syslog is sent over TLS alone (RFC 5425)"
        )
    return host, port


def tls_context(address: CollectorAddress) -> ssl.SSLContext:
    """Return the context for ``address``. Raises InvalidInput naming what cannot be used."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if address.ca is not None:
            context = ssl.create_default_context(cafile=address.ca)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
        if address.certificate is not None:
            context.load_cert_chain(address.certificate, address.key)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        raise InvalidInput(
            f"the certificates for the audit collector must be readable PEM files, got {reason}: mend "
            "AEGATE_AUDIT_CA, AEGATE_AUDIT_CERTIFICATE or AEGATE_AUDIT_KEY"
        ) from error
    return context


class Collector:
    """One connection, made anew after any trouble. Not for two tasks at once."""

    def __init__(self, address: CollectorAddress) -> None:
        self.address = address
        self._writer: asyncio.StreamWriter | None = None
        self._ended: asyncio.Task[bytes] | None = None

    async def send(self, messages: Sequence[Message]) -> None:
        """Send all of them and return when they count as taken. Raises CollectorAway: then all are to be sent again."""
        try:
            async with asyncio.timeout(CONNECT_S):
                writer, ended = await self._connected()
            async with asyncio.timeout(SEND_S):
                writer.write(b"".join(frame(message) for message in messages))
                await writer.drain()
                while not ended.done() and _underway(writer):
                    await asyncio.wait({ended}, timeout=_LOOK_S)
                await asyncio.wait({ended}, timeout=STANDS_S)
                while not ended.done() and _underway(writer):
                    await asyncio.wait({ended}, timeout=_LOOK_S)
            if ended.done():
                raise ConnectionResetError("it closed the connection")
        except (OSError, TimeoutError, InvalidInput) as error:
            await self.close()
            raise CollectorAway(_why(self.address, error)) from error

    async def _connected(self) -> tuple[asyncio.StreamWriter, asyncio.Task[bytes]]:
        if self._writer is not None and self._ended is not None and not self._ended.done():
            return self._writer, self._ended
        await self.close()
        host, port = self.address.host, self.address.port
        reader, writer = await asyncio.open_connection(host, port, ssl=tls_context(self.address))
        self._writer = writer
        self._ended = asyncio.create_task(_until_end(reader))
        return writer, self._ended

    async def close(self) -> None:
        """Close the connection, if there is one."""
        writer, self._writer = self._writer, None
        ended, self._ended = self._ended, None
        if ended is not None:
            ended.cancel()
            await asyncio.gather(ended, return_exceptions=True)
        if writer is not None:
            writer.transport.abort()


async def _until_end(reader: asyncio.StreamReader) -> bytes:
    """Return when the other side ends the connection; it has nothing to say before that."""
    try:
        while await reader.read(4096):
            pass
    except OSError:
        pass
    return b""


def frame(message: Message) -> bytes:
    """Return the message with its length before it (RFC 5425 4.3)."""
    priority = _FACILITY * 8 + _SEVERITIES.get(message.outcome, 3)
    at = message.row.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    host = socket.gethostname()[:255] or "-"
    header = f"<{priority}>1 {at} {host} aegate {os.getpid()} DICOM+RFC3881 - "
    text = header.encode("ascii", "replace") + b"\xef\xbb\xbf" + message.xml
    return f"{len(text)} ".encode() + text


def _underway(writer: asyncio.StreamWriter) -> int:
    """Return how many bytes we still hold, or the other machine has not acknowledged (SIOCOUTQ, tcp(7)).

    Not by limits of 0 for `drain`: with TLS, asyncio may then wait for ever.
    """
    if held := writer.transport.get_write_buffer_size():
        return int(held)
    file = writer.get_extra_info("socket").fileno()
    if file < 0:
        return 0
    (waiting,) = struct.unpack("i", fcntl.ioctl(file, termios.TIOCOUTQ, b"\0\0\0\0"))
    return int(waiting)


def _why(address: CollectorAddress, error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        reason = "does not answer"
    elif isinstance(error, ssl.SSLCertVerificationError):
        reason = f"shows a certificate that is not valid for us ({error.verify_message})"
    elif isinstance(error, ssl.SSLError):
        reason = f"does not agree on TLS ({error.reason})"
    elif isinstance(error, socket.gaierror):
        reason = "has a name that does not resolve"
    elif isinstance(error, InvalidInput):
        return error.message
    else:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"the audit collector at {address} does not take the audit ({reason}): it waits in the database"
