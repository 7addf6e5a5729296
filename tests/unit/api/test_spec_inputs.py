"""The inputs for specs say what the CRDs say: every member, its kind and its words, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from graphql import GraphQLEnumType, GraphQLInputObjectType, GraphQLList, GraphQLScalarType, build_schema

from aegate_core.resources.crds import load_crds
from aegate_core.resources.schema import Schema, items_of, properties
from aegate_graphql_api.print_schema import schema_text

SCHEMA = build_schema(schema_text())
SCALARS = {"string": "String", "boolean": "Boolean", "integer": "Int"}


def differences(kind: Any, schema: Schema, path: str) -> Iterator[str]:
    kind = getattr(kind, "of_type", kind) if path.endswith("[]") else kind
    if isinstance(kind, GraphQLInputObjectType):
        if kind.fields.keys() != properties(schema).keys():
            yield f"{path}: {kind.fields.keys() ^ properties(schema).keys()}"
        for name, field in kind.fields.items():
            below = properties(schema)[name]
            if field.description != below.get("description"):
                yield f"{path}.{name}: another description"
            yield from differences(field.type, below, f"{path}.{name}")
    elif isinstance(kind, GraphQLList):
        yield from differences(kind.of_type, items_of(schema), f"{path}[]")
    elif isinstance(kind, GraphQLEnumType):
        if list(kind.values) != schema.get("enum"):
            yield f"{path}: {list(kind.values)}"
        yield from (f"{path}: {n} has no words" for n, value in kind.values.items() if not value.description)
    elif isinstance(kind, GraphQLScalarType):
        wished = "StringMap" if schema["type"] == "object" else SCALARS[str(schema["type"])]
        if kind.name != ("BigInt" if schema.get("format") == "int64" else wished) or "enum" in schema:
            yield f"{path}: {kind.name}"
    else:
        yield f"{path}: {kind}"


@pytest.mark.parametrize("kind", ["ApplicationEntity", "ImageRoute", "PatientPartition"])
def test_inputs_are_as_the_crd(kind: str) -> None:
    spec = properties(load_crds()[kind].schema)["spec"]
    assert list(differences(SCHEMA.get_type(f"{kind}SpecInput"), spec, "spec")) == []
