"""The schema: its root types, put together."""

from __future__ import annotations

import strawberry
from graphql import GraphQLError
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext

from aegate_graphql_api.guard import Guard
from aegate_graphql_api.live.root import Subscription
from aegate_graphql_api.mutations import entities, partitions, routes
from aegate_graphql_api.mutations.root import Mutation
from aegate_graphql_api.permissions import ANYONE, EITHER, ENTITIES, QUEUE
from aegate_graphql_api.plain_lists import PlainListExecutor
from aegate_graphql_api.schema import (
    audit,
    change,
    close_unit,
    dashboard,
    destination,
    explanation,
    location,
    nodes,
    operation,
    queue_item,
    resources,
    study,
    trouble,
    worklist,
)
from aegate_graphql_api.schema.scalars import SCALARS
from aegate_graphql_api.schema.viewer import viewer


@strawberry.type(description="What can be asked.")
class Query:
    """Root of all questions; every field declares who may ask it."""

    viewer = strawberry.field(
        resolver=viewer, description="Who asks, and what they may do.", directives=[ANYONE]
    )
    node = strawberry.field(
        resolver=nodes.node,
        description="Anything by its id; needs the permission of its type.",
        directives=[ANYONE],
    )
    nodes = strawberry.field(resolver=nodes.nodes, description="Several by their ids.", directives=[ANYONE])
    application_entities = strawberry.field(
        resolver=resources.application_entities, description="AEs by name.", directives=[ENTITIES]
    )
    validate_application_entity = strawberry.field(
        resolver=entities.validate_application_entity,
        description="What creating or changing an Application Entity would answer; nothing is written.",
        directives=[ENTITIES],
    )
    validate_image_route = strawberry.field(
        resolver=routes.validate_image_route,
        description="What creating or changing a route would answer; nothing is written. What it makes of an image "
        "says explainRouteOfHeader, once it is there.",
        directives=[QUEUE],
    )
    validate_patient_partition = strawberry.field(
        resolver=partitions.validate_patient_partition,
        description="What creating or changing a patient partition would answer; nothing is written.",
        directives=[ENTITIES],
    )
    locations = strawberry.field(
        resolver=location.locations,
        description="Places by code, from the table that clinical staff keeps.",
        directives=[EITHER],
    )
    image_routes = strawberry.field(
        resolver=resources.image_routes, description="Routes by name.", directives=[QUEUE]
    )
    partitions = strawberry.field(
        resolver=resources.partitions, description="Patient partitions by name.", directives=[EITHER]
    )
    studies = strawberry.field(
        resolver=study.studies,
        description="Studies. search knows patient:, id:, accession:, study:, date:, modality:, location:, "
        "partition:, ae:.",
        directives=[QUEUE],
    )
    study = strawberry.field(
        resolver=study.study, description="One study, with its series and instances.", directives=[QUEUE]
    )
    queue_items = strawberry.field(
        resolver=queue_item.queue_items,
        description="The image queue. search knows patient:, id:, accession:, study:, location:, route:, "
        "ae:, from:, to:.",
        directives=[QUEUE],
    )
    queue_item = strawberry.field(
        resolver=queue_item.queue_item, description="One queue item.", directives=[QUEUE]
    )
    operations = strawberry.field(
        resolver=operation.operations,
        description="Changes of many that go on by themselves, newest first; those that are about nothing beyond what "
        "the caller sees. With AE_EDITOR alone: the imports of locations.",
        directives=[EITHER],
    )
    operation = strawberry.field(
        resolver=operation.operation,
        description="One operation, with how far it is. With AE_EDITOR alone: an import of locations.",
        directives=[EITHER],
    )
    worklist_items = strawberry.field(
        resolver=worklist.worklist_items,
        description="What is scheduled: who is examined when, and on which device. search knows patient:, id:, "
        "accession:, study:, step:, date:, modality:, station:, location:, partition:.",
        directives=[QUEUE],
    )
    destinations = strawberry.field(
        resolver=destination.destinations, description="AEs as receivers, by name.", directives=[QUEUE]
    )
    destination = strawberry.field(
        resolver=destination.destination, description="One destination.", directives=[QUEUE]
    )
    close_units = strawberry.field(
        resolver=close_unit.close_units,
        description="What closes together, by the outcome of its last close; open: whether something of it waits.",
        directives=[QUEUE],
    )
    dashboard = strawberry.field(
        resolver=dashboard.dashboard, description="Counts, trouble first.", directives=[QUEUE]
    )
    conflicts = strawberry.field(
        resolver=trouble.conflicts,
        description="Conflicts, open ones unless asked otherwise.",
        directives=[QUEUE],
    )
    quarantined_objects = strawberry.field(
        resolver=trouble.quarantined_objects,
        description="Objects that could not be parsed.",
        directives=[QUEUE],
    )
    audit_events = strawberry.field(
        resolver=audit.audit_events,
        description="Who did what, and who saw what. search knows actor:, address:, action:, target:, partition:.",
        directives=[EITHER],
    )
    changes = strawberry.field(
        resolver=change.changes,
        description="What happened, in order and without gaps, kept for 7 days: for programs that follow it. "
        "Shown are changes of the partitions and AEs that the token may see.",
        directives=[EITHER],
    )
    explain_route = strawberry.field(
        resolver=explanation.explain_route,
        description="What every route makes of a study, before anything is sent.",
        directives=[QUEUE],
    )
    explain_route_of_header = strawberry.field(
        resolver=explanation.explain_route_of_header,
        description="What every route would make of an image that has not come yet, by its header and its sender.",
        directives=[QUEUE],
    )


class QuietSchema(strawberry.Schema):
    """Strawberry's schema without its logging: it writes errors with their values."""

    def process_errors(
        self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None
    ) -> None:
        """Say nothing: `errors.present` logs what is ours, masked."""


schema = QuietSchema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    types=[kind for kind, _ in nodes.KINDS.values()],
    extensions=[Guard],
    execution_context_class=PlainListExecutor,
    config=StrawberryConfig(scalar_map=SCALARS),
)
