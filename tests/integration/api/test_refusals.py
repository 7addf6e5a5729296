"""Who may not, and what cannot be asked: a typed error, no patient data in it, and nothing changed."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from aegate_core.errors import InvalidInput
from aegate_graphql_api.errors import CODES
from aegate_graphql_api.tokens import create_token, revoke_token
from tests import sentinel
from tests.integration.api.clients import API

NEEDS_QUEUE = (
    "{ queueItems { nodes { id } } }",
    '{ queueItem(id: "x") { id } }',
    "{ studies { totalCount { value } } }",
    '{ study(id: "x") { id } }',
    "{ imageRoutes { nodes { name } } }",
    "{ destinations { pageInfo { hasNextPage } } }",
    '{ destination(id: "x") { id } }',
    '{ explainRoute(studyId: "x") { sources { level } } }',
    '{ explainRouteOfHeader(header: {sourceAe: "a/b", attributes: []}) { level } }',
    "{ conflicts { nodes { id } } }",
    "{ closeUnits { nodes { id } } }",
    "{ quarantinedObjects { nodes { id } } }",
    "{ dashboard { unindexed } }",
    "{ applicationEntities { nodes { waiting { count } } } }",
    "{ applicationEntities { nodes { sentLastHour } } }",
    '{ node(id: "x") { ... on Node { ... on Study { patient { name } } } } }',
    "query Q { ...F } fragment F on Query { dashboard { unindexed } }",
    "{ viewer { name } alias: dashboard @skip(if: true) { unindexed } }",
    'mutation { holdQueueItems(selection: {ids: ["x"]}) { __typename } }',
    'mutation { resumeQueueItems(selection: {ids: ["x"]}) { __typename } }',
    'mutation { retryQueueItems(selection: {ids: ["x"]}) { __typename } }',
    'mutation { cancelQueueItems(selection: {ids: ["x"]}) { __typename } }',
    'mutation { bumpQueueItems(selection: {ids: ["x"]}) { __typename } }',
    'mutation { setQueueItemPriority(selection: {ids: ["x"]}, priority: 1) { __typename } }',
    '{ operation(id: "x") { results { nodes { n } } } }',
    "{ operations { nodes { results { nodes { n } } } } }",
    'mutation { retryQueueItemInstances(input: {queueItemId: "x", arrivalIds: []}) { __typename } }',
    'mutation { resolveConflict(input: {conflictId: "x", resolution: KEEP_BOTH}) { __typename } }',
    "mutation { releaseQuarantined(input: {ids: []}) { __typename } }",
    "mutation { dismissQuarantined(input: {ids: []}) { __typename } }",
    'mutation { cancelOperation(id: "x") { __typename } }',
    'mutation { holdDestination(id: "x") { __typename } }',
    'mutation { resumeDestination(id: "x") { __typename } }',
    'mutation { retryDestination(id: "x") { __typename } }',
    'mutation { reroute(closeUnitId: "x") { __typename } }',
    'mutation { sendSeries(input: {seriesIds: [], destinationIds: [], idempotencyKey: "x"}) { __typename } }',
    'mutation { sendInstances(input: {instanceIds: [], destinationIds: [], idempotencyKey: "x"}) { __typename } }',
    'mutation { sendStudies(input: {studyIds: [], destinationIds: [], idempotencyKey: "x"}) { __typename } }',
)
NEEDS_EDITOR = (
    "{ applicationEntities { nodes { title } } }",
    "{ destinations { nodes { applicationEntity { title } } } }",
    '{ node(id: "x") { ... on ApplicationEntity { title } } }',
    '{ node(id: "x") { ...A } } fragment A on Node { ...B } fragment B on QueueItem { destination { ...C } } '
    "fragment C on Destination { applicationEntity { spec } }",
    """mutation { holdDestination(id: "RGVzdGluYXRpb246ZGVmYXVsdC9wYWNz") {
        ... on DestinationChanged { destination { applicationEntity { title } } } } }""",
)


async def state(api: API) -> object:
    return [
        await api.db.fetch("SELECT * FROM delivery ORDER BY id"),
        await api.db.fetch("SELECT * FROM destination ORDER BY id"),
        await api.audit(),
    ]


async def test_the_other_permission_is_not_enough(api: API) -> None:
    before = await state(api)
    items = await api.ask("{ queueItems(first: 1) { nodes { id } } destinations(first: 1) { nodes { id } } }")
    for query in NEEDS_QUEUE:
        error = await api.refused(query, token=api.editor)
        assert error["extensions"] == {"code": "FORBIDDEN", "needs": ["DICOM_QUEUE"]}, query
    for query in NEEDS_EDITOR:
        error = await api.refused(query, token=api.queue)
        assert error["extensions"] == {"code": "FORBIDDEN", "needs": ["AE_EDITOR"]}, query
    item, destination = items["queueItems"]["nodes"][0]["id"], items["destinations"]["nodes"][0]["id"]
    real = """mutation($i: ID!, $d: ID!) { cancelQueueItems(selection: {ids: [$i]}) { __typename }
        holdDestination(id: $d) { __typename } }"""
    assert (await api.refused(real, token=api.editor, i=item, d=destination))["extensions"][
        "code"
    ] == "FORBIDDEN"
    assert await state(api) == before


async def test_a_node_needs_the_permission_of_its_type(api: API) -> None:
    data = await api.ask(
        "{ queueItems(first: 1) { nodes { id } } applicationEntities(first: 1) { nodes { id } } }"
    )
    query = "query($id: ID!) { node(id: $id) { id } }"
    item, entity = data["queueItems"]["nodes"][0]["id"], data["applicationEntities"]["nodes"][0]["id"]
    assert (await api.refused(query, token=api.editor, id=item))["extensions"]["code"] == "FORBIDDEN"
    assert (await api.refused(query, token=api.queue, id=entity))["extensions"]["code"] == "FORBIDDEN"
    assert (await api.ask(query, token=api.queue, id=item))["node"] == {"id": item}


async def test_either_permission_reads_partitions(api: API) -> None:
    for token in (api.queue, api.editor):
        assert (await api.ask("{ partitions { nodes { name } } }", token=token))["partitions"] == {
            "nodes": []
        }


async def test_no_token_and_wrong_tokens(api: API) -> None:
    before = await state(api)
    body = {"query": "{ viewer { name } }"}
    expired = create_token(
        api.tokens, "old", ["DICOM_QUEUE"], expires_at=datetime.now(UTC) - timedelta(seconds=1)
    )
    for headers in (
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer "},
        {"Authorization": f"Basic {api.both}"},
        {"Authorization": f"Bearer {api.both}x"},
        {"Authorization": f"Bearer {expired}"},
    ):
        response = await api.client.post("/graphql", json=body, headers=headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"].startswith("Bearer")
        assert response.json()["data"] is None
        assert response.json()["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    assert await state(api) == before


async def test_a_revoked_token_is_refused_at_once(api: API) -> None:
    assert (await api.post("{ viewer { name } }", token=api.queue)).status_code == 200
    revoke_token(api.tokens, "queue-only")
    assert (await api.post("{ viewer { name } }", token=api.queue)).status_code == 401
    assert (await api.post("{ viewer { name } }", token=api.editor)).status_code == 200
    api.tokens.chmod(0o644)
    with pytest.raises(InvalidInput, match="0600"):
        create_token(api.tokens, "more", ["DICOM_QUEUE"])


async def test_unknown_fields_name_the_nearest(api: API) -> None:
    error = await api.refused("{ viewer { nam } }")
    assert error["message"] == "Cannot query field 'nam' on type 'Viewer'. Did you mean 'name'?"
    assert error["extensions"]["code"] == "INVALID_QUERY"
    assert error["locations"] == [{"line": 1, "column": 12}]


@pytest.mark.parametrize(
    ("query", "variables", "told"),
    [
        ("{ study { id } }", {}, "Argument 'Query.study(id:)' of type 'ID!' is required"),
        ("query($id: ID!) { study(id: $id) { id } }", {}, "Variable '$id': a value of type ID! is expected"),
        (
            "query($n: Int) { queueItems(first: $n) { nodes { id } } }",
            {"n": None},
            "Argument 'first': a value of type Int! is expected, got none",
        ),
        (
            "query($s: DeliveryState) { queueItems(where: {state: {eq: $s}}) { nodes { id } } }",
            {"s": "DONE"},
            "Variable '$s': a name of the enum DeliveryState is expected, got another",
        ),
        (
            "query($w: StudyWhere) { studies(where: $w) { nodes { id } } }",
            {"w": {"patientNam": {"eq": sentinel.PATIENT_NAME}}},
            "Variable '$w': StudyWhere has no field of this name. Did you mean 'patientName'",
        ),
        (
            "mutation($i: SendStudiesInput!) { sendStudies(input: $i) { __typename } }",
            {"i": {}},
            "Variable '$i': SendStudiesInput needs the field destinationIds, got none",
        ),
        (
            "query($t: DateTime) { queueItems(where: {createdAt: {range: {from: $t}}}) { nodes { id } } }",
            {"t": sentinel.PATIENT_NAME},
            "Variable '$t': a value of type DateTime is expected, got another",
        ),
    ],
)
async def test_values_that_do_not_fit_are_told_by_what_is_expected(
    empty_api: API, query: str, variables: dict[str, object], told: str
) -> None:
    error = await empty_api.refused(query, **variables)
    assert error["message"].startswith(told)
    assert error["extensions"]["code"] == "INVALID_QUERY"


async def test_errors_do_not_repeat_values(api: API) -> None:
    name = sentinel.PATIENT_NAME
    for query, code in (
        (f'{{ queueItems(first: "{name}") {{ nodes {{ id }} }} }}', "INVALID_QUERY"),
        (f'{{ viewer {{ name }} "{name}" }}', "SYNTAX_ERROR"),
        (f'{{ studies(search: "nofield:{name}") {{ nodes {{ id }} }} }}', "BAD_SEARCH"),
        (f'{{ studies(after: "{name}") {{ nodes {{ id }} }} }}', "BAD_CURSOR"),
        (f'{{ study(id: "{name}") {{ id }} }}', "NOT_FOUND"),
        (f'{{ queueItems(where: {{state: {{eq: "{name}"}}}}) {{ nodes {{ id }} }} }}', "INVALID_QUERY"),
        ("{ queueItems(where: {state: {eq: Zzsentinel}}) { nodes { id } } }", "INVALID_QUERY"),
        (
            f'{{ queueItems(where: {{createdAt: {{range: {{from: "{name}"}}}}}}) {{ nodes {{ id }} }} }}',
            "INVALID_QUERY",
        ),
    ):
        assert (await api.refused(query))["extensions"]["code"] == code, query
    for kind in ("Int", "StudyWhere", "StudyOrder", "ID"):
        error = await api.refused(
            f"query($x: {kind}) {{ studies(first: $x) {{ nodes {{ id }} }} }}", x={"patientName": name}
        )
        assert error["extensions"]["code"] == "INVALID_QUERY"
    error = await api.refused("query($x: Int!) { studies(first: $x) { nodes { id } } }", x=name)
    assert error["extensions"]["code"] == "INVALID_QUERY"
    assert "$x" in error["message"]


async def test_wrong_cursors_are_told_apart(api: API) -> None:
    query = """query($s: String, $after: String) { queueItems(first: 1, search: $s, after: $after) {
        pageInfo { endCursor } } }"""
    cursor = (await api.ask(query))["queueItems"]["pageInfo"]["endCursor"]
    assert (await api.refused(query, after="no cursor"))["extensions"]["code"] == "BAD_CURSOR"
    assert (await api.refused(query, after=cursor[:-8]))["extensions"]["code"] == "BAD_CURSOR"
    assert (await api.refused(query, after="WzEsIngiLFsiMSJdXQ=="))["extensions"]["code"] == "BAD_CURSOR"
    other = await api.refused(query, after=cursor, s="pacs")
    assert other["extensions"]["code"] == "CURSOR_OF_ANOTHER_LIST"
    other = await api.refused(
        "query($after: String) { studies(after: $after) { nodes { id } } }", after=cursor
    )
    assert other["extensions"]["code"] == "CURSOR_OF_ANOTHER_LIST"
    other = await api.refused(
        "query($after: String) { queueItems(orderBy: OLDEST, after: $after) { nodes { id } } }", after=cursor
    )
    assert other["extensions"]["code"] == "CURSOR_OF_ANOTHER_LIST"
    other = await api.refused(
        "query($after: String) { applicationEntities(after: $after) { nodes { id } } }", after=cursor
    )
    assert other["extensions"]["code"] == "CURSOR_OF_ANOTHER_LIST"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("{ queueItems(first: 0) { nodes { id } } }", "INVALID_VALUE"),
        ("{ queueItems(first: 101) { nodes { id } } }", "INVALID_VALUE"),
        ('{ queueItems(search: "ab") { nodes { id } } }', "BAD_SEARCH"),
        ('{ queueItems(search: "\\u0000abc") { nodes { id } } }', "BAD_SEARCH"),
        ('{ queueItems(search: "patient:") { nodes { id } } }', "BAD_SEARCH"),
        ('{ queueItems(where: {unitUid: {eq: "a\\u0000"}}) { nodes { id } } }', "BAD_FILTER"),
        (
            '{ queueItems(where: {createdAt: {range: {from: "2026-01-01T00:00:00"}}}) { nodes { id } } }',
            "BAD_FILTER",
        ),
        (
            "{ queueItems(where: {AND: [{AND: [{AND: [{priority: {eq: 1}}]}]}]}) { nodes { id } } }",
            "BAD_FILTER",
        ),
        (
            "{ queueItems(where: {OR: [" + "{priority: {eq: 1}}," * 21 + "]}) { nodes { id } } }",
            "BAD_FILTER",
        ),
        ('{ queueItems(where: {destination: {eq: "pacs"}}) { nodes { id } } }', "BAD_FILTER"),
        (
            '{ destinations(where: {OR: [{ae: {in: ["default/pacs", "pacs"]}}]}) { nodes { id } } }',
            "BAD_FILTER",
        ),
        ('{ studies(where: {modality: {eq: "ct"}}) { nodes { id } } }', "BAD_FILTER"),
        ('{ studies(where: {studyDate: {range: {from: "2026-01-31"}}}) { nodes { id } } }', "BAD_FILTER"),
        ('{ conflicts(where: {sourceAe: {eq: "ct1"}}) { nodes { id } } }', "BAD_FILTER"),
        ('{ auditEvents(search: "partition:main") { nodes { id } } }', "BAD_FILTER"),
        ('{ applicationEntities(where: {name: {eq: "default/ct1"}}) { nodes { id } } }', "BAD_FILTER"),
        ('{ dashboard(finishedSince: "2020-01-01T00:00:00Z") { unindexed } }', "INVALID_VALUE"),
        (
            '{ queueItems(where: {createdAt: {range: {to: "9999-12-31T23:59:59-14:00"}}}) { nodes { id } } }',
            "BAD_FILTER",
        ),
        ('{ dashboard(finishedSince: "9999-12-31T23:59:59-14:00") { unindexed } }', "INVALID_VALUE"),
        ("query A { viewer { name } } query B { viewer { name } }", "BAD_REQUEST"),
        ('{ study(id: "U3R1ZHk6OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk") { id } }', "NOT_FOUND"),
        ('{ explainRoute(studyId: "U3R1ZHk6OTk5OTk") { sources { level } } }', "NOT_FOUND"),
    ],
)
async def test_arguments_that_cannot_be(api: API, query: str, code: str) -> None:
    error = await api.refused(query)
    assert error["extensions"]["code"] == code
    assert code in CODES


async def test_a_date_is_searched_as_it_is_typed(api: API) -> None:
    for text in ("date:20261124", "date:2026-11-24", "date:2026-11"):
        found = await api.ask("query($s: String) { studies(search: $s) { nodes { studyDate } } }", s=text)
        assert [node["studyDate"] for node in found["studies"]["nodes"]] == ["20261124"] * 2


def chained(count: int) -> str:
    """Return fragments that each use the next twice: 2 to the power of ``count`` fields."""
    fragments = [f"fragment F{n} on Viewer {{ ...F{n + 1} ...F{n + 1} }}" for n in range(count)]
    return "query { viewer { ...F0 } } " + " ".join(fragments) + f" fragment F{count} on Viewer {{ name }}"


def deep(number: int) -> str:
    """Return a fragment that uses the next 35 selections further down."""
    return f"fragment D{number} on Viewer {{ " + "... {" * 35 + f"...D{number + 1}" + "}" * 35 + " }"


@pytest.mark.parametrize(
    "query",
    [
        chained(120),
        "query { viewer { name } } " + " ".join(f"fragment X{n} on Viewer {{ name }}" for n in range(60)),
        "{ " + " ".join(f"a{n}: viewer {{ name }}" for n in range(51)) + " }",
        "{ " + "viewer { name } " * 21 + " }",
        "{ queueItems(first: 100) { nodes { instances(first: 100) { nodes { state status attempts errorCode arrivalId"
        " sopInstanceUid sopClassUid statusHex availableAt finishedAt } } } } }",
        "{" * 50 + "}" * 50,
        '{ viewer { name } } "' + '\\"' * 250_000,
        "{ viewer { name } } #\r" + "{ a " * 300 + "}" * 300,
        "{ viewer { ...D0 } }" + "".join(deep(n) for n in range(12)) + "fragment D12 on Viewer { name }",
        "{ viewer { name " + "name " * 2100 + "} }",
        "{ studies { nodes "
        + "{ closeUnits { id } series { instances { nodes " * 8
        + "{ id }"
        + "} } }" * 8
        + " } }",
    ],
)
async def test_documents_that_are_too_large_are_refused_fast(empty_api: API, query: str) -> None:
    began = time.thread_time()
    error = await empty_api.refused(query)
    assert error["extensions"]["code"] in ("TOO_COMPLEX", "SYNTAX_ERROR")
    assert time.thread_time() - began < 1


async def test_chained_fragments_below_the_limit_cost_nothing(empty_api: API) -> None:
    began = time.thread_time()
    error = await empty_api.refused(chained(40))
    assert error["extensions"]["code"] == "TOO_COMPLEX"
    assert time.thread_time() - began < 1
    cycle = "{ viewer { ...A } } fragment A on Viewer { ...B } fragment B on Viewer { ...A }"
    assert (await empty_api.refused(cycle))["extensions"]["code"] == "INVALID_QUERY"


async def test_http_requests_that_are_no_operation(empty_api: API) -> None:
    api = empty_api
    headers = {"Authorization": f"Bearer {api.both}"}
    json_headers = {**headers, "Content-Type": "application/json"}
    for content, status, code in (
        (b"", 400, "BAD_REQUEST"),
        (b"{", 400, "BAD_REQUEST"),
        (b"[]", 400, "BAD_REQUEST"),
        (b'[{"query": "{ viewer { name } }"}]', 400, "BAD_REQUEST"),
        (b'{"query": 1}', 400, "BAD_REQUEST"),
        (b'{"query": "{ viewer { name } }", "variables": []}', 400, "BAD_REQUEST"),
        (b'{"query": "query A { viewer { name } }", "operationName": "B"}', 400, "BAD_REQUEST"),
        (b"x" * (1024 * 1024 + 1), 413, "TOO_LARGE"),
    ):
        response = await api.client.post("/graphql", content=content, headers=json_headers)
        assert (response.status_code, response.json()["errors"][0]["extensions"]["code"]) == (status, code)
    form = await api.client.post("/graphql", data={"query": "{ viewer { name } }"}, headers=headers)
    assert form.status_code == 415
    for method, path, status in (("GET", "/graphql", 405), ("PUT", "/graphql", 405), ("GET", "/graphq", 404)):
        got = await api.client.request(method, path, params={"query": "{ viewer { name } }"}, headers=headers)
        assert (got.status_code, got.json()["errors"][0]["extensions"]["code"]) == (status, "BAD_REQUEST")
        assert "/graphiql" in got.json()["errors"][0]["message"]
