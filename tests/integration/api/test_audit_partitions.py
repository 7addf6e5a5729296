"""Who is limited to a patient partition finds in the audit what was done to its rows, and nothing of another one's."""

from __future__ import annotations

import pytest

from aegate_graphql_api.operating import carry_on
from tests.integration.api.two_partitions import NORTH, TwoPartitions

ITEM = "selection: {{ids: [{QueueItem}]}}"
SEND = "destinationIds: [{Destination}], idempotencyKey:"
CHANGES = [
    ("holdQueueItems", ITEM, 1),
    ("bumpQueueItems", ITEM + ', guard: {{idempotencyKey: "bump"}}', 1),
    # Who asked for an operation, and its one batch.
    ("cancelQueueItems", ITEM + ", guard: {{asOperation: true}}", 2),
    ("resumeQueueItems", "selection: {{studyIds: [{Study}]}}, guard: {{asOperation: true}}", 2),
    ("retryQueueItemInstances", 'input: {{queueItemId: {QueueItem}, arrivalIds: ["x"]}}', 1),
    ("holdDestination", "id: {Destination}", 1),
    ("sendStudies", f'input: {{{{studyIds: [{{Study}}], {SEND} "studies"}}}}', 1),
    ("sendSeries", f'input: {{{{seriesIds: [{{Series}}], {SEND} "series"}}}}', 1),
    ("sendInstances", f'input: {{{{where: {{{{}}}}, expectedCount: 3, {SEND} "images"}}}}', 2),
    ("reroute", "closeUnitId: {CloseUnit}", 1),
    ("rerouteUnits", "selection: {{ids: [{CloseUnit}]}}", 2),
    ("resolveConflict", "input: {{conflictId: {Conflict}, resolution: SEND_AS_IT_IS}}", 1),
    ("cancelOperation", "id: {Operation}", 1),
    ("resumeOperation", "id: {Operation}", 1),
    ("dismissQuarantined", "input: {{ids: [{QuarantinedObject}]}}", 1),
    ("releaseQuarantined", "input: {{ids: [{QuarantinedObject}]}}", 1),
]
AUDIT = """query($s: String) { auditEvents(search: $s, first: 100, orderBy: OLDEST) {
  nodes { action actor partition } } }"""


async def audited(two: TwoPartitions, token: str, search: str | None = None) -> list[tuple[str, str | None]]:
    """Return (mutation, partition) of what was done since the fixture."""
    nodes = (await two.api.ask(AUDIT, token=token, s=search))["auditEvents"]["nodes"]
    return [(n["action"], n["partition"]) for n in nodes if n["actor"] in ("north", "everybody")]


async def to_the_end(two: TwoPartitions) -> None:
    while await carry_on(two.api.db):
        pass


async def test_a_caller_finds_what_it_did_to_its_own_rows(two: TwoPartitions) -> None:
    await to_the_end(two)
    ids = {kind: f'"{id}"' for kind, id in (await two.ids("north")).items()}
    wanted = []
    for name, arguments, rows in CHANGES:
        document = (
            f"mutation {{ {name}({arguments.format(**ids)}) {{ __typename ... on Problem {{ message }} }} }}"
        )
        answer = (await two.api.ask(document, token=two.north))[name]
        assert "message" not in answer, (name, answer)
        await to_the_end(two)
        wanted += [(name, NORTH)] * rows
    assert await audited(two, two.north) == wanted
    assert await audited(two, two.north, f"partition:{NORTH}") == wanted
    assert await audited(two, two.everybody, f"partition:{NORTH}") == wanted
    assert await audited(two, two.south) == []


@pytest.mark.parametrize("guard", ["{}", "{asOperation: true}"])
async def test_what_is_about_several_partitions_is_shown_to_none_of_them(
    two: TwoPartitions, guard: str
) -> None:
    items = [(await two.ids(part))["QueueItem"] for part in ("north", "south")]
    document = f"""mutation($ids: [ID!]!) {{ holdQueueItems(selection: {{ids: $ids}}, guard: {guard}) {{
        __typename ... on Problem {{ message }} }} }}"""
    await to_the_end(two)
    answer = await two.api.ask(document, ids=items)
    assert "message" not in answer["holdQueueItems"]
    await to_the_end(two)
    nodes = (await two.api.ask(AUDIT, s="action:holdQueueItems actor:both"))["auditEvents"]["nodes"]
    assert [n["partition"] for n in nodes] == [None] * (1 if guard == "{}" else 2)
    assert await audited(two, two.north) == await audited(two, two.south) == []


async def test_what_a_caller_names_of_another_partition_leaves_the_row_its_own(two: TwoPartitions) -> None:
    own, foreign = (await two.ids("north"))["QueueItem"], (await two.ids("south"))["QueueItem"]
    document = "mutation($ids: [ID!]!) { holdQueueItems(selection: {ids: $ids}) { __typename } }"
    await two.api.ask(document, token=two.north, ids=[own, foreign])
    assert await audited(two, two.north) == [("holdQueueItems", NORTH)]
    assert await audited(two, two.south) == []
