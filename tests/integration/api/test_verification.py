"""A device is asked on request: who waits hears of it whatever happens, and each request is taken once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.resources.reference import ResourceRef
from aegate_core.resources.values import Metadata, PatientPartition
from aegate_core.stores.index.projections import bury_projection
from aegate_core.stores.queue import upkeep, verifying
from aegate_graphql_api.context import Context
from aegate_graphql_api.mutations.problems import UnavailableProblem
from aegate_graphql_api.mutations.verification import ApplicationEntityVerified, answered
from aegate_graphql_api.permissions import Caller
from aegate_graphql_api.schema.node import global_id
from tests.integration.api.clients import API
from tests.integration.intake.hospital import HOSPITAL
from tests.integration.intake.hospital import key as resource_key
from tests.integration.waiting import eventually_async

NOW = datetime.now(UTC)
SOON = timedelta(milliseconds=200)


async def test_without_a_worker_it_is_said_who_was_seen_last(empty_api: API) -> None:
    db = empty_api.db
    context = Context(db, Caller("nurse", frozenset()), NOW)
    request = await verifying.ask(db, "default/ct1", now=NOW)
    nobody = await answered(context, request, within=SOON)
    assert isinstance(nobody, UnavailableProblem)
    assert "no worker is known" in nobody.message
    await upkeep.see_worker(db, "worker-7", 0, now=NOW - timedelta(hours=2))
    late = await answered(context, request, within=SOON)
    assert isinstance(late, UnavailableProblem)
    assert "worker-7" in late.message


async def test_one_of_many_workers_takes_it_and_only_while_somebody_waits(empty_api: API) -> None:
    db = empty_api.db
    context = Context(db, Caller("nurse", frozenset()), NOW)
    request = await verifying.ask(db, "default/ct1", now=NOW)
    assert await verifying.take(db, "late", now=NOW + timedelta(seconds=6)) is None
    taken = await asyncio.gather(*(verifying.take(db, f"worker-{n}", now=NOW) for n in range(4)))
    (one,) = (t for t in taken if t is not None)
    assert (one.id, one.ae) == (request, "default/ct1")
    silent = await answered(context, request, within=SOON)
    assert isinstance(silent, ApplicationEntityVerified)
    assert (silent.is_answering, silent.worker) == (False, one.taken_by)
    await verifying.finish(
        db, request, {"associationMs": 3, "echoMs": 1, "error": None, "accepted": [["1.2", "1.3"]]}
    )
    answer = await answered(context, request)
    assert isinstance(answer, ApplicationEntityVerified)
    assert (answer.is_answering, answer.echo_ms, answer.accepted[0].sop_class) == (True, 1, "1.2")


async def test_one_that_is_not_there_is_not_asked(empty_api: API) -> None:
    query = "mutation($id: ID!) { verifyApplicationEntity(id: $id) { __typename ... on Problem { code } } }"
    for key in ("default/none", "nonsense"):
        data = await empty_api.ask(query, id=global_id("ApplicationEntity", key))
        assert data["verifyApplicationEntity"]["__typename"] in ("NotFoundProblem", "ValidationProblem")
    assert await empty_api.db.fetch("SELECT id FROM verification") == []
    assert await empty_api.audit() == []


async def test_who_asks_while_the_device_is_asked_gets_the_same_answer(empty_api: API) -> None:
    db = empty_api.db
    first = await verifying.ask(db, "default/ct1", now=NOW)
    soon, later = NOW + timedelta(seconds=1), NOW + verifying.JOINED_FOR
    assert await verifying.ask(db, "default/ct1", now=soon) == first
    assert await verifying.take(db, "worker-1", now=soon) is not None
    assert await verifying.ask(db, "default/ct1", now=soon) == first
    others = [
        await verifying.ask(db, "default/ws1", now=soon),
        await verifying.ask(db, "default/ct1", now=later),
    ]
    await verifying.finish(db, others[1], {"error": None})
    others.append(await verifying.ask(db, "default/ct1", now=later))
    assert len({first, *others}) == 4


async def test_one_that_is_there_is_asked_and_one_that_was_removed_is_not(empty_api: API) -> None:
    db, key = empty_api.db, ResourceKey("default", "ct1")
    query = "mutation($id: ID!) { verifyApplicationEntity(id: $id) { __typename ... on Problem { code } } }"
    id = global_id("ApplicationEntity", str(key))
    asked = await empty_api.ask(query, id=id)
    assert asked["verifyApplicationEntity"]["code"] == "UNAVAILABLE", "there is no worker"
    await bury_projection(db, ResourceRef("ApplicationEntity", key), now=NOW)
    refused = await empty_api.ask(query, id=id)
    assert refused["verifyApplicationEntity"]["code"] == "NOT_FOUND"
    assert [row["ae"] for row in await db.fetch("SELECT ae FROM verification")] == ["default/ct1"]


VERIFY = """mutation($id: ID!) { FIELD(id: $id) { __typename ... on DevicesVerified { allAnswering
  devices { ae problem verified { isAnswering worker } } } ... on Problem { code } } }"""


async def answer_all(api: API, count: int) -> None:
    """Answer as a worker does, until ``count`` were asked."""

    async def take() -> verifying.Verification | None:
        return await verifying.take(api.db, "worker-1", now=datetime.now(UTC))

    for _ in range(count):
        taken = await eventually_async(take)
        assert taken is not None
        await verifying.finish(api.db, taken.id, {"associationMs": 1, "echoMs": 1, "error": None})


async def test_all_devices_behind_a_route_or_a_partition_are_asked(empty_api: API) -> None:
    api = empty_api
    route, partition = global_id("ImageRoute", "default/ct-to-pacs"), "default/default"
    await api.place.apply(*HOSPITAL, PatientPartition(Metadata(resource_key(partition))))
    query = VERIFY.replace("FIELD", "verifyImageRoute")
    found, _ = await asyncio.gather(api.ask(query, id=route), answer_all(api, 1))
    assert found["verifyImageRoute"]["allAnswering"] is True
    assert found["verifyImageRoute"]["devices"] == [
        {"ae": "default/pacs", "problem": None, "verified": {"isAnswering": True, "worker": "worker-1"}}
    ]
    query = VERIFY.replace("FIELD", "verifyPatientPartition")
    asked = api.ask(query, id=global_id("PatientPartition", partition))
    found, _ = await asyncio.gather(asked, answer_all(api, 4))
    names = [d["ae"] for d in found["verifyPatientPartition"]["devices"]]
    assert names == ["default/ct1", "default/pacs", "default/us1", "default/ws1"]
    assert [a["action"] for a in await api.audit()] == ["verifyImageRoute", "verifyPatientPartition"]
    for field, kind in (("verifyImageRoute", "ImageRoute"), ("verifyPatientPartition", "PatientPartition")):
        gone = await api.ask(VERIFY.replace("FIELD", field), id=global_id(kind, "default/none"))
        assert gone[field]["code"] == "NOT_FOUND"
