"""Ask a device now whether it answers: a worker does it, ahead of all deliveries, and the caller waits for it."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Annotated, Any, Union, cast

import strawberry

from aegate_core.database import Database
from aegate_core.dicom.identifiers import parse_resource_key
from aegate_core.resources.values import ApplicationEntity
from aegate_core.stores.index.projections import read_tombstone
from aegate_core.stores.queue.verifying import WANTED_FOR, Verification, ask, look, newest_sign_of_life
from aegate_graphql_api.connections import Id
from aegate_graphql_api.context import Context, Info
from aegate_graphql_api.mutations.change import Outcome, change
from aegate_graphql_api.mutations.problems import (
    NotFoundProblem,
    UnavailableProblem,
    ValidationProblem,
    not_found,
)
from aegate_graphql_api.permission import Permission
from aegate_graphql_api.permissions import EITHER
from aegate_graphql_api.schema.node import key_of

LOOK_S = 0.25
"""How long an answer waits at most before it is seen. By feel: a person waits, and a device takes as long."""


@strawberry.type(description="What the device takes: a kind of object in an encoding.", directives=[EITHER])
class AcceptedContext:
    """A presentation context that was accepted."""

    sop_class: str = strawberry.field(
        description="UID of the kind of object, such as 1.2.840.10008.1.1 (C-ECHO)."
    )
    transfer_syntax: str = strawberry.field(description="UID of the encoding, such as 1.2.840.10008.1.2.1.")


@strawberry.type(description="What a device said when it was asked just now.", directives=[EITHER])
class ApplicationEntityVerified:
    """What a device said."""

    is_answering: bool = strawberry.field(
        description="true: it took an association, and a C-ECHO (a ping) came back."
    )
    trouble: str | None = strawberry.field(
        description="What is wrong, and a code such as REJECTED; null: nothing."
    )
    worker: str = strawberry.field(description="The worker that asked it.")
    association_ms: int | None = strawberry.field(
        description="Milliseconds until there was an association, or none."
    )
    echo_ms: int | None = strawberry.field(description="Milliseconds until the C-ECHO came back.")
    accepted: list[AcceptedContext] = strawberry.field(
        description="What it takes of common images and encodings (of a printer: of printing)."
    )


VerifyResult = Annotated[
    Union[  # noqa: UP007 - strawberry names a Union
        ApplicationEntityVerified, ValidationProblem, NotFoundProblem, UnavailableProblem
    ],
    strawberry.union("VerifyResult", description="What the device said, or why it was not asked."),
]


async def verify_application_entity(info: Info, id: Id) -> VerifyResult:
    """Have a worker ask the device now; answers within five seconds."""
    context = info.context

    async def work(tx: Database) -> Outcome:
        key = key_of(id, "ApplicationEntity")
        await check_entity(tx, context, key)
        request = await ask(tx, key, now=context.now)
        return Outcome(request, f"ApplicationEntity:{key}")

    found = await change(context, "verifyApplicationEntity", work)
    if not isinstance(found, int):
        return cast("VerifyResult", found)
    return await answered(context, found)


async def check_entity(db: Database, context: Context, key: str) -> None:
    """Raise Refused for one that is not there, or not for this caller."""
    caller, ae = context.caller, parse_resource_key(key)
    by_namespace = Permission.AE_EDITOR in caller.permissions and (
        caller.namespaces is None or ae.namespace in caller.namespaces
    )
    row = await read_tombstone(db, "ApplicationEntity", ae)
    entity = row.resource() if row is not None and row.is_live else None
    by_partition = (
        isinstance(entity, ApplicationEntity)
        and Permission.DICOM_QUEUE in caller.permissions
        and (caller.partitions is None or str(entity.partition) in caller.partitions)
    )
    if entity is None or not (by_namespace or by_partition):
        raise not_found("there is no such Application Entity: read the list again")


async def answered(context: Context, id: int, *, within: timedelta = WANTED_FOR) -> VerifyResult:
    """Return what came of a request as soon as a worker says it, or what there is after so long."""
    until = time.monotonic() + within.total_seconds()
    while True:
        found = await look(context.db, id)
        if found is not None and found.answer is not None:
            return _shown(found.taken_by or "", found.answer)
        if time.monotonic() > until:
            return await _unanswered(context, found)
        await asyncio.sleep(LOOK_S)


def _shown(worker: str, answer: Any) -> ApplicationEntityVerified:
    return ApplicationEntityVerified(
        is_answering=answer.get("error") is None,
        trouble=answer.get("error"),
        worker=worker,
        association_ms=answer.get("associationMs"),
        echo_ms=answer.get("echoMs"),
        accepted=[AcceptedContext(sop_class=s, transfer_syntax=t) for s, t in answer.get("accepted", [])],
    )


async def _unanswered(context: Context, found: Verification | None) -> VerifyResult:
    seconds = round(WANTED_FOR.total_seconds())
    if found is not None and found.taken_by is not None:
        return _shown(found.taken_by, {"error": f"TIMEOUT: the device did not answer within {seconds} s"})
    last = await newest_sign_of_life(context.db)
    who = (
        f"the worker seen last is {last[0]}, at {last[1]:%Y-%m-%d %H:%M:%S} UTC"
        if last
        else "no worker is known"
    )
    message = f"a worker must ask the device, and none took it up within {seconds} s; {who}: look whether workers run"
    return UnavailableProblem(code="UNAVAILABLE", message=message)
