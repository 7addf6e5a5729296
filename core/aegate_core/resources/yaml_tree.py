"""YAML and JSON text as plain values, with the line of every one of them.

Scalars are read as kubectl reads them (YAML 1.1: an unquoted ``Off`` is false), because the same file must
mean the same on a cluster. What is only a trap is refused: duplicate keys, keys that are no text, merge keys,
numbers with a leading zero. Aliases count as often as they are used, so a "billion laughs" ends early.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from aegate_core.resources.problems import Path, Violation, show

MOST_VALUES = 200_000
"""Values of one file, aliases counted each time.

By feel: 10,000 AEs with a dozen fields have about as many.
"""
DEEPEST = 64
"""Levels of nesting; a manifest has about ten."""

_TRUE = frozenset(["y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"])
_FALSE = frozenset(["n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"])
_NULL = frozenset(["", "~", "null", "Null", "NULL"])
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_BASED = re.compile(r"[-+]?0(x[0-9a-fA-F]{1,16}|o[0-7]{1,22}|b[01]{1,64})")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")
_TAGGED = re.compile(r"(&\S+\s+)?!")
_KNOWN_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "map", "seq"))
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


class YAMLProblem(Exception):
    """The text is no YAML or JSON that can be used; ``place`` is where."""

    def __init__(self, violation: Violation, place: Place) -> None:
        super().__init__(violation.expected)
        self.violation = violation
        self.place = place


@dataclass(frozen=True, slots=True)
class Place:
    """A line and a column that count from 1."""

    line: int
    column: int


@dataclass(slots=True)
class Document:
    """One document of a file: its value, where each part of it stands, and what is wrong with it as YAML."""

    value: object = None
    places: dict[Path, Place] = field(default_factory=dict)
    faults: list[tuple[Violation, Place]] = field(default_factory=list)

    def place(self, path: Path) -> Place:
        """Return where ``path`` stands, or the nearest part around it that is there."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, Place(1, 1))


def parse_yaml(text: str) -> list[Document]:
    """Return the documents of a YAML text that are not empty. Raises YAMLProblem."""
    try:
        nodes = list(YAML(typ="safe", pure=True).compose_all(text))
    except MarkedYAMLError as error:
        raise _syntax_problem(error) from error
    except RecursionError as error:
        raise _too_deep(Place(1, 1)) from error
    except (YAMLError, ValueError) as error:
        violation = Violation(
            (), "YAML", "a character that YAML does not allow", "save the file as UTF-8 text"
        )
        raise YAMLProblem(violation, Place(1, 1)) from error
    builder = _Builder()
    return [builder.document(node) for node in nodes if not _is_empty(node)]


def parse_json(text: str) -> list[Document]:
    """Return the one document of a JSON text. Raises YAMLProblem."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        violation = Violation((), "JSON", error.msg, "mend the file")
        raise YAMLProblem(violation, Place(error.lineno, error.colno)) from error
    except ValueError as error:
        violation = Violation((), "JSON", "a number of thousands of digits", "mend the file")
        raise YAMLProblem(violation, Place(1, 1)) from error
    except RecursionError as error:
        raise _too_deep(Place(1, 1)) from error
    return parse_yaml(text.replace("\t", " "))


def _is_empty(node: Node | None) -> bool:
    return node is None or (isinstance(node, ScalarNode) and node.style is None and node.value in _NULL)


def _syntax_problem(error: MarkedYAMLError) -> YAMLProblem:
    mark = error.problem_mark or error.context_mark
    place = Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)
    problem = str(error.problem or error.context or "something else")
    if "'\\t'" in problem or "\t" in problem:
        return YAMLProblem(
            Violation((), "spaces for indentation", "a tab", "replace the tab with spaces"), place
        )
    advice = "look at the indentation, quotes and colons of this line and the one before it"
    return YAMLProblem(Violation((), "YAML", problem, advice), place)


def _too_deep(place: Place) -> YAMLProblem:
    return YAMLProblem(
        Violation((), f"at most {DEEPEST} levels", "more", "a manifest has about ten levels"), place
    )


class _Builder:
    """Turns nodes into values, over all documents of a file."""

    def __init__(self) -> None:
        self._left = MOST_VALUES
        self._document = Document()

    def document(self, node: Node) -> Document:
        self._document = Document()
        self._document.places[()] = _place(node)
        self._document.value = self._value(node, ())
        return self._document

    def _value(self, node: Node, path: Path) -> object:
        self._left -= 1
        if self._left < 0:
            expected = f"at most {MOST_VALUES} values in a file"
            raise YAMLProblem(
                Violation((), expected, "more", "split the file, or write out fewer aliases"), _place(node)
            )
        if len(path) > DEEPEST:
            raise _too_deep(_place(node))
        if node.tag not in _KNOWN_TAGS and (not isinstance(node, ScalarNode) or _has_tag(node)):
            violation = Violation(path, "a plain value", f"the tag {node.tag}", "remove the tag")
            self._refuse(violation, _place(node))
            return None
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return self._sequence(node, path)
        assert isinstance(node, ScalarNode), "a node is a mapping, a sequence or a scalar"
        return self._scalar(node, path)

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, object]:
        found: dict[str, object] = {}
        for key_node, value_node in node.value:
            place = _place(key_node)
            key = self._key(key_node, path)
            if key is None:
                continue
            at = (*path, key)
            if key in found:
                first = self._document.places[at].line
                got = f"{key!r} again (first on line {first})"
                self._refuse(Violation(at, "every key once", got, "remove one of them"), place)
                continue
            self._document.places[at] = place
            found[key] = self._value(value_node, at)
        return found

    def _key(self, node: Node, path: Path) -> str | None:
        """Return the key, or None for one that is no text."""
        if not isinstance(node, ScalarNode):
            self._refuse(
                Violation(path, "text as a key", "a list or an object", "write a word"), _place(node)
            )
            return None
        if node.style is None and node.value == "<<":
            advice = "merge keys are not read the same everywhere; write the fields out"
            self._refuse(Violation((*path, "<<"), "a field", "the merge key <<", advice), _place(node))
            return None
        try:
            value = _resolve(node)
            came = show(value)
        except ValueError:
            value, came = None, "a number"
        if isinstance(value, str):
            return value
        got = f"{came}, written {show(node.value)}"
        self._refuse(
            Violation((*path, node.value), "text as a key", got, "put the key in quotes"), _place(node)
        )
        return None

    def _sequence(self, node: SequenceNode, path: Path) -> list[object]:
        items = []
        for n, item in enumerate(node.value):
            self._document.places[(*path, n)] = _place(item)
            items.append(self._value(item, (*path, n)))
        return items

    def _scalar(self, node: ScalarNode, path: Path) -> object:
        try:
            value = _resolve(node)
        except ValueError as error:
            expected = "a number that means the same everywhere"
            self._refuse(Violation(path, expected, show(node.value), _advice(error)), _place(node))
            return None
        if isinstance(value, float) and not -1e308 <= value <= 1e308:
            violation = Violation(path, "a finite number", node.value, "JSON has no other")
            self._refuse(violation, _place(node))
            return None
        return value

    def _refuse(self, violation: Violation, place: Place) -> None:
        self._document.faults.append((violation, place))


def _place(node: Node) -> Place:
    mark = node.start_mark
    return Place(mark.line + 1, mark.column + 1)


def _resolve(node: ScalarNode) -> object:
    """Return the scalar's value as YAML 1.1 has it. Raises ValueError for a number that is a trap."""
    text = str(node.value)
    if node.style is not None or _has_tag(node):
        return _joined(text)
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if text in _NULL:
        return None
    if _DECIMAL.fullmatch(text):
        return int(text.replace("_", ""))
    if _LEADING_ZERO.fullmatch(text):
        raise ValueError("YAML reads a leading zero as octal; remove it, or put the value in quotes")
    if _BASED.fullmatch(text):
        return int(text.replace("_", ""), 0)
    if _FLOAT.fullmatch(text) or text.lower().lstrip("+-") in (".inf", ".nan"):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return _joined(text)


def _advice(error: ValueError) -> str:
    """Return our own advice, or that for a number that Python refuses to read."""
    own = str(error)
    return own if own.startswith("YAML") else "it has thousands of digits; shorten it"


def _has_tag(node: ScalarNode) -> bool:
    """Whether a tag such as ``!!str`` stands before the value."""
    mark = node.start_mark
    return _TAGGED.match(mark.buffer, mark.index) is not None


def _joined(text: str) -> str:
    """Join surrogate pairs, as JSON escapes them; a lone one becomes a replacement character."""
    if not any("\ud800" <= c <= "\udfff" for c in text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def members(value: object) -> Mapping[str, object]:
    """Return ``value`` when it is an object, else an empty one."""
    return value if isinstance(value, Mapping) else {}
