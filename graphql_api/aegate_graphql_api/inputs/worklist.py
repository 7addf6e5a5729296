"""Inputs for what a worklist item says, made of the list of its attributes; of each is known whether it was given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import strawberry
from strawberry import UNSET

from aegate_core.dicom.values import VR
from aegate_core.dicom.worklist import ATTRIBUTES, Attribute, Code


@strawberry.input(
    description="An entry of a code system: what a device or a house calls something, for programs."
)
class CodedEntryInput:
    """An entry of a code sequence."""

    code_value: str = strawberry.field(description="The code, such as RPID16; at most 16 characters.")
    coding_scheme_designator: str = strawberry.field(
        description="Whose code it is, such as RADLEX; at most 16 characters."
    )
    code_meaning: str = strawberry.field(
        description="What it means, in words, such as CT Thorax; at most 64 characters."
    )
    coding_scheme_version: str = strawberry.field(
        default="", description="Which edition of the codes, where there are several; at most 16 characters."
    )


def given_of(attributes: Any) -> dict[str, object]:
    """Return what was given of an item, by name; null is None."""
    found = {name: getattr(attributes, name) for name in ATTRIBUTES}
    return {name: _value(value) for name, value in found.items() if value is not UNSET}


def _value(value: Any) -> object:
    if isinstance(value, list):
        return [_value(one) for one in value]
    if isinstance(value, CodedEntryInput):
        return Code(
            value.code_value,
            value.coding_scheme_designator,
            value.code_meaning,
            value.coding_scheme_version,
        )
    return value


def _type(attribute: Attribute) -> Any:
    one: Any = {VR.SQ: CodedEntryInput, VR.US: int}.get(attribute.vr, str)
    return list[one] if attribute.many else one


def _attributes_input() -> type:
    annotations = {name: _type(attribute) | None for name, attribute in ATTRIBUTES.items()}
    fields = {
        name: strawberry.field(default=UNSET, description=attribute.said)
        for name, attribute in ATTRIBUTES.items()
    }
    said = (
        "What a worklist item says, called as in DICOM. What is not given stays, or is empty in a new one; null "
        "empties."
    )
    made = type(
        "WorklistItemAttributesInput", (), {"__annotations__": annotations, "__doc__": said, **fields}
    )
    return strawberry.input(made, description=said)


if TYPE_CHECKING:
    WorklistItemAttributesInput = Any
else:
    WorklistItemAttributesInput = _attributes_input()
