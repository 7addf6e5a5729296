"""Mutants of recorded conversations: one to three things are wrong with each, at a place that the dice choose.

At least half of them change nothing before the association is accepted (`Script.within`): what is refused at the door
tests the door alone.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from itertools import repeat

from tests.proofs.fuzzing.conversations import (
    AC,
    DATA,
    RQ,
    Conversation,
    command_set,
    elements,
    is_whole,
    p_data,
    pdvs,
)
from tests.proofs.fuzzing.script import Do, Script, chunks, script_of, send
from tests.state_table import Role

WITHIN = 0.75
SEVERAL = 0.3
LYING_LENGTHS = (0, 1, 2, 3, 5, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x20000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
NUMBERS = (
    0,
    1,
    2,
    7,
    0x0020,
    0x0030,
    0x0101,
    0x0102,
    0x0FFF,
    0x8001,
    0x8030,
    0xA700,
    0xB000,
    0xC000,
    0xFF00,
    0xFFFF,
)

Mutator = Callable[["Mutation"], None]


class Mutation:
    """A script in the making."""

    def __init__(self, script: Script, corpus: Sequence[Conversation], dice: random.Random) -> None:
        self.script = script
        self.steps = script.steps
        self.corpus = corpus
        self.dice = dice
        self.start = 0
        if script.within:
            last = RQ if script.role is Role.REQUESTOR else AC
            sent = [n for n, (do, v) in enumerate(self.steps) if do is Do.SEND and v[:1] == bytes((last,))]
            self.start = sent[0] + (2 if script.role is Role.REQUESTOR else 1)

    def sends(self, kind: int | None = None) -> list[int]:
        """Return the places that may be changed; of one type of PDU where there is one, else of any."""
        found = [n for n, (do, _) in enumerate(self.steps) if do is Do.SEND and n >= self.start]
        of_kind = [n for n in found if self.steps[n][1][:1] == bytes((kind or 0,))]
        return of_kind or found

    def change(self, kind: int | None, edit: Callable[[bytearray], bytes | bytearray | None]) -> None:
        """Edit the bytes of one place, chosen by chance."""
        if places := self.sends(kind):
            at = self.dice.choice(places)
            content = bytearray(self.steps[at][1])
            edited = edit(content)
            self.steps[at] = send(bytes(content if edited is None else edited))

    def foreign(self) -> bytes:
        """Return a PDU that somebody said in some conversation."""
        return self.dice.choice(self.dice.choice(self.corpus).lines)[1]


def flip_bits(m: Mutation) -> None:
    """Flip one to eight bits."""

    def edit(content: bytearray) -> None:
        for _ in range(m.dice.randint(1, 8)):
            if content:
                content[m.dice.randrange(len(content))] ^= 1 << m.dice.randrange(8)

    m.change(None, edit)


def lie_about_pdu_length(m: Mutation) -> None:
    """Say another length of a PDU."""

    def edit(content: bytearray) -> None:
        if len(content) >= 6:
            length = m.dice.choice(
                (*LYING_LENGTHS, len(content) - 7, len(content) - 5, m.dice.getrandbits(32))
            )
            struct.pack_into(">L", content, 2, length)

    m.change(None, edit)


def lie_about_inner_length(m: Mutation) -> None:
    """Say another length of a PDV, or of an item of the association's PDUs."""

    def edit(content: bytearray) -> None:
        if content[:1] == bytes((DATA,)) and len(content) >= 10:
            struct.pack_into(">L", content, 6, m.dice.choice(LYING_LENGTHS))
        elif len(content) > 80:
            at = m.dice.randrange(74, len(content) - 4)
            struct.pack_into(">H", content, at, m.dice.choice(LYING_LENGTHS) & 0xFFFF)

    m.change(m.dice.choice((DATA, RQ, AC)), edit)


def truncate(m: Mutation) -> None:
    """Leave out the end of a PDU; what follows is read as its rest."""
    m.change(None, lambda content: content[: m.dice.randrange(len(content) + 1)])


def duplicate(m: Mutation) -> None:
    """Say a PDU twice or more."""
    m.change(None, lambda content: content * m.dice.randint(2, 4))


def reorder(m: Mutation) -> None:
    """Let two PDUs change places."""
    places = m.sends()
    if len(places) > 1:
        a, b = m.dice.sample(places, 2)
        m.steps[a], m.steps[b] = m.steps[b], m.steps[a]


def splice(m: Mutation) -> None:
    """Say something in between that belongs elsewhere, sometimes in one write with its neighbour."""
    other = m.foreign()
    if m.dice.random() < 0.5:
        m.change(None, lambda content: other + content if m.dice.random() < 0.5 else content + other)
    else:
        m.steps.insert(m.dice.randint(m.start, len(m.steps)), send(other))


def graft(m: Mutation) -> None:
    """Join the head of a PDU and the tail of another."""
    other = m.foreign()
    m.change(None, lambda c: c[: m.dice.randrange(len(c) + 1)] + other[m.dice.randrange(len(other)) :])


def wrong_type(m: Mutation) -> None:
    """Call a PDU another type."""

    def edit(content: bytearray) -> None:
        content[:1] = bytes((m.dice.choice((*range(0, 10), 0x47, 0xFF)),))

    m.change(None, edit)


def header_fields(m: Mutation) -> None:
    """Change reserved bytes, protocol version or titles."""

    def edit(content: bytearray) -> None:
        at = m.dice.choice((1, 6, 7, 8, 9, *range(10, 42)))
        if at < len(content):
            content[at] = m.dice.choice((0, 1, 2, 0x20, 0x5C, 0xFF, m.dice.getrandbits(8)))

    m.change(m.dice.choice((RQ, AC, None)), edit)


def command_elements(m: Mutation) -> None:
    """Drop, repeat, empty or change an element of a command set, or add one."""

    def edit(content: bytearray) -> bytes | None:
        try:
            (context, control, command), *rest = list(pdvs(bytes(content)))
            known = elements(command)
        except (ValueError, IndexError):
            return None
        if not control & 1 or not known:
            return None
        return p_data((context, control, command_set(_another(known, m.dice))), *rest)

    m.change(DATA, edit)


def _another(known: list[tuple[int, int, bytes]], dice: random.Random) -> list[tuple[int, int, bytes]]:
    made = [e for e in known if (e[0], e[1]) != (0, 0) or dice.random() < 0.2]
    at = dice.randrange(len(made)) if made else 0
    number = struct.pack("<H", dice.choice(NUMBERS))
    what = dice.randrange(7)
    if not made or what == 0:
        made.append(
            (dice.choice((0, 0, 8)), dice.choice((0x0110, 0x0900, 0x1000, dice.getrandbits(16))), number)
        )
    elif what == 1:
        del made[at]
    elif what == 2:
        made.insert(dice.randrange(len(made)), made[at])
    else:
        group, element, value = made[at]
        new = (number, b"", value[:-1], bytes(b ^ 0x10 for b in value), value + bytes(dice.randrange(1, 70)))
        made[at] = (group, element, dice.choice(new) if what < 6 else dice.randbytes(len(value)))
    return made


def pdv_header(m: Mutation) -> None:
    """Change context or control of a PDV."""

    def edit(content: bytearray) -> bytes | None:
        try:
            values = list(pdvs(bytes(content)))
        except ValueError:
            return None
        if not values:
            return None
        at = m.dice.randrange(len(values))
        context, control, data = values[at]
        if m.dice.random() < 0.5:
            values[at] = (m.dice.choice((0, 1, 2, 3, 5, 7, 255)), control, data)
        else:
            values[at] = (context, m.dice.choice((0, 1, 2, 3, 4, 0x83, 0xFF)), data)
        return p_data(*values)

    m.change(DATA, edit)


def end_within(m: Mutation) -> None:
    """Say a part of a PDU, and stay, close, half close or reset."""
    places = m.sends()
    if places:
        at = m.dice.choice(places)
        content = m.steps[at][1]
        ends = (
            [(Do.STAY, None)],
            [(Do.CLOSE, None)],
            [(Do.RESET, None)],
            [(Do.HALF_CLOSE, None), (Do.STAY, None)],
        )
        m.steps[at:] = [send(content[: m.dice.randrange(len(content) + 1)]), *m.dice.choice(ends)]


def without_waiting(m: Mutation) -> None:
    """Say everything at once."""
    tail = m.steps[m.start :]
    m.steps[m.start :] = [send(b"".join(value for do, value in tail if do is Do.SEND))]


def odd_writes(m: Mutation) -> None:
    """Write in small pieces, sometimes with pauses: the bytes are the same (harmless)."""
    made = m.steps[: m.start]
    for do, value in m.steps[m.start :]:
        if do is Do.SEND:
            small = m.dice.choice((1, 3, 5, 7, 11, 13, 1021))
            sizes = repeat(small if len(value) < 400 else max(small, 97))
            made += [send(piece) for piece in chunks(value, sizes)]
            if m.dice.random() < 0.2:
                made.insert(len(made) - 1, (Do.PAUSE, 0.05))
        else:
            made.append((do, value))
    m.steps[:] = made


def odd_fragments(m: Mutation) -> None:
    """Divide messages into other PDVs and PDUs: the messages are the same (harmless)."""
    for at in m.sends(DATA):
        content = m.steps[at][1]
        if content[:1] != bytes((DATA,)) or not is_whole(content):
            continue
        size = 2 * m.dice.randint(1, 40) + (1000 if len(content) > 1000 else 0)
        values = [
            (context, control & 1 | (control & 2 if end else 0), piece)
            for context, control, data in pdvs(content)
            for piece, end in _pieces(data, size)
        ]
        together = m.dice.randint(1, 4)
        groups = [values[n : n + together] for n in range(0, len(values), together)]
        m.steps[at] = send(b"".join(p_data(*group) for group in groups))


def _pieces(data: bytes, size: int) -> list[tuple[bytes, bool]]:
    made = list(chunks(data, repeat(size))) or [b""]
    return [(piece, n == len(made)) for n, piece in enumerate(made, 1)]


HARMLESS: tuple[Mutator, ...] = (odd_writes, odd_fragments)
HARMFUL: tuple[Mutator, ...] = (
    flip_bits, lie_about_pdu_length, lie_about_inner_length, truncate, duplicate, reorder, splice, graft, wrong_type,
    header_fields, command_elements, command_elements, pdv_header, end_within, without_waiting,
)  # fmt: skip


def mutant(corpus: Sequence[Conversation], role: Role, dice: random.Random) -> Script:
    """Return a script that nobody has said before."""
    within = dice.random() < WITHIN
    usable = [c for c in corpus if c.is_accepted or not within]
    if role is Role.ACCEPTOR:
        usable = [c for c in usable if c.name.partition("-")[0] in ("files", "worker", "probe")]
    script = script_of(dice.choice(usable), role)
    script.within = within
    mutation = Mutation(script, corpus, dice)
    script.harmless = dice.random() < 0.1 and within
    mutators = [dice.choice(HARMLESS if script.harmless else HARMFUL)]
    while not script.harmless and dice.random() < SEVERAL:
        mutators.append(dice.choice(HARMFUL))
    for mutator in mutators:
        mutator(mutation)
    script.origin += "".join(f" + {mutator.__name__}" for mutator in mutators)
    if script.harmless or dice.random() < 0.4:
        script.steps.append((Do.STAY, None))
    return script
