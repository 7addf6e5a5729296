"""Write values as YAML that reads the same by YAML 1.1 and 1.2: what might be taken for another value is quoted."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from aegate_core.resources.yaml_tree import YAMLProblem, parse_yaml

_PLAIN = re.compile(r"[A-Za-z0-9/][\w./+-]*( [\w./+-]+)*", re.ASCII)


def scalar(value: object) -> str:
    """Return a text, number, boolean or null on one line."""
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value) and _reads_as_text(value):
        return value
    return json.dumps(value, ensure_ascii=not value.isprintable())


def flow(value: object) -> str:
    """Return any value on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(str(name))}: {flow(member)}" for name, member in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    return scalar(value)


def entry(name: str, value: object, indent: int) -> str:
    """Return a member of an object in lines that begin ``indent`` deep."""
    head = f"{' ' * indent}{scalar(name)}:"
    if isinstance(value, Mapping) and value:
        return head + "\n" + block(value, indent + 2)
    if isinstance(value, list) and value:
        return head + "\n" + "".join(item(member, indent + 2) for member in value)
    return f"{head} {flow(value)}\n"


def block(value: Mapping[str, object], indent: int) -> str:
    """Return an object in lines."""
    return "".join(entry(str(name), member, indent) for name, member in value.items())


def item(value: object, indent: int) -> str:
    """Return an item of a list in lines."""
    return f"{' ' * indent}- {flow(value)}\n"


def _reads_as_text(value: str) -> bool:
    try:
        documents = parse_yaml(f"[{value}]\n")
    except YAMLProblem:
        return False
    return len(documents) == 1 and not documents[0].faults and documents[0].value == [value]
