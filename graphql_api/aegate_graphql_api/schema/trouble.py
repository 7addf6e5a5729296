"""Conflicts and quarantined objects: what a person may have to look at."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Optional, cast

import strawberry

from aegate_core.database import as_datetime
from aegate_core.decisions.resolutions import Resolution, choices
from aegate_core.stores.index.list_resources import keys_matching
from aegate_core.stores.index.list_studies import CONFLICT_ORDER, CONFLICTS, QUARANTINE, QUARANTINE_ORDER
from aegate_core.stores.listing import AllOf, AnyOf, Compare, Filter, Op
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
from aegate_graphql_api.context import Info, moment
from aegate_graphql_api.permissions import QUEUE
from aegate_graphql_api.schema.node import Node, global_id
from aegate_graphql_api.schema.of_study import OfStudyWhere, found_of_study
from aegate_graphql_api.schema.scalars import BigInt
from aegate_graphql_api.schema.study import Study, load_studies
from aegate_graphql_api.search import TextFilter, TimeFilter, filter_of, terms

strawberry.enum(
    Resolution,
    name="ConflictResolution",
    description="What may be decided about a conflict; nothing that was received is changed or deleted by it. Of a "
    "PATIENT_MISMATCH: SEND_AS_IT_IS lets go what is held for it, DO_NOT_SEND cancels that. Of a "
    "SAME_UID_OTHER_CONTENT: KEEP_NEWER leaves it so, KEEP_OLDER lets the older content count, which is what is sent "
    "by hand and shown from then on; queue items keep what they were made with. Of a SAME_UID_OTHER_STUDY: KEEP_BOTH "
    "leaves it so.",
)


@strawberry.type(
    description="Received objects that do not fit together: SAME_UID_OTHER_CONTENT, SAME_UID_OTHER_STUDY, "
    "PATIENT_MISMATCH.",
    directives=[QUEUE],
)
class Conflict(Node):
    """A conflict."""

    kind: str
    arrival_id: str
    other_arrival_id: str | None
    source_ae: str | None
    study_key: strawberry.Private[int | None]
    created_at: datetime
    resolved_at: datetime | None
    resolved_by: str | None
    resolution: str | None

    @strawberry.field(description="What may be decided about it, by resolveConflict; empty: it is resolved.")
    def choices(self) -> list[Resolution]:
        """Say what fits its kind."""
        return [] if self.resolved_at is not None else list(choices(self.kind))

    @strawberry.field(description="The study that it is about.")
    async def study(self, info: Info) -> Study | None:
        """Load the studies of all conflicts of the answer at once."""
        if self.study_key is None:
            return None
        return cast("Study | None", await info.context.loader(load_studies).load(self.study_key))


@strawberry.type(
    description="An acknowledged object that could not be parsed: kept, never dropped.", directives=[QUEUE]
)
class QuarantinedObject(Node):
    """A quarantined object."""

    arrival_id: str
    source_ae: str
    reason: str
    size_bytes: BigInt
    received_at: datetime
    created_at: datetime
    resolved_at: datetime | None
    resolved_by: str | None
    resolution: str | None
    released_at: datetime | None = strawberry.field(
        description="When somebody let it be indexed after all; with resolvedAt null, it waits for a worker."
    )
    released_by: str | None = strawberry.field(description="Whose token released it.")


@strawberry.input(description="All that is given must hold.")
class ConflictWhere(OfStudyWhere):
    """Filter of conflicts."""

    kind: TextFilter | None = strawberry.field(default=None, description="Such as PATIENT_MISMATCH.")
    created_at: TimeFilter | None = strawberry.field(default=None, description="When it was found.")
    resolved_at: TimeFilter | None = strawberry.field(
        default=None, description="When it was resolved; null: it is open."
    )
    all_of: Optional[list[ConflictWhere]] = strawberry.field(default=None, name="AND")  # noqa: UP045 - strawberry resolves the name later
    any_of: Optional[list[ConflictWhere]] = strawberry.field(default=None, name="OR")  # noqa: UP045 - as above


@strawberry.input(description="All that is given must hold.")
class QuarantinedObjectWhere:
    """Filter of quarantined objects."""

    source_ae: TextFilter | None = strawberry.field(
        default=None, description="namespace/name of the AE that sent it, such as default/ct1."
    )
    reason: TextFilter | None = strawberry.field(default=None, description="Why it could not be parsed.")
    received_at: TimeFilter | None = strawberry.field(default=None, description="When it came.")
    resolved_at: TimeFilter | None = strawberry.field(
        default=None, description="When it was resolved; null: it is open."
    )
    all_of: Optional[list[QuarantinedObjectWhere]] = strawberry.field(default=None, name="AND")  # noqa: UP045 - strawberry resolves the name later
    any_of: Optional[list[QuarantinedObjectWhere]] = strawberry.field(default=None, name="OR")  # noqa: UP045 - as above


async def conflicts(  # noqa: PLR0913 - a GraphQL field has the arguments that callers need
    info: Info,
    resolved: bool | None = False,
    search: str | None = None,
    where: ConflictWhere | None = None,
    first: First = DEFAULT_FIRST,
    after: After = None,
    last: Last = None,
    before: Before = None,
) -> Connection[Conflict]:
    """List conflicts, newest first; ``resolved`` null: all of them."""
    found = AllOf((_resolved(resolved), await found_of_study(info.context, search, where)))
    listing = Listing("conflicts", CONFLICTS, CONFLICT_ORDER, found, (resolved, search, where))
    return await connection(info.context, listing, conflict_of, page=Asked(first, after, last, before))


async def quarantined_objects(  # noqa: PLR0913 - as above
    info: Info,
    resolved: bool | None = False,
    search: str | None = None,
    where: QuarantinedObjectWhere | None = None,
    first: First = DEFAULT_FIRST,
    after: After = None,
    last: Last = None,
    before: Before = None,
) -> Connection[QuarantinedObject]:
    """List quarantined objects, newest first; ``resolved`` null: all of them."""
    parts = [_resolved(resolved), filter_of(where)]
    for term in terms(search, ("ae",)):
        keys = await keys_matching(info.context.db, term.compare("text"))
        sources = Compare("source_ae", Op.IN, keys)
        parts.append(sources if term.prefix else AnyOf((sources, term.compare("reason"))))
    asked = (resolved, search, where)
    listing = Listing("quarantinedObjects", QUARANTINE, QUARANTINE_ORDER, AllOf(tuple(parts)), asked)
    return await connection(info.context, listing, quarantined_of, page=Asked(first, after, last, before))


def _resolved(resolved: bool | None) -> Filter:
    return AllOf(()) if resolved is None else Compare("resolved_at", Op.IS_NULL, not resolved)


def conflict_of(row: Mapping[str, Any]) -> Conflict:
    """Return a row of CONFLICTS as its type."""
    return Conflict(
        id=global_id("Conflict", row["id"]),
        kind=row["kind"],
        arrival_id=row["arrival_id"],
        other_arrival_id=row["other_arrival_id"] or None,
        source_ae=row["ae"],
        study_key=row["study_key"],
        created_at=as_datetime(row["created_at"]),
        resolved_at=moment(row["resolved_at"]),
        resolved_by=row["resolved_by"],
        resolution=row["resolution"],
    )


def quarantined_of(row: Mapping[str, Any]) -> QuarantinedObject:
    """Return a row of QUARANTINE as its type."""
    return QuarantinedObject(
        id=global_id("QuarantinedObject", row["arrival_id"]),
        arrival_id=row["arrival_id"],
        source_ae=row["ae"],
        reason=row["reason"],
        size_bytes=row["size_bytes"],
        received_at=as_datetime(row["received_at"]),
        created_at=as_datetime(row["created_at"]),
        resolved_at=moment(row["resolved_at"]),
        resolved_by=row["resolved_by"],
        resolution=row["resolution"],
        released_at=moment(row["released_at"]),
        released_by=row["released_by"],
    )
