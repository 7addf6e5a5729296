"""How a resource is changed: an intent is committed, the manifest changed where it is kept, the outcome committed.

The surprise: where nobody answered, nothing is said of the outcome. The intent stays open until the sweeper can see.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from aegate_core.errors import (
    AegateError,
    ClusterError,
    ClusterUnavailable,
    Conflict,
    InvalidManifest,
    ManagedElsewhere,
    NotFound,
    StorageError,
    VersionConflict,
)
from aegate_core.events import AUDIT_OPEN, MUTATION_DONE, Log
from aegate_core.resources.merge import leaves, put_at, value_at
from aegate_core.resources.reference import ResourceRef
from aegate_core.resources.versions import spec_version
from aegate_core.services.audit import Area, Deed, record
from aegate_core.services.intents import OpenIntent, begin, settle
from aegate_core.services.manifests import Manifests, Wish
from aegate_core.steps import Step, reached
from aegate_core.stores.index.projections import Projection, read_tombstone
from aegate_graphql_api.context import Context
from aegate_graphql_api.errors import RequestRefused
from aegate_graphql_api.mutations.change import problem_of_error
from aegate_graphql_api.mutations.problems import (
    FieldError,
    Problem,
    Refused,
    UnavailableProblem,
    ValidationProblem,
)
from aegate_graphql_api.mutations.resource_problems import (
    ForbiddenProblem,
    ManagedElsewhereProblem,
    ResourceConflictProblem,
)
from aegate_graphql_api.permissions import Caller
from aegate_graphql_api.schema.declared import node_of

log = Log("api")

Verb = Callable[[Manifests, Wish], Awaitable[Projection]]
CREATE: Verb = lambda manifests, wish: manifests.create(wish)  # noqa: E731 - a method of whatever keeps them
UPDATE: Verb = lambda manifests, wish: manifests.update(wish)  # noqa: E731 - as above
DELETE: Verb = lambda manifests, wish: manifests.delete(wish)  # noqa: E731 - as above

ARGUMENTS = {"metadata.namespace": "namespace", "metadata.name": "name", "metadata.labels": "labels"}

MOST_TOLD_BYTES = 16 * 1024
"""What an intent keeps of a wish; of more it keeps a digest. By feel: an AE with all its fields has 3 kB."""


class Answer(Protocol):
    """Makes a mutation's payload."""

    def __call__(self, found: Projection, *, dry_run: bool) -> Any:
        """Return the payload."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A change as a caller asks for it."""

    action: str
    verb: Verb
    wish: Wish
    answer: Answer
    argument: str = "input"
    """The argument that holds what may be wrong."""


async def declare(context: Context, ask: Callable[[], Asked]) -> Any:
    """Make the change that ``ask`` reads from the arguments; return its answer, or the Problem that ended it."""
    action, argument = "", "input"
    try:
        asked = ask()
        action, argument = asked.action, asked.argument
        _check_place(context, asked)
        dry_run = asked.wish.dry_run
        answer = asked.answer(await _changed(context, asked), dry_run=dry_run)
        said = "DRY_RUN" if dry_run else "DONE"
    except (Refused, AegateError, RequestRefused) as error:
        answer = problem_of(error, argument)
        said = answer.code
    context.forget()
    log(MUTATION_DONE, mutation=action, caller=context.caller.name, outcome=said)
    return answer


def _check_place(context: Context, asked: Asked) -> None:
    """Raise Refused where the caller may not make anything."""
    if asked.verb is not CREATE or _may_change(context.caller, asked.wish.ref):
        return
    message = (
        "your token does not let you make one there: ask your administrator for the namespace or partition"
    )
    raise Refused(ForbiddenProblem(code="FORBIDDEN", message=message))


def _may_change(caller: Caller, ref: ResourceRef) -> bool:
    """Whether a caller who holds the permission holds it here.

    A route sends the images of all partitions of its namespace: whoever sees some of them alone changes none.
    """
    if ref.kind == "ImageRoute":
        return caller.partitions is None
    if ref.kind == "PatientPartition" and not (
        caller.partitions is None or str(ref.key) in caller.partitions
    ):
        return False
    return caller.namespaces is None or ref.key.namespace in caller.namespaces


async def _changed(context: Context, asked: Asked) -> Projection:
    wish = asked.wish
    if context.manifests is None:
        if not _may_change(context.caller, wish.ref):
            raise NotFound(f"there is no such {wish.ref.kind}: read the list again")
        raise Refused(
            UnavailableProblem(
                code="UNAVAILABLE",
                message="this API was given no place where resources are kept: set AEGATE_RESOURCES",
            )
        )
    if wish.dry_run:
        return await _act(context, context.manifests, asked)
    row = await read_tombstone(context.db, wish.ref.kind, wish.ref.key)
    before = row if row is not None and row.is_live else None
    target = f"{wish.ref.kind}:{wish.ref.key}"
    caller = context.caller
    detail = _told(wish, before)
    deed = Deed(caller.name, asked.action, target, address=caller.address, detail=detail, area=Area.ENTITIES)
    await _validate_first(context, context.manifests, asked, deed)
    intent = await begin(context.db, deed, now=context.now)
    reached(Step.INTENT_RECORDED)
    try:
        found = await _act(context, context.manifests, asked)
    except AegateError as error:
        if not isinstance(error, ClusterUnavailable | StorageError):
            await _settle(context, intent, "REFUSED", {"code": error.code})
        raise
    reached(Step.RESOURCE_CHANGED)
    await _settle(
        context, intent, "DONE", {"version": spec_version(found.spec), "generation": found.generation}
    )
    return found


async def _validate_first(context: Context, manifests: Manifests, asked: Asked, deed: Deed) -> None:
    """Raise InvalidManifest before what is wrong is kept for ever; the attempt is, without its text.

    What else is to be said against the wish is said of the change itself. In a cluster the API server validates, and is
    asked once: what it refuses leaves an intent.
    """
    if not manifests.is_local:
        return
    try:
        await _act(context, manifests, replace(asked, wish=replace(asked.wish, dry_run=True)))
    except InvalidManifest as error:
        refused = replace(deed, outcome="REFUSED", detail={"code": error.code})
        await context.db.atomically(lambda tx: record(tx, refused, now=context.now))
        raise
    except AegateError:
        return


def _told(wish: Wish, before: Projection | None) -> dict[str, object]:
    """Return what the intent tells: what stood there and what is wished, or a digest where that is too much."""
    version = None if before is None else spec_version(before.spec)
    told: dict[str, object] = {
        "before": before and {"version": version, "spec": _part(before.spec, wish.spec)},
        "spec": dict(wish.spec),
        "labels": dict(wish.labels),
        "takeOver": wish.take_over,
        "seen": wish.version,
    }
    text = json.dumps(told, sort_keys=True).encode()
    if len(text) <= MOST_TOLD_BYTES:
        return told
    digest = {"sha256": hashlib.sha256(text).hexdigest(), "bytes": len(text)}
    return {"before": before and {"version": version}, "digest": digest, "takeOver": wish.take_over}


async def _act(context: Context, manifests: Manifests, asked: Asked) -> Projection:
    """Make the change; what is foreign is as absent as what is not there, and leaves the same rows in the audit."""
    if not _may_change(context.caller, asked.wish.ref):
        raise NotFound(f"there is no such {asked.wish.ref.kind}: read the list again")
    return await asked.verb(manifests, asked.wish)


def _part(spec: Mapping[str, object], wished: Mapping[str, object]) -> dict[str, object]:
    """Return what stood where something was wished; of what is to be deleted, all."""
    found: dict[str, object] = {}
    for path, _ in leaves(wished):
        if path:
            put_at(found, path, value_at(spec, path))
    return found if wished else dict(spec)


async def _settle(context: Context, intent: OpenIntent, outcome: str, detail: Mapping[str, object]) -> None:
    """Say what came of it; without a database the sweeper will."""
    try:
        await settle(context.db, intent, outcome, detail)
    except StorageError as error:
        log(AUDIT_OPEN, action=intent.deed.action, target=intent.deed.target, error=error.message)


def problem_of(error: Exception, argument: str) -> Problem:
    """Return an error as the problem that answers it; raises it again where it is none of a caller's."""
    if isinstance(error, Refused):
        return error.problem
    if isinstance(error, InvalidManifest):
        faults = [FieldError(field=argument_of(path, argument), message=said) for path, said in error.faults]
        told = "; ".join(f"{fault.field}: {fault.message}" for fault in faults)
        return ValidationProblem(code="INVALID_VALUE", message=told, field_errors=faults)
    if isinstance(error, ManagedElsewhere):
        return ManagedElsewhereProblem(
            code="MANAGED_ELSEWHERE",
            message=error.message,
            manager=error.manager,
            fields=list(error.fields),
            can_take_over=error.can_take_over,
        )
    if isinstance(error, Conflict):
        current = error.current if isinstance(error, VersionConflict) else None
        shown = node_of(current) if isinstance(current, Projection) else None
        return ResourceConflictProblem(code="CONFLICT", message=error.message, current=shown)
    if isinstance(error, ClusterError):
        return UnavailableProblem(code="UNAVAILABLE", message=error.message)
    problem = problem_of_error(error) if isinstance(error, AegateError | RequestRefused) else None
    if problem is None:
        raise error
    return problem


def argument_of(path: str, argument: str) -> str:
    """Return the GraphQL argument for a path of a manifest.

    >>> argument_of("metadata.name", "input"), argument_of("spec.push.tls", "input"), argument_of("", "input")
    ('input.name', 'input.spec.push.tls', 'input')
    """
    for place, name in ARGUMENTS.items():
        if path == place or path.startswith((f"{place}.", f"{place}[")):
            path = name + path.removeprefix(place)
    return f"{argument}.{path}" if path else argument
