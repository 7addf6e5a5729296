"""How large a document may be: tokens, nesting, fragments, aliases, root fields, cost. One pass, before validation.

Strawberry's own limiters walk nested fragments again for each use: 20 of them, 756 bytes, cost 3 s. Here each
fragment is weighed once. Cost: one for a field, times what the connections above it may hold (``first``; a variable
counts as 100).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
)

from aegate_graphql_api.errors import RequestRefused

MAX_BODY_BYTES = 1024 * 1024
MAX_TOKENS = 2_000
MAX_NESTING = 40
"""Brackets within brackets, before parsing: the parser recurses. Also selections within selections, by fragments."""
MAX_FRAGMENTS = 50
MAX_DEPTH = 16
"""GraphiQL's introspection query needs 14."""
MAX_ALIASES = 50
MAX_ROOT_FIELDS = 20
MAX_COST = 100_000
"""By feel: 100 items of 20 fields with 50 instances each of 10 fields pass. Measure slow queries before a change."""
LONGEST_PAGE = 100
UNPAGED_LIST = 50
"""What ``first`` is when it is left out."""

_STRINGS = re.compile(
    r'"""(?:[^"\\]|\\"""|\\(?!""")|"(?!""))*(?:"""|\Z)|"(?:[^"\\\r\n]|\\.)*"?|#[^\r\n]*', re.DOTALL
)
"""Strings and comments as GraphQL's lexer has them. An unclosed one goes to its end: to begin again behind each of
its quotes would take hours for a body of 1 MiB."""
_BRACKETS = re.compile(r"[\[({]|[\])}]")


@dataclass(frozen=True, slots=True)
class Weight:
    """How much a selection is. Numbers stop growing beyond the limits: chained fragments would make them huge."""

    depth: int = 0
    aliases: int = 0
    cost: int = 0
    fields: int = 0
    pages: bool = False
    """Whether it asks for nodes or edges: what it is selected from is a connection."""

    def beside(self, other: Weight) -> Weight:
        """Return both, side by side."""
        return Weight(
            max(self.depth, other.depth),
            min(self.aliases + other.aliases, MAX_ALIASES + 1),
            min(self.cost + other.cost, MAX_COST + 1),
            min(self.fields + other.fields, MAX_ROOT_FIELDS + 1),
            self.pages or other.pages,
        )


def check_nesting(text: str) -> None:
    """Raise RequestRefused when brackets nest too deeply to be parsed safely."""
    level = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub("", text)):
        level += 1 if bracket in "[({" else -1
        if level > MAX_NESTING:
            raise _too("nested brackets", MAX_NESTING)


def check_document(document: DocumentNode) -> list[GraphQLError]:
    """Return what is too large in ``document``: nothing, or one error."""
    try:
        weights = weigh(document)
    except RequestRefused as refused:
        return [refused]
    for weight in weights:
        for what, value, limit in (
            ("levels of depth", weight.depth, MAX_DEPTH),
            ("aliases", weight.aliases, MAX_ALIASES),
            ("root fields", weight.fields, MAX_ROOT_FIELDS),
            ("cost", weight.cost, MAX_COST),
        ):
            if value > limit:
                return [_too(what, limit)]
    return []


def weigh(document: DocumentNode) -> list[Weight]:
    """Return the weight of each operation. Raises RequestRefused for what is too large to be weighed."""
    fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
    if len(fragments) > MAX_FRAGMENTS:
        raise _too("fragments", MAX_FRAGMENTS)
    scales = _Scales(fragments)
    return [
        scales.selection(d.selection_set)
        for d in document.definitions
        if isinstance(d, OperationDefinitionNode)
    ]


class _Scales:
    def __init__(self, fragments: dict[str, FragmentDefinitionNode]) -> None:
        self._fragments = fragments
        self._weighed: dict[str, Weight] = {}

    def selection(self, selected: SelectionSetNode | None, level: int = 0) -> Weight:
        if level > MAX_NESTING:
            raise _too("selections within selections", MAX_NESTING)
        total = Weight()
        for node in selected.selections if selected else ():
            if isinstance(node, FieldNode):
                total = total.beside(self._field(node, level))
            elif isinstance(node, InlineFragmentNode):
                total = total.beside(self.selection(node.selection_set, level + 1))
            elif isinstance(node, FragmentSpreadNode):
                total = total.beside(self._fragment(node.name.value, level))
        return total

    def _field(self, node: FieldNode, level: int) -> Weight:
        below = self.selection(node.selection_set, level + 1)
        return Weight(
            depth=below.depth + 1,
            aliases=below.aliases + (node.alias is not None),
            cost=min(1 + below.cost * _rows(node, pages=below.pages), MAX_COST + 1),
            fields=1,
            pages=node.name.value in ("nodes", "edges"),
        )

    def _fragment(self, name: str, level: int) -> Weight:
        if name not in self._weighed:
            self._weighed[name] = Weight()  # a cycle ends here; validation refuses it by name
            definition = self._fragments.get(name)
            if definition is not None:
                self._weighed[name] = self.selection(definition.selection_set, level + 1)
        return self._weighed[name]


def _rows(node: FieldNode, *, pages: bool) -> int:
    """Return how many rows a field may answer with."""
    for argument in node.arguments or ():
        if argument.name.value in ("first", "ids"):
            value = argument.value
            if isinstance(value, IntValueNode) and len(value.value) < 6:
                return min(max(int(value.value), 1), LONGEST_PAGE)
            return LONGEST_PAGE
    return UNPAGED_LIST if pages else 1


def _too(what: str, limit: int) -> RequestRefused:
    return RequestRefused(
        "TOO_COMPLEX", f"the document may have {limit} {what}, got more: ask in several requests"
    )
