"""Custom resources as the index knows them: ApplicationEntity, ImageRoute, PatientPartition, their conditions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Optional, cast

import strawberry

from aegate_core.database import as_datetime, as_json
from aegate_core.resources.versions import spec_version
from aegate_core.stores.index.freshness import stale_scopes
from aegate_core.stores.index.list_resources import BY_NAME, ENTITIES, PARTITIONS, ROUTES
from aegate_core.stores.listing import AllOf, Filter, Op, read_by
from aegate_graphql_api.connections import (
    DEFAULT_FIRST,
    After,
    Asked,
    Before,
    Connection,
    First,
    Last,
    Listing,
    connection,
)
from aegate_graphql_api.context import Context, Info, moment
from aegate_graphql_api.permissions import ANYONE, EITHER, QUEUE
from aegate_graphql_api.permissions import ENTITIES as ENTITIES_NEED
from aegate_graphql_api.schema.node import Node, global_id
from aegate_graphql_api.schema.scalars import JSON
from aegate_graphql_api.search import NumberFilter, TextFilter, filter_of, terms

VERSION = (
    "Changes whenever the spec does; give it back with a change, which is refused if it is another by then."
)
STALE = (
    "Whether this may be older than what is configured: the operator (or `aegate up`) has not compared it for two "
    "rounds, on a cluster about 20 minutes."
)


@strawberry.type(description="As metav1.Condition.", directives=[ANYONE])
class Condition:
    """One aspect of a resource's status."""

    type: str
    status: str
    reason: str
    message: str
    observed_generation: int | None
    last_transition_time: datetime | None


@strawberry.type(
    description="A remote DICOM device, PACS or printer, and the listener that serves it.",
    directives=[ENTITIES_NEED],
)
class ApplicationEntity(Node):
    """An Application Entity."""

    namespace: str
    name: str
    generation: int
    title: str
    node: str
    port: int
    ability: str
    enabled: bool
    location_code: str | None
    partition: str = strawberry.field(description="namespace/name of the patient partition.")
    route_level: str
    max_connections: int
    document_type: str | None
    comment: str
    endpoint: str | None = strawberry.field(
        description="Where the device reaches us; null while there is no listener for it."
    )
    labels: JSON
    spec: JSON
    conditions: list[Condition]
    source: str = strawberry.field(description="Where it comes from: a file and line locally.")
    created_at: datetime
    updated_at: datetime
    version: str = strawberry.field(description=VERSION)
    is_fresh: strawberry.Private[bool] = False

    @strawberry.field(description=STALE)
    async def is_stale(self, info: Info) -> bool:
        """Ask how current the rows of its namespace are."""
        return not self.is_fresh and bool(await info.context.loader(load_staleness).load(self.namespace))


@strawberry.type(description="What arrives from some AEs goes on to others.", directives=[QUEUE])
class ImageRoute(Node):
    """A route."""

    namespace: str
    name: str
    generation: int
    enabled: bool
    to: list[str]
    level: str | None
    priority: int | None
    comment: str
    labels: JSON
    spec: JSON
    conditions: list[Condition]
    source: str
    created_at: datetime
    updated_at: datetime
    version: str = strawberry.field(description=VERSION)
    is_fresh: strawberry.Private[bool] = False

    @strawberry.field(description=STALE)
    async def is_stale(self, info: Info) -> bool:
        """Ask how current the rows of its namespace are."""
        return not self.is_fresh and bool(await info.context.loader(load_staleness).load(self.namespace))


@strawberry.type(
    description="A namespace of patient identity. Read by either permission: both the queue and an AE's form name it.",
    directives=[EITHER],
)
class PatientPartition(Node):
    """A patient partition."""

    namespace: str
    name: str
    generation: int
    display_name: str | None
    issuer_of_patient_id: str | None
    spec: JSON
    conditions: list[Condition]
    source: str
    created_at: datetime
    updated_at: datetime
    version: str = strawberry.field(description=VERSION)
    is_fresh: strawberry.Private[bool] = False

    @strawberry.field(description=STALE)
    async def is_stale(self, info: Info) -> bool:
        """Ask how current the rows of its namespace are."""
        return not self.is_fresh and bool(await info.context.loader(load_staleness).load(self.namespace))


@strawberry.input(description="All that is given must hold.")
class ApplicationEntityWhere:
    """Filter of AEs."""

    title: TextFilter | None = None
    name: TextFilter | None = None
    namespace: TextFilter | None = None
    node: TextFilter | None = None
    port: NumberFilter | None = None
    ability: TextFilter | None = None
    location_code: TextFilter | None = None
    partition: TextFilter | None = None
    all_of: Optional[list[ApplicationEntityWhere]] = strawberry.field(default=None, name="AND")  # noqa: UP045 - strawberry resolves the name later
    any_of: Optional[list[ApplicationEntityWhere]] = strawberry.field(default=None, name="OR")  # noqa: UP045 - as above


async def application_entities(  # noqa: PLR0913 - a GraphQL field has the arguments that callers need
    info: Info,
    search: str | None = None,
    where: ApplicationEntityWhere | None = None,
    first: First = DEFAULT_FIRST,
    after: After = None,
    last: Last = None,
    before: Before = None,
) -> Connection[ApplicationEntity]:
    """List AEs by name."""
    parts = AllOf((filter_of(where), _searched(search, {"title": "title", "location": "location_code"})))
    listing = Listing("applicationEntities", ENTITIES, BY_NAME, parts, (search, where))
    return await connection(info.context, listing, entity_of, page=Asked(first, after, last, before))


@strawberry.input(description="All that is given must hold.")
class ImageRouteWhere:
    """Filter of routes."""

    name: TextFilter | None = strawberry.field(default=None, description="Its name, such as ct-to-pacs.")
    namespace: TextFilter | None = strawberry.field(
        default=None, description="The namespace that it is in, such as default."
    )
    all_of: Optional[list[ImageRouteWhere]] = strawberry.field(default=None, name="AND")  # noqa: UP045 - as above
    any_of: Optional[list[ImageRouteWhere]] = strawberry.field(default=None, name="OR")  # noqa: UP045 - as above


@strawberry.input(description="All that is given must hold.")
class PatientPartitionWhere:
    """Filter of patient partitions."""

    name: TextFilter | None = strawberry.field(default=None, description="Its name, such as house-b.")
    namespace: TextFilter | None = strawberry.field(
        default=None, description="The namespace that it is in, such as default."
    )
    issuer_of_patient_id: TextFilter | None = strawberry.field(
        default=None,
        description="Who gives the patient ids of it, such as HOSPITAL-B; null: nobody is named.",
    )
    all_of: Optional[list[PatientPartitionWhere]] = strawberry.field(default=None, name="AND")  # noqa: UP045 - as above
    any_of: Optional[list[PatientPartitionWhere]] = strawberry.field(default=None, name="OR")  # noqa: UP045 - as above


async def image_routes(  # noqa: PLR0913 - a GraphQL field has the arguments that callers need
    info: Info,
    search: str | None = None,
    where: ImageRouteWhere | None = None,
    first: First = DEFAULT_FIRST,
    after: After = None,
    last: Last = None,
    before: Before = None,
) -> Connection[ImageRoute]:
    """List routes by name."""
    parts = AllOf((filter_of(where), _searched(search, {"name": "name"})))
    listing = Listing("imageRoutes", ROUTES, BY_NAME, parts, (search, where))
    return await connection(info.context, listing, route_of, page=Asked(first, after, last, before))


async def partitions(  # noqa: PLR0913 - a GraphQL field has the arguments that callers need
    info: Info,
    search: str | None = None,
    where: PatientPartitionWhere | None = None,
    first: First = DEFAULT_FIRST,
    after: After = None,
    last: Last = None,
    before: Before = None,
) -> Connection[PatientPartition]:
    """List patient partitions by name; a namespace's ``default`` exists without being listed."""
    parts = AllOf((filter_of(where), _searched(search, {"name": "name"})))
    listing = Listing("partitions", PARTITIONS, BY_NAME, parts, (search, where))
    return await connection(info.context, listing, partition_of, page=Asked(first, after, last, before))


def _searched(search: str | None, prefixes: Mapping[str, str]) -> Filter:
    parts: list[Filter] = [
        t.compare(prefixes[t.prefix], Op.STARTS_WITH) if t.prefix else t.compare("text")
        for t in terms(search, prefixes)
    ]
    return AllOf(tuple(parts))


def _shared(kind: str, row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": global_id(kind, f"{row['namespace']}/{row['name']}"),
        "namespace": row["namespace"],
        "name": row["name"],
        "generation": int(row["generation"]),
        "spec": as_json(row["spec"]),
        "conditions": conditions_of(row["conditions"]),
        "source": row["source"],
        "created_at": as_datetime(row["created_at"]),
        "updated_at": as_datetime(row["updated_at"]),
        "version": spec_version(cast("dict[str, object]", as_json(row["spec"]))),
        "is_fresh": bool(row.get("is_fresh")),
    }


def conditions_of(value: object) -> list[Condition]:
    """Return the conditions of a row."""
    listed = cast("list[dict[str, Any]]", as_json(value))
    return [
        Condition(
            type=str(c.get("type", "")),
            status=str(c.get("status", "")),
            reason=str(c.get("reason", "")),
            message=str(c.get("message", "")),
            observed_generation=c.get("observedGeneration"),
            last_transition_time=moment(c.get("lastTransitionTime") or None),
        )
        for c in listed
    ]


def entity_of(row: Mapping[str, Any]) -> ApplicationEntity:
    """Return a row of ENTITIES as its type."""
    spec = cast("dict[str, Any]", as_json(row["spec"]))
    return ApplicationEntity(
        **_shared("ApplicationEntity", row),
        labels=cast("Any", as_json(row["labels"])),
        title=row["title"],
        node=row["node"],
        port=int(row["port"]),
        ability=row["ability"],
        enabled=bool(row["enabled"]),
        location_code=row["location_code"],
        partition=row["partition"],
        route_level=str(spec.get("routeLevel", "Study")),
        max_connections=int(spec.get("maxConnections", 4)),
        document_type=spec.get("documentType"),
        comment=str(spec.get("comment", "")),
        endpoint=row["endpoint"],
    )


def route_of(row: Mapping[str, Any]) -> ImageRoute:
    """Return a row of ROUTES as its type."""
    spec = cast("dict[str, Any]", as_json(row["spec"]))
    return ImageRoute(
        **_shared("ImageRoute", row),
        labels=cast("Any", as_json(row["labels"])),
        enabled=bool(row["enabled"]),
        to=[str(name) for name in spec.get("to", [])],
        level=spec.get("level"),
        priority=spec.get("priority"),
        comment=str(spec.get("comment", "")),
    )


def partition_of(row: Mapping[str, Any]) -> PatientPartition:
    """Return a row of PARTITIONS as its type."""
    spec = cast("dict[str, Any]", as_json(row["spec"]))
    return PatientPartition(
        **_shared("PatientPartition", row),
        display_name=spec.get("displayName"),
        issuer_of_patient_id=row["issuer"],
    )


async def load_staleness(context: Context, namespaces: list[str]) -> list[bool]:
    """Load whether the rows of each namespace may be old."""
    stale = await stale_scopes(context.db, context.now)
    return [stale(namespace) for namespace in namespaces]


async def load_entities(context: Context, keys: list[str]) -> list[ApplicationEntity | None]:
    """Load AEs by namespace/name."""
    rows = await read_by(context.db, ENTITIES, "key", keys, context.scope)
    found = {f"{row['namespace']}/{row['name']}": entity_of(row) for row in rows}
    return [found.get(key) for key in keys]


async def load_routes(context: Context, keys: list[str]) -> list[ImageRoute | None]:
    """Load routes by namespace/name."""
    rows = await read_by(context.db, ROUTES, "key", keys, context.scope)
    found = {f"{row['namespace']}/{row['name']}": route_of(row) for row in rows}
    return [found.get(key) for key in keys]


async def load_partitions(context: Context, keys: list[str]) -> list[PatientPartition | None]:
    """Load partitions by namespace/name."""
    rows = await read_by(context.db, PARTITIONS, "key", keys, context.scope)
    found = {f"{row['namespace']}/{row['name']}": partition_of(row) for row in rows}
    return [found.get(key) for key in keys]
