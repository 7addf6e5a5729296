"""The table of attacks: what is sent, by whom, and the code that must come back. Data alone; test_attacks.py sends it.

Those over a WebSocket stand in live_attacks.py.

``$item``, ``$study``, ``$destination``, ``$cursor`` in variables stand for real ids and a real cursor. Codes of answers
to mutations are those of the Problem. NOTHING: taken as the text that it is, and nothing is found.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

OK = "OK"
NOTHING = "NOTHING"
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Asked:
    """A GraphQL document that should not have been sent."""

    name: str
    code: str
    query: str
    variables: Mapping[str, object] = field(default_factory=dict)
    token: str = "both"
    operation: str | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """An HTTP request that should not have been sent. ``headers`` are added to token and JSON; None takes one away."""

    name: str
    status: int
    code: str
    content: bytes = b'{"query": "{ viewer { name } }"}'
    headers: Mapping[str, str | None] = field(default_factory=dict)
    method: str = "POST"
    path: str = "/graphql"


def chained(count: int, on: str = "Viewer", last: str = "name") -> str:
    """Fragments that each use the next twice: 2 to the power of ``count`` fields."""
    return " ".join(f"fragment F{n} on {on} {{ ...F{n + 1} ...F{n + 1} }}" for n in range(count)) + (
        f" fragment F{count} on {on} {{ {last} }}"
    )


def _or(level: int) -> str:
    return "{priority: {eq: 1}}" if level == 0 else "{AND: [" + _or(level - 1) + "]}"


ITEMS = "query($x: String) { queueItems(search: $x) { nodes { id } } }"
STUDIES = "query($x: String) { studies(search: $x) { nodes { id } } }"
STUDY_BY_NAME = "query($x: String) { studies(where: {patientName: {contains: $x}}) { nodes { id } } }"
STUDY_BY_START = "query($x: String) { studies(where: {patientId: {startsWith: $x}}) { nodes { id } } }"
STUDY_IN = "query($x: [String!]) { studies(where: {accessionNumber: {in: $x}}) { nodes { id } } }"
STUDY_RANGE = "query($x: String) { studies(where: {patientId: {range: {from: $x}}}) { nodes { id } } }"
DATE_RANGE = "query($x: String) { studies(where: {studyDate: {range: {from: $x}}}) { nodes { id } } }"
ITEM_AFTER = "query($x: String) { queueItems(after: $x) { nodes { id } } }"
STUDY_AFTER = "query($x: String) { studies(after: $x) { nodes { id } } }"
NODE = "query($x: ID!) { node(id: $x) { id } }"
STUDY = "query($x: ID!) { study(id: $x) { id } }"
ITEM = "query($x: ID!) { queueItem(id: $x) { id } }"
FIRST = "query($x: Int!) { queueItems(first: $x) { nodes { id } } }"
SINCE = "query($x: DateTime) { queueItems(where: {createdAt: {range: {from: $x}}}) { nodes { id } } }"
AES = "query($x: String) { applicationEntities(search: $x) { nodes { id } } }"
HOLD = "mutation($x: ID!) { result: holdQueueItems(selection: {ids: [$x]}) { __typename ...P } } "
HOLD_FOUND = """mutation($x: String) {
    result: holdQueueItems(selection: {search: $x}, guard: {expectedCount: 1}) { __typename ...P } } """
HOLD_AT = "mutation($x: ID!) { result: holdDestination(id: $x) { __typename ...P } } "
REROUTE = "mutation($x: ID!) { result: reroute(closeUnitId: $x) { __typename ...P } } "
SEND = "mutation($i: SendStudiesInput!) { result: sendStudies(input: $i) { __typename ...P } } "
PROBLEM = "fragment P on Problem { code message }"

QUOTE = "';DROP/**/TABLE/**/delivery;--"
UNION = "xyz'/**/UNION/**/SELECT/**/actor/**/FROM/**/audit_event--"
COMMENT = "xyz'/**/OR/**/1=1--"
FORMAT, TEMPLATE, PERCENT = (
    "%s%n%x {0} ${jndi:ldap://127.0.0.1/a}",
    "{{7*7}}<script>alert(1)</script>",
    "%_%_%",
)
FTS, ARRAY, JSON = 'abc"OR"NEAR(patient_name*', "{1,2,NULL}", '{"$ne": null}'
NUL, SURROGATE_LIKE, RTL = "abc\u0000def", "abc\ufffe\uffff", "abc\u202e\u0301" * 20

INJECTION = (
    *(
        Asked(f"SQL in {where}: {text[:12]}", code, query, {"x": [text] if query is STUDY_IN else text})
        for where, query, code in (
            ("the search for items", ITEMS, NOTHING),
            ("the search for studies", STUDIES, NOTHING),
            ("contains", STUDY_BY_NAME, NOTHING),
            ("startsWith", STUDY_BY_START, NOTHING),
            ("in", STUDY_IN, NOTHING),
            ("a cursor", ITEM_AFTER, "BAD_CURSOR"),
            ("an id", STUDY, "NOT_FOUND"),
            ("an id of a node", NODE, "NOT_FOUND"),
        )
        for text in (QUOTE, UNION, COMMENT)
    ),
    *(
        Asked(f"{what} in the search for studies", NOTHING, STUDIES, {"x": text})
        for what, text in (
            ("a format", FORMAT),
            ("a template", TEMPLATE),
            ("an array", ARRAY),
            ("JSON", JSON),
        )
    ),
    Asked("wildcards alone in the search for AEs", NOTHING, AES, {"x": PERCENT}),
    Asked("wildcards of LIKE in contains", NOTHING, STUDY_BY_NAME, {"x": PERCENT}),
    Asked("operators of FTS5 in the search", NOTHING, STUDIES, {"x": FTS}),
    Asked("NUL in the search", "BAD_SEARCH", STUDIES, {"x": NUL}),
    Asked("NUL in a filter", "BAD_FILTER", STUDY_BY_NAME, {"x": NUL}),
    Asked("NUL in an id", "NOT_FOUND", STUDY, {"x": NUL}),
    Asked("NUL in an id to be held", "NOT_FOUND", HOLD + PROBLEM, {"x": NUL}),
    Asked("a name as an id", "NOT_FOUND", NODE, {"x": "Zzsentinel^Quillonia"}),
    Asked("characters that are none in the search", NOTHING, STUDIES, {"x": SURROGATE_LIKE}),
    Asked("text from right to left in contains", NOTHING, STUDY_BY_NAME, {"x": RTL}),
    Asked("SQL in the range of a text", OK, STUDY_RANGE, {"x": QUOTE}),
    Asked("SQL in the range of a date", "BAD_FILTER", DATE_RANGE, {"x": QUOTE}),
    Asked("SQL in the id of a hold", "NOT_FOUND", HOLD + PROBLEM, {"x": QUOTE}),
    Asked("SQL in the search of a hold", "CONFLICT", HOLD_FOUND + PROBLEM, {"x": QUOTE}),
    Asked("SQL in the id of a destination", "NOT_FOUND", HOLD_AT + PROBLEM, {"x": UNION}),
    Asked("SQL in the id of a unit", "NOT_FOUND", REROUTE + PROBLEM, {"x": COMMENT}),
    Asked(
        "SQL in what is sent",
        "NOT_FOUND",
        SEND + PROBLEM,
        {"i": {"studyIds": [QUOTE], "destinationIds": [UNION], "idempotencyKey": COMMENT}},
    ),
    Asked("SQL as the name of an operation", "BAD_REQUEST", "{ viewer { name } }", operation=QUOTE),
    Asked("SQL as a variable nobody uses", OK, "{ viewer { name } }", {"x": QUOTE}),
)

AUTHORISATION = (
    Asked("AE_EDITOR reads the queue", "FORBIDDEN", ITEM, {"x": "$item"}, "editor"),
    Asked("AE_EDITOR reads a study by its node", "FORBIDDEN", NODE, {"x": "$study"}, "editor"),
    Asked("AE_EDITOR reads a patient through fragments", "FORBIDDEN",
          "query { ...A } fragment A on Query { ...B } fragment B on Query { studies { nodes { patient { name } } } }",
          token="editor"),
    Asked("AE_EDITOR skips what it may not", "FORBIDDEN",
          "{ dashboard @skip(if: true) { unindexed } }", token="editor"),
    Asked("AE_EDITOR holds an item", "FORBIDDEN", HOLD + PROBLEM, {"x": "$item"}, "editor"),
    Asked("AE_EDITOR holds a destination", "FORBIDDEN", HOLD_AT + PROBLEM, {"x": "$destination"}, "editor"),
    Asked("AE_EDITOR sends a study", "FORBIDDEN", SEND + PROBLEM,
          {"i": {"studyIds": ["$study"], "destinationIds": ["$destination"], "idempotencyKey": "k"}}, "editor"),
    Asked("DICOM_QUEUE reads AEs", "FORBIDDEN", AES, {"x": "ct1"}, "queue"),
    Asked("DICOM_QUEUE reads an AE behind a destination", "FORBIDDEN",
          "{ destinations { nodes { applicationEntity { spec } } } }", token="queue"),
    Asked("a permitted field beside a forbidden one", "FORBIDDEN",
          "{ viewer { name } a: applicationEntities { nodes { title } } }", token="queue"),
    Asked("a mutation behind a query's name", "BAD_REQUEST",
          "query A { viewer { name } } mutation B { holdDestination(id: \"x\") { __typename } }", operation="C"),
    Asked("two operations and no name", "BAD_REQUEST",
          "query A { viewer { name } } mutation B { holdDestination(id: \"x\") { __typename } }"),
    Asked("an id of another type as a study", "NOT_FOUND", STUDY, {"x": "$item"}),
    Asked("an id of another type as an item", "NOT_FOUND", ITEM, {"x": "$destination"}),
    Asked("an id of another type to be held", "NOT_FOUND", HOLD + PROBLEM, {"x": "$study"}),
    Asked("an id of another type as a destination", "NOT_FOUND", HOLD_AT + PROBLEM, {"x": "$item"}),
    Asked("a private method of Python", "INVALID_QUERY", "{ viewer { __class__ __init__ } }"),
    Asked("a subscription over POST", "BAD_REQUEST", "subscription { viewer { name } }"),
    Sent("no token", 401, "UNAUTHENTICATED", headers={"Authorization": None}),
    Sent("a token that is none", 401, "UNAUTHENTICATED", headers={"Authorization": "Bearer x"}),
    Sent("a JWT of the algorithm none", 401, "UNAUTHENTICATED",
         headers={"Authorization": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0."}),
    Sent("a token of 8 KiB", 401, "UNAUTHENTICATED", headers={"Authorization": "Bearer " + "a" * 8_192}),
    Sent("a token as a password", 401, "UNAUTHENTICATED", headers={"Authorization": "Basic YTpi"}),
    Sent("a token in the address", 401, "UNAUTHENTICATED", headers={"Authorization": None}, path="/graphql?token=x"),
    Sent("a page of another origin", 403, "CROSS_ORIGIN",
         headers={"Origin": "https://evil.example.org", "Sec-Fetch-Site": "cross-site"}),
    Sent("a form of another origin", 403, "CROSS_ORIGIN",
         headers={"Sec-Fetch-Site": "same-site", "Content-Type": "text/plain"}),
)  # fmt: skip

EXHAUSTION = (
    Asked("a document of 1 MiB", "TOO_COMPLEX", "{ viewer { " + "name " * 190_000 + "} }"),
    Asked("a comment of 900 KiB", "TOO_COMPLEX", "{ viewer { name } } #" + "x" * 900_000),
    Asked("a string of 900 KiB", "TOO_COMPLEX", '{ study(id: "' + "x" * 900_000 + '") { id } }'),
    Asked("a string that does not end", "SYNTAX_ERROR", '{ viewer { name } } "' + '\\"' * 16_000),
    Asked("a block string that does not end", "SYNTAX_ERROR", '{ viewer { name } } """' + '\\"""' * 8_000),
    Asked("blanks", "TOO_COMPLEX", " " * 1_000_000 + "{ viewer { name } }"),
    Asked("open brackets", "TOO_COMPLEX", "{" * 30_000),
    Asked("brackets behind a comment", "TOO_COMPLEX", "{ viewer { name } } #\r" + "{ a " * 300 + "}" * 300),
    Asked("lists within lists", "TOO_COMPLEX", "{ nodes(ids: " + "[" * 500 + "]" * 500 + ") { id } }"),
    Asked("120 nested fragments", "TOO_COMPLEX", "{ viewer { ...F0 } } " + chained(120)),
    Asked("40 nested fragments", "TOO_COMPLEX", "{ viewer { ...F0 } } " + chained(40)),
    Asked("30 nested fragments", "TOO_COMPLEX", "{ viewer { ...F0 } } " + chained(30)),
    Asked("a cycle of two", "INVALID_QUERY",
          "{ viewer { ...A } } fragment A on Viewer { ...B } fragment B on Viewer { ...A }"),
    Asked("a cycle through a field", "INVALID_QUERY",
          "{ queueItems { nodes { ...A } } } fragment A on QueueItem { study { id } destination { ae } ...A }"),
    Asked("10,000 aliases", "TOO_COMPLEX", "{ " + " ".join(f"a{n}: viewer {{ name }}" for n in range(10_000)) + " }"),
    Asked("60 aliases", "TOO_COMPLEX", "{ " + " ".join(f"a{n}: viewer {{ name }}" for n in range(60)) + " }"),
    Asked("one field a thousand times", "TOO_COMPLEX", "{ viewer { " + "name " * 990 + "} }"),
    Asked("a thousand unknown fields", "INVALID_QUERY",
          "{ viewer { " + " ".join(f"nam{n}" for n in range(980)) + " } }"),
    Asked("a thousand unknown types", "TOO_COMPLEX",
          "{ viewer { " + " ".join(f"... on Stud{n} {{ id }}" for n in range(190)) + " } }"),
    Asked("hundreds of unknown input fields", "INVALID_QUERY",
          "{ studies(where: {" + " ".join(f"fo{n}: 1" for n in range(310)) + "}) { nodes { id } } }"),
    Asked("hundreds of unknown arguments", "INVALID_QUERY",
          "{ studies(" + " ".join(f"a{n}: 1" for n in range(310)) + ") { nodes { id } } }"),
    Asked("hundreds of directives", "INVALID_QUERY", "{ viewer { name " + "@include(if: true) " * 120 + "} }"),
    Asked("hundreds of variables", "INVALID_QUERY",
          "query(" + " ".join(f"$v{n}: Int" for n in range(240)) + ") { viewer { name } }"),
    Asked("50 operations with 30 fragments", "BAD_REQUEST",
          " ".join(f"query A{n} {{ ...F0 }}" for n in range(50)) + " "
          + " ".join(f"fragment F{n} on Query {{ ...F{n + 1} }}" for n in range(30))
          + " fragment F30 on Query { viewer { name } }"),
    Asked("49 fragments side by side", OK,
          "{ viewer { " + " ".join(f"...F{n}" for n in range(49)) + " } } "
          + " ".join(f"fragment F{n} on Viewer {{ name }}" for n in range(49))),
    Asked("a fragment nobody uses", "INVALID_QUERY", "{ viewer { name } } fragment A on Viewer { name }"),
    Asked("pages of pages", "TOO_COMPLEX",
          "{ queueItems(first: 100) { nodes { instances(first: 100) { nodes { state status attempts errorCode "
          "arrivalId sopInstanceUid sopClassUid statusHex availableAt finishedAt } } } } }"),
    Asked("pages of pages by a variable", "TOO_COMPLEX",
          "query($n: Int! = 1) { queueItems(first: $n) { nodes { instances(first: $n) { nodes { state status attempts "
          "errorCode arrivalId sopInstanceUid sopClassUid statusHex availableAt finishedAt } } } } }"),
    Asked("a circle of types, 17 deep", "TOO_COMPLEX",
          "{ __schema { types { " + "fields { type { " * 8 + "name" + " } }" * 8 + " } } }"),
    Asked("introspection of introspection", "TOO_COMPLEX",
          "{ __schema { types { fields { type { fields { type { fields { type { fields { type { fields { type { fields "
          "{ type { fields { type { name } } } } } } } } } } } } } } } } }"),
    Asked("6,000 ids in a variable", "TOO_COMPLEX",
          "query($x: [ID!]!) { nodes(ids: $x) { id } }", {"x": ["x"] * 6_000}),
    Asked("200,000 values nobody asked for", "TOO_COMPLEX", "{ viewer { name } }", {"x": [0] * 200_000}),
    Asked("4,000 ids in a variable", "INVALID_VALUE",
          "query($x: [ID!]!) { nodes(ids: $x) { id } }", {"x": ["x"] * 4_000}),
    Asked("4,000 values in a filter", "BAD_FILTER", STUDY_IN, {"x": ["x"] * 4_000}),
    Asked("a filter 30 deep", "BAD_FILTER", "{ queueItems(where: " + _or(16) + ") { nodes { id } } }"),
    Asked("a filter of 60 parts", "TOO_COMPLEX",
          "{ queueItems(where: {OR: [" + "{priority: {eq: 1}}," * 60 + "]}) { nodes { id } } }"),
    Asked("a search of 900 KiB", "BAD_SEARCH", STUDIES, {"x": "abc " * 230_000}),
    Asked("a filter of 40 parts", "BAD_FILTER",
          "{ queueItems(where: {OR: [" + "{priority: {eq: 1}}," * 40 + "]}) { nodes { id } } }"),
    Asked("2,000 empty filters in a variable", "TOO_COMPLEX",
          "query($x: [StudyWhere!]) { studies(where: {OR: $x}) { nodes { id } } }", {"x": [{} for _ in range(2_000)]}),
    Asked("99 empty filters in a variable", OK,
          "query($x: [StudyWhere!]) { studies(where: {OR: $x}) { nodes { id } } }", {"x": [{} for _ in range(99)]}),
    Asked("a filter of 900 KiB", "BAD_FILTER", STUDY_BY_NAME, {"x": "x" * 900_000}),
    Asked("an id of 900 KiB", "NOT_FOUND", STUDY, {"x": "x" * 900_000}),
    Asked("a cursor of 900 KiB", "BAD_CURSOR", ITEM_AFTER, {"x": "x" * 900_000}),
    Asked("a number of 30,000 digits", "INVALID_QUERY",
          "{ queueItems(first: " + "9" * 30_000 + ") { nodes { id } } }"),
    Asked("a name of 30,000 characters", "INVALID_QUERY", "{ " + "q" * 30_000 + " }"),
    Asked("an enum of 30,000 characters", "INVALID_QUERY",
          "{ queueItems(orderBy: " + "Q" * 30_000 + ") { nodes { id } } }"),
    Asked("a million items a page", "INVALID_VALUE", FIRST, {"x": 1_000_000}),
    Asked("10⁹ items a page", "INVALID_VALUE", FIRST, {"x": 10**9}),
    Asked("10¹² items a page", "INVALID_QUERY", FIRST, {"x": 10**12}),
    Asked("-1 items a page", "INVALID_VALUE", FIRST, {"x": -1}),
    Asked("half an item a page", "INVALID_QUERY", FIRST, {"x": 0.5}),
    Sent("a body of 2 MiB", 413, "TOO_LARGE", b" " * 2 * MIB),
    Sent("a gzip bomb of 300 MiB", 415, "BAD_REQUEST",
         gzip.compress(b" " * 300 * MIB, 1), {"Content-Encoding": "gzip"}),
    Sent("a bomb of another kind", 415, "BAD_REQUEST", b"x" * 100, {"Content-Encoding": "br"}),
    Sent("JSON nested 100,000 deep", 400, "BAD_REQUEST", b'{"query":' + b"[" * 100_000),
    Sent("100 headers", 200, OK, headers={f"X-{n}": "y" * 100 for n in range(100)}),
    Sent("headers of 200 KiB", 431, "TOO_LARGE", headers={f"X-{n}": "y" * 2_000 for n in range(100)}),
)  # fmt: skip

MALFORMED = (
    Asked("a variable nobody declared", "INVALID_QUERY", "{ study(id: $x) { id } }"),
    Asked("a variable that is missing", "INVALID_QUERY", STUDY),
    Asked("a variable of another type", "INVALID_QUERY", STUDY, {"x": {"id": 1}}),
    Asked("an enum in lower case", "INVALID_QUERY", "{ queueItems(where: {state: {eq: held}}) { nodes { id } } }"),
    Asked("an enum in lower case, as a variable", "INVALID_QUERY",
          "query($x: DeliveryState) { queueItems(where: {state: {eq: $x}}) { nodes { id } } }", {"x": "held"}),
    Asked("30 February", "INVALID_QUERY", SINCE, {"x": "2026-02-30T00:00:00Z"}),
    Asked("the 25th hour", "INVALID_QUERY", SINCE, {"x": "2026-02-03T25:00:00Z"}),
    Asked("a time without a zone", "BAD_FILTER", SINCE, {"x": "2026-02-03T00:00:00"}),
    Asked("a time beyond the year 9999", "BAD_FILTER", SINCE, {"x": "9999-12-31T23:59:59-14:00"}),
    Asked("a time as a number", "INVALID_QUERY", SINCE, {"x": 1e300}),
    Asked("a cursor edited by hand", "CURSOR_OF_ANOTHER_LIST", ITEM_AFTER, {"x": "$edited"}),
    Asked("a cursor cut short", "BAD_CURSOR", ITEM_AFTER, {"x": "$cut"}),
    Asked("a cursor of JSON", "BAD_CURSOR", ITEM_AFTER, {"x": "WzEsIngiLFsiMSJdXQ=="}),
    Asked("a cursor of another list", "CURSOR_OF_ANOTHER_LIST", STUDY_AFTER, {"x": "$cursor"}),
    Asked("an id cut short", "NOT_FOUND", ITEM, {"x": "$short"}),
    Asked("an id beyond 64 bits", "NOT_FOUND", STUDY, {"x": "U3R1ZHk6OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk"}),
    Asked("an id of a negative number", "NOT_FOUND", STUDY, {"x": "U3R1ZHk6LTE="}),
    Asked("no document", "BAD_REQUEST", ""),
    Asked("types instead of operations", "BAD_REQUEST", "type Query { a: Int }"),
    Asked("a document of punctuation", "SYNTAX_ERROR", "!!!$$$"),
    Asked("an unknown directive", "INVALID_QUERY", "{ viewer { name @upper } }"),
    Sent("GET", 405, "BAD_REQUEST", b"", method="GET", path="/graphql?query=%7Bviewer%7Bname%7D%7D"),
    Sent("PUT", 405, "BAD_REQUEST", method="PUT"),
    Sent("another path", 404, "BAD_REQUEST", path="/graphql/../../etc/passwd"),
    Sent("a path out of the page's folder", 404, "BAD_REQUEST", b"", method="GET", path="/graphiql/..%2f..%2fapp.py"),
    Sent("a form", 415, "BAD_REQUEST", b"query=x", {"Content-Type": "application/x-www-form-urlencoded"}),
    Sent("plain text", 415, "BAD_REQUEST", headers={"Content-Type": "text/plain"}),
    Sent("no type", 415, "BAD_REQUEST", headers={"Content-Type": None}),
    Sent("files", 415, "BAD_REQUEST", b"--x--", {"Content-Type": "multipart/form-data; boundary=x"}),
    Sent("nothing", 400, "BAD_REQUEST", b""),
    Sent("JSON that is none", 400, "BAD_REQUEST", b"{'query': 1}"),
    Sent("JSON cut short", 400, "BAD_REQUEST", b'{"query": "{ viewer { name } }"'),
    Sent("a batch", 400, "BAD_REQUEST", b'[{"query": "{ viewer { name } }"}]'),
    Sent("a batch of thousands", 400, "BAD_REQUEST", json.dumps([{"query": "{ viewer { name } }"}] * 20_000).encode()),
    Sent("a number", 400, "BAD_REQUEST", b"1e400"),
    Sent("NaN", 400, "BAD_REQUEST", b'{"query": NaN}'),
    Sent("bytes that are no UTF-8", 400, "BAD_REQUEST", b'{"query": "\xff\xfe"}'),
    Sent("UTF-16", 400, "BAD_REQUEST", '{"query": "{ viewer { name } }"}'.encode("utf-16")),
    Sent("half a character", 400, "BAD_REQUEST", b'{"query": "\\ud800"}'),
    Sent("variables as a list", 400, "BAD_REQUEST", b'{"query": "{ viewer { name } }", "variables": []}'),
    Sent("a name as a number", 400, "BAD_REQUEST", b'{"query": "{ viewer { name } }", "operationName": 1}'),
    Sent("an unknown document", 400, "DOCUMENT_NOT_FOUND", b'{"documentId": "sha256:00"}'),
)  # fmt: skip

OVER_HTTP = (*INJECTION, *AUTHORISATION, *EXHAUSTION, *MALFORMED)
