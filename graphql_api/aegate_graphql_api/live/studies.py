"""studyArrived: studies as they come, and as more comes to them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated

import strawberry

from aegate_core.stores.index.list_studies import STUDIES, STUDY_ORDERS
from aegate_core.stores.listing import PageQuery, read_page
from aegate_graphql_api.connections import DEFAULT_FIRST, First
from aegate_graphql_api.context import Context, Info
from aegate_graphql_api.live.following import WATCHED, Resume, check_first, deliveries, following, hub_of
from aegate_graphql_api.live.hub import Delivered, Mailbox
from aegate_graphql_api.live.watching import Watch, one_of
from aegate_graphql_api.permissions import QUEUE
from aegate_graphql_api.schema.change import encode_cursor
from aegate_graphql_api.schema.study import Study, study_of

KINDS = ("STUDY",)


@strawberry.input(description="Which studies are watched. All that is given must hold.")
class StudyWatch:
    """Which studies."""

    source_aes: list[str] | None = strawberry.field(
        default=None, description='Whose first image came from one of these AEs, such as ["hospital/ct1"].'
    )
    partitions: list[str] | None = strawberry.field(
        default=None, description='Of one of these patient partitions, such as ["hospital/default"].'
    )
    location_codes: list[str] | None = strawberry.field(
        default=None, description='From devices at one of these locations, such as ["RAD-2"].'
    )


@strawberry.type(description="A study that came, or to which something came.", directives=[QUEUE])
class StudyArrival:
    """A study with what happened to it."""

    study: Study = strawberry.field(description="As it is now; images may still be coming.")
    is_new: bool = strawberry.field(
        description="True: its first images came since the last message. Of a snapshot always false."
    )


@strawberry.type(description="A message of the subscription studyArrived.", directives=[QUEUE])
class StudyUpdate:
    """A message."""

    snapshot: bool = strawberry.field(
        description="True: the studies that came last, newest first: forget what you had. False: what came since."
    )
    nodes: list[StudyArrival] = strawberry.field(description="One for each study, however much of it came.")
    cursor: str = strawberry.field(description="Give it as after when you connect again: nothing is missed.")


async def study_arrived(
    info: Info,
    where: Annotated[StudyWatch | None, WATCHED] = None,
    first: First = DEFAULT_FIRST,
    after: Resume = None,
) -> AsyncGenerator[StudyUpdate, None]:
    """Tell which studies came last, then what comes."""
    check_first(first)
    watch = _watch(where or StudyWatch())
    async with following(info.context, KINDS, watch) as mailbox:
        is_first = True
        async for delivered in deliveries(info.context, mailbox, after):
            if delivered is None:
                yield await _snapshot(info.context, watch, first, mailbox)
            elif (update := _update(delivered, watch)).nodes or is_first:
                yield update
            is_first = False


def _watch(where: StudyWatch) -> Watch:
    return Watch(
        (
            *one_of("sourceAes", where.source_aes, "source_ae"),
            *one_of("partitions", where.partitions, "partition"),
            *one_of("locationCodes", where.location_codes, "location_code"),
        )
    )


async def _snapshot(context: Context, watch: Watch, first: int, mailbox: Mailbox) -> StudyUpdate:
    position = mailbox.position
    async with hub_of(context).snapshot():
        query = PageQuery(STUDY_ORDERS["NEWEST_ARRIVAL"], first, watch.filter())
        page = await read_page(context.db, STUDIES, query, context.scope)
    arrivals = [StudyArrival(study=study_of(row), is_new=False) for row in page.rows]
    return StudyUpdate(snapshot=True, nodes=arrivals, cursor=encode_cursor(position))


def _update(delivered: Delivered, watch: Watch) -> StudyUpdate:
    arrivals = [
        StudyArrival(study=news.node, is_new=news.change.action == "CREATED")
        for news in delivered.news
        if news.row is not None and watch.holds(news.row)
    ]
    return StudyUpdate(snapshot=False, nodes=arrivals, cursor=encode_cursor(delivered.position))
