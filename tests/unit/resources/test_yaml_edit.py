"""A value changed within a text: every line that says nothing of it stays to the byte."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegate_core.resources import yaml_text
from aegate_core.resources.file_edit import new_file, with_object, without_object
from aegate_core.resources.manifests import read_text
from aegate_core.resources.merge import merged
from aegate_core.resources.yaml_edit import NotEditable, edited
from aegate_core.resources.yaml_tree import parse_yaml

TEXT = """\
# the scanner
apiVersion: aegate.dev/v1alpha1   # ours
kind: ApplicationEntity
metadata: {name: ct-1, labels: {a: b}}
spec:
  title: CT_1
  # where it is
  node: 10.1.2.3   # room 4

  port: 104
  sourceRanges:   # wide
  - 10.1.2.0/24  # first
  # second comes
  - 10.1.3.0/24
  comment: |
    long
    text
  # push it
  push:
      priority: 50 # mean
      # tls
      tls: {verifyHostname: false}
      compression:
        mode: Lossy
        quality: 80
  # at the end
"""
Spec = dict[str, Any]
Change = Callable[[Spec], object]


def changed_lines(before: str, after: str) -> list[str]:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        (lambda spec: spec.update(port=11112), ["-  port: 104", "+  port: 11112"]),
        (lambda spec: spec.pop("node"), ["-  node: 10.1.2.3   # room 4"]),
        (
            lambda spec: spec.update(sourceRanges=["10.1.3.0/24", "10.9.0.0/16"]),
            ["-  - 10.1.2.0/24  # first", "+  - 10.9.0.0/16"],
        ),
        (lambda spec: spec.pop("comment"), ["-  comment: |", "-    long", "-    text"]),
        (
            lambda spec: spec.update(comment="Off: x"),
            ["-  comment: |", "-    long", "-    text", '+  comment: "Off: x"'],
        ),
        (
            lambda spec: spec["push"].update(priority=3, storageCommitment=True),
            ["-      priority: 50 # mean", "+      priority: 3 # mean", "+      storageCommitment: true"],
        ),
        (
            lambda spec: spec["push"]["tls"].update(serverName="pacs"),
            [
                "-      tls: {verifyHostname: false}",
                "+      tls: {verifyHostname: false, serverName: pacs}",
            ],
        ),
        (
            lambda spec: spec.update(listener={"port": 11113, "extraSOPClasses": ["1.2"]}),
            ["+  listener:", "+    port: 11113", "+    extraSOPClasses:", '+      - "1.2"'],
        ),
        (
            lambda spec: spec.update(enabled=False, locationCode="no"),
            ["+  enabled: false", '+  locationCode: "no"'],
        ),
    ],
)
def test_only_the_lines_of_what_changed_change(change: Change, lines: list[str]) -> None:
    wished = copy.deepcopy(parse_yaml(TEXT)[0].value)
    assert isinstance(wished, dict)
    change(wished["spec"])
    after = edited(TEXT, (), wished)
    assert changed_lines(TEXT, after) == lines
    assert parse_yaml(after)[0].value == wished


TEXTS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
    st.sampled_from(
        ["yes", "Off", "null", "~", "1.10", "0x1F", "010", "a: b", "# x", "- y", "", " z ", "<<", "{", "'"]
    ),
)
SCALARS = TEXTS | st.integers(-(10**9), 10**9) | st.booleans()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(SCALARS, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
PATCHES = st.dictionaries(
    st.sampled_from(["title", "node", "port", "comment", "sourceRanges", "push", "enabled", "listener"]),
    VALUES | st.none(),
    max_size=4,
)


@given(PATCHES)
def test_any_change_gives_a_text_that_says_it_and_keeps_the_comments_of_the_rest(patch: Spec) -> None:
    before = parse_yaml(TEXT)[0].value
    wished = merged(before, {"spec": patch})
    assert isinstance(wished, dict)
    after = edited(TEXT, (), wished)
    (document,) = parse_yaml(after)
    assert (document.value, document.faults) == (wished, [])
    kept = ["# the scanner", "# ours", "# where it is"]
    assert [comment for comment in kept if comment not in after] == []


@given(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=4))
def test_what_is_written_is_read_as_it_was_meant(value: Spec) -> None:
    (document,) = parse_yaml(yaml_text.block(value, 0))
    assert (document.value, document.faults) == (value, [])


SEVERAL = b"""\
# all of ours
---
# one
kind: One
spec: {a: 1}
---
# two
kind: Two
spec:
  a: &shared 1 # kept
  b: *shared
--- # three
kind: Three
"""


def test_another_document_of_a_file_stays_to_the_byte() -> None:
    one = read_text("x.yaml", SEVERAL).manifests[0]
    after = with_object(SEVERAL, one, {"kind": "One", "spec": {"a": 2}})
    assert after == SEVERAL.replace(b"{a: 1}", b"{a: 2}")
    assert without_object(SEVERAL, one) == SEVERAL.replace(b"---\n# one\nkind: One\nspec: {a: 1}\n", b"")


def test_what_an_alias_stands_for_is_not_edited() -> None:
    two = read_text("x.yaml", SEVERAL).manifests[1]
    for spec in ({"a": 1, "b": 2}, {"a": 2, "b": 1}):
        with pytest.raises(NotEditable):
            with_object(SEVERAL, two, {"kind": "Two", "spec": spec})


def test_the_last_object_takes_its_file_along() -> None:
    raw = b"kind: One\n"
    assert without_object(raw, read_text("x.yaml", raw).manifests[0]) is None


def test_a_file_with_windows_line_ends_and_a_byte_order_mark_keeps_both() -> None:
    raw = "\ufeffkind: One\r\nspec:\r\n  a: 1 # x\r\n".encode()
    (manifest,) = read_text("x.yaml", raw).manifests
    after = with_object(raw, manifest, {"kind": "One", "spec": {"a": 2, "b": 3}})
    assert after == "\ufeffkind: One\r\nspec:\r\n  a: 2 # x\r\n  b: 3\r\n".encode()


def test_json_keeps_its_indentation() -> None:
    raw = b'{\n    "kind": "One",\n    "spec": {\n        "a": 1\n    }\n}\n'
    (manifest,) = read_text("x.json", raw).manifests
    assert with_object(raw, manifest, {"kind": "One", "spec": {"a": 2}}) == raw.replace(b"1", b"2")


def test_an_item_of_a_list_is_edited_in_its_place() -> None:
    raw = (
        b"apiVersion: v1\nkind: List\nitems:\n- kind: One\n  spec: {a: 1} # x\n- kind: Two\n  spec: {a: 1}\n"
    )
    two = read_text("x.yaml", raw).manifests[1]
    after = with_object(raw, two, {"kind": "Two", "spec": {"a": 5}})
    assert after == raw.replace(b"- kind: Two\n  spec: {a: 1}", b"- kind: Two\n  spec: {a: 5}")


def test_a_new_file_is_read_as_it_was_meant() -> None:
    value = {
        "kind": "One",
        "metadata": {"name": "x", "labels": {"on": "yes"}},
        "spec": {"list": ["a", "1"], "none": {}},
    }
    (manifest,) = read_text("x.yaml", new_file(value)).manifests
    assert manifest.value == value
