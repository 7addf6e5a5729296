"""What of the installation goes into objects of Kubernetes as it stands, judged as an API server will judge it.

One value that it refuses, and it refuses the Deployment or NetworkPolicy of every ApplicationEntity. What one of these
may say of its own listener, too, is judged by the schema and the rules of its CRD.
"""

from __future__ import annotations

from collections.abc import Mapping

from aegate_core.errors import InvalidResource
from aegate_core.resources.crds import load_crds
from aegate_core.resources.problems import Problem, render_path
from aegate_core.resources.rules import check_rules
from aegate_core.resources.schema import Schema, check, member_schema, unknown_fields, with_defaults
from aegate_core.resources.yaml_tree import members

_LABELS: Schema = {
    "type": "object",
    "additionalProperties": {"type": "string"},
    "x-kubernetes-validations": [
        {
            "rule": "self.all(key, !format.qualifiedName().validate(key).hasValue()"
            " && !format.labelValue().validate(self[key]).hasValue())",
            "message": "labels must be such as app.kubernetes.io/name: prometheus",
        }
    ],
}
_REQUIREMENT: Schema = {
    "type": "object",
    "required": ["key", "operator"],
    "properties": {
        "key": {"type": "string"},
        "operator": {"type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"]},
        "values": {"type": "array", "items": {"type": "string"}},
    },
    "x-kubernetes-validations": [
        {
            "rule": "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
            "message": "values are needed with operator In and NotIn, and go with no other",
        }
    ],
}
_SELECTOR: Schema = {
    "type": "object",
    "properties": {"matchLabels": _LABELS, "matchExpressions": {"type": "array", "items": _REQUIREMENT}},
}
_CIDR: Schema = {
    "type": "string",
    "format": "CIDR",
    "x-kubernetes-validations": [{"rule": "isCIDR(self)", "message": "must be a CIDR such as 10.0.0.0/8"}],
}
PEER: Schema = {
    "type": "object",
    "properties": {
        "podSelector": _SELECTOR,
        "namespaceSelector": _SELECTOR,
        "ipBlock": {
            "type": "object",
            "required": ["cidr"],
            "properties": {"cidr": _CIDR, "except": {"type": "array", "items": _CIDR}},
        },
    },
    "x-kubernetes-validations": [
        {
            "rule": "has(self.ipBlock) != (has(self.podSelector) || has(self.namespaceSelector))",
            "message": "must be an ipBlock alone, or a podSelector, a namespaceSelector or both",
        }
    ],
}
"""A NetworkPolicyPeer."""


def check_installation(values: Mapping[str, object]) -> None:
    """Raise InvalidResource with the first field that an API server would refuse in what is made of it."""
    listener = members(values.get("listener"))
    quantities = {name: _written(listener[name]) for name in _RESOURCES if name in listener}
    wished = with_defaults({**values, "listener": {**listener, **quantities}}, _schema())
    found = [*check(wished, _schema(), ()), *unknown_fields(wished, _schema())]
    for one in found or check_rules(wished, None, _schema()):
        field = render_path(("installation", *one.path))
        problem = Problem("", 0, 0, field, one.expected, one.got, one.advice, is_rule=one.is_rule)
        raise InvalidResource(f"{field}: {problem.message}", field=field)


_RESOURCES = ("receiverResources", "indexerResources")


def _schema() -> Schema:
    """Return the schema of what is judged; everything else is let pass."""
    pod, spool = listener_field("pod"), listener_field("spool")
    return _open(
        metricsFrom={"type": "array", "items": PEER},
        listener=_open(
            **{name: member_schema(pod, "resources") for name in _RESOURCES},
            **{
                name: member_schema(pod, name)
                for name in ("nodeSelector", "tolerations", "priorityClassName")
            },
            spool=_open(**{name: member_schema(spool, name) for name in ("size", "storageClassName")}),
        ),
    )


def listener_field(name: str) -> Schema:
    """Return the schema of a field below ``spec.listener`` of an ApplicationEntity."""
    schema = load_crds()["ApplicationEntity"].schema
    return member_schema(member_schema(member_schema(schema, "spec"), "listener"), name)


def _open(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "x-kubernetes-preserve-unknown-fields": True}


def _written(value: object) -> object:
    """Return resources with each quantity as a text, as the CRD has it: a number is a quantity, too."""
    if isinstance(value, Mapping):
        return {name: _written(member) for name, member in value.items()}
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
