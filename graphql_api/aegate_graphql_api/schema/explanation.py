"""explainRoute: what every route makes of a study, or of a header that has not come yet, before anything is sent."""

from __future__ import annotations

from typing import Annotated

import strawberry

from aegate_core.dicom.identifiers import parse_resource_key
from aegate_core.dicom.sample_header import SampleAttribute, sample_header
from aegate_core.errors import InvalidValue
from aegate_core.services import studies as service
from aegate_core.stores.index.list_resources import sees_entity
from aegate_core.stores.index.list_studies import STUDIES
from aegate_core.stores.listing import read_by
from aegate_core.stores.scope import Owner, Scope
from aegate_graphql_api.context import Info
from aegate_graphql_api.errors import RequestRefused
from aegate_graphql_api.permissions import QUEUE
from aegate_graphql_api.schema.node import number_of


@strawberry.type(description="What one route says of what one AE sent.", directives=[QUEUE])
class RouteVerdict:
    """A verdict."""

    route: str = strawberry.field(description="namespace/name of the route, such as default/ct-to-pacs.")
    matches: bool = strawberry.field(description="Whether the route wants it.")
    reason: str = strawberry.field(
        description="Why it does, or which of its conditions does not hold, in words."
    )
    level: str | None = strawberry.field(
        description="What is sent as one by this route: Study, Series or Image; null: nothing."
    )
    to: list[str] = strawberry.field(description="namespace/name of each AE that the route sends to.")


@strawberry.type(description="A delivery that a close now would make.", directives=[QUEUE])
class PlannedDelivery:
    """A planned delivery."""

    destination: str = strawberry.field(
        description="namespace/name of the AE that would get it, such as default/pacs."
    )
    priority: int = strawberry.field(description="Its priority, 0 to 100; the highest goes first.")
    routes: list[str] = strawberry.field(
        description="namespace/name of each route that wants it sent there; it is sent once all the same."
    )
    instances: int = strawberry.field(description="How many images would go, such as 120.")


@strawberry.type(description="What every route makes of what one AE sent of the study.", directives=[QUEUE])
class SourceExplanation:
    """One AE's part."""

    source_ae: str = strawberry.field(
        description="namespace/name of the AE that sent it, such as default/ct1."
    )
    level: str = strawberry.field(description="The AE's route level; None on the AE wins over every route.")
    instances: int = strawberry.field(description="How many images of it are here, such as 120.")
    verdicts: list[RouteVerdict] = strawberry.field(
        description="What each route says, of those that you may see."
    )
    deliveries: list[PlannedDelivery] = strawberry.field(
        description="What would be put into the queue, one for each destination."
    )


@strawberry.type(description="One entry for each AE that sent some of the study.", directives=[QUEUE])
class RouteExplanation:
    """The explanation."""

    sources: list[SourceExplanation] = strawberry.field(description="The AEs that sent some of it.")


async def explain_route(
    info: Info, study_id: Annotated[strawberry.ID, strawberry.argument(description="The id of the study.")]
) -> RouteExplanation:
    """Explain, as if all of the study were new."""
    context, key = info.context, number_of(study_id, "Study")
    if not await read_by(context.db, STUDIES, "id", [key], context.scope):
        raise RequestRefused("NOT_FOUND", "there is no such study: read the list again")
    explained = await service.explain_route(context.db, key)
    return RouteExplanation(sources=[_source(s, context.scope) for s in explained.sources])


def _source(source: service.SourceExplanation, scope: Scope) -> SourceExplanation:
    return SourceExplanation(
        source_ae=str(source.ae),
        level=source.level.value,
        instances=source.images,
        verdicts=[
            RouteVerdict(
                route=str(v.route),
                matches=v.matches,
                reason=v.reason,
                level=v.level.value if v.level else None,
                to=[str(key) for key in v.to],
            )
            for v in source.routes
            if scope.sees(Owner.NAMESPACE_OF_PARTITION, v.route.namespace)
        ],
        deliveries=[
            PlannedDelivery(
                destination=str(d.destination),
                priority=d.priority,
                routes=[str(key) for key in d.routes],
                instances=len(d.arrival_ids),
            )
            for d in source.destinations
        ],
    )


@strawberry.input(description="One element of a header that has not come yet.")
class SampleAttributeInput:
    """One element."""

    keyword: str = strawberry.field(
        description="Its keyword in the DICOM Standard (PS3.6), such as Modality or StudyDescription."
    )
    values: list[str] = strawberry.field(
        description="Its values as texts, such as CT; a person's name as Family^Given. None: it is there, and empty."
    )


@strawberry.input(description="A header that has not come yet, and which Application Entity would send it.")
class SampleHeaderInput:
    """A header and its sender."""

    source_ae: str = strawberry.field(
        description="namespace/name of the AE that would send it, such as default/ct1."
    )
    attributes: list[SampleAttributeInput] = strawberry.field(
        description="The elements that matter, at most 100; a route asks for the modality, and for those that its "
        "elements name."
    )


async def explain_route_of_header(
    info: Info,
    header: Annotated[
        SampleHeaderInput, strawberry.argument(description="The header, and the AE that would send it.")
    ],
) -> SourceExplanation:
    """Explain what the routes would make of one image with this header."""
    context = info.context
    try:
        key = parse_resource_key(header.source_ae)
    except InvalidValue:
        raise RequestRefused(
            "INVALID_VALUE", "sourceAe must be namespace/name, such as default/ct1: take it from an answer"
        ) from None
    elements = sample_header([SampleAttribute(a.keyword, a.values) for a in header.attributes])
    if not await sees_entity(context.db, str(key), context.scope):
        raise RequestRefused("NOT_FOUND", "there is no such Application Entity: take sourceAe from an answer")
    return _source(await service.explain_header(context.db, key, elements), context.scope)
