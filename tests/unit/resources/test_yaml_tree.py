"""YAML and JSON text: values as kubectl reads them, lines of everything, and traps refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegate_core.resources.yaml_tree import Document, Place, YAMLProblem, parse_json, parse_yaml

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abc<y1", min_size=1), inner, max_size=4)
    ),
    max_leaves=12,
)


def one(text: str) -> Document:
    """The only document of a text."""
    (document,) = parse_yaml(text)
    return document


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Off", False),
        ("yes", True),
        ("'Off'", "Off"),
        ("!!str Off", "Off"),
        ("12", 12),
        ("1_000", 1000),
        ("0x10", 16),
        ("-1.5", -1.5),
        ("1e3", 1000.0),
        ("2026-01-31", "2026-01-31"),
        ("12:30", "12:30"),
        ("", None),
        ("~", None),
        ('"\\u00e4"', "ä"),
    ],
)
def test_scalars_are_read_as_kubectl_reads_them(text: str, value: object) -> None:
    document = one(f"a: {text}\n")
    assert document.value == {"a": value}
    assert document.faults == []


def test_every_value_has_its_line() -> None:
    document = one("a:\n  b: 1\n  c:\n  - x\n  - y: 2\n")
    assert document.place(("a", "b")) == Place(2, 3)
    assert document.place(("a", "c", 1)) == Place(5, 5)
    assert document.place(("a", "c", 1, "y")) == Place(5, 5)
    assert document.place(("a", "absent", "deeper")) == Place(1, 1), "the nearest part around it"


def test_empty_documents_are_left_out() -> None:
    assert [d.value for d in parse_yaml("---\na: 1\n---\n---\n# nothing\n---\nb: 2\n...\n")] == [
        {"a": 1},
        {"b": 2},
    ]
    assert parse_yaml("# only a comment\n") == []


@pytest.mark.parametrize(
    ("text", "line", "expected", "got"),
    [
        ("a:\n  b: 1\n  b: 2\n", 3, "every key once", "'b' again (first on line 2)"),
        ("a: 1\n104: x\n", 2, "text as a key", "the integer 104, written '104'"),
        ("0104: x\n", 1, "text as a key", "a number, written '0104'"),
        ("~: x\n", 1, "text as a key", "null, written '~'"),
        ("on: x\n", 1, "text as a key", "the boolean true, written 'on'"),
        ("? [a]\n: x\n", 1, "text as a key", "a list or an object"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", 3, "a field", "the merge key <<"),
        ("port: 0104\n", 1, "a number that means the same everywhere", "'0104'"),
        (
            f"port: {'9' * 5000}\n",
            1,
            "a number that means the same everywhere",
            f"'{'9' * 60}'… (5000 characters)",
        ),
        ("a: .inf\n", 1, "a finite number", ".inf"),
        ("a: !secret x\n", 1, "a plain value", "the tag !secret"),
        ("a: !!set {x}\n", 1, "a plain value", "the tag tag:yaml.org,2002:set"),
    ],
)
def test_traps_are_refused(text: str, line: int, expected: str, got: str) -> None:
    ((violation, place),) = one(text).faults
    assert (violation.expected, violation.got, place.line) == (expected, got, line)


@pytest.mark.parametrize(
    ("text", "line", "expected", "got"),
    [
        ("a: 1\n\tb: 2\n", 2, "spaces for indentation", "a tab"),
        ("a:\n\t- b\n", 2, "spaces for indentation", "a tab"),
        ("a: b: c\n", 1, "YAML", "mapping values are not allowed here"),
        ("a: 'x\n", 2, "YAML", "found unexpected end of stream"),
        ("a: *nobody\n", 1, "YAML", "found undefined alias 'nobody'"),
        ("a: \x07\n", 1, "YAML", "a character that YAML does not allow"),
        ("[" * 500 + "]" * 500, 1, "at most 64 levels", "more"),
        ("[" * 2000 + "]" * 2000, 1, "at most 64 levels", "more"),
        ("a: &a [*a]\n", 1, "at most 64 levels", "more"),
    ],
)
def test_what_cannot_be_parsed_says_where(text: str, line: int, expected: str, got: str) -> None:
    with pytest.raises(YAMLProblem) as caught:
        parse_yaml(text)
    assert (caught.value.violation.expected, caught.value.violation.got) == (expected, got)
    assert caught.value.place.line == line


def test_aliases_count_as_often_as_they_are_used() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(YAMLProblem) as caught:
        parse_yaml("\n".join(lines))
    assert caught.value.violation.expected == "at most 200000 values in a file"


def test_json_may_be_indented_by_tabs_and_escape_pairs() -> None:
    (document,) = parse_json('{\n\t"a": "\\ud83d\\ude00",\n\t"b": [1]}')
    assert document.value == {"a": "😀", "b": [1]}
    assert document.place(("b",)) == Place(3, 2)


def test_json_number_of_thousands_of_digits_is_refused() -> None:
    with pytest.raises(YAMLProblem) as caught:
        parse_json('{"port": ' + "9" * 5000 + "}")
    assert caught.value.violation.got == "a number of thousands of digits"


def test_wrong_json_says_where() -> None:
    with pytest.raises(YAMLProblem) as caught:
        parse_json('{"a": 1,\n}')
    assert caught.value.violation.expected == "JSON"
    assert caught.value.place.line in (1, 2)


@given(JSON_VALUES)
def test_json_means_what_it_says(value: object) -> None:
    documents = parse_json(json.dumps({"value": value}))
    assert [d.value for d in documents] == [{"value": value}]
    assert documents[0].faults == []
