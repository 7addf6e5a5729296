"""One object of a file of manifests: its text changed or taken out, all the rest left to the byte."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from aegate_core.resources import yaml_text
from aegate_core.resources.manifests import Manifest, read_text
from aegate_core.resources.problems import Path
from aegate_core.resources.yaml_edit import NotEditable, edited
from aegate_core.resources.yaml_tree import YAMLProblem, members, parse_yaml

_SEPARATOR = re.compile(r"^---(?=\s|$)", re.MULTILINE)
_BOM = "\ufeff"


@dataclass(frozen=True, slots=True)
class _Part:
    """A document and its place in the text of its file, behind the line that begins it."""

    start: int
    end: int
    text: str


def with_object(raw: bytes, manifest: Manifest, wished: Mapping[str, object]) -> bytes:
    """Return the file of ``manifest`` with its object as ``wished``. Raises NotEditable."""
    if manifest.file.endswith(".json"):
        return _json(raw, manifest.root, wished)
    text = raw.decode("utf-8")
    part = _part_of(text, manifest)
    try:
        new = edited(part.text, manifest.root, wished)
    except (YAMLProblem, ValueError, KeyError, IndexError) as error:
        raise NotEditable("a form that is written in another way than manifests are") from error
    changed = (text[: part.start] + new + text[part.end :]).encode("utf-8")
    return _checked(raw, changed, manifest, wished)


def without_object(raw: bytes, manifest: Manifest) -> bytes | None:
    """Return the file without the object; None when nothing is left in it. Raises NotEditable."""
    if len(read_text(manifest.file, raw).manifests) == 1:
        return None
    if manifest.file.endswith(".json") or manifest.root:
        raise NotEditable("a List")
    text = raw.decode("utf-8")
    part = _part_of(text, manifest)
    begin = _SEPARATOR.search(text, max(0, text.rfind("\n---", 0, part.start) + 1))
    start = begin.start() if begin and begin.start() < part.start else part.start
    rest = text[:start] + (
        text[part.end :] if start else _SEPARATOR.sub("", text[part.end :], count=1).lstrip("\r\n")
    )
    return _checked(raw, rest.encode("utf-8"), manifest, None)


def new_file(manifest: Mapping[str, object]) -> bytes:
    """Return a file that holds this one object."""
    return yaml_text.block(manifest, 0).encode("utf-8")


def _part_of(text: str, manifest: Manifest) -> _Part:
    marks = [match.start() for match in _SEPARATOR.finditer(text)]
    for start, end in zip([0, *marks], [*marks, len(text)], strict=True):
        line_end = text.find("\n", start, end) + 1 or end
        first = line_end if start in marks else start + text.startswith(_BOM)
        part = _Part(first, end, text[first:end])
        try:
            documents = parse_yaml(part.text)
        except YAMLProblem as error:
            raise NotEditable("a text that cannot be parsed by parts") from error
        if len(documents) == 1 and documents[0].value == manifest.document.value:
            return part
    raise NotEditable("a document that begins on the line of its ---")


def _json(raw: bytes, root: Path, wished: Mapping[str, object]) -> bytes:
    text = raw.decode("utf-8-sig")
    whole: object = json.loads(text)
    if not root:
        whole = wished
    else:
        items = cast("list[object]", members(whole)["items"])
        items[int(root[1])] = wished
    indent = re.search(r"\n([ \t]+)\S", text)
    shown = json.dumps(whole, indent=indent[1] if indent else None, ensure_ascii=False)
    return (shown + ("\n" if text.endswith("\n") else "")).encode("utf-8")


def _checked(raw: bytes, changed: bytes, manifest: Manifest, wished: Mapping[str, object] | None) -> bytes:
    """Return ``changed`` if it differs in that one object alone. Raises NotEditable."""
    before = [(m.value, m.root) for m in read_text(manifest.file, raw).manifests]
    after = [(m.value, m.root) for m in read_text(manifest.file, changed).manifests]
    place = before.index((manifest.value, manifest.root))
    before[place : place + 1] = [(wished, manifest.root)] if wished is not None else []
    if json.dumps(before) != json.dumps(after):
        raise NotEditable("an anchor that others refer to")
    return changed
