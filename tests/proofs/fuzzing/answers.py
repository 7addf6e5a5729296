"""Is an answer what the schema and the document promise? Field by field, as the GraphQL specification 6.4 has it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLAbstractType,
    GraphQLEnumType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    is_abstract_type,
)

_SCALARS = {
    "String": str,
    "ID": str,
    "Boolean": bool,
    "Int": int,
    "BigInt": int,
    "Float": (int, float),
    "DateTime": str,
}


class Judge:
    """Compares answers with one document."""

    def __init__(self, schema: GraphQLSchema, document: DocumentNode) -> None:
        self._schema = schema
        self._document = document
        self._fragments = {
            d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)
        }

    def faults(self, data: Any) -> Iterator[str]:
        """Yield what is not as it must be."""
        for definition in self._document.definitions:
            if isinstance(definition, OperationDefinitionNode):
                root = self._schema.get_root_type(definition.operation)
                assert root is not None
                yield from self._object(root, [definition.selection_set], data, "data")

    def _value(self, kind: Any, selected: list[SelectionSetNode], value: Any, at: str) -> Iterator[str]:
        if isinstance(kind, GraphQLNonNull):
            if value is None:
                yield f"{at} is null and must not be"
            else:
                yield from self._value(kind.of_type, selected, value, at)
        elif value is None:
            return
        elif isinstance(kind, GraphQLList):
            if not isinstance(value, list):
                yield f"{at} is no list"
                return
            for number, item in enumerate(value):
                yield from self._value(kind.of_type, selected, item, f"{at}[{number}]")
        elif isinstance(kind, GraphQLObjectType):
            yield from self._object(kind, selected, value, at)
        elif is_abstract_type(kind):
            yield from self._any_of(kind, selected, value, at)
        else:
            yield from _leaf(kind, value, at)

    def _any_of(
        self, kind: GraphQLAbstractType, selected: list[SelectionSetNode], value: Any, at: str
    ) -> Iterator[str]:
        possible = self._schema.get_possible_types(kind)
        if all(list(self._object(one, selected, value, at)) for one in possible):
            yield f"{at} is none of the types that {kind.name} may be"

    def _object(
        self, kind: GraphQLObjectType, selected: list[SelectionSetNode], value: Any, at: str
    ) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{at} is no object"
            return
        fields: dict[str, list[FieldNode]] = {}
        for selection_set in selected:
            self._collect(kind, selection_set.selections, fields)
        if set(value) != set(fields):
            yield f"{at} has other fields than were selected"
            return
        for name, nodes in fields.items():
            if nodes[0].name.value == "__typename":
                if value[name] != kind.name:
                    yield f"{at} is of another type"
                continue
            below = [node.selection_set for node in nodes if node.selection_set]
            of = kind.fields[nodes[0].name.value].type
            yield from self._value(of, below, value[name], f"{at}.{name}")

    def _collect(
        self,
        kind: GraphQLObjectType,
        selections: tuple[SelectionNode, ...],
        fields: dict[str, list[FieldNode]],
    ) -> None:
        for node in selections:
            if isinstance(node, FieldNode):
                fields.setdefault((node.alias or node.name).value, []).append(node)
                continue
            if isinstance(node, InlineFragmentNode):
                condition, inner = node.type_condition, node.selection_set
            else:
                fragment = self._fragments[node.name.value]  # type: ignore[attr-defined] # a spread
                condition, inner = fragment.type_condition, fragment.selection_set
            on = self._schema.get_type(condition.name.value) if condition else kind
            if on is kind or (is_abstract_type(on) and self._schema.is_sub_type(on, kind)):
                self._collect(kind, inner.selections, fields)


def _leaf(kind: Any, value: Any, at: str) -> Iterator[str]:
    if isinstance(kind, GraphQLEnumType):
        if value not in kind.values:
            yield f"{at} is no name of {kind.name}"
        return
    wanted = _SCALARS.get(kind.name)
    if wanted is None:
        return
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        yield f"{at} is no {kind.name}"
    elif kind.name == "Int" and not -(2**31) <= value < 2**31:
        yield f"{at} does not fit into an Int"
    elif kind.name == "DateTime" and datetime.fromisoformat(value).tzinfo is None:
        yield f"{at} is a time without a zone"
