"""Operations made from the schema itself: whatever it gains is asked and tried, too."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLUnionType,
    get_named_type,
    is_leaf_type,
    is_required_argument,
    is_required_input_field,
)

from aegate_graphql_api.schema.root import schema

CORE = schema._schema
ONE_OF_A_KIND = {
    "String": '"x"',
    "Int": "1",
    "Float": "1.0",
    "Boolean": "false",
    "BigInt": "1",
    "JSON": "{}",
    "DateTime": '"2026-01-31T08:00:00Z"',
}

TEXTS = {"header.sourceAe": '"north/ct"', "header.attributes.keyword": '"Modality"'}
"""Texts that cannot be any text, by their path."""

IdFor = Callable[[str], str]
"""Gives the id for an argument, by its path such as ``selection.ids``."""


def root_fields(kind: str) -> dict[str, GraphQLField]:
    """Return the fields of Query, Mutation or Subscription."""
    root = CORE.get_type(kind)
    return dict(root.fields) if isinstance(root, GraphQLObjectType) else {}


def id_arguments(field: GraphQLField) -> list[str]:
    """Return the paths of all arguments of ``field`` that take ids."""
    return [path for name, a in field.args.items() for path in _id_paths(a.type, name, 3)]


def _id_paths(kind: GraphQLInputType, path: str, depth: int) -> Iterator[str]:
    named = get_named_type(kind)
    if named.name == "ID":
        yield path
    elif isinstance(named, GraphQLInputObjectType) and depth:
        for name, field in named.fields.items():
            yield from _id_paths(field.type, f"{path}.{name}", depth - 1)


VARIABLE = "$wanted"
"""What ``id_for`` may return for one of the ids: a document of which only that differs is judged once."""


@dataclass(frozen=True)
class Ids:
    """The ids of a document: what each argument is given, and which of those are given that may be left out."""

    id_for: IdFor
    given: Collection[str] | None = None
    """Paths; None: all."""

    def wants(self, kind: GraphQLInputType, path: str) -> bool:
        """Whether an argument that may be left out is given, for an id within it."""
        return any(self.given is None or one in self.given for one in _id_paths(kind, path, 3))

    def literal(self, path: str) -> str:
        id = self.id_for(path)
        return id if id == VARIABLE else f'"{id}"'


def operation(
    kind: str,
    name: str,
    field: GraphQLField,
    id_for: IdFor,
    *,
    given: Collection[str] | None = None,
    depth: int = 3,
) -> str:
    """Return a document that asks ``field`` with all it must have, the ids ``given``, and all that can be selected."""
    ids = Ids(id_for, given)
    parts = [
        f"{argument}: {_literal(of.type, argument, ids)}"
        for argument, of in field.args.items()
        if is_required_argument(of) or ids.wants(of.type, argument)
    ]
    arguments = f"({', '.join(parts)})" if parts else ""
    declared = f"({VARIABLE}: ID!)" if VARIABLE in arguments else ""
    return f"{kind.lower()} {declared} {{ {name}{arguments} {selection(get_named_type(field.type), depth)} }}"


def about(
    kind: str, name: str, field: GraphQLField, victim: str, id_for: IdFor, *, depth: int = 3
) -> list[str]:
    """Return documents that give ``victim``, and beside it none of the ids that may be left out; then one at a time.

    Many arguments exclude each other, and what is refused for that reason proves nothing.
    """
    others = [path for path in id_arguments(field) if path != victim]
    found = [
        operation(kind, name, field, id_for, given=(victim, *beside), depth=depth)
        for beside in ((), *((other,) for other in others))
    ]
    return list(dict.fromkeys(found))


def _literal(kind: GraphQLInputType, path: str, ids: Ids) -> str:
    if isinstance(kind, GraphQLNonNull):
        return _literal(kind.of_type, path, ids)
    if isinstance(kind, GraphQLList):
        return f"[{_literal(kind.of_type, path, ids)}]"
    if isinstance(kind, GraphQLEnumType):
        return str(next(iter(kind.values)))
    if isinstance(kind, GraphQLInputObjectType):
        parts = [
            f"{name}: {_literal(field.type, f'{path}.{name}', ids)}"
            for name, field in kind.fields.items()
            if is_required_input_field(field) or ids.wants(field.type, f"{path}.{name}")
        ]
        return "{" + ", ".join(parts) + "}"
    return ids.literal(path) if kind.name == "ID" else TEXTS.get(path, ONE_OF_A_KIND[kind.name])


def selection(kind: GraphQLNamedType | None, depth: int) -> str:
    """Return all fields of ``kind`` that need no argument, ``depth`` objects deep; of pages the nodes and the count."""
    if kind is None or is_leaf_type(kind):
        return ""
    if isinstance(kind, GraphQLUnionType):
        own = [f"... on {one.name} {selection(one, depth)}" for one in kind.types]
        return "{ __typename " + " ".join(own) + " }"
    assert isinstance(kind, GraphQLObjectType | GraphQLInterfaceType), kind
    chosen = ["__typename"]
    for name, field in kind.fields.items():
        below = get_named_type(field.type)
        if any(is_required_argument(a) for a in field.args.values()):
            continue
        if is_leaf_type(below):
            chosen.append(name)
        elif name in ("edges", "pageInfo"):
            continue
        elif depth:
            chosen.append(_page(name, field) + selection(below, depth - (name != "nodes")))
    return "{ " + " ".join(chosen) + " }"


def _page(name: str, field: GraphQLField) -> str:
    return f"{name}(first: 5) " if "first" in field.args else f"{name} "
