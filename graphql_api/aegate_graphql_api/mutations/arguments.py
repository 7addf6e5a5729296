"""Arguments that several mutations have, with what is said of them."""

from __future__ import annotations

from typing import Annotated

import strawberry

from aegate_graphql_api.mutations.selection import ChangeGuard, QueueItemSelection

Selection = Annotated[QueueItemSelection, strawberry.argument(description="Which queue items.")]
Guard = Annotated[
    ChangeGuard | None,
    strawberry.argument(description="What must hold, or nothing is changed; and whether to try it only."),
]
Reason = Annotated[
    str | None,
    strawberry.argument(
        description="Why, at most 256 characters, such as maintenance until 14:00; kept in the audit; no patient data."
    ),
]
ASKED = strawberry.argument(description="What is asked for.")
