"""What a caller may use: time, rate, operations at once, bodies. Each refusal says the limit and what was used."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from aegate_graphql_api.app import create_app
from aegate_graphql_api.authentication import LocalTokens
from aegate_graphql_api.documents import document_id
from aegate_graphql_api.limits import MAX_COST, MAX_TOKENS
from aegate_graphql_api.policy import Policy
from tests.integration.api.clients import API
from tests.integration.waiting import eventually_async

ITEMS = "{ queueItems(first: 10) { nodes { id state } } }"
VIEWER = "{ viewer { name } }"
PACE = "{ studies { totalCount { value } } }"


def under(api: API, policy: Policy) -> API:
    """Return a client of an application of its own with that policy, over the same hospital and tokens."""
    transport = httpx.ASGITransport(app=create_app(api.db, LocalTokens(api.tokens), policy))
    return replace(api, client=httpx.AsyncClient(transport=transport, base_url="http://aegate"))


def code_of(response: httpx.Response) -> str:
    return str(response.json()["errors"][0]["extensions"]["code"])


async def lock_studies(api: API) -> Any:
    """Hold what every question about studies needs until the returned future is done; return it and the task."""
    release, held = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with api.db.transaction():
            if not api.db.is_sqlite:
                await api.db.execute("LOCK TABLE study IN ACCESS EXCLUSIVE MODE")
            held.set()
            await release.wait()

    task = asyncio.create_task(hold())
    await held.wait()
    return release, task


async def test_an_answer_says_what_it_cost(empty_api: API) -> None:
    answer = (await empty_api.post(ITEMS)).json()
    assert answer["extensions"] == {"cost": {"requested": 31, "limit": MAX_COST}}
    two = "query A { viewer { name } } query B { queueItems(first: 10) { nodes { id state } } }"
    body = {"query": two, "operationName": "A"}
    headers = {"Authorization": f"Bearer {empty_api.both}"}
    answer = (await empty_api.client.post("/graphql", json=body, headers=headers)).json()
    assert answer["extensions"]["cost"]["requested"] == 2


@pytest.mark.parametrize(
    ("query", "of", "limit", "used"),
    [
        ("{ viewer { name " + "name " * 1_100 + "} }", "tokens", MAX_TOKENS, MAX_TOKENS + 1),
        ("{ viewer { name } } #" + "x" * 40_000, "characters", 32_768, 40_021),
        ("{" * 50, "nested brackets", 40, 41),
        ("{ " + "viewer { name } " * 21 + "}", "root fields", 20, 21),
        ("{ " + " ".join(f"a{n}: viewer {{ name }}" for n in range(60)) + " }", "aliases", 50, 60),
        ("{ viewer { " + "name " * 70 + "} }", "pairs of equal fields", 2_000, 2_415),
        ("{ queueItems(first: 100) { nodes { instances(first: 100) { nodes { " + " ".join("abcdefghijk") + " } } } } }",
         "cost", MAX_COST, 120_201),
        (" ".join(f"query Q{n} {{ viewer {{ name }} }}" for n in range(51)), "operations", 50, 51),
    ],
)  # fmt: skip
async def test_a_refusal_names_the_limit_and_what_was_used(
    empty_api: API, query: str, of: str, limit: int, used: int
) -> None:
    error = await empty_api.refused(query)
    assert error["extensions"] == {"code": "TOO_COMPLEX", "of": of, "limit": limit, "used": used}


NAME = '"ann" '
ONE = '{outcome: {eq: "DONE"}}'


@pytest.mark.parametrize(
    ("field", "code", "limit", "used"),
    [
        ("queueItems(first: 1000000000)", "INVALID_VALUE", 100, 1_000_000_000),
        ("queueItems(last: 101)", "INVALID_VALUE", 100, 101),
        ("changes(first: 101)", "INVALID_VALUE", 100, 101),
        (f'queueItems(search: "{"abc " * 60}")', "BAD_SEARCH", 10, 60),
        (f'queueItems(search: "{"a" * 300}")', "BAD_SEARCH", 256, 300),
        (f"auditEvents(where: {{OR: [{ONE * 25}]}})", "BAD_FILTER", 20, 25),
        (f"auditEvents(where: {{AND: {{AND: {{AND: {ONE}}}}}}})", "BAD_FILTER", 3, 4),
        (f"auditEvents(where: {{actor: {{in: [{NAME * 101}]}}}})", "BAD_FILTER", 100, 101),
        (f'auditEvents(where: {{actor: {{eq: "{"a" * 300}"}}}})', "BAD_FILTER", 256, 300),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
async def test_what_is_asked_of_a_list_has_limits_that_are_named(
    empty_api: API, field: str, code: str, limit: int, used: int
) -> None:
    error = await empty_api.refused(f"{{ {field} {{ nodes {{ __typename }} }} }}")
    assert error["extensions"] == {"code": code, "limit": limit, "used": used}


async def test_so_many_ids_are_looked_up_at_once(empty_api: API) -> None:
    error = await empty_api.refused("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=["x"] * 101)
    assert error["extensions"] == {"code": "INVALID_VALUE", "limit": 100, "used": 101}


async def test_variables_have_limits_too(empty_api: API) -> None:
    query = "query($ids: [ID!]!) { nodes(ids: $ids) { id } }"
    error = await empty_api.refused(query, ids=["x"] * 6_000)
    assert error["extensions"] == {
        "code": "TOO_COMPLEX",
        "of": "values in variables",
        "limit": 5_000,
        "used": 6_001,
    }
    deep: Any = "x"
    for _ in range(60):
        deep = [deep]
    error = await empty_api.refused(query, ids=deep)
    assert error["extensions"]["of"] == "levels in variables"


async def test_an_operation_that_takes_too_long_is_stopped(api: API) -> None:
    quick = under(api, Policy(operation_s=0.3))
    release, holding = await lock_studies(api)
    for query in (PACE, '{ study(id: "U3R1ZHk6MQ") { id } }'):
        error = await quick.refused(query)
        assert error["extensions"]["code"] == "TIME_LIMIT"
        assert error["extensions"]["limit"] == 0.3
        assert error["extensions"]["used"] >= 0.3
    release.set()
    await holding
    assert (await quick.ask(PACE))["studies"]["totalCount"]["value"] == 2


async def test_a_change_that_takes_too_long_changes_nothing(api: API) -> None:
    quick = under(api, Policy(operation_s=0.3))
    item = (await api.ask("{ queueItems(first: 1) { nodes { id } } }"))["queueItems"]["nodes"][0]["id"]
    hold = "mutation($id: ID!) { holdQueueItems(selection: {ids: [$id]}) { __typename } }"
    before = await api.db.fetch("SELECT * FROM delivery ORDER BY id")
    release, locked = asyncio.Event(), asyncio.Event()

    async def lock() -> None:
        async with api.db.transaction():
            await api.db.execute("UPDATE delivery SET priority = priority")
            locked.set()
            await release.wait()

    holding = asyncio.create_task(lock())
    await locked.wait()
    error = await quick.refused(hold, id=item)
    assert error["extensions"]["code"] == "TIME_LIMIT"
    release.set()
    await holding
    assert await api.db.fetch("SELECT * FROM delivery ORDER BY id") == before
    assert [row["action"] for row in await api.audit()] == []
    assert (await quick.ask(hold, id=item))["holdQueueItems"] == {"__typename": "QueueItemsChanged"}


async def test_a_caller_has_its_rate_and_others_theirs(empty_api: API) -> None:
    api = under(empty_api, Policy(rate=1_000))
    await api.post(VIEWER, token=api.editor)  # a document that is new costs its parsing, too
    for _ in range(200):
        answer = await api.post(VIEWER, token=api.queue)
        if answer.status_code != 200:
            break
    assert answer.status_code == 429
    error = answer.json()["errors"][0]["extensions"]
    assert error["code"] == "RATE_LIMITED"
    assert error["limit"] == 2_000
    assert error["used"] > 2_000
    assert answer.headers["retry-after"] == str(error["retryAfterSeconds"]) == "1"
    assert (await api.post(VIEWER, token=api.editor)).status_code == 200

    async def let_in_again() -> bool:
        return (await api.post(VIEWER, token=api.queue)).status_code == 200

    await eventually_async(let_in_again, deadline_s=20)


async def test_what_costs_more_comes_less_often(empty_api: API) -> None:
    api = under(empty_api, Policy(rate=1_000))
    costly = "{ queueItems(first: 100) { nodes { instances(first: 10) { nodes { state status } } } } }"
    first, second = await api.post(costly), await api.post(VIEWER)
    assert (first.status_code, second.status_code) == (200, 429)
    assert int(second.headers["retry-after"]) >= 1


async def test_a_caller_has_so_many_operations_at_once(api: API) -> None:
    few = under(api, Policy(at_once=3))
    release, holding = await lock_studies(api)
    running = [asyncio.create_task(few.post(PACE, token=few.queue)) for _ in range(4)]
    done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    (refused,) = done
    assert refused.result().status_code == 429
    assert refused.result().json()["errors"][0]["extensions"] == {
        "code": "TOO_MANY_AT_ONCE",
        "limit": 3,
        "used": 4,
    }
    assert (await few.post(VIEWER, token=few.editor)).status_code == 200
    release.set()
    await holding
    assert sorted([(await task).status_code for task in running]) == [200, 200, 200, 429]
    assert (await few.post(PACE, token=few.queue)).status_code == 200


async def test_a_body_is_small_plain_and_comes_in_time(empty_api: API) -> None:
    api = under(empty_api, Policy(body_s=0.2))
    headers = {"Authorization": f"Bearer {api.both}", "Content-Type": "application/json"}
    bomb = gzip.compress(json.dumps({"query": VIEWER + " " * 5_000_000}).encode())
    packed = await api.client.post("/graphql", content=bomb, headers={**headers, "Content-Encoding": "gzip"})
    assert (packed.status_code, code_of(packed)) == (415, "BAD_REQUEST")

    async def large() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 64 * 1024

    sent = await api.client.post("/graphql", content=large(), headers=headers)
    assert (sent.status_code, code_of(sent)) == (413, "TOO_LARGE")
    assert sent.json()["errors"][0]["extensions"]["limit"] == 1024 * 1024
    announced = await api.client.post("/graphql", content=b"x" * 3_000_000, headers=headers)
    assert announced.json()["errors"][0]["extensions"]["used"] == 3_000_000

    never = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b'{"query":'
        await never.wait()

    late = await api.client.post("/graphql", content=slow(), headers=headers)
    assert (late.status_code, code_of(late)) == (408, "TOO_SLOW")


async def test_pages_of_other_origins_may_not_ask_unless_they_are_named(empty_api: API) -> None:
    ours = {"Authorization": f"Bearer {empty_api.both}"}
    body = {"query": VIEWER}
    preflight = {
        "Origin": "https://viewer.example.org",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    foreign = {**ours, "Origin": "https://viewer.example.org", "Sec-Fetch-Site": "cross-site"}
    asked = await empty_api.client.options("/graphql", headers=preflight)
    assert "access-control-allow-origin" not in asked.headers
    refused = await empty_api.client.post("/graphql", json=body, headers=foreign)
    assert (refused.status_code, code_of(refused)) == (403, "CROSS_ORIGIN")
    own = await empty_api.client.post(
        "/graphql", json=body, headers={**ours, "Sec-Fetch-Site": "same-origin"}
    )
    assert own.status_code == 200

    named = under(empty_api, Policy(origins=("https://viewer.example.org",)))
    asked = await named.client.options("/graphql", headers=preflight)
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == "https://viewer.example.org"
    assert "access-control-allow-credentials" not in asked.headers
    answer = await named.client.post("/graphql", json=body, headers=foreign)
    assert answer.json()["data"] == {"viewer": {"name": "both"}}
    assert answer.headers["access-control-allow-origin"] == "https://viewer.example.org"
    other = {**foreign, "Origin": "https://evil.example.org"}
    asked = await named.client.options(
        "/graphql", headers={**preflight, "Origin": "https://evil.example.org"}
    )
    assert "access-control-allow-origin" not in asked.headers
    assert code_of(await named.client.post("/graphql", json=body, headers=other)) == "CROSS_ORIGIN"


async def test_an_address_that_is_refused_all_the_time_is_answered_late(empty_api: API) -> None:
    api = under(empty_api, Policy())
    asyncio_time = asyncio.get_running_loop().time
    began = asyncio_time()
    for _ in range(42):
        assert (await api.client.post("/graphql", json={})).status_code == 401
    late = asyncio_time() - began
    assert late >= 0
    many = await asyncio.gather(*(api.client.get("/nothing") for _ in range(30)))
    assert {a.status_code for a in many} == {404}
    assert asyncio_time() - began >= 1
    began = asyncio_time()
    assert (await api.post(VIEWER)).status_code == 200
    assert asyncio_time() - began < 1


async def test_trusted_documents_are_asked_for_by_their_digest(empty_api: API, tmp_path: Path) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    text = "query Who { viewer { name } }\n"
    (folder / "who.graphql").write_text(text)
    api = under(empty_api, Policy(documents=folder, only_trusted=True, introspection=False))
    headers = {"Authorization": f"Bearer {api.both}"}

    async def send(**body: object) -> httpx.Response:
        return await api.client.post("/graphql", json=body, headers=headers)

    for body in ({"documentId": f"sha256:{document_id(text)}"}, {"query": text}):
        assert (await send(**body)).json()["data"] == {"viewer": {"name": "both"}}
    for body, code in (
        ({"documentId": "sha256:" + "0" * 64}, "DOCUMENT_NOT_FOUND"),
        ({"documentId": "who"}, "DOCUMENT_NOT_FOUND"),
        ({"documentId": 7}, "BAD_REQUEST"),
        ({"query": text + " "}, "DOCUMENT_NOT_TRUSTED"),
        ({"query": "{ __schema { queryType { name } } }"}, "DOCUMENT_NOT_TRUSTED"),
    ):
        answer = await send(**body)
        assert (answer.status_code, code_of(answer)) == (400, code)


async def test_a_server_may_keep_its_schema_to_itself(empty_api: API) -> None:
    api = under(empty_api, Policy(introspection=False))
    for query in (
        "{ __schema { types { name } } }",
        '{ __type(name: "Query") { name } }',
        "{ ...F } fragment F on Query { s: __schema { queryType { name } } }",
    ):
        assert (await api.refused(query))["extensions"] == {"code": "INTROSPECTION_OFF"}
    assert (await api.refused("{ viewer { nam } }"))[
        "message"
    ] == "Cannot query field 'nam' on type 'Viewer'."
    query = "query($w: StudyWhere) { studies(where: $w) { nodes { id } } }"
    assert "Did you mean" not in (await api.refused(query, w={"patientNam": {"eq": "x"}}))["message"]
    assert (await api.ask("{ viewer { __typename name } }"))["viewer"]["__typename"] == "Viewer"


async def test_those_who_were_let_in_together_do_not_overdraw_together(empty_api: API) -> None:
    """A mistake costs a twentieth of a second's rate, and there is twice that: 41 are judged, the others are not."""
    limited = under(empty_api, Policy(rate=1_000))
    all_in = asyncio.Barrier(50)
    headers = {"Authorization": f"Bearer {empty_api.both}", "Content-Type": "application/json"}

    async def body(n: int) -> AsyncIterator[bytes]:
        await all_in.wait()
        yield json.dumps({"query": f"{{ nothing{n} }}"}).encode()

    async def ask(n: int) -> httpx.Response:
        return await limited.client.post("/graphql", content=body(n), headers=headers)

    answers = await asyncio.gather(*(ask(n) for n in range(50)))
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses[200] <= 41
    assert statuses[200] + statuses[429] == 50
    codes = {a.json()["errors"][0]["extensions"]["code"] for a in answers if a.status_code == 429}
    assert codes == {"RATE_LIMITED"}
