"""What creating or changing a resource would answer: the change itself, as a dry run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from aegate_core.services.manifests import Wish
from aegate_graphql_api.context import Context
from aegate_graphql_api.mutations.declaring import CREATE, UPDATE, Answer, Asked
from aegate_graphql_api.mutations.problems import invalid
from aegate_graphql_api.mutations.resource_inputs import change_of


@dataclass(frozen=True, slots=True)
class Judged:
    """A kind of resource, and how an input becomes the wish for a new one."""

    action: str
    kind: str
    creation: Callable[[Any], Wish]
    answer: Answer


def validation(context: Context, judged: Judged, create: Any, update: Any) -> Asked:
    """Return the change that is only judged. Raises Refused unless one of the two is given."""
    if (create is None) == (update is None):
        raise invalid("input", "give either create or update")
    if create is not None:
        wish, verb, argument = judged.creation(create), CREATE, "input.create"
    else:
        wish, verb, argument = change_of(context, judged.kind, update), UPDATE, "input.update"
    return Asked(judged.action, verb, replace(wish, dry_run=True), judged.answer, argument)
