"""Every text that the schema takes, in every field of its roots: hostile texts are texts, whoever adds an argument."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLSchema,
    is_leaf_type,
    is_required_argument,
    is_required_input_field,
)
from graphql import get_named_type as named

from aegate_graphql_api.errors import CODES
from aegate_graphql_api.policy import Policy
from aegate_graphql_api.schema.root import schema
from tests.integration.api.clients import API
from tests.integration.api.test_attacks import snapshot
from tests.integration.api.test_limits import under

SCHEMA: GraphQLSchema = schema._schema
TEXTS = (
    "';DROP/**/TABLE/**/delivery;--",
    "xyz\"\\u0041\\n%s${7*7}{{7*7}}%_*'||(SELECT/**/actor/**/FROM/**/audit_event)||'",
    "nul\u0000nul",
    "\u202e\ufeff\U0001f468\u200d\U0001f469 abc",
)
DEEPEST = 4
_HARMLESS = {
    "Int": 1,
    "BigInt": 1,
    "Float": 1.0,
    "DateTime": "2026-01-01T00:00:00Z",
    "JSON": {},
    "Upload": None,
}


@dataclass(frozen=True, slots=True)
class Place:
    """One text somewhere in the arguments of a root field."""

    operation: str
    field: str
    path: tuple[str, ...]

    def asked(self, text: str, *, by_variables: bool) -> dict[str, Any]:
        """Return an operation with ``text`` there, and as little as possible elsewhere."""
        root = SCHEMA.query_type if self.operation == "query" else SCHEMA.mutation_type
        assert root is not None
        field = root.fields[self.field]
        given = {
            name: _value(argument.type, name, self.path[1:] if name == self.path[0] else None, text)
            for name, argument in field.args.items()
            if name == self.path[0] or is_required_argument(argument)
        }
        selected = "" if is_leaf_type(named(field.type)) else "{ __typename ... on Problem { code } }"
        if "Problem" not in {t.name for t in _possible(field.type)}:
            selected = "" if not selected else "{ __typename }"
        if not by_variables:
            arguments = ", ".join(f"{name}: {_literal(value)}" for name, value in given.items())
            return {"query": f"{self.operation} {{ result: {self.field}({arguments}) {selected} }}"}
        declared = ", ".join(f"${name}: {field.args[name].type}" for name in given)
        arguments = ", ".join(f"{name}: ${name}" for name in given)
        return {
            "query": f"{self.operation} ({declared}) {{ result: {self.field}({arguments}) {selected} }}",
            "variables": given,
        }


def _possible(kind: Any) -> list[Any]:
    one = named(kind)
    of = SCHEMA.get_possible_types(one) if hasattr(one, "types") else [one]
    return [*of, *(interface for t in of for interface in getattr(t, "interfaces", ()))]


class _Name(str):
    """An enum's value: a text without quotes."""


def _value(kind: Any, name: str, path: tuple[str, ...] | None, text: str) -> Any:
    """Return a value, as JSON has it; ``path`` leads to the text, None: anything harmless."""
    if isinstance(kind, GraphQLNonNull):
        return _value(kind.of_type, name, path, text)
    if isinstance(kind, GraphQLList):
        return [_value(kind.of_type, name, path, text)]
    if isinstance(kind, GraphQLInputObjectType):
        return {
            key: _value(field.type, key, path[1:] if path and key == path[0] else None, text)
            for key, field in kind.fields.items()
            if (path and key == path[0]) or (is_required_input_field(field) and not kind.is_one_of)
        }
    if isinstance(kind, GraphQLEnumType):
        return _Name(next(iter(kind.values)))
    if kind.name in ("String", "ID"):
        return text if path is not None else "x"
    return True if kind.name == "Boolean" else _HARMLESS[kind.name]


def _literal(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_literal(inner)}" for key, inner in value.items()) + "}"
    return value if isinstance(value, _Name) else json.dumps(value)


def _paths(kind: Any, seen: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    inner = named(kind)
    if isinstance(inner, GraphQLInputObjectType):
        if inner.name not in seen and len(seen) < DEEPEST:
            for name, field in inner.fields.items():
                for path in _paths(field.type, (*seen, inner.name)):
                    yield (name, *path)
    elif getattr(inner, "name", "") in ("String", "ID"):
        yield ()


def places() -> Iterator[Place]:
    """Yield every place of a text in the arguments of the roots."""
    for operation, root in (("query", SCHEMA.query_type), ("mutation", SCHEMA.mutation_type)):
        assert root is not None
        for field_name, field in root.fields.items():
            for name, argument in field.args.items():
                for path in _paths(argument.type):
                    yield Place(operation, field_name, (name, *path))


async def test_hostile_texts_are_texts_wherever_the_schema_takes_one(api: API) -> None:
    api = under(api, Policy(rate=0))
    before = await snapshot(api.db)
    tried, arguments = 0, set()
    for place, text in zip(places(), itertools.cycle(TEXTS), strict=False):
        # A literal once for each argument: the others by variables, which costs half, as a document is judged once.
        argument = (place.operation, place.field, place.path[0])
        answer = await api.post(**place.asked(text, by_variables=argument in arguments))
        arguments.add(argument)
        assert answer.status_code == 200, f"{place}: {answer.text}"
        said = answer.json()
        codes = [error["extensions"]["code"] for error in said.get("errors", [])]
        assert set(codes) <= set(CODES) - {"INTERNAL", "UNAVAILABLE", "SYNTAX_ERROR"}, f"{place}: {said}"
        tried += 1
        if place.operation == "mutation":
            after = await snapshot(api.db)
            refused = codes or "Problem" in str((said["data"] or {}).get("result"))
            assert after == before or not refused, place
            before = after
    assert await snapshot(api.db) == before
    assert tried > 300
