"""Inputs for the specs of resources, made of the CRDs when the API starts: names, enums, descriptions are theirs.

So a form can never ask for what no manifest may say. Members are spelt as in a manifest, and so are enum values: the
``spec`` that a query answers is an input as it stands.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import strawberry
from strawberry import UNSET

from aegate_core.resources.crds import load_crds
from aegate_core.resources.schema import Schema, items_of, properties
from aegate_graphql_api.schema.scalars import BigInt, StringMap

_SCALARS: Mapping[str, type] = {"string": str, "integer": int, "boolean": bool}


def _input(name: str, schema: Schema) -> type:
    """Return the input for an object; of every member it is known whether it was given."""
    annotations: dict[str, object] = {}
    fields: dict[str, object] = {}
    for member, below in properties(schema).items():
        attribute = f"m_{member}"
        annotations[attribute] = _type(name + member[0].upper() + member[1:], below) | None  # type: ignore[operator] # a type
        fields[attribute] = strawberry.field(name=member, default=UNSET, description=_said(below))
    made = type(f"{name}Input", (), {"__annotations__": annotations, "__doc__": _said(schema), **fields})
    return strawberry.input(made, description=_said(schema))


def _type(name: str, schema: Schema) -> object:
    kind = str(schema.get("type"))
    if kind == "array":
        return list[_type(name + "Item", items_of(schema))]  # type: ignore[misc] # made while running
    if kind == "object":
        return _input(name, schema) if properties(schema) else StringMap
    if "enum" in schema:
        return _enum(name, schema)
    return BigInt if schema.get("format") == "int64" else _SCALARS[kind]


def _enum(name: str, schema: Schema) -> object:
    said = _said(schema)
    values = {
        value: strawberry.enum_value(value, description=_of_value(value, said))
        for value in cast("list[str]", schema["enum"])
    }
    made = cast("type[enum.Enum]", enum.Enum(name, values))
    return strawberry.enum(made, description=said)


def _of_value(value: str, said: str) -> str:
    """Return the sentence that a field's description has for one of its values."""
    found = re.search(rf"(?:^|[.,] )(?:\w+, )*{value}(?:, \w+)*: ([^:]*?\.)(?= |$)", said)
    return found[1][0].upper() + found[1][1:] if found else f"As {value} in a manifest."


def _said(schema: Schema) -> str:
    return str(schema.get("description", ""))


def to_json(value: Any) -> Any:
    """Return what was given of an input, as it stands in a manifest; what was not given is left out."""
    if isinstance(value, enum.Enum):  # Strawberry marks enums as it marks inputs
        return value.value
    definition = getattr(type(value), "__strawberry_definition__", None)
    if definition is not None:
        given = {field.graphql_name: getattr(value, field.python_name) for field in definition.fields}
        return {str(name): to_json(member) for name, member in given.items() if member is not UNSET}
    if isinstance(value, list):
        return [to_json(item) for item in value]
    return value


if TYPE_CHECKING:
    ApplicationEntitySpecInput = Any
    ImageRouteSpecInput = Any
    PatientPartitionSpecInput = Any
else:
    ApplicationEntitySpecInput, ImageRouteSpecInput, PatientPartitionSpecInput = (
        _input(f"{kind}Spec", properties(load_crds()[kind].schema)["spec"])
        for kind in ("ApplicationEntity", "ImageRoute", "PatientPartition")
    )
