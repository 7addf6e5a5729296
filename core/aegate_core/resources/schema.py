"""Check values against a structural OpenAPI v3 schema, and fill in its defaults, as an API server does.

The schema of a CRD and nothing else: keywords that are not known here are refused when the CRD is loaded
(`crds`), so that no rule can be there and not be enforced.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from aegate_core.resources.cel import matches
from aegate_core.resources.problems import Path, Violation, nearest, show

Schema = Mapping[str, object]

CHECKED_KEYWORDS = frozenset(
    [
        "type",
        "enum",
        "pattern",
        "format",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "required",
        "properties",
        "additionalProperties",
        "items",
        "default",
        "nullable",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-map-type",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-validations",
    ]
)
IGNORED_KEYWORDS = frozenset(["description", "title", "example", "externalDocs"])
_TYPES: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "object": ("an object", lambda v: isinstance(v, Mapping)),
    "array": ("a list", lambda v: isinstance(v, list)),
    "string": ("a string", lambda v: isinstance(v, str)),
    "integer": ("an integer", lambda v: isinstance(v, int) and not isinstance(v, bool)),
    "number": ("a number", lambda v: isinstance(v, int | float) and not isinstance(v, bool)),
    "boolean": ("true or false", lambda v: isinstance(v, bool)),
}


def with_defaults(value: object, schema: Schema) -> object:
    """Return a copy of ``value`` with every default of ``schema`` filled in, the defaults' own members too.

    Also as an API server does: a null that the schema does not allow is no value at all, and 104.0 is the integer 104.
    """
    if isinstance(value, Mapping):
        filled = {n: m for n, m in value.items() if m is not None or not _is_null_dropped(n, schema)}
        for name, member in properties(schema).items():
            if name not in filled and "default" in member:
                filled[name] = copy.deepcopy(member["default"])
        return {name: with_defaults(member, member_schema(schema, name)) for name, member in filled.items()}
    if isinstance(value, list):
        return [with_defaults(item, items_of(schema)) for item in value]
    if schema.get("type") == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _is_null_dropped(name: str, schema: Schema) -> bool:
    member = member_schema(schema, name)
    return bool(member) and not member.get("nullable")


def properties(schema: Schema) -> Mapping[str, Schema]:
    """Return the declared members."""
    found = schema.get("properties")
    return found if isinstance(found, Mapping) else {}


def items_of(schema: Schema) -> Schema:
    """Return the schema of a list's items."""
    found = schema.get("items")
    return found if isinstance(found, Mapping) else {}


def member_schema(schema: Schema, name: str) -> Schema:
    """Return the schema of one member, declared or additional."""
    additional = schema.get("additionalProperties")
    return properties(schema).get(name) or (additional if isinstance(additional, Mapping) else {})


def without_unknown(value: object, schema: Schema) -> object:
    """Return a copy of ``value`` without the members that ``schema`` does not know: what an API server stores."""
    if isinstance(value, Mapping):
        known = {name: m for name, m in value.items() if _is_known(name, schema)}
        return {name: without_unknown(member, member_schema(schema, name)) for name, member in known.items()}
    if isinstance(value, list):
        return [without_unknown(item, items_of(schema)) for item in value]
    return value


def unknown_fields(value: object, schema: Schema, path: Path = ()) -> Iterator[Violation]:
    """Yield every member that ``schema`` does not know. An API server refuses them when it decodes, whatever was
    stored before."""
    if isinstance(value, Mapping):
        for name, member in value.items():
            if _is_known(name, schema):
                yield from unknown_fields(member, member_schema(schema, name), (*path, name))
            else:
                yield _unknown_field(name, properties(schema), path)
    elif isinstance(value, list):
        for n, item in enumerate(value):
            yield from unknown_fields(item, items_of(schema), (*path, n))


def _is_known(name: str, schema: Schema) -> bool:
    """Whether an object may have the member. The ``metadata`` of a CRD says nothing of its own: it is checked apart."""
    is_open = "properties" not in schema and "additionalProperties" not in schema
    additional = isinstance(schema.get("additionalProperties"), Mapping)
    return (
        is_open
        or additional
        or name in properties(schema)
        or bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    )


def is_same(value: object, old: object, schema: Schema) -> bool:
    """Whether nothing changed; the items of a map list may stand in another order."""
    if isinstance(value, Mapping) and isinstance(old, Mapping):
        return value.keys() == old.keys() and all(
            is_same(member, old[name], member_schema(schema, name)) for name, member in value.items()
        )
    if isinstance(value, list) and isinstance(old, list):
        if schema.get("x-kubernetes-list-type") == "map":
            pairs = [(item, older_item(item, old, schema)) for item in value]
        else:
            pairs = list(zip(value, old, strict=False))
        return len(value) == len(old) and all(is_same(new, before, items_of(schema)) for new, before in pairs)
    return type(value) is type(old) and value == old


def older_item(item: object, old: object, schema: Schema) -> object:
    """Return the item of the list ``old`` with the same keys; None in a list that is no map, and for a new item."""
    keys = schema.get("x-kubernetes-list-map-keys")
    if not (isinstance(keys, list) and isinstance(old, list) and isinstance(item, Mapping)):
        return None
    wanted = [item.get(key) for key in keys]
    for candidate in old:
        if isinstance(candidate, Mapping) and [candidate.get(key) for key in keys] == wanted:
            return candidate
    return None


def check(value: object, schema: Schema, path: Path, old: object = None) -> Iterator[Violation]:
    """Yield everything that ``schema`` refuses in ``value``; of a wrong type, that alone.

    What did not change since ``old`` (None: it is new) is let pass, as an API server does ("ratcheting"): it was
    stored before there was a rule against it. Unknown members are another matter (`unknown_fields`).
    """
    kind = schema.get("type")
    if value is None and schema.get("nullable"):
        return
    if old is not None and is_same(value, old, schema):
        return
    if kind in _TYPES and not _TYPES[str(kind)][1](value):
        yield _wrong_type(value, schema, path)
        return
    if isinstance(value, str):
        yield from _check_string(value, schema, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _check_number(value, schema, path)
    elif isinstance(value, Mapping):
        yield from _check_object(value, schema, path, old if isinstance(old, Mapping) else {})
    elif isinstance(value, list):
        yield from _check_list(value, schema, path, old)


def _wrong_type(value: object, schema: Schema, path: Path) -> Violation:
    expected = _TYPES[str(schema["type"])][0]
    allowed = schema.get("enum")
    if isinstance(allowed, list):
        expected += f" ({_words(allowed)})"
    advice = ""
    if value is None:
        advice = "write a value, or leave the field out"
    elif schema["type"] == "string" and isinstance(value, bool | int | float):
        advice = "put it in quotes"
        if isinstance(value, bool):
            advice = "YAML reads unquoted on, off, yes, no, true and false as booleans; put it in quotes"
    elif isinstance(value, str) and schema["type"] in ("integer", "number", "boolean"):
        advice = "take the quotes away"
    return Violation(path, expected, show(value), advice, is_blocking=True)


def _check_string(value: str, schema: Schema, path: Path) -> Iterator[Violation]:
    yield from _check_enum(value, schema, path)
    least, most = schema.get("minLength"), schema.get("maxLength")
    if isinstance(least, int) and len(value) < least:
        yield Violation(path, f"at least {_count(least, 'character')}", str(len(value)), "write a value")
    if isinstance(most, int) and len(value) > most:
        expected = f"at most {_count(most, 'character')}"
        yield Violation(path, expected, str(len(value)), "shorten it", is_blocking=True)
        return
    pattern = schema.get("pattern")
    if isinstance(pattern, str) and not matches(pattern, value):
        yield Violation(path, f"a value that matches {pattern}", show(value))
    if schema.get("format") == "date-time" and not _is_time(value):
        yield Violation(path, "a time such as 2026-01-31T12:00:00Z", show(value))


def _check_number(value: float, schema: Schema, path: Path) -> Iterator[Violation]:
    yield from _check_enum(value, schema, path)
    bits = {"int32": 31, "int64": 63}.get(str(schema.get("format")))
    if bits is not None and not -(2**bits) <= value < 2**bits:
        yield Violation(path, f"a {bits + 1}-bit integer", show(value))
        return
    least, most = schema.get("minimum"), schema.get("maximum")
    above, below = bool(schema.get("exclusiveMinimum")), bool(schema.get("exclusiveMaximum"))
    if isinstance(least, int | float) and (value < least or (above and value == least)):
        yield Violation(path, f"{'more than' if above else 'at least'} {least}", str(value))
    if isinstance(most, int | float) and (value > most or (below and value == most)):
        yield Violation(path, f"{'less than' if below else 'at most'} {most}", str(value))


def _check_enum(value: object, schema: Schema, path: Path) -> Iterator[Violation]:
    allowed = schema.get("enum")
    if isinstance(allowed, list) and value not in allowed:
        near = nearest(str(value), [str(a) for a in allowed])
        advice = f"did you mean {near}?" if near else ""
        yield Violation(path, _words(allowed), show(value), advice, is_blocking=True)


def _check_object(
    value: Mapping[str, object], schema: Schema, path: Path, old: Mapping[str, object]
) -> Iterator[Violation]:
    yield from _check_size(len(value), schema, path, ("minProperties", "maxProperties", "member"))
    required = schema.get("required")
    for name in required if isinstance(required, list) else []:
        if value.get(name) is None:
            advice = "the field is required; add it"
            yield Violation((*path, name), "a value", "nothing", advice, is_blocking=True)
    for name, member in value.items():
        if not (member is None and isinstance(required, list) and name in required):
            yield from check(member, member_schema(schema, name), (*path, name), old.get(name))


def _unknown_field(name: str, declared: Mapping[str, Schema], path: Path) -> Violation:
    near = nearest(name, declared)
    advice = f"did you mean {near}?" if near else f"known are {', '.join(sorted(declared))}"
    return Violation((*path, name), "a field of the schema", f"the unknown field {name!r}", advice)


def _check_list(value: list[object], schema: Schema, path: Path, old: object) -> Iterator[Violation]:
    yield from _check_size(len(value), schema, path, ("minItems", "maxItems", "item"))
    seen: set[str] = set()
    for n, item in enumerate(value):
        yield from check(item, items_of(schema), (*path, n), older_item(item, old, schema))
        key = _list_key(item, schema)
        if key is not None and key in seen:
            yield Violation((*path, n), "every item once", f"{key} again", "remove one of them")
        elif key is not None:
            seen.add(key)


def _list_key(item: object, schema: Schema) -> str | None:
    """Return what must be unique: the item of a set, the key members of a map; None in a plain list."""
    kind = schema.get("x-kubernetes-list-type")
    if kind == "set":
        return json.dumps(item, sort_keys=True, default=str)
    keys = schema.get("x-kubernetes-list-map-keys")
    if kind == "map" and isinstance(keys, list) and isinstance(item, Mapping):
        return json.dumps({key: item.get(key) for key in keys}, default=str)
    return None


def _check_size(size: int, schema: Schema, path: Path, keywords: tuple[str, str, str]) -> Iterator[Violation]:
    least, most, noun = schema.get(keywords[0]), schema.get(keywords[1]), keywords[2]
    if isinstance(least, int) and size < least:
        yield Violation(path, f"at least {_count(least, noun)}", str(size), "add one, or leave the field out")
    if isinstance(most, int) and size > most:
        expected = f"at most {_count(most, noun)}"
        yield Violation(path, expected, str(size), "remove some", is_blocking=True)


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _words(allowed: list[object]) -> str:
    return "one of " + ", ".join(str(a) for a in allowed)
