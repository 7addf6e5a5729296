"""Custom resources as the index knows them: ApplicationEntity, ImageRoute, PatientPartition, their conditions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, cast

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
    By,
    Connection,
    First,
    Last,
    Listing,
    Search,
    connection,
)
from aegate_graphql_api.context import Context, Info, moment
from aegate_graphql_api.permissions import ANYONE, EITHER, QUEUE
from aegate_graphql_api.permissions import ENTITIES as ENTITIES_NEED
from aegate_graphql_api.schema.delivery_states import StateCount
from aegate_graphql_api.schema.node import Node, global_id
from aegate_graphql_api.schema.resource_where import (
    ApplicationEntityWhere,
    ImageRouteWhere,
    PatientPartitionWhere,
)
from aegate_graphql_api.schema.scalars import JSON
from aegate_graphql_api.schema.traffic import load_sent, load_waiting
from aegate_graphql_api.search import filter_of, terms

VERSION = (
    "Changes whenever the spec does; give it back with a change, which is refused if it is another by then."
)
STALE = (
    "Whether this may be older than what is configured: the operator (or `aegate up`) has not compared it for two "
    "rounds, on a cluster about 20 minutes."
)


@strawberry.type(
    description="One aspect of how something goes, as a condition of Kubernetes.", directives=[ANYONE]
)
class Condition:
    """One aspect of a resource's status."""

    type: str = strawberry.field(description="Which aspect, such as Ready.")
    status: str = strawberry.field(description="True, False or Unknown.")
    reason: str = strawberry.field(description="Why, in one word for programs, such as ListenerStarting.")
    message: str = strawberry.field(description="Why, in a sentence for people.")
    observed_generation: int | None = strawberry.field(
        description="Which generation of the spec it speaks of; older than generation: not yet of the last change."
    )
    last_transition_time: datetime | None = strawberry.field(description="When status last changed.")


@strawberry.type(
    description="A remote DICOM device, PACS or printer, and the listener that serves it.",
    directives=[ENTITIES_NEED],
)
class ApplicationEntity(Node):
    """An Application Entity."""

    namespace: str = strawberry.field(
        description="Namespace of the cluster; locally the namespace that its file names, such as default."
    )
    name: str = strawberry.field(description="Its name in that namespace, such as ct1; routes name it so.")
    generation: int = strawberry.field(description="Counts the changes of the spec, from 1.")
    title: str = strawberry.field(
        description="AE title, the name by which devices call one another in DICOM, such as CT1."
    )
    node: str = strawberry.field(
        description="Network name or address of the device, such as ct1.example.org or 10.1.2.3."
    )
    port: int = strawberry.field(description="TCP port on which the device listens, such as 104 or 11112.")
    ability: str = strawberry.field(
        description="What it does with what we send: Push stores it, Print prints it."
    )
    enabled: bool = strawberry.field(
        description="false: it is switched off, with no listener, and nothing is sent to it."
    )
    location_code: str | None = strawberry.field(
        description="Code of the place where it stands, such as ER; null: none is given."
    )
    partition: str = strawberry.field(description="namespace/name of the patient partition.")
    route_level: str = strawberry.field(
        description="What of it goes on together: Study, Series or Image; None: it stays here."
    )
    max_connections: int = strawberry.field(
        description="How many studies may be sent to it at once, such as 4."
    )
    document_type: str | None = strawberry.field(
        description="Code of the kind of document that its images are, such as XR; null: none is given."
    )
    comment: str = strawberry.field(description="What people noted about it.")
    endpoint: str | None = strawberry.field(
        description="Where the device reaches us; null while there is no listener for it."
    )
    labels: JSON = strawberry.field(
        description='Its labels, by which routes may select it: {"department": "radiology"}.'
    )
    spec: JSON = strawberry.field(
        description="All that is configured of it, as in its manifest; an ApplicationEntitySpecInput as it stands."
    )
    conditions: list[Condition] = strawberry.field(
        description="How it goes, one for each aspect; Ready sums them up."
    )
    source: str = strawberry.field(description="Where it comes from: a file and line locally.")
    created_at: datetime = strawberry.field(description="When it was made.")
    updated_at: datetime = strawberry.field(description="When its row here was last written.")
    version: str = strawberry.field(description=VERSION)
    is_fresh: strawberry.Private[bool] = False

    @strawberry.field(description=STALE)
    async def is_stale(self, info: Info) -> bool:
        """Ask how current the rows of its namespace are."""
        return not self.is_fresh and bool(await info.context.loader(load_staleness).load(self.namespace))

    @strawberry.field(
        description="Unfinished queue items that are to be sent to it, by state, of the patient partitions that the "
        "caller sees.",
        directives=[QUEUE],
    )
    async def waiting(self, info: Info) -> list[StateCount]:
        """Count for all AEs of the answer at once."""
        loader = info.context.loader(load_waiting)
        return cast("list[StateCount]", await loader.load(f"{self.namespace}/{self.name}"))

    @strawberry.field(
        description="Queue items that were sent to it completely within the last hour, with or without warnings, of "
        "the patient partitions that the caller sees.",
        directives=[QUEUE],
    )
    async def sent_last_hour(self, info: Info) -> int:
        """Count for all AEs of the answer at once."""
        return cast("int", await info.context.loader(load_sent).load(f"{self.namespace}/{self.name}"))


@strawberry.type(description="What arrives from some AEs goes on to others.", directives=[QUEUE])
class ImageRoute(Node):
    """A route."""

    namespace: str = strawberry.field(
        description="Namespace of the cluster; locally the namespace that its file names, such as default."
    )
    name: str = strawberry.field(description="Its name in that namespace, such as ct-to-pacs.")
    generation: int = strawberry.field(description="Counts the changes of the spec, from 1.")
    enabled: bool = strawberry.field(description="false: it wants nothing.")
    to: list[str] = strawberry.field(
        description='Names of the AEs that it sends to, in its own namespace, such as ["pacs"].'
    )
    level: str | None = strawberry.field(
        description="What goes as one, instead of the AE's routeLevel: Study, Series or Image; null: as the AE says."
    )
    priority: int | None = strawberry.field(
        description="Priority of what it sends, 0 to 100, the highest goes first; null: as the receiving AE says."
    )
    comment: str = strawberry.field(description="What people noted about it.")
    labels: JSON = strawberry.field(description='Its labels: {"department": "radiology"}.')
    spec: JSON = strawberry.field(
        description="All that is configured of it, as in its manifest; an ImageRouteSpecInput as it stands."
    )
    conditions: list[Condition] = strawberry.field(
        description="How it goes, one for each aspect; Ready sums them up."
    )
    source: str = strawberry.field(description="Where it comes from: a file and line locally.")
    created_at: datetime = strawberry.field(description="When it was made.")
    updated_at: datetime = strawberry.field(description="When its row here was last written.")
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

    namespace: str = strawberry.field(
        description="Namespace of the cluster; locally the namespace that its file names, such as default."
    )
    name: str = strawberry.field(description="Its name in that namespace, such as main-house.")
    generation: int = strawberry.field(description="Counts the changes of the spec, from 1.")
    display_name: str | None = strawberry.field(
        description="Its name for people, such as Main House; null: its name."
    )
    issuer_of_patient_id: str | None = strawberry.field(
        description="Who hands out the patient ids in it, such as MAIN_HOUSE; null: none is given."
    )
    labels: JSON = strawberry.field(description='Its labels: {"department": "radiology"}.')
    spec: JSON = strawberry.field(
        description="All that is configured of it, as in its manifest; a PatientPartitionSpecInput as it stands."
    )
    conditions: list[Condition] = strawberry.field(
        description="How it goes, one for each aspect; Ready sums them up."
    )
    source: str = strawberry.field(description="Where it comes from: a file and line locally.")
    created_at: datetime = strawberry.field(description="When it was made.")
    updated_at: datetime = strawberry.field(description="When its row here was last written.")
    version: str = strawberry.field(description=VERSION)
    is_fresh: strawberry.Private[bool] = False

    @strawberry.field(description=STALE)
    async def is_stale(self, info: Info) -> bool:
        """Ask how current the rows of its namespace are."""
        return not self.is_fresh and bool(await info.context.loader(load_staleness).load(self.namespace))


async def application_entities(  # noqa: PLR0913 - a GraphQL field has the arguments that callers need
    info: Info,
    search: Search = None,
    where: Annotated[ApplicationEntityWhere | None, By] = None,
    first: First = DEFAULT_FIRST,
    after: After = None,
    last: Last = None,
    before: Before = None,
) -> Connection[ApplicationEntity]:
    """List AEs by name."""
    found = entities_filter(search, where)
    listing = Listing("applicationEntities", ENTITIES, BY_NAME, found, (search, where))
    return await connection(info.context, listing, entity_of, page=Asked(first, after, last, before))


def entities_filter(search: str | None, where: ApplicationEntityWhere | None) -> Filter:
    """Return what a search and a filter ask for."""
    return AllOf((filter_of(where), _searched(search, {"title": "title", "location": "location_code"})))


async def image_routes(  # noqa: PLR0913 - a GraphQL field has the arguments that callers need
    info: Info,
    search: Search = None,
    where: Annotated[ImageRouteWhere | None, By] = None,
    first: First = DEFAULT_FIRST,
    after: After = None,
    last: Last = None,
    before: Before = None,
) -> Connection[ImageRoute]:
    """List routes by name."""
    found = named_filter(search, where)
    listing = Listing("imageRoutes", ROUTES, BY_NAME, found, (search, where))
    return await connection(info.context, listing, route_of, page=Asked(first, after, last, before))


async def partitions(  # noqa: PLR0913 - a GraphQL field has the arguments that callers need
    info: Info,
    search: Search = None,
    where: Annotated[PatientPartitionWhere | None, By] = None,
    first: First = DEFAULT_FIRST,
    after: After = None,
    last: Last = None,
    before: Before = None,
) -> Connection[PatientPartition]:
    """List patient partitions by name; a namespace's ``default`` exists without being listed."""
    found = named_filter(search, where)
    listing = Listing("partitions", PARTITIONS, BY_NAME, found, (search, where))
    return await connection(info.context, listing, partition_of, page=Asked(first, after, last, before))


def named_filter(search: str | None, where: ImageRouteWhere | PatientPartitionWhere | None) -> Filter:
    """Return what a search and a filter ask for, of routes or of partitions."""
    return AllOf((filter_of(where), _searched(search, {"name": "name"})))


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
        "labels": as_json(row["labels"]),
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
