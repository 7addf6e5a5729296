"""The audit: who did what, and who saw what. Each area is for the holders of the permission it is about.

A caller whose token names partitions sees the rows that are about one of these alone, a destination being of its AE's;
rows about several, or about none, are for callers of all partitions.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Optional, cast

import strawberry

from aegate_core.database import as_datetime, as_json
from aegate_core.services.audit import Area
from aegate_core.stores.index.list_audit import AUDIT, AUDIT_ORDERS
from aegate_core.stores.listing import EVERYTHING, AllOf, AnyOf, Compare, Filter, Op, PageQuery, read_page
from aegate_core.stores.text_patterns import has_wildcard
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
    Sort,
    connection,
)
from aegate_graphql_api.context import Context, Info
from aegate_graphql_api.filter_values import check_value
from aegate_graphql_api.permission import Permission
from aegate_graphql_api.permissions import EITHER, Caller
from aegate_graphql_api.schema.enums import in_words
from aegate_graphql_api.schema.node import Node, global_id, number_of
from aegate_graphql_api.schema.scalars import JSON
from aegate_graphql_api.search import OneOfFilter, TextFilter, TimeFilter, filter_of, terms

AREAS: Mapping[Permission, tuple[Area, ...]] = {
    Permission.DICOM_QUEUE: (Area.QUEUE, Area.IMAGES, Area.ACCESS),
    Permission.AE_EDITOR: (Area.ENTITIES,),
}
"""Which rows the holders of a permission may read."""

in_words(
    "What an audit row is about.",
    name="AuditArea",
    QUEUE="What was done to queue items, destinations and conflicts.",
    IMAGES="Associations, accepted and refused, and what was received, sent and removed.",
    ACCESS="Who read patient data.",
    ENTITIES="Changes of Application Entities, routes, partitions and locations; for holders of AE_EDITOR.",
)(Area)


@strawberry.type(
    description="One fact of who did what, written with the change itself and never changed afterwards.",
    directives=[EITHER],
)
class AuditEvent(Node):
    """An audit row."""

    at: datetime = strawberry.field(description="When, by the clock of the database.")
    actor: str = strawberry.field(
        description="Who: the name of the token or account, or the part of aegate that acted, such as retention."
    )
    address: str = strawberry.field(
        description="The network address that the caller came from, such as 10.1.2.3; empty for what aegate did itself."
    )
    action: str = strawberry.field(description="What was done, such as holdQueueItems or readPatientData.")
    target: str = strawberry.field(
        description="What it was done to, as kind and keys, such as QueueItem:17,18; never a patient's name."
    )
    outcome: str = strawberry.field(description="DONE, REFUSED or FAILED.")
    detail: JSON = strawberry.field(
        description="What else is known of it, such as the reason given, the states before and after, or the count."
    )
    area: Area | None = strawberry.field(description="What it is about; null: written by an early version.")
    partition: str | None = strawberry.field(
        description="The one patient partition that it is about, as namespace/name; null: none, or several."
    )


@in_words(
    "Orders of the audit; both are stable while rows are added.",
    NEWEST="What happened last comes first.",
    OLDEST="What happened first comes first.",
)
class AuditOrder(StrEnum):
    """Orders of the audit."""

    NEWEST = "NEWEST"
    OLDEST = "OLDEST"


@strawberry.input(description="All that is given must hold.")
class AuditEventWhere:
    """Filter of audit rows."""

    at: TimeFilter | None = strawberry.field(default=None, description="When it was done.")
    actor: TextFilter | None = strawberry.field(default=None, description="Who did it, such as night-shift.")
    address: TextFilter | None = strawberry.field(
        default=None, description="From which network address, such as 10.1.2.3."
    )
    action: TextFilter | None = strawberry.field(
        default=None, description="What was done, such as holdQueueItems."
    )
    target: TextFilter | None = strawberry.field(
        default=None, description="What it was done to, such as QueueItem:17."
    )
    outcome: TextFilter | None = strawberry.field(default=None, description="DONE, REFUSED or FAILED.")
    area: OneOfFilter[Area] | None = strawberry.field(default=None, description="What it is about.")
    partition: TextFilter | None = strawberry.field(
        default=None, description="The patient partition that it is about, as namespace/name."
    )
    all_of: Optional[list[AuditEventWhere]] = strawberry.field(  # noqa: UP045 - strawberry resolves the name later
        default=None, name="AND", description="All of these must hold, too."
    )
    any_of: Optional[list[AuditEventWhere]] = strawberry.field(  # noqa: UP045 - as above
        default=None, name="OR", description="One of these must hold, too."
    )


PREFIXES: Mapping[str, tuple[str, Op]] = {
    "actor": ("actor", Op.EQ),
    "address": ("address", Op.EQ),
    "action": ("action", Op.EQ),
    "target": ("target", Op.STARTS_WITH),
    "partition": ("partition", Op.EQ),
}


async def audit_events(  # noqa: PLR0913 - a GraphQL field has the arguments that callers need
    info: Info,
    search: Search = None,
    where: Annotated[AuditEventWhere | None, By] = None,
    order_by: Annotated[AuditOrder, Sort] = AuditOrder.NEWEST,
    first: First = DEFAULT_FIRST,
    after: After = None,
    last: Last = None,
    before: Before = None,
) -> Connection[AuditEvent]:
    """List audit rows that the caller may read."""
    found = events_filter(info.context.caller, search, where)
    listing = Listing("auditEvents", AUDIT, AUDIT_ORDERS[order_by.value], found, (search, where))
    return await connection(info.context, listing, event_of, page=Asked(first, after, last, before))


def events_filter(caller: Caller, search: str | None, where: AuditEventWhere | None) -> Filter:
    """Return what a search and a filter ask for, of the rows that ``caller`` may read."""
    parts = [visible(caller), filter_of(where)]
    for term in terms(search, PREFIXES):
        if term.prefix is not None:
            column, op = PREFIXES[term.prefix]
            if not has_wildcard(term.text):
                check_value(column, op, term.text, called=f"{term.prefix}:")
            parts.append(term.compare(column, op))
        else:
            anywhere = ("actor", "action", "target")
            parts.append(AnyOf(tuple(term.compare(column) for column in anywhere)))
    return AllOf(tuple(parts))


def visible(caller: Caller) -> Filter:
    """Return which rows ``caller`` may read. What an early version wrote is for callers who may read all."""
    parts: list[Filter] = []
    for need, areas in AREAS.items():
        if need in caller.permissions:
            of_area = Compare("area", Op.IN, [area.value for area in areas])
            parts.append(AllOf((of_area, _about(caller, need))))
    sees_all = caller.partitions is None and caller.namespaces is None
    if sees_all and caller.permissions.issuperset(AREAS):
        parts.append(Compare("area", Op.IS_NULL, True))
    return AnyOf(tuple(parts))


def _about(caller: Caller, need: Permission) -> Filter:
    """Return what narrows rows to the caller's partitions, or those of Application Entities to its namespaces."""
    if need is not Permission.AE_EDITOR:
        own = caller.partitions
        return EVERYTHING if own is None else Compare("partition", Op.IN, sorted(own))
    if caller.namespaces is None:
        return EVERYTHING
    begins = [f"{kind}:{name}/" for name in sorted(caller.namespaces) for kind in RESOURCES]
    return AnyOf(tuple(Compare("target", Op.STARTS_WITH, text) for text in begins))


RESOURCES = ("ApplicationEntity", "ImageRoute", "PatientPartition")


async def load_event(context: Context, id: str) -> AuditEvent | None:
    """Return one audit row by its global id, or None for one that is not there or not for this caller."""
    number = Compare("id", Op.EQ, number_of(id, "AuditEvent"))
    where = AllOf((number, visible(context.caller)))
    page = await read_page(context.db, AUDIT, PageQuery(AUDIT_ORDERS["NEWEST"], 1, where), context.scope)
    return event_of(page.rows[0]) if page.rows else None


def event_of(row: Mapping[str, Any]) -> AuditEvent:
    """Return a row of AUDIT as its type."""
    return AuditEvent(
        id=global_id("AuditEvent", row["id"]),
        at=as_datetime(row["at"]),
        detail=cast(JSON, as_json(row["detail"])),
        area=Area(row["area"]) if row["area"] else None,
        **{name: row[name] for name in ("actor", "address", "action", "target", "outcome", "partition")},
    )
