"""Problems that a mutation may answer with, instead of its payload."""

from __future__ import annotations

import strawberry

from aegate_graphql_api.permissions import ANYONE, QUEUE
from aegate_graphql_api.schema.queue_item import QueueItem


@strawberry.interface(description="Why nothing was changed.", directives=[ANYONE])
class Problem:
    """Why nothing was changed."""

    message: str = strawberry.field(description="What is wrong and what to do, in a sentence for people.")
    code: str = strawberry.field(
        description="What is wrong, for programs: INVALID_VALUE, NOT_FOUND, CONFLICT, FORBIDDEN, MANAGED_ELSEWHERE or "
        "UNAVAILABLE; more may come."
    )


@strawberry.type(description="What is wrong with one argument.", directives=[ANYONE])
class FieldError:
    """One argument's error."""

    field: str = strawberry.field(description="Which argument, as a path, such as input.spec.port.")
    message: str = strawberry.field(description="What is expected of it.")


@strawberry.type(description="An argument cannot be used.", directives=[ANYONE])
class ValidationProblem(Problem):
    """An argument cannot be used."""

    field_errors: list[FieldError] = strawberry.field(description="One for each argument that is wrong.")


@strawberry.type(description="There is no such thing.", directives=[ANYONE])
class NotFoundProblem(Problem):
    """There is no such thing."""


@strawberry.type(
    description="The database does not answer now, or was too busy: try again.", directives=[ANYONE]
)
class UnavailableProblem(Problem):
    """The database does not answer now."""


@strawberry.type(
    description="It is not as the caller believed: look at current and decide anew.", directives=[QUEUE]
)
class ConflictProblem(Problem):
    """It is not as the caller believed."""

    current: QueueItem | None = strawberry.field(
        description="The item as it is now; null: it is not about one item."
    )
    actual_count: int | None = strawberry.field(
        description="How many match now; null: it is not about expectedCount."
    )


class Refused(Exception):
    """Ends a change without committing; the problem is the answer."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(type(problem).__name__)
        self.problem = problem


def invalid(field: str, message: str) -> Refused:
    """Return the refusal of an argument."""
    return Refused(
        ValidationProblem(
            code="INVALID_VALUE",
            message=f"{field}: {message}",
            field_errors=[FieldError(field=field, message=message)],
        )
    )


def not_found(message: str) -> Refused:
    """Return the refusal of what is not there."""
    return Refused(NotFoundProblem(code="NOT_FOUND", message=message))


def conflict(message: str, *, current: QueueItem | None = None, actual_count: int | None = None) -> Refused:
    """Return the refusal of what changed meanwhile."""
    return Refused(
        ConflictProblem(code="CONFLICT", message=message, current=current, actual_count=actual_count)
    )
