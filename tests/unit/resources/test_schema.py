"""Structural schemas and rules by themselves: what the project's own CRDs do not use yet, a copy of them may."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegate_core.resources.manifests import read_manifests
from aegate_core.resources.names import label_value, qualified_name
from aegate_core.resources.object_meta import check_metadata
from aegate_core.resources.problems import nearest, render_path, show
from aegate_core.resources.quantity import is_quantity, parse_quantity
from aegate_core.resources.rules import check_rules
from aegate_core.resources.schema import Schema, check, with_defaults

ITEM: Schema = {
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "value": {
            "type": "integer",
            "x-kubernetes-validations": [{"rule": "self >= oldSelf", "message": "may only grow"}],
        },
    },
}
MAP_LIST: Schema = {
    "type": "array",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["type"],
    "items": ITEM,
}


def messages(value: object, schema: Schema) -> list[str]:
    """What the schema says to a value."""
    return [f"{render_path(v.path)}: {v.expected}, {v.got}" for v in check(value, schema, ("x",))]


@pytest.mark.parametrize(
    ("value", "schema", "problems"),
    [
        (None, {"type": "string", "nullable": True}, []),
        (None, {"type": "string"}, ["x: a string, null"]),
        (1, {"type": "number", "minimum": 1, "exclusiveMinimum": True}, ["x: more than 1, 1"]),
        (2.5, {"type": "number", "maximum": 2.5, "exclusiveMaximum": True}, ["x: less than 2.5, 2.5"]),
        (2.5, {"type": "number", "maximum": 2.5}, []),
        (2**62, {"type": "integer", "format": "int64"}, []),
        (2**63, {"type": "integer", "format": "int64"}, [f"x: a 64-bit integer, the integer {2**63}"]),
        (3, {"type": "integer", "enum": [1, 2]}, ["x: one of 1, 2, the integer 3"]),
        ("2026-01-31T12:00:00Z", {"type": "string", "format": "date-time"}, []),
        (
            "2026-01-31",
            {"type": "string", "format": "date-time"},
            ["x: a time such as 2026-01-31T12:00:00Z, '2026-01-31'"],
        ),
        (
            "soon",
            {"type": "string", "format": "date-time"},
            ["x: a time such as 2026-01-31T12:00:00Z, 'soon'"],
        ),
        ({"a": 1}, {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {}}, []),
        ({"a": 1, "b": 2}, {"type": "object", "maxProperties": 1}, ["x: at most 1 member, 2"]),
        ([{"type": "a"}, {"type": "b"}], MAP_LIST, []),
        (
            [{"type": "a"}, {"type": "a", "value": 1}],
            MAP_LIST,
            ['x[1]: every item once, {"type": "a"} again'],
        ),
    ],
)
def test_check(value: object, schema: Schema, problems: list[str]) -> None:
    assert messages(value, schema) == problems


def test_defaults_are_filled_in_deeply_and_nulls_become_them() -> None:
    leaf = {"type": "object", "properties": {"b": {"default": 2}, "c": {"default": 3, "nullable": True}}}
    schema = {"type": "object", "properties": {"a": {**leaf, "default": {"b": 1}}, "l": {"items": leaf}}}
    given_value = {"l": [{"b": None, "c": None}], "other": {"kept": 1}}
    before = copy.deepcopy(given_value)
    assert with_defaults(given_value, schema) == {
        "a": {"b": 1, "c": 3},
        "l": [{"b": 2, "c": None}],
        "other": {"kept": 1},
    }
    assert given_value == before


def test_old_items_of_map_lists_are_found_by_their_keys() -> None:
    old = [{"type": "a", "value": 5}, {"type": "b", "value": 1}]
    new = [{"type": "b", "value": 2}, {"type": "a", "value": 4}, {"type": "c", "value": 0}]
    found = list(check_rules(new, old, MAP_LIST))
    assert [(v.path, v.expected, v.got) for v in found] == [((1, "value"), "may only grow", "the integer 4")]


def test_items_of_other_lists_have_no_old_version() -> None:
    assert list(check_rules([{"value": 1}], [{"value": 5}], {"type": "array", "items": ITEM})) == []


@pytest.mark.parametrize(
    ("expression", "message"),
    [("'no ' + self", "no x"), ("self + 1", "plain"), ("' '", "plain"), ("string(size(self))", "1")],
)
def test_message_expression_gives_way_to_the_message(expression: str, message: str) -> None:
    rules = [{"rule": "false", "message": "plain", "messageExpression": expression}]
    (found,) = check_rules("x", None, {"type": "string", "x-kubernetes-validations": rules})
    assert found.expected == message


def test_rule_without_a_message_shows_itself() -> None:
    (found,) = check_rules("x", None, {"x-kubernetes-validations": [{"rule": "size(self) > 1"}]})
    assert found.expected == "failed rule: size(self) > 1"


@given(st.decimals(-(10**6), 10**6, places=3), st.sampled_from(["", "m", "k", "Ki", "M", "e3"]))
def test_quantities_are_exact(number: object, suffix: str) -> None:
    factors = {"": 1, "m": "0.001", "k": 1000, "Ki": 1024, "M": 10**6, "e3": 1000}
    text = f"{number:f}{suffix}"
    assert is_quantity(text)
    assert parse_quantity(text) == number * type(number)(factors[suffix])  # type: ignore[operator,call-arg] # Decimal


@pytest.mark.parametrize("text", ["", "Gi", "1GB", "1 Gi", "--1", "1.2.3", "0x10", "1ki", "inf"])
def test_what_is_no_quantity(text: str) -> None:
    assert not is_quantity(text)
    with pytest.raises(ValueError, match="a quantity must be"):
        parse_quantity(text)


@pytest.mark.parametrize(
    ("check_name", "good", "bad"),
    [
        (label_value, ["", "a", "A_b.c-d", "x" * 63], ["-a", "a-", "a b", "x" * 64]),
        (
            qualified_name,
            ["a", "example.org/A_b", "x" * 63],
            ["", "/a", "a/", "Example.org/a", "a/b/c", "x" * 64],
        ),
    ],
)
def test_forms_of_names(check_name: object, good: list[str], bad: list[str]) -> None:
    assert callable(check_name)
    assert [name for name in good if check_name(name)] == []
    assert [name for name in bad if not check_name(name)] == []


def test_annotations_have_a_form_and_a_size() -> None:
    metadata = {"name": "x", "annotations": {"ok": "x" * 300_000, "a b": "x"}}
    assert [render_path(v.path) for v in check_metadata(metadata)] == [
        'metadata.annotations["a b"]',
        "metadata.annotations",
    ]
    (wrong,) = check_metadata({"name": "x", "annotations": 1})
    assert wrong.got == "the integer 1"


def test_values_are_shown_shortly() -> None:
    assert show("x" * 100) == f"'{'x' * 60}'… (100 characters)"
    assert [show(v) for v in ({}, [1], 1.5, None)] == ["an object", "a list of 1", "the number 1.5", "null"]
    assert nearest("quite another", ["port", "node"]) == ""


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    reading = read_manifests(["/dev/zero"])
    assert [str(p) for p in reading.unreadable] == [
        "/dev/zero: expected a file, got something else: give a file or a folder"
    ]
    assert reading.manifests == []


def test_standard_input_has_a_size_too() -> None:
    reading = read_manifests(["-"], stdin=lambda most: b" " * most)
    assert "expected at most 4194304 bytes" in str(reading.problems[0])
