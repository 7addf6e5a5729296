"""applicationEntityStatus: all AEs that the caller may see, and what changes of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated

import strawberry

from aegate_core.stores.index.list_resources import BY_NAME, ENTITIES
from aegate_core.stores.listing import PageQuery, read_page
from aegate_graphql_api.context import Context, Info
from aegate_graphql_api.limits import LONGEST_PAGE
from aegate_graphql_api.live.following import WATCHED, Resume, deliveries, following, hub_of
from aegate_graphql_api.live.hub import Delivered, Mailbox
from aegate_graphql_api.live.watching import Watch, one_of
from aegate_graphql_api.permissions import ENTITIES as ENTITIES_NEED
from aegate_graphql_api.schema.change import encode_cursor
from aegate_graphql_api.schema.node import global_id
from aegate_graphql_api.schema.resources import ApplicationEntity, entity_of

KINDS = ("APPLICATION_ENTITY",)


@strawberry.input(description="Which Application Entities are watched. All that is given must hold.")
class EntityWatch:
    """Which AEs."""

    namespaces: list[str] | None = strawberry.field(
        default=None, description='In one of these namespaces, such as ["hospital"].'
    )
    names: list[str] | None = strawberry.field(
        default=None, description='With one of these names, such as ["ct1"]; not their AE titles.'
    )


@strawberry.type(
    description="A message of the subscription applicationEntityStatus.", directives=[ENTITIES_NEED]
)
class ApplicationEntityUpdate:
    """A message."""

    snapshot: bool = strawberry.field(
        description="True: a snapshot begins: forget what you had. False: put each of nodes in the place of the one "
        "with its id."
    )
    complete: bool = strawberry.field(
        description="False: more of the snapshot follows in the next message; 100 AEs are in each."
    )
    nodes: list[ApplicationEntity] = strawberry.field(description="As they are now, with their conditions.")
    removed: list[strawberry.ID] = strawberry.field(description="Ids of AEs that are gone: take them away.")
    cursor: str = strawberry.field(description="Give it as after when you connect again.")


async def application_entity_status(
    info: Info, where: Annotated[EntityWatch | None, WATCHED] = None, after: Resume = None
) -> AsyncGenerator[ApplicationEntityUpdate, None]:
    """Tell all AEs, then what changes."""
    watch = _watch(where or EntityWatch())
    async with following(info.context, KINDS, watch) as mailbox:
        is_first = True
        async for delivered in deliveries(info.context, mailbox, after):
            if delivered is None:
                async for part in _snapshot(info.context, watch, mailbox):
                    yield part
            elif (update := _update(delivered, watch)).nodes or update.removed or is_first:
                yield update
            is_first = False


def _watch(where: EntityWatch) -> Watch:
    return Watch(
        (*one_of("namespaces", where.namespaces, "namespace"), *one_of("names", where.names, "name"))
    )


async def _snapshot(
    context: Context, watch: Watch, mailbox: Mailbox
) -> AsyncIterator[ApplicationEntityUpdate]:
    cursor = encode_cursor(mailbox.position)
    after: tuple[object, ...] | None = None
    is_first, has_next = True, True
    while has_next:
        async with hub_of(context).snapshot():
            query = PageQuery(BY_NAME, LONGEST_PAGE, watch.filter(), after)
            page = await read_page(context.db, ENTITIES, query, context.scope)
        has_next = page.has_next
        after = page.keys[-1] if page.keys else None
        yield ApplicationEntityUpdate(
            snapshot=is_first,
            complete=not has_next,
            nodes=[entity_of(row) for row in page.rows],
            removed=[],
            cursor=cursor,
        )
        is_first = False


def _update(delivered: Delivered, watch: Watch) -> ApplicationEntityUpdate:
    entities: list[ApplicationEntity] = []
    removed: list[strawberry.ID] = []
    for news in delivered.news:
        namespace, _, name = news.change.key.partition("/")
        if not watch.holds({"namespace": namespace, "name": name}):
            continue
        if news.row is None:
            removed.append(global_id("ApplicationEntity", news.change.key))
        else:
            entities.append(news.node)
    cursor = encode_cursor(delivered.position)
    return ApplicationEntityUpdate(
        snapshot=False, complete=True, nodes=entities, removed=removed, cursor=cursor
    )
