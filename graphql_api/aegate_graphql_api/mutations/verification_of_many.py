"""Ask now whether the devices behind a route or a patient partition answer, all at once.

Each is asked as verifyApplicationEntity asks one: a worker takes it ahead of all deliveries, and who asks again within
two seconds hears the same answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Union, cast

import strawberry

from aegate_core.database import Database
from aegate_core.dicom.identifiers import ResourceKey, parse_resource_key
from aegate_core.resources.values import ImageRoute
from aegate_core.stores.index.list_resources import PARTITIONS, ROUTES
from aegate_core.stores.index.projections import entities_of_partition, read_tombstone
from aegate_core.stores.queue.verifying import ask
from aegate_graphql_api.connections import Id
from aegate_graphql_api.context import Context, Info
from aegate_graphql_api.mutations.change import Outcome, change
from aegate_graphql_api.mutations.problems import (
    NotFoundProblem,
    Refused,
    UnavailableProblem,
    ValidationProblem,
    invalid,
    not_found,
)
from aegate_graphql_api.mutations.selection import must_see
from aegate_graphql_api.mutations.verification import ApplicationEntityVerified, answered, check_entity
from aegate_graphql_api.permissions import EITHER
from aegate_graphql_api.schema.node import key_of

MOST_DEVICES = 20
"""Of one request. By feel: a worker asks eight at once, and each may take five seconds."""


@strawberry.type(description="One device that was asked, or why it was not.", directives=[EITHER])
class DeviceVerified:
    """One device."""

    ae: str = strawberry.field(description="namespace/name of its Application Entity, such as default/pacs.")
    verified: ApplicationEntityVerified | None = strawberry.field(
        description="What it said; null: it was not asked."
    )
    problem: str | None = strawberry.field(description="Why it was not asked; null: it was.")


@strawberry.type(description="What the devices said when they were asked just now.", directives=[EITHER])
class DevicesVerified:
    """What the devices said."""

    devices: list[DeviceVerified] = strawberry.field(description="Each device, by name.")

    @strawberry.field(description="true: each of them answered.")
    def all_answering(self) -> bool:
        """Say whether all did."""
        return all(d.verified is not None and d.verified.is_answering for d in self.devices)


DevicesResult = Annotated[
    Union[DevicesVerified, ValidationProblem, NotFoundProblem, UnavailableProblem],  # noqa: UP007 - strawberry names a Union
    strawberry.union("DevicesResult", description="What the devices said, or why none was asked."),
]

_Find = Callable[[Database, ResourceKey], Awaitable[Sequence[ResourceKey]]]


async def verify_image_route(info: Info, id: Id) -> DevicesResult:
    """Ask all destinations of a route."""
    context = info.context

    async def destinations(tx: Database, key: ResourceKey) -> Sequence[ResourceKey]:
        await must_see(tx, context, ROUTES, "key", [str(key)])
        row = await read_tombstone(tx, "ImageRoute", key)
        route = row.resource() if row is not None and row.is_live else None
        if not isinstance(route, ImageRoute):
            raise not_found("there is no such route: read the list again")
        return [ResourceKey(key.namespace, name) for name in route.to]

    return await _verified(context, "verifyImageRoute", "ImageRoute", id, destinations)


async def verify_patient_partition(info: Info, id: Id) -> DevicesResult:
    """Ask all devices of a patient partition."""
    context = info.context

    async def devices(tx: Database, key: ResourceKey) -> Sequence[ResourceKey]:
        await must_see(tx, context, PARTITIONS, "key", [str(key)])
        return await entities_of_partition(tx, key, limit=MOST_DEVICES + 1)

    return await _verified(context, "verifyPatientPartition", "PatientPartition", id, devices)


async def _verified(
    context: Context, action: str, kind: str, id: strawberry.ID, find: _Find
) -> DevicesResult:
    async def work(tx: Database) -> Outcome:
        key = key_of(id, kind)
        found = await find(tx, parse_resource_key(key))
        if len(found) > MOST_DEVICES:
            raise invalid(
                "id", f"may stand for {MOST_DEVICES} devices, and there are more: ask them one by one"
            )
        asked = {str(ae): await _asked(tx, context, str(ae)) for ae in sorted(found)}
        return Outcome(asked, f"{kind}:{key}", {"devices": sorted(asked)})

    found = await change(context, action, work)
    if not isinstance(found, dict):
        return cast("DevicesResult", found)
    shown = await asyncio.gather(*(_device(context, ae, request) for ae, request in found.items()))
    return DevicesVerified(devices=list(shown))


async def _asked(tx: Database, context: Context, ae: str) -> int | None:
    """Return the request to ask a device; None for one that is not there, or not for this caller."""
    try:
        await check_entity(tx, context, ae)
    except Refused:
        return None
    return await ask(tx, ae, now=context.now)


async def _device(context: Context, ae: str, request: int | None) -> DeviceVerified:
    if request is None:
        problem = "there is no such Application Entity, or not for your token: look at the route"
        return DeviceVerified(ae=ae, verified=None, problem=problem)
    found = await answered(context, request)
    if isinstance(found, ApplicationEntityVerified):
        return DeviceVerified(ae=ae, verified=found, problem=None)
    return DeviceVerified(ae=ae, verified=None, problem=found.message)
