"""What an AE tells of its traffic: as the dashboard does, for whoever sees the queue, in as few statements for many."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.integration.api.clients import API
from tests.integration.api.two_partitions import TwoPartitions
from tests.integration.intake.hospital import HOSPITAL, entity

TRAFFIC = """{ applicationEntities(first: 100) { nodes { namespace name waiting { state count } sentLastHour } }
  dashboard { byDestination { name counts { state count } sentLastHour } } }"""


def told(data: Any) -> dict[str, Any]:
    """Return what each AE tells that tells anything."""
    nodes = data["applicationEntities"]["nodes"]
    return {
        f"{n['namespace']}/{n['name']}": (n["waiting"], n["sentLastHour"])
        for n in nodes
        if n["waiting"] or n["sentLastHour"]
    }


async def finish(api: API, ae: str, state: str, ago: timedelta) -> None:
    await api.db.execute(
        "UPDATE delivery SET state = $1, finished_at = $2 "
        "WHERE destination_id = (SELECT id FROM destination WHERE ae = $3)",
        state,
        datetime.now(UTC) - ago,
        ae,
    )


async def test_waiting_and_sent_are_those_of_the_dashboard(api: API) -> None:
    await api.db.execute("UPDATE delivery SET state = 'HELD' WHERE source_ae = 'default/us1'")
    data = await api.ask(TRAFFIC)
    assert told(data) == {
        "default/pacs": ([{"state": "SCHEDULED", "count": 1}], 0),
        "default/ws1": ([{"state": "HELD", "count": 1}], 0),
    }
    await finish(api, "default/pacs", "WARNING", timedelta(minutes=5))
    await finish(api, "default/ws1", "FAILED", timedelta(minutes=5))
    data = await api.ask(TRAFFIC)
    assert told(data) == {"default/pacs": ([], 1)}
    by_name = {c["name"]: c["sentLastHour"] for c in data["dashboard"]["byDestination"]}
    assert by_name["default/pacs"] == 1
    await finish(api, "default/pacs", "COMPLETED", timedelta(hours=2))
    assert told(await api.ask(TRAFFIC)) == {}


async def test_only_items_of_the_own_partitions_are_counted(two: TwoPartitions) -> None:
    """Also of an AE that somebody else's items go to: as in the dashboard, the item's partition decides."""
    one = [{"state": "SCHEDULED", "count": 1}]
    assert told(await two.api.ask(TRAFFIC, token=two.north)) == {"north/pacs": (one, 0)}
    await two.api.db.execute(
        "UPDATE delivery SET destination_id = (SELECT id FROM destination WHERE ae = 'north/pacs')"
    )
    for token, count in ((two.north, 1), (two.everybody, 2)):
        data = await two.api.ask(TRAFFIC, token=token)
        counts = [{"state": "SCHEDULED", "count": count}]
        assert told(data) == {"north/pacs": (counts, 0)}
        assert [(c["name"], c["counts"]) for c in data["dashboard"]["byDestination"]] == [
            ("north/pacs", counts)
        ]
    await finish(two.api, "north/pacs", "COMPLETED", timedelta(minutes=5))
    for token, count in ((two.north, 1), (two.everybody, 2)):
        assert told(await two.api.ask(TRAFFIC, token=token)) == {"north/pacs": ([], count)}


async def test_many_entities_cost_as_many_statements_as_one(two: TwoPartitions) -> None:
    query = (
        """query($n: Int!) { applicationEntities(first: $n) { nodes { waiting { count } sentLastHour } } }"""
    )
    await two.api.place.apply(*HOSPITAL, *(entity(f"more{n}") for n in range(30)))
    asked = []
    for first in (1, 30):
        two.recorder.take()
        await two.api.ask(query, n=first)
        asked.append(two.recorder.take())
    assert len(asked[0]) == len(asked[1]) == 4  # the page, the destinations' ids, what waits, what was sent
