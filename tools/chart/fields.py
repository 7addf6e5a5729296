"""The kinds of values that a chart has, and how each reads in values.yaml and in values.schema.json.

Every field has a comment; a schema is closed, so a misspelt key is refused. What a value means, and what is wrong with
one, is said in words by the chart's guards: the schema judges types alone, and names the forms of texts (`forms`).
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from tools.chart.forms import OR_EMPTY

Schema = dict[str, object]
WIDTH = 116
RESOURCE = "^(cpu|memory|ephemeral-storage|hugepages-[^/]+|[^/]+/[^/]+)$"
"""Names of what a container may ask of a node."""


@dataclass(frozen=True)
class Field:
    """One value: its key, what it means, its default, its form."""

    key: str
    comment: str
    default: object
    schema: Schema

    def lines(self, indent: str) -> Iterator[str]:
        """Yield its lines of values.yaml."""
        yield from comment_lines(self.comment, indent)
        yield f"{indent}{self.key}: {json.dumps(self.default, ensure_ascii=False)}"

    def described(self) -> Schema:
        """Return its schema, with the comment."""
        return {"description": self.comment, **self.schema}


@dataclass(frozen=True)
class Section:
    """Values that belong together."""

    key: str
    comment: str
    fields: tuple[Field | Section, ...]

    def lines(self, indent: str) -> Iterator[str]:
        """Yield its lines of values.yaml."""
        yield from comment_lines(self.comment, indent)
        yield f"{indent}{self.key}:"
        for field in self.fields:
            yield from field.lines(f"{indent}  ")

    def described(self) -> Schema:
        """Return its schema, closed."""
        return {"description": self.comment, **closed(self.fields)}


def closed(fields: tuple[Field | Section, ...]) -> Schema:
    """Return the schema of an object with these fields and no others."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {field.key: field.described() for field in fields},
    }


def comment_lines(comment: str, indent: str) -> Iterator[str]:
    """Yield a comment, wrapped."""
    for line in textwrap.wrap(comment, WIDTH - len(indent)):
        yield f"{indent}# {line}"


def section(key: str, comment: str, *fields: Field | Section) -> Section:
    """Return values that belong together."""
    return Section(key, comment, fields)


def text(key: str, comment: str, default: str = "", *, form: str = "") -> Field:
    """Return a text, of a form perhaps. Where the default is empty, an empty text means something."""
    schema: Schema = {"type": "string"}
    if form:
        schema["format"] = form if default else form + OR_EMPTY
    return Field(key, comment, default, schema)


def name(key: str, comment: str, kind: str, default: str = "") -> Field:
    """Return the name of an object of Kubernetes."""
    named = text(key, comment, default, form=kind)
    return replace(named, schema={**named.schema, "maxLength": 253})


def choice(key: str, comment: str, *allowed: str) -> Field:
    """Return one of the texts ``allowed``, by default the first."""
    return Field(key, comment, allowed[0], {"enum": list(allowed)})


def integer(key: str, comment: str, default: int, *, least: int = 0, most: int = 65535) -> Field:
    """Return a whole number from ``least`` to ``most``."""
    return Field(key, comment, default, {"type": "integer", "minimum": least, "maximum": most})


def switch(key: str, comment: str, *, default: bool = False) -> Field:
    """Return yes or no."""
    return Field(key, comment, default, {"type": "boolean"})


def texts(key: str, comment: str, *, form: str = "") -> Field:
    """Return a list of texts, empty by default."""
    items: Schema = {"type": "string", "format": form} if form else {"type": "string"}
    return Field(key, comment, [], {"type": "array", "items": items})


def labels(key: str, comment: str, default: Mapping[str, str] | None = None, *, form: str = "label") -> Field:
    """Return labels, or with no form annotations."""
    value: Schema = {"type": "string", "format": form} if form else {"type": "string"}
    schema: Schema = {"type": "object", "additionalProperties": value}
    return Field(key, comment, dict(default or {}), schema)


def named(key: str, comment: str, *fields: Field | Section) -> Field:
    """Return objects by a name of the reader's choice, none by default. What one leaves out, templates fill in."""
    schema: Schema = {"type": "object", "additionalProperties": closed(fields)}
    return Field(key, comment, {}, schema)


def resources(comment: str, *, cpu: str, memory: str, limit: str) -> Field:
    """Return requests and limits of a container. No limit of CPU: it would slow a burst."""
    default = {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": limit}}
    quantities: Schema = {
        "type": "object",
        "additionalProperties": False,
        "patternProperties": {RESOURCE: {"type": ["string", "number"], "format": "quantity"}},
    }
    parts = {"requests": quantities, "limits": quantities}
    schema: Schema = {"type": "object", "additionalProperties": False, "properties": parts}
    return Field("resources", comment, default, schema)
