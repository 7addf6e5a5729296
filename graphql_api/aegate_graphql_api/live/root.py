"""The root of all subscriptions."""

from __future__ import annotations

import strawberry

from aegate_graphql_api.live import counts, entities, operations, queue, studies
from aegate_graphql_api.permissions import ENTITIES, QUEUE


@strawberry.type(
    description="What can be watched, by graphql-transport-ws or as text/event-stream. Each begins with what is now, "
    "or with what was missed since a cursor; then comes what changes, within a second, at most four messages a second."
)
class Subscription:
    """Root of all subscriptions; every field declares who may watch it."""

    queue = strawberry.subscription(
        resolver=queue.queue, description="Queue items and what happens to them.", directives=[QUEUE]
    )
    study_arrived = strawberry.subscription(
        resolver=studies.study_arrived, description="Studies as they arrive.", directives=[QUEUE]
    )
    application_entity_status = strawberry.subscription(
        resolver=entities.application_entity_status,
        description="Application Entities and their status.",
        directives=[ENTITIES],
    )
    dashboard = strawberry.subscription(
        resolver=counts.dashboard_counts,
        description="The counts of the dashboard, whenever they changed, at most once a second; those of the new day "
        "within seconds of timeZone's midnight.",
        directives=[QUEUE],
    )
    operations = strawberry.subscription(
        resolver=operations.operations,
        description="Changes of many that go on, and how far they are.",
        directives=[QUEUE],
    )
