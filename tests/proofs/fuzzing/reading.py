"""A second reader of DICOM's upper layer, independent of aegate and of pynetdicom: what a conformant side would read.

It judges what our side made of a mutant: nothing may be acknowledged that is not read whole here.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.proofs.fuzzing.conversations import AC, DATA, HEADER, RQ, elements, is_whole, pdvs, split

C_STORE_RQ, C_ECHO_RQ = 0x0001, 0x0030
RESPONSE = 0x8000
NO_DATA_SET = 0x0101


@dataclass
class Message:
    """A DIMSE message that came whole."""

    context: int
    command: dict[int, bytes]
    sha256: str
    size_bytes: int

    def number(self, element: int) -> int | None:
        """Return an element of two bytes, None when it is not there or of another length."""
        value = self.command.get(element, b"")
        return struct.unpack("<H", value)[0] if len(value) == 2 else None

    @property
    def field(self) -> int | None:
        """(0000,0100)."""
        return self.number(0x0100)

    @property
    def message_id(self) -> int | None:
        """(0000,0110), or (0000,0120) of a response."""
        return self.number(0x0120 if (self.field or 0) & RESPONSE else 0x0110)

    @property
    def status(self) -> int | None:
        """(0000,0900)."""
        return self.number(0x0900)

    @property
    def sop_instance_uid(self) -> str:
        """(0000,1000) without padding."""
        return self.command.get(0x1000, b"").rstrip(b"\0 ").decode("latin-1")


@dataclass
class Reading:
    """What can be read of one side's bytes: a request or its acceptance, and data, until something else comes."""

    pdus: int = 0
    kinds: list[int] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    wrong: str = ""
    """Why reading stopped, when it did before the end; a PDU that is cut short is an end."""


def read(stream: bytes) -> Reading:
    """Read PDUs and the messages in them."""
    reading = Reading()
    assembling = _Assembling()
    for encoded in split(stream):
        if not is_whole(encoded):
            # What stands before the cut may still be whole messages: a side need not wait for the PDU's end.
            encoded = encoded if encoded[:1] == bytes((DATA,)) and len(encoded) > HEADER.size else b""
            reading.messages += _whole_before_the_cut(encoded, assembling)
            return reading
        reading.pdus += 1
        reading.kinds.append(encoded[0])
        try:
            if encoded[0] == DATA:
                reading.messages += assembling.take(encoded)
        except ValueError as error:
            reading.wrong = str(error)
            reading.messages += assembling.done
            return reading
        if encoded[0] != DATA and not (reading.pdus == 1 and encoded[0] in (RQ, AC)):
            return reading
    return reading


def _whole_before_the_cut(encoded: bytes, assembling: _Assembling) -> list[Message]:
    try:
        return assembling.take(encoded)
    except ValueError:
        return assembling.done


class _Assembling:
    """Put fragments together (PS3.8 Annex E, PS3.7 6.3.1)."""

    def __init__(self) -> None:
        self.done: list[Message] = []
        self._context: int | None = None
        self._command = b""
        self._elements: dict[int, bytes] | None = None
        self._digest = hashlib.sha256()
        self._size = 0

    def take(self, encoded: bytes) -> list[Message]:
        """Return the messages that a P-DATA-TF ends. Raises ValueError; ``done`` are those before the mistake."""
        self.done = []
        for context, control, content in pdvs(encoded):
            self.done += self._fragment(context, control, content)
        return self.done

    def _fragment(self, context: int, control: int, content: bytes) -> Iterator[Message]:
        if self._context not in (None, context):
            raise ValueError("a fragment of another context within a message")
        self._context = context
        if control & 1:
            if self._elements is not None:
                raise ValueError("a command within a data set")
            self._command += content
            if control & 2:
                self._elements = {e: v for _, e, v in elements(self._command)}
                if self._elements.get(0x0800) == struct.pack("<H", NO_DATA_SET):
                    yield self._end()
            return
        if self._elements is None:
            raise ValueError("a data set without a command")
        self._digest.update(content)
        self._size += len(content)
        if control & 2:
            yield self._end()

    def _end(self) -> Message:
        assert self._elements is not None and self._context is not None
        message = Message(self._context, self._elements, self._digest.hexdigest(), self._size)
        self.__init__()  # type: ignore[misc] # the next message begins
        return message


def accepted_contexts(stream: bytes) -> frozenset[int]:
    """Return the contexts that an A-ASSOCIATE-AC at the begin of a stream accepts (PS3.8 9.3.3.2)."""
    answer = next(split(stream), b"")
    found, at = set(), 74
    while answer[:1] == bytes((AC,)) and at + 8 <= len(answer):
        kind, _, length = struct.unpack_from(">BBH", answer, at)
        if kind == 0x21 and answer[at + 6] == 0:
            found.add(answer[at + 4])
        at += 4 + length
    return frozenset(found)
