"""How every mutation runs: in one transaction with its audit row, again when it lost a race, refusals as problems."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from aegate_core.database import Database
from aegate_core.errors import AegateError, Conflict, InvalidInput, NotFound, StorageError
from aegate_core.events import MUTATION_DONE, Log
from aegate_core.services.audit import Area, Deed, record
from aegate_graphql_api.context import Context
from aegate_graphql_api.errors import RequestRefused
from aegate_graphql_api.mutations.problems import (
    ConflictProblem,
    NotFoundProblem,
    Problem,
    Refused,
    UnavailableProblem,
    ValidationProblem,
)

T = TypeVar("T")
log = Log("api")

LONGEST_REASON = 256


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a change did: the answer, and what the audit says of it."""

    answer: Any
    target: str
    detail: dict[str, object] = field(default_factory=dict)
    dry_run: bool = False
    """Take everything back: nothing is changed and nothing is audited."""
    area: Area = Area.QUEUE
    partition: str | None = None
    """The one patient partition that it is about."""
    repeated: bool = False
    """It was done before, by the same idempotency key: nothing is done and nothing is audited again."""


class _DryRun(Exception):
    """Rolls back what a dry run tried."""

    def __init__(self, answer: Any) -> None:
        super().__init__("dry run")
        self.answer = answer


async def change(context: Context, action: str, work: Callable[[Database], Awaitable[Outcome]]) -> Any:
    """Run ``work`` and its audit row in one transaction; return its answer, or the Problem that ended it."""

    async def with_audit(tx: Database) -> Outcome:
        outcome = await work(tx)
        if outcome.dry_run:
            raise _DryRun(outcome.answer)
        if outcome.repeated:
            return outcome
        caller = context.caller
        deed = Deed(
            caller.name,
            action,
            outcome.target,
            address=caller.address,
            detail=outcome.detail,
            area=outcome.area,
            partition=outcome.partition,
        )
        await record(tx, deed, now=context.now)
        return outcome

    try:
        outcome = await context.db.atomically(with_audit)
        answer, said = outcome.answer, "REPEATED" if outcome.repeated else "DONE"
    except _DryRun as dry:
        answer, said = dry.answer, "DRY_RUN"
    except (Refused, AegateError, RequestRefused) as error:
        problem = _problem_or_raise(error)
        answer, said = problem, problem.code
    context.forget()
    log(MUTATION_DONE, mutation=action, caller=context.caller.name, outcome=said)
    return answer


async def tried(context: Context, work: Callable[[Database], Awaitable[T]]) -> T | Problem:
    """Run ``work`` in a transaction that is taken back; return its answer, or the Problem that ended it."""

    async def taken_back(tx: Database) -> None:
        raise _DryRun(await work(tx))

    try:
        await context.db.atomically(taken_back)
    except _DryRun as dry:
        return cast("T", dry.answer)
    except (Refused, AegateError, RequestRefused) as error:
        return _problem_or_raise(error)
    raise RuntimeError("a transaction that is taken back never commits")


def _problem_or_raise(error: Refused | AegateError | RequestRefused) -> Problem:
    problem = error.problem if isinstance(error, Refused) else problem_of_error(error)
    if problem is None:
        raise error
    return problem


def problem_of_error(error: AegateError | RequestRefused) -> Problem | None:
    """Return an error as the problem that answers it, or None where it is none of a caller's."""
    if isinstance(error, RequestRefused):
        code = str((error.extensions or {}).get("code"))
        if code == "NOT_FOUND":
            return NotFoundProblem(code=code, message=error.message)
        return ValidationProblem(code=code, message=error.message, field_errors=[])
    if isinstance(error, NotFound):
        return NotFoundProblem(code="NOT_FOUND", message=error.message)
    if isinstance(error, Conflict):
        return ConflictProblem(code="CONFLICT", message=error.message, current=None, actual_count=None)
    if isinstance(error, InvalidInput):
        return ValidationProblem(code="INVALID_VALUE", message=error.message, field_errors=[])
    if isinstance(error, StorageError):
        return UnavailableProblem(code="UNAVAILABLE", message=error.message)
    return None
