"""What is given of a resource's spec by GraphQL stands in the manifest as it would in YAML."""

from __future__ import annotations

from typing import Any

import pytest
import strawberry
from strawberry.types.arguments import convert_argument

from aegate_graphql_api.inputs.specs import ImageRouteSpecInput, to_json
from aegate_graphql_api.schema.root import schema


@pytest.mark.parametrize(
    "given",
    [{"level": "Study", "to": ["pacs"]}, {"onDuplicate": "Redeliver", "from": {"aes": ["ct"]}}, {}],
)
def test_spec_is_as_it_was_given_enums_by_their_word(given: dict[str, Any]) -> None:
    kind = schema._schema.type_map["ImageRouteSpecInput"]
    coerced = {
        name: kind.fields[name].type.parse_value(value) if isinstance(value, str) else value  # type: ignore[union-attr]
        for name, value in given.items()
    }
    annotation = strawberry.annotation.StrawberryAnnotation(ImageRouteSpecInput).resolve()
    spec = convert_argument(coerced, annotation, schema.schema_converter.scalar_registry, schema.config)
    assert to_json(spec) == given
