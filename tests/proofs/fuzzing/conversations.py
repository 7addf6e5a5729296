"""Recorded conversations: which PDU came from which side, in order; and what a script makes of them.

One file a conversation below ``corpus/``: a line of JSON a PDU, so that a difference can be read. All data is made by
code.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.state_table import Role

CORPUS = Path(__file__).parents[1] / "corpus"
REGRESSIONS = CORPUS / "regressions"

HEADER = struct.Struct(">BBL")
RQ, AC, RJ, DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)


@dataclass(frozen=True, slots=True)
class Conversation:
    """What two sides said to one another."""

    name: str
    lines: tuple[tuple[Role, bytes], ...]

    def said_by(self, role: Role) -> list[bytes]:
        """Return one side's PDUs."""
        return [pdu for who, pdu in self.lines if who is role]

    @property
    def is_accepted(self) -> bool:
        """Say whether an association came of it."""
        return any(pdu[0] == AC for pdu in self.said_by(Role.ACCEPTOR))


def load(folder: Path = CORPUS) -> list[Conversation]:
    """Return all recorded conversations, by name."""
    return [_read(path) for path in sorted(folder.glob("*.jsonl"))]


def save(conversation: Conversation, folder: Path = CORPUS) -> Path:
    """Write a conversation."""
    path = folder / f"{conversation.name}.jsonl"
    path.write_text("".join(json.dumps({who: pdu.hex()}) + "\n" for who, pdu in conversation.lines))
    return path


def _read(path: Path) -> Conversation:
    lines = [json.loads(line).popitem() for line in path.read_text().splitlines()]
    return Conversation(path.stem, tuple((Role(who), bytes.fromhex(pdu)) for who, pdu in lines))


def pdu(kind: int, body: bytes = bytes(4)) -> bytes:
    """Return a PDU."""
    return HEADER.pack(kind, 0, len(body)) + body


def split(stream: bytes) -> Iterator[bytes]:
    """Yield the PDUs of a stream, by their lengths; the last one may be cut short."""
    at = 0
    while at < len(stream):
        whole = HEADER.size + HEADER.unpack(stream[at:][: HEADER.size].ljust(HEADER.size, b"\0"))[2]
        yield stream[at : at + whole]
        at += whole


def is_whole(encoded: bytes) -> bool:
    """Say whether a PDU is as long as it says."""
    return len(encoded) >= HEADER.size and HEADER.unpack_from(encoded)[2] == len(encoded) - HEADER.size


def pdvs(encoded: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield context, control and content of the PDVs of a whole P-DATA-TF. Raises ValueError for what is none."""
    at = HEADER.size
    while at < len(encoded):
        if at + 6 > len(encoded):
            raise ValueError("a PDV without its header")
        length, context, control = struct.unpack_from(">LBB", encoded, at)
        if length < 2 or at + 4 + length > len(encoded):
            raise ValueError("a PDV that is longer than its PDU, or shorter than its header")
        yield context, control, encoded[at + 6 : at + 4 + length]
        at += 4 + length


def p_data(*values: tuple[int, int, bytes]) -> bytes:
    """Return a P-DATA-TF of PDVs: context, control, content."""
    return pdu(
        DATA, b"".join(struct.pack(">LBB", len(c) + 2, context, flags) + c for context, flags, c in values)
    )


def elements(command: bytes) -> list[tuple[int, int, bytes]]:
    """Return group, element and value of a command set (PS3.7 6.3.1). Raises ValueError for what is none."""
    found, at = [], 0
    while at < len(command):
        if at + 8 > len(command):
            raise ValueError("a part of an element")
        group, element, length = struct.unpack_from("<HHL", command, at)
        if at + 8 + length > len(command):
            raise ValueError("an element beyond the end")
        found.append((group, element, command[at + 8 : at + 8 + length]))
        at += 8 + length
    return found


def command_set(values: Iterable[tuple[int, int, bytes]]) -> bytes:
    """Return a command set of these elements, with its group length unless one of them is that."""
    given = list(values)
    body = b"".join(struct.pack("<HHL", g, e, len(v)) + v for g, e, v in given)
    if any((g, e) == (0, 0) for g, e, _ in given):
        return body
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def split_count(stream: bytes) -> int:
    """Return how many PDUs a stream holds, whole or not."""
    return sum(1 for _ in split(stream))
