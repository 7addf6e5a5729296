"""A disk that loses its power: what may be on it is worked out from a journal of what programs did to their files.

The journal is written by disk.c inside the programs. A `Disk` plays it and knows, for each file and each folder, what
was fsynced and what was only done. `Disk.cut` takes the power away: of what was not fsynced, each file and each folder
keeps, by the dice, nothing, all, or a part. See docs/adr/0014-power-loss-is-played-from-a-journal.md for the model.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

DISK_C = Path(__file__).with_name("disk.c")
PAGE = 4096
KEEPS_NOTHING = 0.3
"""How often a cut keeps nothing at all of what was not fsynced."""
_HEADER = struct.Struct("<IIQQQII")
_MAGIC = 0x4B534944


class NotModelled(AssertionError):
    """A program did what the model does not know, or the journal is damaged: nothing is proved."""


@dataclass(eq=False)
class Node:
    """A file or a folder: as programs see it now, as it was last fsynced, and what was done between."""

    mode: int
    now: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """(offset, bytes written there) or (size, None) for a truncation."""
    entries: dict[str, Node] = field(default_factory=dict)
    durable_entries: dict[str, Node] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)

    @property
    def is_folder(self) -> bool:
        """Whether it holds names."""
        return stat.S_ISDIR(self.mode)


@dataclass(eq=False)
class Change:
    """One name of a folder set to a node, or removed; ``after`` is the other half of a move between two folders."""

    name: str
    node: Node | None
    after: tuple[Node, Change] | None = None


@dataclass
class Loss:
    """What a cut took away."""

    files: Counter[str] = field(default_factory=Counter)
    """Files that do not hold all that was written, by the first folder of their path; "gone" if they were removed."""
    written_bytes: int = 0
    """What had been written to them and not fsynced."""
    names: Counter[str] = field(default_factory=Counter)
    """Names made, moved or removed and not so on the disk, likewise."""


@dataclass(frozen=True)
class Record:
    """One line of the journal; see disk.c."""

    op: str
    ino: int
    a: int
    b: int
    one: bytes
    two: bytes


def records(journal: Path) -> Iterator[Record]:
    """Yield the records of a journal."""
    data = memoryview(journal.read_bytes())
    at = 0
    while at < len(data):
        if len(data) - at < _HEADER.size:
            raise NotModelled("the journal ends within a record")
        magic, op, ino, a, b, size1, size2 = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        if magic != _MAGIC or at + size1 + size2 > len(data):
            raise NotModelled(f"the journal is damaged at {at}")
        middle, end = at + size1, at + size1 + size2
        yield Record(chr(op), ino, a, b, bytes(data[at:middle]), bytes(data[middle:end]))
        at = end


class Disk:
    """All files below ``root``. Between two lives of the programs it is written out, and played on from there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._top = Node(root.stat().st_mode)
        self._nodes: dict[int, Node] = {root.stat().st_ino: self._top}
        self._all: list[Node] = [self._top]
        """Also those that are gone, whose number another one has now: they may be on the disk still."""
        self.ignored: Counter[str] = Counter()
        """Calls of fsync that the layer was told to ignore."""

    def play(self, journal: Path) -> None:
        """Do what the journal says. Raises NotModelled."""
        for record in records(journal):
            if record.op == "X":
                raise NotModelled(
                    f"a program used {record.one.decode()}: teach the model, or use another call"
                )
            _PLAY[record.op](self, record)

    def differences(self) -> list[str]:
        """Return where the real files differ from what the journal says of them: what the layer did not see."""
        said = {path: node for path, node in _walk(self._top) if path}
        there = {str(p.relative_to(self.root)): p for p in self.root.rglob("*") if not p.is_socket()}
        wrong = [f"{name} is in one alone" for name in said.keys() ^ there.keys()]
        for name in said.keys() & there.keys():
            node, path = said[name], there[name]
            # The shared memory of SQLite is written through mmap; it is made anew after a crash.
            if not node.is_folder and not name.endswith("-shm") and path.read_bytes() != node.now:
                wrong.append(f"{name} has other content")
        return wrong

    def cut(self, dice: random.Random) -> Loss:
        """Take the power away, and put what is left in place of the real files."""
        loss, areas = Loss(), {id(n): path.partition("/")[0] or "." for path, n in _walk(self._top)}
        keeps_nothing = dice.random() < KEEPS_NOTHING
        for node in self._all if not keeps_nothing else ():
            for _ in range(_kept(len(node.changes), dice)):
                if node.changes:
                    _make_durable(node, node.changes[0])
        for node in self._all:
            area = areas.get(id(node), "gone")
            loss.names[area] += len(node.changes)
            node.entries, node.changes = dict(node.durable_entries), []
            if node.pending:
                written = sum(len(data) for _, data in node.pending if data)
                if _tear(node, 0.0 if keeps_nothing else dice.random(), dice):
                    loss.files[area] += 1
                    loss.written_bytes += written
        self._write_out()
        return loss

    def _write_out(self) -> None:
        shutil.rmtree(self.root)
        self.root.mkdir(mode=0o700)
        self._nodes, self._all = {}, []
        written: dict[int, Path] = {}
        for name, node in _walk(self._top):
            path = self.root / name
            if id(node) in written:
                os.link(written[id(node)], path)
                continue
            written[id(node)] = path
            if not node.is_folder:
                path.write_bytes(node.durable)
            elif name:
                path.mkdir()
            path.chmod(stat.S_IMODE(node.mode))
            self._nodes[path.stat().st_ino] = node
            self._all.append(node)

    def _create(self, r: Record) -> None:
        self._nodes[r.ino] = Node(r.b)
        self._all.append(self._nodes[r.ino])
        self._set(self._nodes[r.a], r.one.decode(), self._nodes[r.ino])

    def _link(self, r: Record) -> None:
        self._set(self._nodes[r.a], r.one.decode(), self._nodes[r.ino])

    def _unlink(self, r: Record) -> None:
        folder, name = self._nodes[r.a], r.one.decode()
        if name in folder.entries:  # a socket is none of ours
            self._set(folder, name, None)

    def _rename(self, r: Record) -> None:
        source, target = self._nodes[r.a], self._nodes[r.b]
        old, new = r.one.decode(), r.two.decode()
        node = source.entries[old]
        if target.entries.get(new) is node:
            return  # rename(2) of two links to one file does nothing
        made = self._set(target, new, node)
        if source is not target:
            self._set(source, old, None, after=(target, made))
            return
        # Within one folder it is one change: the new name is never there without the old one being gone.
        del source.entries[old]
        made.after = (source, Change(old, None))

    def _set(
        self, folder: Node, name: str, node: Node | None, *, after: tuple[Node, Change] | None = None
    ) -> Change:
        change = Change(name, node, after)
        folder.changes.append(change)
        if node is None:
            folder.entries.pop(name, None)
        else:
            folder.entries[name] = node
        return change

    def _write(self, r: Record) -> None:
        node = self._nodes[r.ino]
        node.pending.append((r.a, r.one))
        _apply(node.now, r.a, r.one)

    def _truncate(self, r: Record) -> None:
        node = self._nodes[r.ino]
        node.pending.append((r.a, None))
        _apply(node.now, r.a, None)

    def _fsync(self, r: Record) -> None:
        _settle(self._nodes[r.ino])

    def _syncfs(self, r: Record) -> None:
        # As if the file system began at the folder: what lies beside it is not made durable by good luck.
        for _, node in _walk(self._nodes[r.ino]):
            _settle(node)

    def _chmod(self, r: Record) -> None:
        node = self._nodes[r.ino]
        node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(r.a)

    def _ignore(self, r: Record) -> None:
        self.ignored[r.one.decode()] += 1


_PLAY = {
    "C": Disk._create,
    "D": Disk._create,
    "L": Disk._link,
    "U": Disk._unlink,
    "R": Disk._rename,
    "W": Disk._write,
    "T": Disk._truncate,
    "F": Disk._fsync,
    "S": Disk._syncfs,
    "M": Disk._chmod,
    "I": Disk._ignore,
}


def _walk(top: Node, path: str = "") -> Iterator[tuple[str, Node]]:
    yield path, top
    for name, node in sorted(top.entries.items()):
        yield from _walk(node, f"{path}/{name}" if path else name)


def _apply(content: bytearray, at: int, data: bytes | None) -> None:
    end = at if data is None else at + len(data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    if data is None:
        del content[at:]
    else:
        content[at:end] = data


def _settle(node: Node) -> None:
    """Make durable what was done to a file or a folder."""
    for at, data in node.pending:
        _apply(node.durable, at, data)
    node.pending.clear()
    while node.changes:
        _make_durable(node, node.changes[0])


def _make_durable(folder: Node, last: Change) -> None:
    """Make the changes of a folder up to ``last`` durable, and those of other folders that must come before them."""
    while last in folder.changes:
        change = folder.changes.pop(0)
        if change.after is not None:
            other, half = change.after
            if other is folder:
                folder.durable_entries.pop(half.name, None)
            else:
                _make_durable(other, half)
        if change.node is None:
            folder.durable_entries.pop(change.name, None)
        else:
            folder.durable_entries[change.name] = change.node


def _kept(done: int, dice: random.Random) -> int:
    """Return how many of the changes of a folder that were not fsynced are on the disk: the first ones always."""
    fate = dice.random()
    return 0 if fate < 0.4 else done if fate > 0.8 else dice.randint(0, done)


def _tear(node: Node, fate: float, dice: random.Random) -> bool:
    """Decide what of a file's writes since its fsync is on the disk: nothing, sizes alone, some pages, or all.

    Returns whether something is not.
    """
    for at, data in node.pending if fate > 0.4 else ():
        if data is None:
            if fate > 0.85 or dice.random() < 0.5:
                _apply(node.durable, at, None)
        elif fate < 0.6:
            _grow(node.durable, at + len(data))
        else:
            _write_pages(node.durable, at, data, dice, all_of_them=fate > 0.85)
    is_torn = node.durable != node.now
    node.pending.clear()
    node.now = bytearray(node.durable)
    return is_torn


def _grow(content: bytearray, size: int) -> None:
    if len(content) < size:
        content.extend(bytes(size - len(content)))


def _write_pages(content: bytearray, at: int, data: bytes, dice: random.Random, *, all_of_them: bool) -> None:
    start, end = at, at + len(data)
    while start < end:
        stop = min(end, start - start % PAGE + PAGE)
        if all_of_them or dice.random() < 0.5:
            _apply(content, start, data[start - at : stop - at])
        start = stop
