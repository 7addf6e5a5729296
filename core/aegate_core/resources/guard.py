"""Judge a stored object by the rules of today: an API server keeps what an older CRD let pass, and never asks again.

The surprise: a field that this version does not know is no fault. A newer CRD is installed before the newer operator,
and fills its new defaults into every object at once.
"""

from __future__ import annotations

from collections.abc import Mapping

from aegate_core.resources.crds import CRD
from aegate_core.resources.problems import Violation, render_path
from aegate_core.resources.rules import check_rules
from aegate_core.resources.schema import Schema, check, items_of, properties, with_defaults
from aegate_core.resources.yaml_tree import members


def guard(manifest: Mapping[str, object], crd: CRD) -> str | None:
    """Return what the CRD has against a stored object, in one sentence; None: nothing."""
    own = {name: manifest[name] for name in ("apiVersion", "kind", "spec") if name in manifest}
    value = members(with_defaults(_known(own, crd.schema), crd.schema))
    named = {**value, "metadata": members(manifest.get("metadata"))}
    for violation in [*check(value, crd.schema, ())] or check_rules(named, None, crd.schema):
        return _sentence(violation)
    return None


def _known(value: object, schema: Schema) -> object:
    """Return ``value`` without the members that ``schema`` does not declare, as an API server prunes it."""
    if isinstance(value, Mapping):
        declared, additional = properties(schema), schema.get("additionalProperties")
        if schema.get("x-kubernetes-preserve-unknown-fields") or not declared:
            below = additional if isinstance(additional, Mapping) else {}
            return {name: _known(member, below) for name, member in value.items()}
        return {name: _known(member, declared[name]) for name, member in value.items() if name in declared}
    if isinstance(value, list):
        return [_known(item, items_of(schema)) for item in value]
    return value


def _sentence(violation: Violation) -> str:
    where = render_path(violation.path)
    if violation.is_rule:
        return f"{where}: {violation.expected}".removeprefix(": ")
    advice = f": {violation.advice}" if violation.advice else ""
    return f"{where} must be {violation.expected}, got {violation.got}{advice}"
