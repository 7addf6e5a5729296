"""How large a document may be: characters, tokens, nesting, fragments, aliases, fields, cost. Before validation.

Strawberry's own limiters walk nested fragments again for each use: 20 of them, 756 bytes, cost 3 s. Here each
fragment is weighed once. Cost: one for a field, times what the connections above it may hold (``first``; a variable
counts as 100).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
)

from aegate_graphql_api.errors import RequestRefused

MAX_BODY_BYTES = 1024 * 1024
MAX_CHARACTERS = 32_768
"""Of a document: lexing costs time for each. What is long belongs into variables."""
MAX_TOKENS = 1_000
"""Parsing costs 6 µs a token, and validating what is wrong as much again."""
MAX_NESTING = 40
"""Brackets within brackets, before parsing: the parser recurses. Also selections within selections, by fragments."""
MAX_OPERATIONS = 50
MAX_FRAGMENTS = 50
MAX_DEPTH = 16
"""GraphiQL's introspection query needs 14."""
MAX_ALIASES = 50
MAX_ROOT_FIELDS = 20
MAX_FIELDS = 1_000
"""Fragments unfolded."""
MAX_REPETITIONS = 2_000
"""Pairs of fields that merge into one: validation compares each with each. Fifty of a name make 1,225."""
MAX_COST = 100_000
"""By feel: 100 items of 20 fields with 50 instances each of 10 fields pass. Measure slow queries before a change."""
MAX_VALUES = 5_000
"""Of the variables, lists and objects unfolded: converting one costs 2 µs."""
MAX_OBJECTS = 100
"""Input objects of a document, and as many in its variables: converting an empty filter costs 0.2 ms."""
LONGEST_PAGE = 100
UNPAGED_LIST = 50
"""What ``first`` is when it is left out."""

_COUNTED_TO = 1_000_000_000
"""Numbers stop here: chained fragments double them with every link."""

_STRINGS = re.compile(
    r'"""(?:[^"\\]++|\\"""|\\(?!""")|"(?!""))*+(?:"""|\Z)|"(?:[^"\\\r\n]++|\\.)*+"?|#[^\r\n]*+', re.DOTALL
)
"""Strings and comments as GraphQL's lexer has them. An unclosed one goes to its end: to begin again behind each of
its quotes would take hours for a body of 1 MiB."""
_BRACKETS = re.compile(r"[\[({]|[\])}]")


@dataclass(frozen=True, slots=True)
class Weight:
    """How much a selection is."""

    depth: int = 0
    aliases: int = 0
    cost: int = 0
    root_fields: int = 0
    fields: int = 0
    each: int = 0
    """Its cost where each of its fields answers with one row: what a stream pays for a row that it tells."""
    pages: bool = False
    """Whether it asks for nodes or edges: what it is selected from is a connection."""
    introspects: bool = False

    def beside(self, other: Weight) -> Weight:
        """Return both, side by side."""
        return Weight(
            max(self.depth, other.depth),
            min(self.aliases + other.aliases, _COUNTED_TO),
            min(self.cost + other.cost, _COUNTED_TO),
            min(self.root_fields + other.root_fields, _COUNTED_TO),
            min(self.fields + other.fields, _COUNTED_TO),
            min(self.each + other.each, _COUNTED_TO),
            self.pages or other.pages,
            self.introspects or other.introspects,
        )


def check_text(text: str) -> None:
    """Raise RequestRefused when a document is too long, or its brackets nest too deeply, to be parsed safely.

    A brace within parentheses begins an input object.
    """
    _at_most("characters", MAX_CHARACTERS, len(text))
    level = arguments = objects = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub("", text)):
        level += 1 if bracket in "[({" else -1
        _at_most("nested brackets", MAX_NESTING, level)
        arguments += (bracket == "(") - (bracket == ")")
        objects += bracket == "{" and arguments > 0
    _at_most("input objects", MAX_OBJECTS, objects)


def too_many_tokens() -> RequestRefused:
    """Return the error of a document with too many tokens; they are counted no further than to the first of these."""
    return _too("tokens", MAX_TOKENS, MAX_TOKENS + 1)


def check_variables(variables: object) -> None:
    """Raise RequestRefused when variables hold too many values, or nest too deeply, to be converted."""
    level, count, objects, nesting = [variables], 0, -1, 0
    while level:
        nesting += 1
        _at_most("levels in variables", MAX_NESTING, nesting)
        below: list[object] = []
        for value in level:
            objects += isinstance(value, dict)
            inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
            count += len(inner)
            _at_most("values in variables", MAX_VALUES, count)
            below += inner
        _at_most("input objects in variables", MAX_OBJECTS, objects)
        level = below


def weigh(document: DocumentNode) -> Mapping[str | None, Weight]:
    """Return the weight of each operation by its name. Raises RequestRefused for a document that is too large."""
    fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
    operations = [d for d in document.definitions if isinstance(d, OperationDefinitionNode)]
    _at_most("fragments", MAX_FRAGMENTS, len(fragments))
    _at_most("operations", MAX_OPERATIONS, len(operations))
    scales = _Scales(fragments)
    weights = [scales.selection(d.selection_set) for d in operations]
    for weight in weights:
        _at_most("levels of depth", MAX_DEPTH, weight.depth)
        _at_most("aliases", MAX_ALIASES, weight.aliases)
        _at_most("root fields", MAX_ROOT_FIELDS, weight.root_fields)
        _at_most("cost", MAX_COST, weight.cost)
    _at_most("fields", MAX_FIELDS, sum(weight.fields for weight in weights))
    repeated = sum(repetitions(d.selection_set, fragments) for d in operations)
    _at_most("pairs of equal fields", MAX_REPETITIONS, repeated)
    return {d.name.value if d.name else None: weight for d, weight in zip(operations, weights, strict=True)}


class _Scales:
    def __init__(self, fragments: dict[str, FragmentDefinitionNode]) -> None:
        self._fragments = fragments
        self._weighed: dict[str, Weight] = {}

    def selection(self, selected: SelectionSetNode | None, level: int = 0) -> Weight:
        _at_most("selections within selections", MAX_NESTING, level)
        total = Weight()
        leaves = aliases = 0
        for node in selected.selections if selected else ():
            if isinstance(node, FieldNode) and node.selection_set is None:
                leaves += 1  # most are: a weight of its own for each would take as long as parsing
                aliases += node.alias is not None
            elif isinstance(node, FieldNode):
                total = total.beside(self._field(node, level))
            elif isinstance(node, InlineFragmentNode):
                total = total.beside(self.selection(node.selection_set, level + 1))
            elif isinstance(node, FragmentSpreadNode):
                total = total.beside(self._fragment(node.name.value, level))
        return (
            total.beside(Weight(min(leaves, 1), aliases, leaves, leaves, leaves, leaves)) if leaves else total
        )

    def _field(self, node: FieldNode, level: int) -> Weight:
        below = self.selection(node.selection_set, level + 1)
        return Weight(
            depth=below.depth + 1,
            aliases=below.aliases + (node.alias is not None),
            cost=min(1 + below.cost * _rows(node, pages=below.pages), _COUNTED_TO),
            root_fields=1,
            fields=min(1 + below.fields, _COUNTED_TO),
            each=min(1 + below.cost, _COUNTED_TO),
            pages=node.name.value in ("nodes", "edges"),
            introspects=below.introspects or node.name.value in ("__schema", "__type"),
        )

    def _fragment(self, name: str, level: int) -> Weight:
        if name not in self._weighed:
            self._weighed[name] = Weight()  # a cycle ends here; validation refuses it by name
            definition = self._fragments.get(name)
            if definition is not None:
                self._weighed[name] = self.selection(definition.selection_set, level + 1)
        return self._weighed[name]


def repetitions(selected: SelectionSetNode, fragments: Mapping[str, FragmentDefinitionNode]) -> int:
    """Return how many pairs of fields stand at the same place under the same name, level by level.

    Fragments that use themselves never end: it stops when it has seen more fields than a document may have.
    """
    pairs = seen = 0
    level = [[selected]]
    while level and seen <= MAX_FIELDS:
        below: list[list[SelectionSetNode]] = []
        for group in level:
            names: Counter[str] = Counter()
            selections: dict[str, list[SelectionSetNode]] = {}
            for node in _merged(group, fragments):
                name = (node.alias or node.name).value
                names[name] += 1
                if node.selection_set:
                    selections.setdefault(name, []).append(node.selection_set)
            seen += names.total()
            pairs += sum(count * (count - 1) // 2 for count in names.values())
            below += selections.values()
        level = below
    return pairs


def _merged(
    group: list[SelectionSetNode], fragments: Mapping[str, FragmentDefinitionNode]
) -> Iterator[FieldNode]:
    """Yield the fields of selections that are executed as one, each fragment once."""
    used: set[str] = set()
    waiting = list(group)
    while waiting:
        for node in waiting.pop().selections:
            if isinstance(node, FieldNode):
                yield node
            elif isinstance(node, InlineFragmentNode):
                waiting.append(node.selection_set)
            elif isinstance(node, FragmentSpreadNode) and node.name.value not in used:
                used.add(node.name.value)
                if node.name.value in fragments:
                    waiting.append(fragments[node.name.value].selection_set)


def _rows(node: FieldNode, *, pages: bool) -> int:
    """Return how many rows a field may answer with."""
    asked = [
        min(max(int(a.value.value), 1), LONGEST_PAGE)
        if isinstance(a.value, IntValueNode) and len(a.value.value) < 6
        else LONGEST_PAGE
        for a in node.arguments or ()
        if a.name.value in ("first", "last", "ids")
    ]
    if asked:
        return max(asked)
    return UNPAGED_LIST if pages else 1


def _at_most(what: str, limit: int, used: int) -> None:
    if used > limit:
        raise _too(what, limit, used)


def _too(what: str, limit: int, used: int) -> RequestRefused:
    return RequestRefused(
        "TOO_COMPLEX",
        f"an operation may have {limit} {what}, got more: ask in several requests",
        limit=limit,
        used=used,
        of=what,
    )
