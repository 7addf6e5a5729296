"""Change a value within a YAML text and leave every other character as it is: comments, order, layout.

The text is parsed for where each value stands, one place is rewritten, and it is parsed again, until it says what is
wished. The surprise: nothing is trusted. What cannot be edited in place (an alias, an anchor, a tab) is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from aegate_core.resources import yaml_text
from aegate_core.resources.problems import Path
from aegate_core.resources.yaml_tree import parse_yaml

MOST_EDITS = 500
"""Places of one change; a manifest has about a hundred fields."""


class NotEditable(Exception):
    """The text cannot be changed in place; the message says what is in the way, without its subject."""


@dataclass(frozen=True, slots=True)
class _Edit:
    start: int
    end: int
    text: str


def edited(text: str, root: Path, wished: Mapping[str, object]) -> str:
    """Return the text of one document whose object at ``root`` says ``wished``. Raises NotEditable."""
    for _ in range(MOST_EDITS):
        (document,) = parse_yaml(text)
        value: object = document.value
        (node,) = (found for found in YAML(typ="safe", pure=True).compose_all(text) if found is not None)
        for part in root:
            node, value = _below(node, part), value[part]  # type: ignore[index] # root is where the object stands
        edit = _next(_Text(text), node, value, wished)
        if edit is None:
            return text
        newline = "\r\n" if "\r\n" in text else "\n"
        text = text[: edit.start] + edit.text.replace("\n", newline) + text[edit.end :]
    raise NotEditable("so many changes")


def _below(node: Node, part: str | int) -> Node:
    if isinstance(node, SequenceNode) and isinstance(part, int):
        found: Node = node.value[part]
        return found
    return _members(node)[str(part)][1]


def _members(node: Node) -> dict[str, tuple[Node, Node]]:
    return {str(key.value): (key, value) for key, value in node.value}


class _Text:
    """A text and where its lines and values begin and end."""

    def __init__(self, text: str) -> None:
        self.text = text

    def line_start(self, index: int) -> int:
        return self.text.rfind("\n", 0, index) + 1

    def line_end(self, index: int) -> int:
        """Return where the next line begins."""
        found = self.text.find("\n", index)
        return len(self.text) if found < 0 else found + 1

    def begins_its_line(self, index: int) -> bool:
        return not self.text[self.line_start(index) : index].strip(" ")

    def end_of(self, node: Node, at_least: int) -> int:
        """Return where the line after a value begins, its comment on the same line included."""
        if isinstance(node, MappingNode | SequenceNode) and not node.flow_style and node.value:
            last = node.value[-1]
            return (
                self.end_of(last[1], last[0].end_mark.index)
                if isinstance(last, tuple)
                else self.end_of(last, 0)
            )
        end = max(int(node.end_mark.index), at_least)
        if isinstance(node, ScalarNode) and node.style in ("|", ">"):
            return self._after_block(node)
        return self.line_end(end)

    def _after_block(self, node: Node) -> int:
        """Return where the text of a block scalar ends: its mark may stand behind comments that follow it."""
        end = int(node.end_mark.index)
        return end if end == len(self.text) else self.line_start(end)


def _next(text: _Text, node: Node, have: object, want: object) -> _Edit | None:
    """Return one place to rewrite, on the way from ``have`` to ``want``; None when both are the same."""
    if _same(have, want):
        return None
    if not isinstance(node, MappingNode) or not isinstance(have, Mapping) or not isinstance(want, Mapping):
        return _Edit(*_span(node), yaml_text.flow(want))
    if node.flow_style:
        return _Edit(*_span(node), yaml_text.flow(want))
    nodes = _members(node)
    for name in have:
        if name not in want:
            return _remove(text, *nodes[name], is_last=len(have) == 1)
    for name, value in want.items():
        if name not in have:
            return _add(text, node, yaml_text.entry(str(name), value, _column(nodes)))
        if not _same(have[name], value):
            return _change(text, nodes[name], have[name], (str(name), value))
    raise NotEditable("members in another order")


def _change(text: _Text, nodes: tuple[Node, Node], have: object, wished: tuple[str, object]) -> _Edit | None:
    key, node = nodes
    name, want = wished
    if node.start_mark.index < key.start_mark.index:
        raise NotEditable(f"the alias at line {key.start_mark.line + 1}")
    is_block = isinstance(node, MappingNode | SequenceNode) and not node.flow_style
    if is_block and isinstance(have, Mapping) and isinstance(want, Mapping) and want:
        return _next(text, node, have, want)
    if is_block and isinstance(have, list) and isinstance(want, list) and want:
        return _next_item(text, node, have, want)
    is_flow = isinstance(node, MappingNode | SequenceNode) and node.flow_style
    is_written = (
        isinstance(node, ScalarNode) and node.style not in ("|", ">") and _span(node)[1] > _span(node)[0]
    )
    if is_flow or (is_written and not isinstance(want, Mapping | list)):
        return _Edit(*_span(node), yaml_text.flow(want))
    start, end = _lines(text, key, node)
    return _Edit(start, end, yaml_text.entry(name, want, key.start_mark.column))


def _next_item(text: _Text, node: Node, have: list[object], want: list[object]) -> _Edit | None:
    """Change one item of a list in lines; the others keep their comments."""
    indent = text.text.rfind("-", 0, node.value[0].start_mark.index) - text.line_start(
        node.value[0].start_mark.index
    )
    for n, there in enumerate(have):
        if n < len(want) and _same(there, want[n]):
            continue
        item = node.value[n]
        if item.start_mark.index < node.start_mark.index:
            raise NotEditable(f"the alias at line {node.start_mark.line + n + 1}")
        start, end = text.line_start(item.start_mark.index), text.end_of(item, 0)
        if n >= len(want) or _holds(have[n + 1 :], want[n]):
            return _Edit(start, end, "")
        if _holds(want[n + 1 :], there):
            return _Edit(start, start, yaml_text.item(want[n], indent))
        if isinstance(item, ScalarNode):
            return _Edit(*_span(item), yaml_text.flow(want[n]))
        return _Edit(start, end, yaml_text.item(want[n], indent))
    return _add(text, node, yaml_text.item(want[len(have)], indent))


def _holds(values: list[object], value: object) -> bool:
    return any(_same(value, other) for other in values)


def _remove(text: _Text, key: Node, node: Node, *, is_last: bool) -> _Edit:
    if node.start_mark.index < key.start_mark.index:
        raise NotEditable(f"the alias at line {key.start_mark.line + 1}")
    start, end = _lines(text, key, node)
    return _Edit(start, end, " " * key.start_mark.column + "{}\n" if is_last else "")


def _add(text: _Text, node: Node, lines: str) -> _Edit:
    """Put lines behind the last member or item."""
    last = node.value[-1]
    key, value = last if isinstance(last, tuple) else (last, last)
    if value.start_mark.index < key.start_mark.index:
        end = text.line_end(key.end_mark.index)
    else:
        end = text.end_of(value, key.end_mark.index)
    has_newline = text.text[:end].endswith("\n")
    return _Edit(end, end, lines if has_newline else "\n" + lines.removesuffix("\n"))


def _lines(text: _Text, key: Node, node: Node) -> tuple[int, int]:
    start = int(key.start_mark.index)
    if not text.begins_its_line(start):
        raise NotEditable(f"a member that does not begin line {key.start_mark.line + 1}")
    return text.line_start(start), text.end_of(node, int(key.end_mark.index))


def _column(nodes: Mapping[str, tuple[Node, Node]]) -> int:
    return int(next(iter(nodes.values()))[0].start_mark.column)


def _span(node: Node) -> tuple[int, int]:
    return int(node.start_mark.index), int(node.end_mark.index)


def _same(one: object, other: object) -> bool:
    """Compare as JSON does: true is not 1."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and one == other
