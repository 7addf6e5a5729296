"""Who am I, and what may I do?"""

from __future__ import annotations

from datetime import datetime

import strawberry

from aegate_graphql_api.context import Info
from aegate_graphql_api.permission import Permission
from aegate_graphql_api.permissions import ANYONE


@strawberry.type(description="Who asks, and what they may do.", directives=[ANYONE])
class Viewer:
    """Who asks."""

    name: str = strawberry.field(description="The name of the token or account, as the audit has it.")
    permissions: list[Permission] = strawberry.field(
        description="What you may do; empty: only ask who you are."
    )
    expires_at: datetime | None = strawberry.field(
        description="When the token ends, as UTC; null: it does not end by itself."
    )
    partitions: list[str] | None = strawberry.field(
        description="The patient partitions whose patients, studies and queue items are shown, such as "
        '["radiology/main"]; null: all of them.'
    )
    namespaces: list[str] | None = strawberry.field(
        description="The namespaces whose Application Entities AE_EDITOR shows and changes, such as "
        '["radiology"]; null: all of them.'
    )


def viewer(info: Info) -> Viewer:
    """Return the caller."""
    caller = info.context.caller
    shown: list[Permission] = sorted(p for p in caller.permissions if p is not Permission.TOKEN)
    return Viewer(
        name=caller.name,
        permissions=shown,
        expires_at=caller.expires_at,
        partitions=None if caller.partitions is None else sorted(caller.partitions),
        namespaces=None if caller.namespaces is None else sorted(caller.namespaces),
    )
