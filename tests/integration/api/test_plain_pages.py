"""Pages of plain rows answered past graphql-core are what graphql-core answers, for whoever asks for whatever."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
from graphql import GraphQLObjectType, get_introspection_query, get_named_type, is_leaf_type
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aegate_core.database import Database, open_database
from aegate_graphql_api import plain_pages
from aegate_graphql_api.context import Context
from aegate_graphql_api.errors import present
from aegate_graphql_api.limits import MAX_COST
from aegate_graphql_api.patient_data import Reading
from aegate_graphql_api.permission import Permission
from aegate_graphql_api.permissions import Caller
from aegate_graphql_api.rows import Rows
from aegate_graphql_api.schema.queue_item import item_of
from aegate_graphql_api.schema.root import schema
from tests.integration.api.clients import API, fill
from tests.integration.api.many_items import copy_item
from tests.integration.api.schema_walk import CORE, root_fields
from tests.integration.api.two_partitions import two_partitions
from tests.integration.intake.hospital import Place, spool_folder

NOW = datetime(2026, 3, 1, tzinfo=UTC)
EVERYBODY = Caller("anyone", frozenset(Permission))
CALLERS = (
    EVERYBODY,
    Caller("queue", frozenset({Permission.TOKEN, Permission.DICOM_QUEUE})),
    Caller("editor", frozenset({Permission.TOKEN, Permission.AE_EDITOR})),
    replace(EVERYBODY, name="here", partitions=frozenset({"default/default"})),
    replace(EVERYBODY, name="elsewhere", partitions=frozenset({"north/main"})),
)
VARIABLES = {"first": "Int! = 2", "after": "String", "state": "DeliveryState", "text": "String"}
PLAIN = [
    *(
        "id",
        "state",
        "destinationAe",
        "sourceAe",
        "priority",
        "attempts",
        "instancesTotal",
        "createdAt",
        "finishedAt",
    ),
    *(
        "bumpedAt",
        "supplementary",
        "sizeBytes",
        "errorMessage",
        "locationCode",
        "version",
        "level",
        "availableAt",
    ),
    *(
        "__typename",
        "other: id",
        "when: createdAt",
        "kind: __typename",
        "...F",
        "... on QueueItem { heldBy }",
    ),
    "... on Node { id }",
]
UNUSUAL = [
    "study { id }",
    "destination { id }",
    "whyNotMoving { code }",
    "history { nodes { at } }",
    "id @skip(if: false)",
]
ARGUMENTS = [
    *(
        "first: 2",
        "first: $first",
        "first: 0",
        "first: 101",
        "last: 2",
        "last: 2, after: $after",
        "before: $after",
    ),
    *(
        "after: $after",
        'after: "bm8="',
        "where: {state: {eq: $state}}",
        "where: {state: {in: [COMPLETED, HELD]}}",
    ),
    *("where: {sourceAe: {contains: $text}}", 'where: {createdAt: {range: {from: "2026-01-01T00:00:00Z"}}}'),
    *('where: {createdAt: {range: {from: "2026-01-01T00:00:00"}}}', "where: {AND: [{attempts: {eq: 0}}]}"),
    *(
        "where: {OR: [{AND: [{OR: [{AND: []}]}]}]}",
        "where: null",
        "where: {}",
        "search: $text",
        'search: "ct1"',
    ),
    *(
        "orderBy: OLDEST",
        "orderBy: NEXT",
        "orderBy: LAST_FINISHED",
        'search: "x"',
        "first: 3, orderBy: OLDEST",
    ),
]
PAGE_INFO = [
    "pageInfo { hasNextPage endCursor }",
    "page: pageInfo { startCursor hasPreviousPage __typename }",
    "__typename",
]

nodes = st.lists(st.sampled_from(PLAIN), min_size=1, max_size=8, unique=True)
rarely = st.one_of(*[st.just("")] * 6, st.sampled_from(UNUSUAL), st.just("totalCount { value }"))
roots = st.tuples(
    st.one_of(st.just(""), st.sampled_from(ARGUMENTS)),
    nodes,
    st.lists(st.sampled_from(PAGE_INFO), max_size=2, unique=True),
)
values = st.fixed_dictionaries(
    {},
    optional={
        "first": st.sampled_from([1, 3, 100, 0, -1, None, "two"]),
        "after": st.sampled_from([None, "", "bm8=", 7]),
        "state": st.sampled_from(["COMPLETED", "SCHEDULED", None, "completed"]),
        "text": st.sampled_from(["ct1", "default/ct1", "", None, "x", "\0", "Quillonia"]),
    },
)


def document(asked: list[tuple[str, list[str], list[str]]], unusual: str) -> str:
    fields = []
    for n, (arguments, selected, page) in enumerate(asked):
        given = f"({arguments})" if arguments else ""
        beside = unusual if unusual.startswith("totalCount") else ""
        among = "" if beside else unusual
        fields.append(
            f"r{n}: queueItems{given} {{ nodes {{ key: id {' '.join(selected)} {among} }} {' '.join(page)} {beside} }}"
        )
    fragment = (
        " fragment F on QueueItem { instancesDone startedAt }"
        if any("...F" in s for _, s, _ in asked)
        else ""
    )
    used = [
        f"${name}: {kind}" for name, kind in VARIABLES.items() if any(f"${name}" in field for field in fields)
    ]
    declared = f"({', '.join(used)})" if used else ""
    return f"query Q{declared} {{ {' '.join(fields)} }}{fragment}"


@contextmanager
def queue_of_many(url: str, folder: Path) -> Iterator[tuple[asyncio.Runner, Database]]:
    """Open the database with items in every state, on a loop of its own: examples are not async."""
    with asyncio.Runner() as runner, spool_folder(folder / "spool") as spool:
        opened = open_database(url)
        db = runner.run(opened.__aenter__())
        try:
            place = Place(db, folder, spool)
            runner.run(place.apply())
            runner.run(fill(place))
            runner.run(_in_every_state(db))
            yield runner, db
        finally:
            runner.run(opened.__aexit__(None, None, None))


async def _in_every_state(db: Database) -> None:
    await copy_item(db, 9)
    first = int(await db.fetch_value("SELECT min(id) FROM delivery"))
    for n, state in enumerate(("COMPLETED", "FAILED", "HELD", "COMPLETED", "CANCELED")):
        await db.execute(
            "UPDATE delivery SET state = $2, finished_at = $3, bumped_at = $3, error_message = 'it failed', "
            "created_at = $3 WHERE id = $1",
            first + n,
            state,
            NOW + timedelta(seconds=n, microseconds=n % 2),
        )


async def both_ways(db: Database, caller: Caller, asked: dict[str, Any]) -> tuple[bytes | None, bytes, int]:
    """Return the short answer, if there is one, the long one, and how many errors that has."""

    def context() -> Context:
        return Context(db, caller, NOW)

    long = await schema.execute(
        asked["query"],
        variable_values=asked["variables"],
        context_value=replace(context(), fast_lists=False),
        operation_name=asked.get("operationName"),
    )
    short = await plain_pages.answered(schema, asked, context())
    errors = [present(error) for error in long.errors or ()]
    return None if short is None else orjson.dumps(short), orjson.dumps(long.data), len(errors)


def test_the_short_way_answers_as_graphql_core(database_url: str, tmp_path: Path) -> None:
    seen = {"short": 0, "refused": 0, "unusual": 0}
    with queue_of_many(database_url, tmp_path) as (runner, db):

        @settings(max_examples=120, suppress_health_check=list(HealthCheck), deadline=None)
        @given(st.lists(roots, min_size=1, max_size=2), rarely, values, st.sampled_from(CALLERS))
        @example([("", PLAIN, PAGE_INFO)], "", {}, EVERYBODY)
        @example([("last: 3", PLAIN[:8], PAGE_INFO)], "", {}, EVERYBODY)
        def check(asked: list[Any], unusual: str, given: dict[str, Any], caller: Caller) -> None:
            query = document(asked, unusual)
            short, long, errors = runner.run(both_ways(db, caller, {"query": query, "variables": given}))
            if errors or unusual:
                assert short is None
            else:
                assert short == long
            seen["refused" if errors else "unusual" if unusual else "short"] += 1

        check()
    assert all(number > 4 for number in seen.values()), seen


def plain_selection(kind: GraphQLObjectType) -> str:
    """Return all attributes of a type, those of objects in it, too."""
    chosen = ["__typename"]
    for name, field in kind.fields.items():
        if not field.args and getattr(field.resolve, "_is_default", False):
            below = get_named_type(field.type)
            if is_leaf_type(below):
                chosen.append(name)
            elif isinstance(below, GraphQLObjectType):
                chosen.append(f"{name} {plain_selection(below)}")
    return f"{{ {' '.join(chosen)} }}"


def pages_of_the_schema() -> Iterator[tuple[str, str]]:
    """Yield each root field that is a page, with a document that asks for all attributes of its rows."""
    for name, field in root_fields("Query").items():
        page = get_named_type(field.type)
        if isinstance(page, GraphQLObjectType) and page.name.endswith("Connection"):
            kind = get_named_type(page.fields["nodes"].type)
            assert isinstance(kind, GraphQLObjectType), name
            yield (
                name,
                f"{{ {name} {{ nodes {plain_selection(kind)} pageInfo {{ endCursor hasNextPage }} }} }}",
            )


async def test_every_page_of_the_schema_is_answered_the_short_way(database_url: str, tmp_path: Path) -> None:
    callers = [
        EVERYBODY,
        *(
            replace(EVERYBODY, partitions=frozenset({f"{part}/main"}), namespaces=frozenset({part}))
            for part in ("north", "south")
        ),
        replace(EVERYBODY, partitions=frozenset(), namespaces=frozenset()),
    ]
    rows = 0
    async with open_database(database_url) as db:
        with spool_folder(tmp_path / "spool") as spool:
            await two_partitions(Place(db, tmp_path, spool), tmp_path)
            for name, query in pages_of_the_schema():
                for caller in callers:
                    short, long, errors = await both_ways(db, caller, {"query": query, "variables": None})
                    assert (short, errors) == (long, 0), name
                    rows += len(orjson.loads(long)[name]["nodes"])
    assert rows > 40


async def test_the_short_way_asks_permission_and_says_what_is_read(api: API) -> None:
    query = "{ studies { nodes { id patient { name } } } queueItems { nodes { id } } }"
    costs: set[int | None] = set()
    readings: set[Reading | None] = set()
    for caller in CALLERS[:3]:
        for fast in (False, True):
            context = Context(api.db, caller, NOW, fast_lists=fast)
            short = await plain_pages.answered(schema, {"query": query}, context)
            may = Permission.DICOM_QUEUE in caller.permissions
            assert (short is not None) is (fast and may and bool(costs)), caller.name
            if not fast:
                long = await schema.execute(query, context_value=context)
                assert (long.errors is None) is may
            costs.add(context.cost)
            readings.add(context.reading if may else None)
    assert len(costs) == 1
    assert {reading.types for reading in readings if reading} == {("Patient", "Study")}
    assert len(readings) == 2


async def test_over_http_both_ways_charge_and_audit_alike(api: API) -> None:
    query = "query Ours { studies(first: 1) { nodes { id patient { name } } pageInfo { endCursor } } }"
    before = len(await api.accesses())
    answers = [await api.post(query) for _ in range(3)]
    assert len({answer.content for answer in answers}) == 1
    assert len(answers[0].json()["data"]["studies"]["nodes"]) == 1
    assert answers[0].json()["extensions"]["cost"]["limit"] == MAX_COST
    assert len(await api.accesses()) == before + 1
    refused = [await api.refused(query, token=api.editor) for _ in range(2)]
    assert refused[0] == refused[1]
    assert refused[0]["extensions"]["code"] == "FORBIDDEN"


def test_an_item_is_made_of_every_attribute_that_can_be_asked() -> None:
    kind = CORE.get_type("QueueItem")
    assert isinstance(kind, GraphQLObjectType)
    assert isinstance(item_of, Rows)
    plain = {
        field.extensions["strawberry-definition"].python_name
        for field in kind.fields.values()
        if getattr(field.resolve, "_is_default", False)
    }
    assert plain <= set(item_of.attributes)


async def test_a_document_that_is_known_is_answered_as_it_was_when_it_was_new(api: API) -> None:
    for query in (
        get_introspection_query(),
        '{ __type(name: "Study") { name } t: __typename queueItems(first: 1) { nodes { id } } }',
        "{ viewer { name } }",
        "{ a: queueItems(first: 1) { nodes { id } totalCount { value } } }",
    ):
        first, *again = [await api.ask(query) for _ in range(3)]
        assert again == [first, first]
