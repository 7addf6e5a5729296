"""Fields that hold objects of Kubernetes. They are closed, too, but for what is another project's to judge."""

from __future__ import annotations

from collections.abc import Mapping

from aegate_core.resources.schema import member_schema
from aegate_operator.installation_schema import PEER, listener_field
from tools.chart.fields import Field, Schema, labels, name

_KEPT = ("description", "type", "enum", "required", "minimum", "maxLength", "maxItems")


def objects(key: str, comment: str) -> Field:
    """Return a list of objects of Kubernetes, handed on as they are; the API server judges them."""
    return Field(key, comment, [], {"type": "array", "items": {"type": "object"}})


def peers(key: str, comment: str) -> Field:
    """Return NetworkPolicyPeers."""
    return Field(key, comment, [], {"type": "array", "items": _closed(PEER)})


def parent_refs(key: str, comment: str) -> Field:
    """Return ParentReferences of the Gateway API."""
    texts = ("group", "kind", "namespace", "name", "sectionName")
    members: Schema = {**{text: {"type": "string"} for text in texts}, "port": {"type": "integer"}}
    item: Schema = {"type": "object", "properties": members, "additionalProperties": False}
    return Field(key, comment, [], {"type": "array", "items": item})


def placement() -> tuple[Field, ...]:
    """Return where pods may run."""
    tolerations = _closed(member_schema(listener_field("pod"), "tolerations"))
    return (
        labels("nodeSelector", "Labels of the nodes that the pods may run on."),
        Field("tolerations", "Taints of nodes that the pods put up with.", [], tolerations),
        name("priorityClassName", "PriorityClass of the pods.", "PriorityClass"),
    )


def _closed(schema: Mapping[str, object]) -> Schema:
    """Return what JSON Schema knows of a schema of Kubernetes, with objects closed that have fields."""
    found = {word: schema[word] for word in _KEPT if word in schema}
    if schema.get("type") == "string" and "format" in schema:
        found["format"] = schema["format"]
    for word in ("items", "additionalProperties"):
        below = schema.get(word)
        if isinstance(below, Mapping):
            found[word] = _closed(below)
    properties = schema.get("properties")
    if isinstance(properties, Mapping):
        found["properties"] = {key: _closed(below) for key, below in properties.items()}
        found["additionalProperties"] = False
    return found
