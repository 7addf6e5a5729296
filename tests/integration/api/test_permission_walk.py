"""Every root field is tried by every kind of caller, with ids that exist: who lacks the need changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aegate_core.database import open_database
from aegate_graphql_api.authorisation import needs_of
from aegate_graphql_api.permission import Permission
from aegate_graphql_api.reach import Reach
from aegate_graphql_api.schema.nodes import KINDS
from aegate_graphql_api.tokens import create_token
from tests.integration.api.schema_walk import CORE, id_arguments, operation, root_fields
from tests.integration.api.snapshots import snapshot
from tests.integration.api.two_partitions import TwoPartitions, kinds_of, two_partitions
from tests.integration.intake.hospital import Place, spool_folder

CALLERS: dict[str, set[Permission]] = {
    "nothing": set(),
    "queue": {Permission.DICOM_QUEUE},
    "editor": {Permission.AE_EDITOR},
}
NOWHERE = Reach(frozenset({"nowhere/main"}), frozenset({"nowhere"}))


@pytest.fixture
async def two(database_url: str, tmp_path: Path) -> AsyncIterator[TwoPartitions]:
    async with open_database(database_url) as db:
        with spool_folder(tmp_path / "spool") as spool:
            found = await two_partitions(Place(db, tmp_path, spool), tmp_path)
            async with found.api.client:
                yield found


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


async def test_a_caller_of_no_partition_changes_nothing(two: TwoPartitions) -> None:
    """With all permissions, for everything that there is: a need alone opens no rows."""
    both = [Permission.DICOM_QUEUE, Permission.AE_EDITOR]
    token = create_token(two.api.tokens, "elsewhere", both, reach=NOWHERE)
    own = await two.ids("north")
    before = await snapshot(two.api.db)
    for name, field in root_fields("Mutation").items():
        for kind in {k for path in id_arguments(field) for k in kinds_of(path)} or {"QueueItem"}:
            document = operation(
                "Mutation",
                name,
                field,
                lambda path, k=kind: own[k if k in kinds_of(path) else kinds_of(path)[0]],  # type: ignore[misc] # mypy knows no such lambda
                depth=0,
            )
            answer = (await two.api.post(document, token=token)).json()
            told = answer["data"][name] if answer.get("data") else answer["errors"][0]["extensions"]
            assert told.get("code") in ("NOT_FOUND", "INVALID_VALUE", "FORBIDDEN"), (name, kind, answer)
    assert await snapshot(two.api.db) == before
    assert set(own) == set(KINDS)


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
