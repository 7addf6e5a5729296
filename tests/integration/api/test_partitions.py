"""A caller sees the rows of its own patient partitions: in every list, count, search, look-up, message and change.

The questions are made from the schema: a new list, type or change is asked, too.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from aegate_graphql_api.reach import Reach
from aegate_graphql_api.schema.nodes import KINDS
from aegate_graphql_api.tokens import create_token
from tests.integration.api.schema_walk import (
    CORE,
    VARIABLE,
    about,
    id_arguments,
    operation,
    root_fields,
    selection,
)
from tests.integration.api.snapshots import snapshot
from tests.integration.api.two_partitions import TwoPartitions, absent, kinds_of


async def markers(two: TwoPartitions, part: str) -> set[str]:
    """Return texts that only rows of ``part`` hold."""
    db, found = two.api.db, {part}
    for sql in (
        "SELECT study_instance_uid AS v FROM study WHERE partition = $1",
        "SELECT unit_uid AS v FROM delivery WHERE partition = $1",
        "SELECT r.series_instance_uid AS v FROM series r JOIN study s ON s.id = r.study_id WHERE s.partition = $1",
        "SELECT a.id AS v FROM arrival a JOIN study s ON s.id = a.study_id WHERE s.partition = $1",
        "SELECT a.sop_instance_uid AS v FROM arrival a JOIN study s ON s.id = a.study_id WHERE s.partition = $1",
    ):
        found |= {str(row["v"]) for row in await db.fetch(sql, f"{part}/main")}
    return found | {v for k, v in (await two.ids(part)).items() if k not in ("Instance", "Series")}


async def test_no_question_shows_a_row_of_another_partition(two: TwoPartitions) -> None:
    north, south = await markers(two, "north"), await markers(two, "south")
    seen = {two.north: "", two.everybody: ""}
    for name, field in root_fields("Query").items():
        if id_arguments(field):
            continue
        for token in seen:
            answer = await two.api.ask(operation("Query", name, field, str), token=token)
            seen[token] += json.dumps(answer)
    assert {m for m in south if m in seen[two.north]} == set()
    assert {m for m in north if m not in seen[two.north]} == set()
    assert {m for m in south if m not in seen[two.everybody]} == set()


async def test_a_node_shows_all_of_its_own_partition_and_none_of_another(two: TwoPartitions) -> None:
    north, south = await two.ids("north"), await two.ids("south")
    assert set(north) == set(KINDS)
    foreign = await markers(two, "south")
    for name, (kind, _) in KINDS.items():
        core = kind.__strawberry_definition__.name  # type: ignore[attr-defined] # set by the decorator
        query = f"query($id: ID!) {{ node(id: $id) {{ ... on {core} {whole(core)} }} }}"
        own = await two.api.ask(query, token=two.north, id=north[name])
        assert own["node"] is not None, name
        assert {m for m in foreign if m in json.dumps(own)} == set()
        assert (await two.api.ask(query, token=two.north, id=south[name]))["node"] is None, name
        assert (await two.api.ask(query, token=two.south, id=south[name]))["node"] is not None, name


def whole(kind: str) -> str:
    return selection(CORE.get_type(kind), 2)


async def test_counts_and_searches_are_of_the_own_partition(two: TwoPartitions) -> None:
    query = """query($s: String) { studies(search: $s) { totalCount { value } }
        queueItems(search: $s) { totalCount { value } } }"""
    for search in (None, "patient:zzsentinel", "zzsentinel"):
        for token, factor in ((two.north, 1), (two.south, 1), (two.everybody, 2)):
            data = await two.api.ask(query, token=token, s=search)
            assert data["studies"]["totalCount"]["value"] == 2 * factor, search
            assert data["queueItems"]["totalCount"]["value"] == factor, search
    for search in ("partition:south", "ae:nobody"):
        data = await two.api.ask(
            "query($s: String) { studies(search: $s) { nodes { id } } }", token=two.north, s=search
        )
        assert data["studies"]["nodes"] == [], search


async def test_the_dashboard_counts_the_own_partition(two: TwoPartitions) -> None:
    query = """{ dashboard { counts { state count } unindexed unclosedUnits openConflicts quarantined failed noRoute
        byDestination { name } bySource { name } byRoute { name } arriving { sourceAe unindexed }
        trouble { kind count } } }"""
    north = (await two.api.ask(query, token=two.north))["dashboard"]
    assert north == {
        "counts": [{"state": "SCHEDULED", "count": 1}],
        "unindexed": 7,
        "unclosedUnits": 1,
        "openConflicts": 2,
        "quarantined": 1,
        "failed": 0,
        "noRoute": 0,
        "byDestination": [{"name": "north/pacs"}],
        "bySource": [{"name": "north/ct"}],
        "byRoute": [{"name": "north/to-pacs"}],
        "arriving": [{"sourceAe": "north/ct", "unindexed": 7}],
        "trouble": [{"kind": "QUARANTINED", "count": 1}, {"kind": "CONFLICTS", "count": 2}],
    }
    both = (await two.api.ask(query, token=two.everybody))["dashboard"]
    assert (both["unindexed"], both["quarantined"], both["openConflicts"]) == (14, 2, 4)


BY_ITS_NAME = "there is no such"
"""Of a resource that is to be changed the namespace decides, before anything is looked for."""


@pytest.mark.parametrize("kind", ["Query", "Mutation"])
async def test_what_is_somebody_elses_is_not_there(two: TwoPartitions, kind: str) -> None:
    """The same statements, the same answer and nothing changed: for each field, for each argument that takes an id.

    The database was asked each time, or an argument that excludes the others, or one that is missing, hid the id.
    """
    own, foreign = await two.ids("north"), await two.ids("south")
    tried, before = 0, await snapshot(two.api.db)
    for name, field in root_fields(kind).items():
        for victim in id_arguments(field):

            def id_for(path: str, victim: str = victim) -> str:
                return VARIABLE if path == victim else own[kinds_of(path)[0]]

            for document in about(kind, name, field, victim, id_for):
                reached = False
                for kind_of_id in kinds_of(victim):
                    answers = []
                    for wanted in (absent(kind_of_id), foreign[kind_of_id]):
                        two.recorder.take()
                        answer = (await two.api.post(document, token=two.north, wanted=wanted)).json()
                        answers.append((without(answer, wanted), two.recorder.take()))
                    assert answers[0] == answers[1], f"{name}({victim}: {kind_of_id})"
                    reached |= bool(answers[0][1]) or BY_ITS_NAME in answers[0][0]
                    tried += 1
                if reached:
                    break
            assert reached, f"{name}({victim}): no id of any kind was looked for"
        assert await snapshot(two.api.db) == before, name
    assert tried >= 50, "the schema was not walked"


def without(answer: Any, id: str) -> str:
    """Return the answer as text, without the id that it may repeat."""
    return json.dumps(answer).replace(id, "ID")


async def test_a_selection_of_own_and_foreign_items_changes_the_own(two: TwoPartitions) -> None:
    own, foreign = (await two.ids("north"))["QueueItem"], (await two.ids("south"))["QueueItem"]
    data = await two.api.ask(
        """mutation($ids: [ID!]!) { holdQueueItems(selection: {ids: $ids}) {
            ... on QueueItemsChanged { changedCount left { id because } } } }""",
        token=two.north,
        ids=[own, foreign, absent("QueueItem")],
    )
    assert data["holdQueueItems"] == {
        "changedCount": 1,
        "left": [
            {"id": foreign, "because": "NOT_FOUND"},
            {"id": absent("QueueItem"), "because": "NOT_FOUND"},
        ],
    }
    rows = await two.api.db.fetch("SELECT partition, state, version FROM delivery ORDER BY partition")
    assert [tuple(r.values()) for r in rows] == [
        ("north/main", "HELD", 2),
        ("south/main", "SCHEDULED", 1),
    ]


async def test_a_filter_selects_own_items_alone(two: TwoPartitions) -> None:
    data = await two.api.ask(
        """mutation { cancelQueueItems(selection: {where: {state: {eq: SCHEDULED}}}, guard: {expectedCount: 2}) {
            ... on ConflictProblem { actualCount } } }""",
        token=two.north,
    )
    assert data["cancelQueueItems"] == {"actualCount": 1}


async def test_a_viewer_is_told_what_it_sees(two: TwoPartitions) -> None:
    query = "{ viewer { partitions namespaces } }"
    assert (await two.api.ask(query, token=two.north))["viewer"] == {
        "partitions": ["north/main"],
        "namespaces": ["north"],
    }
    assert (await two.api.ask(query))["viewer"] == {"partitions": None, "namespaces": None}


async def test_an_editor_of_another_namespace_sees_no_entity(two: TwoPartitions) -> None:
    reach = Reach(frozenset(), frozenset({"elsewhere"}))
    token = create_token(two.api.tokens, "elsewhere", ["AE_EDITOR"], reach=reach)
    data = await two.api.ask(
        "{ applicationEntities { nodes { name } totalCount { value } } partitions { nodes { name } } }",
        token=token,
    )
    assert data == {
        "applicationEntities": {"nodes": [], "totalCount": {"value": 0}},
        "partitions": {"nodes": []},
    }
    entity = (await two.ids("north"))["ApplicationEntity"]
    assert (await two.api.ask("query($id: ID!) { node(id: $id) { id } }", token=token, id=entity))[
        "node"
    ] is None
