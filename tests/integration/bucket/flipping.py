"""A TCP proxy that changes one byte on its way to the server, as some network cards do, or cuts an answer short."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_CHUNK = 1 << 16


@contextmanager
def flipping(target_port: int, needle: bytes, *, cut_after: int = 1 << 62) -> Iterator[int]:
    """Give a port of 127.0.0.1 that leads to ``target_port``; wherever ``needle`` passes, its last byte changes.

    A connection ends when so many bytes of answers have passed over it.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ended = threading.Event()
        threading.Thread(
            target=_accept, args=(listening, target_port, needle, cut_after, ended), daemon=True
        ).start()
        yield int(listening.getsockname()[1])
        ended.set()
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)


def _accept(
    listening: socket.socket, target_port: int, needle: bytes, cut_after: int, ended: threading.Event
) -> None:
    while not ended.is_set():
        try:
            client, _ = listening.accept()
        except OSError:
            return
        server = socket.create_connection(("127.0.0.1", target_port))
        threading.Thread(target=_relay, args=(client, server, needle, 1 << 62), daemon=True).start()
        threading.Thread(target=_relay, args=(server, client, b"", cut_after), daemon=True).start()


def _relay(source: socket.socket, to: socket.socket, needle: bytes, cut_after: int) -> None:
    before, left = b"", cut_after
    with source, suppress(OSError):
        while left > 0 and (chunk := source.recv(min(_CHUNK, left))):
            left -= len(chunk)
            to.sendall(_flipped(before, chunk, needle))
            before = (before + chunk)[-64:]
        to.shutdown(socket.SHUT_WR)


def _flipped(before: bytes, chunk: bytes, needle: bytes) -> bytes:
    """Return the chunk with the needle's last byte changed, where it ends in it."""
    changed, seen = bytearray(chunk), before + chunk
    at = seen.find(needle) if needle else -1
    last = at + len(needle) - 1 - len(before)
    if at >= 0 and last >= 0:
        changed[last] ^= 1
    return bytes(changed)
