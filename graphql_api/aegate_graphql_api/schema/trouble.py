"""Conflicts and quarantined objects: what a person may have to look at."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Optional, cast

import strawberry

from aegate_core.database import as_datetime
from aegate_core.decisions.resolutions import Resolution, choices
from aegate_core.stores.index.found import UNKNOWN_SENDER
from aegate_core.stores.index.list_resources import keys_matching
from aegate_core.stores.index.list_studies import CONFLICT_ORDER, CONFLICTS, QUARANTINE, QUARANTINE_ORDER
from aegate_core.stores.listing import AllOf, AnyOf, Compare, Filter, Op
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
    Resolved,
    Search,
    connection,
)
from aegate_graphql_api.context import Context, Info, moment
from aegate_graphql_api.permissions import QUEUE
from aegate_graphql_api.schema.enums import in_words
from aegate_graphql_api.schema.node import Node, global_id
from aegate_graphql_api.schema.of_study import OfStudyWhere, found_of_study
from aegate_graphql_api.schema.scalars import BigInt
from aegate_graphql_api.schema.study import Study, load_studies
from aegate_graphql_api.search import TextFilter, TimeFilter, filter_of, terms

in_words(
    "What may be decided about a conflict; nothing that was received is changed or deleted by it.",
    name="ConflictResolution",
    SEND_AS_IT_IS="Of a PATIENT_MISMATCH: let go what is held for it.",
    DO_NOT_SEND="Of a PATIENT_MISMATCH: cancel what is held for it.",
    KEEP_NEWER="Of a SAME_UID_OTHER_CONTENT: leave it so, the newer content counts.",
    KEEP_OLDER="Of a SAME_UID_OTHER_CONTENT: let the older content count, which is what is sent by hand and shown from "
    "then on; queue items keep what they were made with.",
    KEEP_BOTH="Of a SAME_UID_OTHER_STUDY: leave it so, each study keeps its own image of that id.",
)(Resolution)


@strawberry.type(
    description="Received objects that do not fit together: SAME_UID_OTHER_CONTENT, SAME_UID_OTHER_STUDY, "
    "PATIENT_MISMATCH.",
    directives=[QUEUE],
)
class Conflict(Node):
    """A conflict."""

    kind: str = strawberry.field(
        description="SAME_UID_OTHER_CONTENT: an image came again under its id and is another. SAME_UID_OTHER_STUDY: "
        "its id was of another study before. PATIENT_MISMATCH: its study came before under another patient's id."
    )
    arrival_id: str = strawberry.field(
        description="Which arrival raised it: every time that an image comes is an arrival of its own."
    )
    other_arrival_id: str | None = strawberry.field(
        description="The arrival that it does not fit to; null: none in particular."
    )
    source_ae: str | None = strawberry.field(
        description="namespace/name of the AE that sent it, such as default/ct1."
    )
    study_key: strawberry.Private[int | None]
    created_at: datetime = strawberry.field(description="When it was found.")
    resolved_at: datetime | None = strawberry.field(
        description="When somebody decided about it; null: nobody has."
    )
    resolved_by: str | None = strawberry.field(description="Who decided.")
    resolution: str | None = strawberry.field(description="What was decided, such as KEEP_NEWER.")

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

    arrival_id: str = strawberry.field(
        description="Which arrival it is: every time that something comes is an arrival of its own."
    )
    source_ae: str = strawberry.field(
        description="namespace/name of the AE that sent it, such as default/ct1. unknown/unknown: a check of the store "
        "found its file, and nobody knows who sent it; such objects are shown to callers of all partitions alone, and "
        "releaseQuarantined takes them with sentBy."
    )
    reason: str = strawberry.field(description="Why it could not be parsed, in words without patient data.")
    size_bytes: BigInt = strawberry.field(description="Its size in bytes.")
    received_at: datetime = strawberry.field(description="When it came.")
    created_at: datetime = strawberry.field(description="When it was found that it cannot be parsed.")
    resolved_at: datetime | None = strawberry.field(
        description="When it was indexed after all, or somebody looked at it; null: it is open."
    )
    resolved_by: str | None = strawberry.field(description="Who released it or looked at it.")
    resolution: str | None = strawberry.field(description="INDEXED, or LOOKED_AT and what they noted.")
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
    all_of: Optional[list[ConflictWhere]] = strawberry.field(  # noqa: UP045 - strawberry resolves the name later
        default=None,
        name="AND",
        description="All of these must hold, too.",
    )
    any_of: Optional[list[ConflictWhere]] = strawberry.field(  # noqa: UP045 - as above
        default=None,
        name="OR",
        description="One of these must hold, too.",
    )


@strawberry.input(description="All that is given must hold.")
class QuarantinedObjectWhere:
    """Filter of quarantined objects."""

    source_ae: TextFilter | None = strawberry.field(
        default=None,
        description="namespace/name of the AE that sent it, such as default/ct1; unknown/unknown: nobody knows who.",
    )
    reason: TextFilter | None = strawberry.field(default=None, description="Why it could not be parsed.")
    received_at: TimeFilter | None = strawberry.field(default=None, description="When it came.")
    released_at: TimeFilter | None = strawberry.field(
        default=None, description="When somebody let it be indexed after all; null: nobody has."
    )
    resolved_at: TimeFilter | None = strawberry.field(
        default=None, description="When it was resolved; null: it is open."
    )
    all_of: Optional[list[QuarantinedObjectWhere]] = strawberry.field(  # noqa: UP045 - strawberry resolves the name later
        default=None,
        name="AND",
        description="All of these must hold, too.",
    )
    any_of: Optional[list[QuarantinedObjectWhere]] = strawberry.field(  # noqa: UP045 - as above
        default=None,
        name="OR",
        description="One of these must hold, too.",
    )


async def conflicts(  # noqa: PLR0913 - a GraphQL field has the arguments that callers need
    info: Info,
    resolved: Resolved = False,
    search: Search = None,
    where: Annotated[ConflictWhere | None, By] = None,
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
    resolved: Resolved = False,
    search: Search = None,
    where: Annotated[QuarantinedObjectWhere | None, By] = None,
    first: First = DEFAULT_FIRST,
    after: After = None,
    last: Last = None,
    before: Before = None,
) -> Connection[QuarantinedObject]:
    """List quarantined objects, newest first; ``resolved`` null: all of them."""
    found = AllOf((_resolved(resolved), await quarantined_filter(info.context, search, where)))
    asked = (resolved, search, where)
    listing = Listing("quarantinedObjects", QUARANTINE, QUARANTINE_ORDER, found, asked)
    return await connection(info.context, listing, quarantined_of, page=Asked(first, after, last, before))


async def quarantined_filter(
    context: Context, search: str | None, where: QuarantinedObjectWhere | None
) -> Filter:
    """Return what a search and a filter ask for."""
    parts = [filter_of(where)]
    for term in terms(search, ("ae",)):
        keys = await keys_matching(context.db, term.compare("text"))
        if term.text.lower() in ("unknown", str(UNKNOWN_SENDER)):
            keys.append(str(UNKNOWN_SENDER))
        sources = Compare("source_ae", Op.IN, keys)
        parts.append(sources if term.prefix else AnyOf((sources, term.compare("reason"))))
    return AllOf(tuple(parts))


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
