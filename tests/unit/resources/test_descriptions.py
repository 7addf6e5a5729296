"""What `kubectl explain` says of every field, to somebody who knows Kubernetes and no DICOM.

A description says what the field means, its unit or an example, what each choice does, and what holds when the field is
absent. Words of DICOM are explained where `kubectl explain KIND` begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from aegate_core.resources.schema import Schema
from tests.unit.resources.builders import crds
from tests.unit.resources.test_crds import nodes

KINDS = ("AEPolicy", "ApplicationEntity", "ImageRoute", "PatientPartition")
WORDS_OF_DICOM = (
    "AE",
    "AE title",
    "DICOM",
    "PACS",
    "modality",
    "association",
    "study",
    "series",
    "C-STORE",
    "C-ECHO",
    "C-FIND",
    "SOP class",
    "UID",
    "worklist",
    "storage commitment",
    "Accession Number",
    "medical record number",
    "document type",
    "data element",
    "header",
    "patient id",
    "partition",
    "PS3",
)
NEVER = r"\b(DIMSE|ACSE|VR|SCP|SCU|PDU|IOD|MPPS)\b"
"""Words that nobody needs who has none of the Standard before him."""
UNITS = r"[Ss]econds|[Pp]ort\b|studies|associations|pods|copies|[Dd]ays|\b(0|1) to 100\b|generation"


def fields() -> Iterator[tuple[str, Schema, bool]]:
    """Every field of every spec: its path, its schema, and whether it must be there."""
    for kind in KINDS:
        required: dict[str, object] = {}
        for path, node in nodes(crds()[kind].schema, kind):
            required |= {f"{path}.{name}": True for name in node.get("required", [])}  # type: ignore[attr-defined] # a list
            if path.startswith(f"{kind}.spec."):
                yield path, node, path in required


FIELDS = list(fields())
LEAVES = [
    (path, node, is_needed) for path, node, is_needed in FIELDS if node["type"] not in ("object", "array")
]


def said(node: Schema) -> str:
    return str(node.get("description", ""))


def test_there_is_something_to_read() -> None:
    assert len(LEAVES) > 80


def test_a_description_is_sentences() -> None:
    assert [
        path
        for path, node, _ in FIELDS
        if not re.fullmatch(r"([A-Z0-9`]|true:|false:).{15,}[.)]", said(node))
    ] == []


def test_a_number_has_a_unit() -> None:
    numbers = [(path, said(node)) for path, node, _ in LEAVES if node["type"] == "integer"]
    assert [(path, text) for path, text in numbers if not re.search(UNITS, text)] == []


def test_a_text_has_an_example() -> None:
    texts = [(path, said(n)) for path, n, _ in LEAVES if n["type"] == "string" and "enum" not in n]
    assert [(path, text) for path, text in texts if "such as" not in text] == []


def test_every_choice_is_explained() -> None:
    choices = [(path, said(n), value) for path, n, _ in LEAVES for value in n.get("enum", [])]  # type: ignore[attr-defined] # a list
    assert [(path, value) for path, text, value in choices if not re.search(rf"\b{value}\b", text)] == []
    switches = [(path, said(node)) for path, node, _ in LEAVES if node["type"] == "boolean"]
    assert [path for path, text in switches if not re.search(r"true:|false:|Whether", text)] == []


def test_a_default_is_named_and_so_is_what_holds_without_a_value() -> None:
    named = [(path, n["default"], said(n)) for path, n, _ in LEAVES if "default" in n]
    shown = [(path, str(d).lower() if isinstance(d, bool) else str(d), text) for path, d, text in named]
    assert [(path, d) for path, d, text in shown if f"Default: {d}" not in text] == []
    optional = [
        (path, said(node))
        for path, node, is_needed in FIELDS
        if not is_needed
        and "default" not in node
        and not re.search(r"\.(items|additionalProperties)(\.|$)", path)
    ]
    assert [path for path, text in optional if "bsent" not in text and ".retention" not in path] == []


@pytest.mark.parametrize("kind", KINDS)
def test_words_of_dicom_are_explained_where_one_begins(kind: str) -> None:
    schema = crds()[kind].schema
    texts = [said(node) for path, node in nodes(schema) if path != ".metadata"]
    used = {
        word for word in WORDS_OF_DICOM if any(re.search(rf"\b{word}(s|es|'s)?\b", text) for text in texts)
    }
    assert {word for word in used if f"{word}:" not in said(schema)} == set()
    assert [text for text in texts if re.search(NEVER, text)] == []
