"""The forms of texts: what the chart's guards hold each value against, and how they say what is expected.

A field names its form as the ``format`` in its schema. It is no ``pattern`` there: Helm would refuse a value with the
pattern alone, before the guards have a word. Patterns are of RE2, and are anchored where they are written down.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace

from aegate_core.resources.schema import Schema, properties
from aegate_core.resources.yaml_tree import members

OR_EMPTY = " or empty"
"""After the name of a form: where an empty text stands for something else."""


@dataclass(frozen=True, slots=True)
class Form:
    """One form."""

    pattern: str
    expected: str
    """What a value must be."""
    advice: str = "mend it"
    is_shown: bool = True
    """Whether a message may hold what came instead."""


def _list_of(value: str) -> str:
    """Return one part of a schedule: values, ranges and steps."""
    item = rf"(\*|\?|({value})(-({value}))?)(/0*[1-9][0-9]*)?"
    return f"{item}(,{item})*"


def _ipv6() -> str:
    """Return an address of IPv6; ``::`` stands for one group or more."""
    group = "[0-9a-fA-F]{1,4}"
    halves = [f"({group}:){{1,{7 - after}}}(:{group}){{1,{after}}}" for after in range(1, 7)]
    return "|".join([f"({group}:){{7}}{group}", f"({group}:){{1,7}}:", *halves, f":((:{group}){{1,7}}|:)"])


_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_NAME = rf"{_LABEL}(\.{_LABEL})*"
_NUMBER = r"([0-9]+(\.[0-9]*)?|\.[0-9]+)"
_NUMBER_ABOVE_0 = r"([0-9]*[1-9][0-9]*(\.[0-9]*)?|[0-9]*\.[0-9]*[1-9][0-9]*)"
_PART = "[a-z0-9]+((_|__|[.]|-+)[a-z0-9]+)*"
_IMAGE = f"{_PART}(/{_PART})*"
_TAG = "[A-Za-z0-9_][-A-Za-z0-9_.]{0,127}"
_REGISTRY = r"([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]+)?"
_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_WEEKDAYS = "sun|mon|tue|wed|thu|fri|sat"
_CRON = "[ \t]+".join(
    _list_of(part)
    for part in (
        "[0-5]?[0-9]",
        "[01]?[0-9]|2[0-3]",
        "0?[1-9]|[12][0-9]|3[01]",
        f"0?[1-9]|1[0-2]|{_MONTHS}",
        f"0?[0-6]|{_WEEKDAYS}",
    )
)
_NICKNAMES = "yearly|annually|monthly|weekly|daily|midnight|hourly"
_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IN_WORDS = "lower case letters, digits, - and dots"

FORMS: Mapping[str, Form] = {
    "quantity": Form(
        rf"\+?{_NUMBER}([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?", "a quantity such as 500m or 512Mi"
    ),
    "size": Form(rf"\+?{_NUMBER_ABOVE_0}([KMGTPE]i|[kMGTPE]|[eE]\+?[0-9]+)?", "a quantity such as 100Gi"),
    "tag": Form(_TAG, "a tag such as 1.2.3", "at most 128 letters, digits, -, _ and dots"),
    "image name": Form(
        f"({_IMAGE})?", "the name of an image such as scu", f"{_IN_WORDS}, _ and slashes between them"
    ),
    "image": Form(
        rf"({_REGISTRY}/)?{_IMAGE}(:{_TAG})?(@sha256:[0-9a-f]{{64}})?", "an image such as postgres:17"
    ),
    "schedule": Form(
        rf"(?i:{_CRON}|@({_NICKNAMES}|every ([0-9]+[hms])+))",
        "the five parts of cron such as 17 2 * * *, or @daily",
        "minute, hour, day of the month, month, day of the week from 0 for Sunday to 6",
    ),
    "CIDR": Form(
        rf"({_BYTE}\.){{3}}{_BYTE}/(3[0-2]|[12]?[0-9])|({_ipv6()})/(12[0-8]|1[01][0-9]|[1-9]?[0-9])",
        "a CIDR such as 10.0.0.0/8",
        "an address of IPv4 or IPv6, a slash and how many bits count",
    ),
    "host name": Form(
        rf"(\*\.)?({_LABEL}\.)*([0-9][-0-9]*)?[a-z]([-a-z0-9]*[a-z0-9])?",
        "a host name such as aegate.example.org",
        f"{_IN_WORDS}; no https://, port or path, no address",
    ),
    "label": Form("([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", "the value of a label"),
    "Secret": Form(
        _NAME, "the name of a Secret", f"{_IN_WORDS}; what is secret has no place in values", is_shown=False
    ),
    **{
        kind: Form(_NAME, f"the name of a{'n' if kind[0] == 'I' else ''} {kind}", _IN_WORDS)
        for kind in ("ConfigMap", "IngressClass", "PersistentVolumeClaim", "PriorityClass", "StorageClass")
    },
}


def forms_json(schema: Schema) -> str:
    """Return every form that a schema names and every place that has one, for the guards.

    A place is the keys to it, ``*`` for every item of a list and every member of a map.
    """
    fields = dict(_places(schema, ""))
    used = {name: asdict(_form(name)) for name in sorted(set(fields.values()))}
    return json.dumps({"forms": used, "fields": fields}, indent=2) + "\n"


def _form(name: str) -> Form:
    form = FORMS[name.removesuffix(OR_EMPTY)]
    end = ")?$" if name.endswith(OR_EMPTY) else ")$"
    return replace(form, pattern=f"^({form.pattern}{end}")


def _places(schema: Schema, path: str) -> Iterator[tuple[str, str]]:
    form = schema.get("format")
    if isinstance(form, str):
        yield path, form
    for key, below in _below(schema):
        yield from _places(below, f"{path}.{key}" if path else key)


def _below(schema: Schema) -> Iterator[tuple[str, Schema]]:
    yield from properties(schema).items()
    others = (schema.get("items"), schema.get("additionalProperties"))
    for below in (*others, *members(schema.get("patternProperties")).values()):
        if isinstance(below, Mapping):
            yield "*", below
