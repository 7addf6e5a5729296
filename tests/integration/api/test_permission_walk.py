"""Every root field is tried by every kind of caller, with ids that exist: who lacks the need changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import Any

import pytest

from aegate_graphql_api.authorisation import needs_of
from aegate_graphql_api.permission import Permission
from aegate_graphql_api.reach import Reach
from aegate_graphql_api.schema.nodes import KINDS
from aegate_graphql_api.tokens import create_token
from tests.integration.api.schema_walk import CORE, VARIABLE, about, id_arguments, operation, root_fields
from tests.integration.api.snapshots import snapshot
from tests.integration.api.two_partitions import TwoPartitions, kinds_of

CALLERS: dict[str, set[Permission]] = {
    "nothing": set(),
    "queue": {Permission.DICOM_QUEUE},
    "editor": {Permission.AE_EDITOR},
}
NOWHERE = Reach(frozenset({"nowhere/main"}), frozenset({"nowhere"}))


@pytest.mark.parametrize("kind", ["Query", "Mutation"])
async def test_who_lacks_the_need_is_refused_and_changes_nothing(two: TwoPartitions, kind: str) -> None:
    tokens = {name: create_token(two.api.tokens, name, held) for name, held in CALLERS.items()}
    own = await two.ids("north")
    before, refused = await snapshot(two.api.db), 0
    for name, field in root_fields(kind).items():
        document = operation(kind, name, field, lambda path: own[kinds_of(path)[0]], depth=0)
        need = needs_of(CORE)[kind, name]
        anonymous = await two.api.client.post("/graphql", json={"query": document})
        assert anonymous.status_code == 401, name
        for caller, token in tokens.items():
            if need.isdisjoint({Permission.TOKEN, *CALLERS[caller]}):
                error = await two.api.refused(document, token=token)
                wanted = sorted(p.value for p in need)
                assert error["extensions"] == {"code": "FORBIDDEN", "needs": wanted}, (name, caller)
                refused += 1
    assert await snapshot(two.api.db) == before
    assert refused >= len(root_fields(kind))


Answers = AsyncIterator[tuple[str, Any, bool]]
"""What was asked about, such as ``reroute(closeUnitId)``, what came of it, and whether the database was asked."""


async def asked(two: TwoPartitions, token: str, done: Collection[str]) -> Answers:
    """Ask each mutation about each id that it takes, rows of north of each kind that may be meant, until it is done."""
    own = await two.ids("north")
    for name, field in root_fields("Mutation").items():
        for victim in id_arguments(field):
            what = f"{name}({victim})"

            def id_for(path: str, victim: str = victim) -> str:
                return VARIABLE if path == victim else own[kinds_of(path)[0]]

            for document in about("Mutation", name, field, victim, id_for, depth=0):
                for kind_of_id in kinds_of(victim):
                    if what in done:
                        break
                    two.recorder.take()
                    answer = (await two.api.post(document, token=token, wanted=own[kind_of_id])).json()
                    data = answer["data"][name] if answer.get("data") else answer["errors"][0]["extensions"]
                    yield what, data, bool(two.recorder.take())


WAITING = "verify"
"""Waits five seconds for a worker, which is none here: test_verification."""

FOR_CALLERS_OF_ALL = {"updateImageRoute(input.id)", "deleteImageRoute(input.id)"}
"""A route sends the images of all partitions of its namespace."""

BOTH = [Permission.DICOM_QUEUE, Permission.AE_EDITOR]
REFUSALS = ("NOT_FOUND", "INVALID_VALUE", "FORBIDDEN")


async def test_a_caller_of_no_partition_changes_nothing(two: TwoPartitions) -> None:
    """With all permissions, for everything that there is: a need alone opens no rows."""
    token = create_token(two.api.tokens, "elsewhere", BOTH, reach=NOWHERE)
    before = await snapshot(two.api.db)
    looked_for: set[str] = set()
    async for what, answer, was_asked in asked(two, token, looked_for):
        assert answer.get("code") in REFUSALS, (what, answer)
        if was_asked:
            looked_for.add(what)
    for name, field in root_fields("Mutation").items():
        if not id_arguments(field):
            told = (await two.api.post(operation("Mutation", name, field, str, depth=0), token=token)).json()
            data = told["data"][name] if told.get("data") else told["errors"][0]["extensions"]
            assert data.get("code") in REFUSALS, (name, told)
    assert await snapshot(two.api.db) == before
    assert set(await two.ids("north")) == set(KINDS)


async def test_an_editor_alone_is_shown_nothing_of_the_queue(two: TwoPartitions) -> None:
    """Of every kind of id: what a type declares lets in, and its rows are not all for whoever it lets in."""
    query = "query($id: ID!) { node(id: $id) { id } }"
    shown = set()
    for kind, id in (await two.ids("north")).items():
        answer = (await two.api.post(query, token=two.api.editor, id=id)).json()
        if answer["data"] is None:
            assert answer["errors"][0]["extensions"]["code"] == "FORBIDDEN", kind
        elif answer["data"]["node"] is not None:
            shown.add(kind)
    assert shown == {"ApplicationEntity", "PatientPartition"}


async def test_a_caller_of_the_right_partition_is_let_in_by_the_same_documents(two: TwoPartitions) -> None:
    """Or the refusal of the others proves nothing: each argument by which an id can be given leads to its row."""
    before = await snapshot(two.api.db)
    every = {f"{name}({path})" for name, f in root_fields("Mutation").items() for path in id_arguments(f)}
    done = {what for what in every if what.startswith(WAITING)}
    async for what, answer, _ in asked(two, two.north, done):
        if answer.get("code") not in REFUSALS:
            done.add(what)
    assert every - done == FOR_CALLERS_OF_ALL
    assert await snapshot(two.api.db) != before
