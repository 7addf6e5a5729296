"""Operations made from the schema itself: whatever it gains is asked and tried, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputField,
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


def operation(kind: str, name: str, field: GraphQLField, id_for: IdFor, *, depth: int = 3) -> str:
    """Return a document that asks ``field`` with all it must have, every id, and all that can be selected."""
    given = []
    for argument_name, argument in field.args.items():
        if is_required_argument(argument) or any(_id_paths(argument.type, argument_name, 3)):
            given.append(f"{argument_name}: {_value(argument, argument_name, id_for)}")
    arguments = f"({', '.join(given)})" if given else ""
    declared = f"({VARIABLE}: ID!)" if VARIABLE in arguments else ""
    return f"{kind.lower()} {declared} {{ {name}{arguments} {selection(get_named_type(field.type), depth)} }}"


def _value(argument: GraphQLArgument | GraphQLInputField, path: str, id_for: IdFor) -> str:
    return _literal(argument.type, path, id_for)


def _literal(kind: GraphQLInputType, path: str, id_for: IdFor) -> str:
    if isinstance(kind, GraphQLNonNull):
        return _literal(kind.of_type, path, id_for)
    if isinstance(kind, GraphQLList):
        return f"[{_literal(kind.of_type, path, id_for)}]"
    if isinstance(kind, GraphQLEnumType):
        return str(next(iter(kind.values)))
    if isinstance(kind, GraphQLInputObjectType):
        parts = [
            f"{name}: {_value(field, f'{path}.{name}', id_for)}"
            for name, field in kind.fields.items()
            if is_required_input_field(field) or any(_id_paths(field.type, name, 2))
        ]
        return "{" + ", ".join(parts) + "}"
    if kind.name == "ID":
        return VARIABLE if (id := id_for(path)) == VARIABLE else f'"{id}"'
    return TEXTS.get(path, ONE_OF_A_KIND[kind.name])


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
