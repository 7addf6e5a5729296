"""What one side says, step by step, as plain bytes: a mutant is such a script, saved and played again without dice."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

from tests.proofs.fuzzing.conversations import (
    ABORT,
    RELEASE_RP,
    RELEASE_RQ,
    RJ,
    RQ,
    Conversation,
    is_whole,
    split,
)
from tests.proofs.fuzzing.reading import read
from tests.state_table import Role

PATIENCE_S = 1.0
"""How long a mutant waits for what its other side may never say."""

LONGEST_S = 45.0
"""How long the other side may take to close at the very end: by far more than any timeout of the installation."""


class Do(StrEnum):
    """What a step does."""

    SEND = "send"
    AWAIT = "await"
    """Until a PDU, the request, a whole message or the release request has come."""
    PAUSE = "pause"
    """For so long, or until the other side closes."""
    HOLD = "hold"
    """For so long, whatever the other side does."""
    HALF_CLOSE = "half_close"
    CLOSE = "close"
    RESET = "reset"
    STAY = "stay"
    """Until the other side closes."""


Step = tuple[Do, Any]


def send(content: bytes) -> Step:
    """Return the step that sends bytes in one write."""
    return Do.SEND, content


@dataclass
class Script:
    """A mutant, and where it comes from."""

    role: Role
    """Which side it plays."""
    steps: list[Step]
    origin: str
    """The conversation, and what was done to it."""
    within: bool = False
    """Whether it changes nothing until the association is accepted."""
    harmless: bool = False
    """Whether the other side must serve it as if nothing had been done to it."""
    job: str = ""
    """For the sender: how it is to call."""

    def to_json(self) -> str:
        """Return it as text, a step a line."""
        steps = [[do, value.hex() if isinstance(value, bytes) else value] for do, value in self.steps]
        head = {k: getattr(self, k) for k in ("role", "origin", "within", "harmless", "job")}
        return "\n".join(map(json.dumps, (head, *steps))) + "\n"

    @staticmethod
    def load(path: Path) -> Script:
        """Read what `to_json` wrote."""
        head, *steps = map(json.loads, path.read_text().splitlines())
        made = [(Do(do), bytes.fromhex(value) if do == Do.SEND else value) for do, value in steps]
        return Script(Role(head.pop("role")), made, **head)


def script_of(conversation: Conversation, role: Role) -> Script:
    """Return what ``role`` said, and waited for, as a script."""
    steps: list[Step] = []
    for who, pdu in conversation.lines:
        if who is role:
            steps.append(send(pdu))
        elif role is Role.REQUESTOR:
            steps.append((Do.AWAIT, "pdu"))
        else:
            steps.append((Do.AWAIT, {RQ: "rq", RELEASE_RQ: "release", ABORT: "pdu"}.get(pdu[0], "message")))
    if role is Role.ACCEPTOR:
        # Fragments of one message are waited for together.
        steps = [
            s
            for s, following in zip(steps, [*steps[1:], None], strict=True)
            if s != following or s[0] is Do.SEND
        ]
    return Script(role, steps, conversation.name, job=conversation.name.partition("-")[0])


@dataclass
class Played:
    """What became of a script."""

    sent: bytes = b""
    received: bytes = b""
    is_over: bool = False
    """The other side has closed."""
    seconds: float = 0.0
    """How long it took to close, once asked to by a stay."""
    stayed: bool = False
    after_end: list[bytes] = field(default_factory=list)
    """What was sent after the other side's last PDU."""
    before_answer: list[bytes] = field(default_factory=list)
    """What was sent before anything came."""


class Player:
    """Play a script over one connection."""

    def __init__(self, sock: socket.socket, *, is_harmless: bool = False) -> None:
        self._sock = sock
        self._patience_s = 30.0 if is_harmless else PATIENCE_S
        self._seen: dict[str, int] = {}
        self.played = Played()

    def play(self, script: Script) -> Played:
        """Do every step until the other side has gone, or we have; then close."""
        with suppress(OSError):
            for do, value in script.steps:
                self._steps[do](self, value)
                if self.played.is_over and do not in (Do.SEND, Do.HOLD):
                    break
        with suppress(OSError):
            self._read(0)
        self._sock.close()
        return self.played

    def _send(self, content: bytes) -> None:
        self._read(0)
        kinds = [p[0] for p in split(self.played.received) if is_whole(p)]
        if kinds and kinds[-1] in (RJ, RELEASE_RP, ABORT):
            self.played.after_end.append(content)
        elif not kinds:
            self.played.before_answer.append(content)
        self._sock.settimeout(LONGEST_S)
        self._sock.sendall(content)
        self.played.sent += content

    def _await(self, what: str) -> None:
        seen = self._seen.get(what, 0)
        end = time.monotonic() + self._patience_s
        while self._count(what) <= seen and not self.played.is_over and (left := end - time.monotonic()) > 0:
            self._read(left)
        self._seen[what] = max(seen, min(self._count(what), seen + 1))

    def _count(self, what: str) -> int:
        received = self.played.received
        if what == "message":
            return len(read(received).messages)
        wanted = {"rq": (RQ,), "release": (RELEASE_RQ,), "pdu": range(1, 8)}[what]
        return sum(p[0] in wanted and is_whole(p) for p in split(received))

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self.played.is_over and (left := end - time.monotonic()) > 0:
            self._read(left)

    def _hold(self, seconds: float) -> None:
        threading.Event().wait(seconds)

    def _half_close(self, _: object) -> None:
        self._sock.shutdown(socket.SHUT_WR)

    def _close(self, _: object) -> None:
        self._read(0)
        self._sock.close()
        raise OSError

    def _reset(self, _: object) -> None:
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._close(None)

    def _stay(self, _: object) -> None:
        began = time.monotonic()
        self.played.stayed = True
        self._pause(LONGEST_S)
        self.played.seconds = time.monotonic() - began

    def _read(self, timeout_s: float) -> None:
        """Take what has come, or comes within the time."""
        self._sock.settimeout(max(timeout_s, 0.0001))
        try:
            content = self._sock.recv(65536)
        except TimeoutError:
            return
        except OSError:
            content = b""
        self.played.received += content
        self.played.is_over = not content

    _steps: ClassVar[dict[Do, Callable[[Player, Any], None]]] = {
        Do.SEND: _send,
        Do.AWAIT: _await,
        Do.PAUSE: _pause,
        Do.HOLD: _hold,
        Do.HALF_CLOSE: _half_close,
        Do.CLOSE: _close,
        Do.RESET: _reset,
        Do.STAY: _stay,
    }


def chunks(content: bytes, sizes: Iterator[int]) -> Iterator[bytes]:
    """Yield ``content`` in pieces of these sizes."""
    at = 0
    while at < len(content):
        size = next(sizes)
        yield content[at : at + size]
        at += size
