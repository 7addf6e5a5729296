"""Problems that a change of a resource may answer with, beside those of every mutation."""

from __future__ import annotations

from typing import Union

import strawberry

from aegate_graphql_api.mutations.problems import (
    NotFoundProblem,
    Problem,
    UnavailableProblem,
    ValidationProblem,
)
from aegate_graphql_api.permissions import ANYONE, EITHER
from aegate_graphql_api.schema.node import Node


@strawberry.type(description="Your token does not let you change things there.", directives=[ANYONE])
class ForbiddenProblem(Problem):
    """The caller may not."""


@strawberry.type(
    description="Another program owns what was to be changed: git through Argo CD, Flux or Helm, or kubectl.",
    directives=[EITHER],
)
class ManagedElsewhereProblem(Problem):
    """Another program owns it."""

    manager: str = strawberry.field(description="Who owns it, such as git, Argo CD (imaging), or kubectl.")
    fields: list[str] = strawberry.field(description="What of it, as paths of a manifest such as spec.port.")
    can_take_over: bool = strawberry.field(
        description="true: nobody watches over it, and takeOver: true forces the change. false: it would be undone."
    )


@strawberry.type(
    description="It is not as you saw it, or is there already: look at current and decide anew.",
    directives=[EITHER],
)
class ResourceConflictProblem(Problem):
    """It is not as the caller believed."""

    current: Node | None = strawberry.field(description="As it is now; null where that could not be read.")


ResourceProblems = Union[  # noqa: UP007 - strawberry names a Union
    ValidationProblem,
    NotFoundProblem,
    ForbiddenProblem,
    ManagedElsewhereProblem,
    ResourceConflictProblem,
    UnavailableProblem,
]
"""All that a change of a resource may answer with instead of its payload."""
