"""Whether a live object has all that is wished: the question before each write.

An API server writes defaults, other spellings (``1`` for ``1000m``) and its own fields into what it is given; and
others own fields of their own. So everything wished must be found in the live object, and no more. What we wished
once and wish no longer cannot be seen that way: each child carries a digest of what was wished (`stamped`). Where an
API server takes a field as a whole (``+mapType=atomic``), what somebody added is a difference, too: a selector with one
more label selects nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence

from aegate_core.resources.quantity import parse_quantity
from aegate_core.resources.yaml_tree import members

WISHED = "aegate.dev/wished"
"""Annotation of a child: the digest of its manifest as it was applied last."""

_QUANTITIES = frozenset({"limits", "requests"})
_QUANTITY = frozenset({"sizeLimit"})
_KEYS: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "volumeMounts": ("mountPath",),
    "imagePullSecrets": ("name",),
    "ownerReferences": ("uid",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}
"""Lists whose items an API server finds by key, so that others may own items beside ours."""
_WHOLE = frozenset(
    {"selector", "podSelector", "namespaceSelector", "labelSelector", "nodeSelector", "ingress", "egress"}
)
"""What is one value to the API server, with all that is in it."""
_PORTS = (("containerPort", "protocol"), ("port", "protocol"))
_PROTOCOL = "TCP"


def stamped(manifest: Mapping[str, object]) -> dict[str, object]:
    """Return ``manifest`` with the digest of itself among its annotations."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    metadata = dict(members(manifest.get("metadata")))
    annotations = {
        **members(metadata.get("annotations")),
        WISHED: hashlib.sha256(text.encode()).hexdigest()[:32],
    }
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def differences(wished: Mapping[str, object], live: Mapping[str, object]) -> Iterator[str]:
    """Yield the paths of what is wished and not so in ``live``; nothing when nothing is to be written."""
    yield from _differences(wished, live, (), kind=str(wished.get("kind", "")))


def _differences(wished: object, live: object, path: tuple[str, ...], *, kind: str) -> Iterator[str]:
    if wished == live:
        return  # nearly always, and at the speed of C
    if _is_empty(wished) and _is_empty(live):
        return
    if isinstance(wished, dict) and isinstance(live, dict | None):
        found = live or {}
        for name, value in wished.items():
            yield from _differences(value, found.get(name), (*path, name), kind=kind)
        if not _WHOLE.isdisjoint(path):
            added = (n for n in found.keys() - wished.keys() if not _is_default(n, found[n]))
            yield from (".".join((*path, name)) for name in sorted(added))
    elif isinstance(wished, list | tuple) and isinstance(live, list | None):
        yield from _of_lists(wished, live or [], path, kind=kind)
    elif not _is_equal(wished, live, path):
        yield ".".join(path)


def _of_lists(
    wished: Sequence[object], live: Sequence[object], path: tuple[str, ...], *, kind: str
) -> Iterator[str]:
    keys = None if kind == "NetworkPolicy" else _keys(path, wished)
    if keys is None:
        if len(wished) != len(live):
            yield ".".join(path)
            return
        for number, (one, other) in enumerate(zip(wished, live, strict=True)):
            yield from _differences(one, other, (*path, str(number)), kind=kind)
        return
    found = {_identity(item, keys): item for item in live}
    for item in wished:
        name = _identity(item, keys)
        yield from _differences(item, found.get(name), (*path, "/".join(name)), kind=kind)


def _keys(path: tuple[str, ...], wished: Sequence[object]) -> tuple[str, ...] | None:
    """Return by what an API server finds the items of the list at ``path``; None: it takes the list as a whole."""
    name = path[-1] if path else ""
    if name != "ports":
        return _KEYS.get(name)
    return next((keys for keys in _PORTS if all(keys[0] in members(item) for item in wished)), None)


def _identity(item: object, keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(members(item).get(key, _PROTOCOL if key == "protocol" else "")) for key in keys)


def _is_equal(wished: object, live: object, path: tuple[str, ...]) -> bool:
    """Whether two values that are not the same mean the same: quantities."""
    is_quantity = path[-1:] and (path[-1] in _QUANTITY or (len(path) > 1 and path[-2] in _QUANTITIES))
    if not is_quantity or live is None:
        return False
    try:
        return parse_quantity(str(wished)) == parse_quantity(str(live))
    except ValueError:
        return False


def _is_default(name: str, value: object) -> bool:
    """Whether an API server adds that where it is left out."""
    return _is_empty(value) or (name == "protocol" and value == _PROTOCOL)


def _is_empty(value: object) -> bool:
    """Whether an API server would leave it out."""
    return value is None or (isinstance(value, dict | list | tuple) and len(value) == 0)
