"""JSON Merge Patch (RFC 7386): objects are merged member by member, everything else is replaced, null removes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from aegate_core.resources.problems import Path
from aegate_core.resources.yaml_tree import members


def merged(target: object, patch: object) -> object:
    """Return ``target`` with ``patch`` applied; neither is changed.

    >>> merged({"a": {"b": 1, "c": 2}}, {"a": {"b": None, "d": [3]}})
    {'a': {'c': 2, 'd': [3]}}
    """
    if not isinstance(patch, Mapping):
        return patch
    found = dict(members(target))
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), value)
    return found


def leaves(value: object, path: Path = ()) -> Iterator[tuple[Path, object]]:
    """Yield all that stands in an object, with its path; lists and empty objects as a whole."""
    if isinstance(value, Mapping) and value:
        for name, member in value.items():
            yield from leaves(member, (*path, str(name)))
    else:
        yield path, value


def value_at(value: object, path: Path) -> object:
    """Return what stands at ``path``, or None."""
    for part in path:
        value = members(value).get(str(part))
    return value


def put_at(target: dict[str, object], path: Path, value: object) -> None:
    """Put ``value`` at ``path``, which has at least one part, in nested dictionaries."""
    *parents, last = (str(part) for part in path)
    for part in parents:
        below = target.setdefault(part, {})
        if not isinstance(below, dict):
            below = target[part] = {}
        target = below
    target[last] = value
