"""The table of locations as a CSV file: all of it or nothing, once for a key, and back as it was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx

from tests.integration.api.clients import API, signed_in
from tests.integration.api.snapshots import snapshot

TABLE = "code,display_name\nER,Notfälle\nICU,=1+1\n"


async def send(api: API, content: bytes | str, *, token: str | None = None, **more: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token or api.editor}", "Content-Type": "text/csv"}
    body = content.encode() if isinstance(content, str) else content
    headers |= more.pop("headers", {})
    return await api.client.post("/import/locations", content=body, headers=headers, **more)


async def test_a_table_is_imported_once_and_exported_as_it_is(empty_api: API) -> None:
    api = empty_api
    before = await snapshot(api.db)
    dry = (await send(api, TABLE, params={"dryRun": "true"})).json()
    assert dry == {"lines": 2, "changed": 2, "dryRun": True, "operationId": None}
    assert await snapshot(api.db) == before
    key = {"headers": {"Idempotency-Key": "k1"}}
    done = (await send(api, TABLE, **key)).json()
    assert (done["lines"], done["changed"], done["dryRun"]) == (2, 2, False)
    told = await api.audit()
    assert [(a["actor"], a["action"]) for a in told] == [("editor-only", "importLocations")]
    after = await snapshot(api.db)
    assert (await send(api, TABLE, **key)).json() == done
    assert (await send(api, TABLE + "OR,Theatre\n", **key)).status_code == 422
    assert await snapshot(api.db) == after
    query = "query($id: ID!) { operation(id: $id) { action state total changedCount leftCount } }"
    operation = (await api.ask(query, token=api.editor, id=done["operationId"]))["operation"]
    assert operation == {
        "action": "importLocations",
        "state": "COMPLETED",
        "total": 2,
        "changedCount": 2,
        "leftCount": 0,
    }
    headers = {"Authorization": f"Bearer {api.queue}"}
    exported = await api.client.get("/export/locations", headers=headers)
    assert exported.headers["content-type"] == "text/csv; charset=utf-8"
    assert exported.text == 'code,display_name\r\n"ER","Notfälle"\r\n"ICU","\'=1+1"\r\n'
    again = (await send(api, exported.content)).json()
    assert (again["lines"], again["changed"]) == (2, 0)


READ = """query($id: ID!, $ids: [ID!]!) { operation(id: $id) { id } node(id: $id) { id } nodes(ids: $ids) { id }
  operations { nodes { id action requestedBy } totalCount { value } } }"""


async def test_an_editor_reads_imports_and_no_operation_of_the_queue(api: API) -> None:
    imported = (await send(api, TABLE)).json()["operationId"]
    held = await api.ask(
        """mutation { holdQueueItems(selection: {where: {}}, guard: {expectedCount: 2, asOperation: true}) {
        ... on OperationStarted { operation { id } } } }"""
    )
    queued = held["holdQueueItems"]["operation"]["id"]
    listed = {"id": imported, "action": "importLocations", "requestedBy": "editor-only"}
    assert await api.ask(READ, token=api.editor, id=imported, ids=[queued, imported]) == {
        "operation": {"id": imported},
        "node": {"id": imported},
        "nodes": [None, {"id": imported}],
        "operations": {"nodes": [listed], "totalCount": {"value": 1}},
    }
    hidden = await api.ask(READ, token=api.editor, id=queued, ids=[])
    assert (hidden["operation"], hidden["node"]) == (None, None)
    for token in (api.queue, api.both):
        seen = await api.ask(READ, token=token, id=queued, ids=[imported])
        assert (seen["operation"], seen["nodes"]) == ({"id": queued}, [{"id": imported}])
        assert seen["operations"]["totalCount"] == {"value": 2}
    narrow = signed_in(api, lambda caller: replace(caller, namespaces=frozenset({"one"})))
    async with narrow.client:
        seen = await narrow.ask(READ, token=api.editor, id=imported, ids=[imported])
        assert seen["operation"] is None
        assert seen["nodes"] == [None]
        assert seen["operations"] == {"nodes": [], "totalCount": {"value": 0}}


async def test_all_else_of_an_operation_needs_the_queue(api: API) -> None:
    imported = (await send(api, TABLE)).json()["operationId"]
    before = await snapshot(api.db)
    for query in (
        "mutation($id: ID!) { cancelOperation(id: $id) { __typename } }",
        "mutation($id: ID!) { resumeOperation(id: $id) { __typename } }",
        "query($id: ID!) { operation(id: $id) { results { nodes { n } } } }",
    ):
        error = await api.refused(query, token=api.editor, id=imported)
        assert error["extensions"] == {"code": "FORBIDDEN", "needs": ["DICOM_QUEUE"]}, query
    assert await snapshot(api.db) == before


async def test_a_table_with_a_wrong_line_changes_nothing_and_says_which(empty_api: API) -> None:
    api = empty_api
    before = await snapshot(api.db)
    refused = await send(api, TABLE + "ER,Again\n,\n")
    assert refused.status_code == 422
    error = refused.json()["errors"][0]["extensions"]
    assert (error["code"], error["wrongLines"]) == ("INVALID_VALUE", 2)
    assert error["lines"][0] == {
        "line": 4,
        "message": "every code may come once, this one came on line 2",
    }
    assert await snapshot(api.db) == before


async def test_what_is_no_table_and_who_may_not_is_refused(empty_api: API) -> None:
    api = empty_api
    before = await snapshot(api.db)
    narrow = signed_in(api, lambda caller: replace(caller, namespaces=frozenset({"one"})))
    async with narrow.client:
        assert (await send(narrow, TABLE)).status_code == 403
    for status, answer in (
        (403, await send(api, TABLE, token=api.queue)),
        (401, await send(api, TABLE, token="aegate_none")),
        (415, await send(api, TABLE, headers={"Content-Encoding": "gzip"})),
        (415, await send(api, TABLE, headers={"Content-Type": "application/json"})),
        (415, await send(api, TABLE, headers={"Content-Type": "text/csv; charset=latin1"})),
        (400, await send(api, TABLE, params={"dryRun": "maybe"})),
        (413, await send(api, TABLE, headers={"Content-Length": str(1 << 30)})),
        (422, await send(api, TABLE.encode("latin-1"))),
        (422, await send(api, "code,display_name\n" + "\n" * 2_000_000)),
    ):
        assert answer.status_code == status, answer.text
        assert answer.json()["errors"][0]["extensions"]["code"]
    assert await snapshot(api.db) == before
