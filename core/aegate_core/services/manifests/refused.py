"""What an API server has against a manifest, by field: from its causes, from strict decoding, from admission."""

from __future__ import annotations

import re

from aegate_core.errors import (
    AegateError,
    ClusterError,
    ClusterInvalid,
    ClusterNotFound,
    ClusterRefused,
    InvalidManifest,
)

_VALUE = re.compile(
    r"^(?:Invalid|Unsupported|Duplicate) value: "
    r'(?:(?:"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*|true|false|null|\{.*?\}|\[.*?\])(?:: |$))?',
    re.DOTALL,
)
"""How a message begins that repeats the value: what was given is known to whoever gave it, and to nobody else."""
_STRICT = re.compile(r'(unknown|duplicate) field "([^"]+)"')
_DENIED = re.compile(r"denied request: (.*)$", re.DOTALL)
_FIELD = re.compile(r"(?:spec|metadata)(?:\.[A-Za-z]\w*|\[\d+\])+")
_NAMESPACE = re.compile(r'namespaces "[^"]*" not found')


def as_invalid(error: ClusterError) -> AegateError:
    """Return the error as InvalidManifest where the API server refused what was given, else as it is."""
    faults = _faults(error)
    if not faults:
        return error
    return InvalidManifest(
        "; ".join(f"{field}: {said}".removeprefix(": ") for field, said in faults), faults=faults
    )


def _faults(error: ClusterError) -> tuple[tuple[str, str], ...]:
    if isinstance(error, ClusterNotFound) and _NAMESPACE.search(error.message):
        return (
            (
                "metadata.namespace",
                "there is no such namespace in the cluster: make it first, or use another",
            ),
        )
    if isinstance(error, ClusterRefused) and (denied := _DENIED.search(error.message)):
        field = _FIELD.search(denied[1])
        return ((field[0] if field else "", denied[1].strip()),)
    if not isinstance(error, ClusterInvalid):
        return ()
    if strict := _STRICT.findall(error.message):
        return tuple((path, f"the cluster knows no such field: {how} field") for how, path in strict)
    found = []
    for cause in error.causes:
        if "some validation rules were not checked" in cause.message:
            continue
        said = _VALUE.sub("", cause.message) or "not allowed"
        place = cause.field.removeprefix("<nil>")
        if not place and (named := _FIELD.match(said)):
            place = named[0]
        found.append((place, said))
    return tuple(found)
