"""node and nodes: anything by its global id, with the permission of its type."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

import strawberry

from aegate_core.stores.index.list_studies import CONFLICTS, INSTANCES, QUARANTINE, SERIES, UNITS
from aegate_core.stores.listing import Source, read_by
from aegate_graphql_api.authorisation import declared, forbid
from aegate_graphql_api.connections import Id
from aegate_graphql_api.context import Context, Info
from aegate_graphql_api.errors import RequestRefused
from aegate_graphql_api.limits import LONGEST_PAGE
from aegate_graphql_api.schema import audit, close_unit, resources, study, trouble, worklist
from aegate_graphql_api.schema.destination import Destination, by_ae
from aegate_graphql_api.schema.node import Node, number_of, parse_id
from aegate_graphql_api.schema.operation import Operation, load_operations
from aegate_graphql_api.schema.queue_item import QueueItem, load_items

Load = Callable[[Context, str], Awaitable[Any]]


def _rows(
    source: Source, kind: type, make: Callable[[Mapping[str, Any]], Any], *, numeric: bool = True
) -> Load:
    async def load(context: Context, id: str) -> Any:
        key: object = number_of(id, kind.__name__) if numeric else parse_id(id)[1]
        rows = await read_by(context.db, source, "id", [key], context.scope)
        return make(rows[0]) if rows else None

    return load


def _keyed(loader: Any) -> Load:
    async def load(context: Context, id: str) -> Any:
        return await context.loader(loader).load(parse_id(id)[1])

    return load


def _numbered(loader: Any, kind: type) -> Load:
    async def load(context: Context, id: str) -> Any:
        return await context.loader(loader).load(number_of(id, kind.__name__))

    return load


async def _destination(context: Context, id: str) -> Any:
    return await by_ae(context, parse_id(id)[1])


KINDS: Mapping[str, tuple[type, Load]] = {
    kind.__name__: (kind, load)
    for kind, load in (
        (resources.ApplicationEntity, _keyed(resources.load_entities)),
        (resources.ImageRoute, _keyed(resources.load_routes)),
        (resources.PatientPartition, _keyed(resources.load_partitions)),
        (study.Study, _numbered(study.load_studies, study.Study)),
        (study.Series, _rows(SERIES, study.Series, study.series_of)),
        (study.Instance, _rows(INSTANCES, study.Instance, study.instance_of)),
        (close_unit.CloseUnit, _rows(UNITS, close_unit.CloseUnit, close_unit.unit_of)),
        (QueueItem, _numbered(load_items, QueueItem)),
        (Destination, _destination),
        (audit.AuditEvent, audit.load_event),
        (Operation, _numbered(load_operations, Operation)),
        (worklist.WorklistItem, _numbered(worklist.load_items, worklist.WorklistItem)),
        (trouble.Conflict, _rows(CONFLICTS, trouble.Conflict, trouble.conflict_of)),
        (
            trouble.QuarantinedObject,
            _rows(QUARANTINE, trouble.QuarantinedObject, trouble.quarantined_of, numeric=False),
        ),
    )
}
"""Every type with a global id that can be asked for alone; a patient is asked for through a study."""


async def node(info: Info, id: Id) -> Node | None:
    """Return what has this id, or null. Raises RequestRefused FORBIDDEN without its type's permission."""
    kind, _ = parse_id(id)
    known = KINDS.get(kind)
    if known is None:
        return None
    need = declared(known[0].__strawberry_definition__) or frozenset()  # type: ignore[attr-defined] # set by the decorator
    if not info.context.caller.holds_any(need):
        forbid(kind, need)
    found: Node | None = await known[1](info.context, id)
    return found


async def nodes(
    info: Info,
    ids: Annotated[list[strawberry.ID], strawberry.argument(description="At most 100.")],
) -> list[Node | None]:
    """Return what has these ids, in their order, null where there is nothing."""
    if len(ids) > LONGEST_PAGE:
        raise RequestRefused(
            "INVALID_VALUE",
            f"ids may hold {LONGEST_PAGE}, got {len(ids)}: ask in several requests",
            limit=LONGEST_PAGE,
            used=len(ids),
        )
    return await asyncio.gather(*(node(info, id) for id in ids))
