"""The table of what the CRDs accept and refuse: one row a case, told to `aegate validate` and to a real API server.

A file holds tables (YAML documents), each of one kind: `base`, a manifest that is accepted, and `cases`, each of which
changes it. A case has

- `name`;
- `metadata`, `spec`: members that take the place of those of `base`, or come to them;
- `absent`: members that are left out, such as `spec.port`; `with`: members of the whole manifest;
- `old`: the version that is stored already, changed from `base` in the same way: then it is an update;
- `stored: before the rules`: the old version was stored when the schema said nothing yet;
- `refused`: the fields that are refused, each with words of the message. Without it the case is accepted.

The words are those of `aegate validate`. A rule of a CRD says the same on an API server; what the schema itself
refuses an API server says in its own words (`words_of_a_server`). ``!times [x, 3]`` is ``xxx``, ``!times [x, 3, y]``
is ``xxxy``, and a list becomes a longer list.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.nodes import SequenceNode

API_VERSION = "aegate.dev/v1alpha1"
Manifest = dict[str, object]

_WORDS_OF_A_SERVER = (
    (r"the field is required", r"Required value"),
    (r"unknown field", r'unknown field "{field}'),
    (r"every item once", r"Duplicate value"),
    (r"at least (\d+) characters?", r"at least \1 chars long"),
    (r"at most (\d+) characters", r"may not be more than \1 (bytes|characters)"),
    (r"at least (\d+) items?", r"should have at least \1 items"),
    (r"at most (\d+) items?", r"must have at most \1 items"),
    (r"at least (\d+) members?", r"should have at least \1 properties"),
    (r"at least (\d+)", r"greater than or equal to \1"),
    (r"at most (\d+) bytes", r"may not be more than \1 bytes"),
    (r"at most (\d+)", r"(less than or equal to|no more than) \1"),
    (r"lower-case letters", r"lower case alphanumeric characters"),
    (r"letters", r"alphanumeric characters"),
    (r"the owner's uid", r"must not be empty"),
    (r"32-bit integer", r"int32"),
    (r"expected an? (string|object)", r"of type \1"),
    (r"expected an integer", r"of type int"),
    (r"expected a list", r"of type array"),
    (r"expected true or false", r"of type boolean"),
    (r"a value that matches", r"should match"),
)


class _Constructor(SafeConstructor):
    """Plain YAML and ``!times``."""


def _times(loader: SafeConstructor, node: SequenceNode) -> object:
    part, count, *rest = loader.construct_sequence(node, deep=True)
    return part * count + "".join(rest) if rest else part * count


_Constructor.add_constructor("!times", _times)


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table."""

    name: str
    kind: str
    manifest: Manifest
    old: Manifest | None = None
    refused: Mapping[str, str] = field(default_factory=dict)
    """The fields refused, each with words of the message; empty: it is accepted."""
    is_old_unchecked: bool = False
    """The old version was stored before the schema said anything."""


def load_cases(folder: Path | None = None) -> list[Case]:
    """Return all rows, in the order of the files."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Constructor
    files = sorted((folder or Path(__file__).parent).glob("*.yaml"))
    tables = [table for file in files for table in yaml.load_all(file.read_text("utf-8"))]
    return [case for table in tables for case in _cases(table)]


def _cases(table: Mapping[str, object]) -> Iterator[Case]:
    kind, base = str(table["kind"]), dict(table["base"])  # type: ignore[call-overload] # see the docstring of this file
    for row in table["cases"]:  # type: ignore[attr-defined] # the same
        old = row.get("old")
        yield Case(
            name=f"{kind}: {row['name']}",
            kind=kind,
            manifest=_manifest(kind, base, row),
            old=None if old is None else _manifest(kind, base, old),
            refused=row.get("refused", {}),
            is_old_unchecked=row.get("stored") == "before the rules",
        )


def _manifest(kind: str, base: Manifest, changes: Mapping[str, object]) -> Manifest:
    manifest: Manifest = {"apiVersion": API_VERSION, "kind": kind, **copy.deepcopy(base)}
    for part in ("metadata", "spec"):
        if part in changes:
            manifest[part] = {**manifest[part], **changes[part]}  # type: ignore[dict-item] # objects, both
    for path in changes.get("absent", []):  # type: ignore[attr-defined] # a list of paths
        *above, name = path.split(".")
        holder: dict[str, Any] = manifest
        for part in above:
            holder = holder[part]
        del holder[name]
    whole: Manifest = manifest | changes.get("with", {})  # type: ignore[operator] # an object
    return whole


def words_of_a_server(words: str, place: str) -> str:
    """Return the pattern of what an API server says where `aegate validate` says ``words`` of the field ``place``."""
    choices = re.fullmatch(r"one of (.+)", words)
    if choices:
        return ".*".join(re.escape(f'"{choice}"') for choice in choices[1].split(", "))
    for ours, theirs in _WORDS_OF_A_SERVER:
        found = re.fullmatch(ours, words)
        if found:
            return f"{found.expand(theirs).replace('{field}', re.escape(place))}|{re.escape(words)}"
    return re.escape(words)


def reported_field(place: str) -> str:
    """Return the field as an API server tells it: of labels, annotations, finalizers and owners all as one.

    >>> reported_field("metadata.labels.k")
    'metadata.labels'
    """
    return re.sub(r"^(metadata\.(labels|annotations|finalizers|ownerReferences)).*", r"\1", place)
