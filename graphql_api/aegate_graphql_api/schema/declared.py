"""What a change of a resource answers with: what was written there, before any row of the index says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from aegate_core.stores.index.projections import Projection, searched_columns
from aegate_graphql_api.schema.node import Node
from aegate_graphql_api.schema.resources import entity_of, partition_of, route_of

_MAKERS: Mapping[str, Callable[[Mapping[str, Any]], Node]] = {
    "ApplicationEntity": entity_of,
    "ImageRoute": route_of,
    "PatientPartition": partition_of,
}


def node_of(found: Projection) -> Node:
    """Return a resource as its type."""
    return _MAKERS[found.ref.kind](
        {
            **searched_columns(found.resource()),
            "namespace": found.ref.key.namespace,
            "name": found.ref.key.name,
            "generation": found.generation,
            "labels": dict(found.labels),
            "spec": dict(found.spec),
            "conditions": [condition.to_json() for condition in found.conditions],
            "source": found.source,
            "endpoint": found.endpoint or None,
            "created_at": found.created_at,
            "updated_at": datetime.now(UTC),
            "is_fresh": True,
        }
    )
