"""The attacks of the table that come over a WebSocket: messages and frames, and how each is answered. Data alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.integration.api.attacks import HOLD, NOTHING, OK, PROBLEM, QUOTE, chained

PROTOCOL = "graphql-transport-ws"


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes for the socket as they stand, below frames."""

    content: bytes


@dataclass(frozen=True, slots=True)
class Said:
    """What should not have been said over a WebSocket: mappings as JSON, texts, bytes as binary frames."""

    name: str
    closed: int | None
    """The code of the close, or the status that refuses the handshake; None: the connection goes on."""
    code: str
    """How the reason of the close begins, or the code of the operation's error; those of a library have none."""
    said: Sequence[Mapping[str, object] | str | bytes | Raw]
    token: str | None = "both"
    """Whose token opens it; None: no connection_init is sent before."""
    protocol: str | None = PROTOCOL
    headers: Mapping[str, str] = field(default_factory=dict)


def _subscribe(query: object, id: str = "1", **variables: object) -> Mapping[str, object]:
    return {"type": "subscribe", "id": id, "payload": {"query": query, "variables": variables}}


def _init(payload: object) -> Mapping[str, object]:
    return {"type": "connection_init", "payload": payload}


def _masked(first: int, content: bytes) -> Raw:
    """A frame as clients send it, of less than 126 bytes; a mask of zeros leaves its content as it is."""
    return Raw(bytes([first, 0x80 | len(content)]) + bytes(4) + content)


QUEUE = "subscription { queue { nodes { id } } }"
OF_STUDY = "subscription($x: ID!) { queue(where: {studyIds: [$x]}) { nodes { id } } }"
TO = "subscription($x: String!) { queue(where: {destinations: [$x]}) { nodes { id } } }"
AFTER = "subscription($x: String) { queue(after: $x) { nodes { id } } }"
STATUS = "subscription { applicationEntityStatus { nodes { id } } }"
WIDE = (
    "subscription { queue(first: 100) { nodes { instances(first: 100) { nodes { state status attempts errorCode "
    "arrivalId sopInstanceUid sopClassUid statusHex availableAt finishedAt } } } } }"
)

FIRST_WORDS = (
    Said("a WebSocket that says nothing", 4408, "UNAUTHENTICATED", (), None),
    Said("a subscription before connection_init", 4401, "UNAUTHENTICATED", (_subscribe(QUEUE),), None),
    Said("a ping before connection_init", 4401, "UNAUTHENTICATED", ({"type": "ping"},), None),
    Said("connection_init without a token", 4403, "UNAUTHENTICATED", ({"type": "connection_init"},), None),
    Said("connection_init with a list", 4403, "UNAUTHENTICATED", (_init(["authorization"]),), None),
    Said("connection_init with an unknown token", 4403, "UNAUTHENTICATED",
         (_init({"authorization": "Bearer x"}),), None),
    Said("connection_init with a token as a password", 4403, "UNAUTHENTICATED",
         (_init({"authorization": "Basic YTpi"}),), None),
    Said("connection_init with a token that has no scheme", 4403, "UNAUTHENTICATED",
         (_init({"authorization": "$both"}),), None),
    Said("connection_init with a token that expired", 4403, "UNAUTHENTICATED",
         (_init({"authorization": "$expired"}),), None),
    Said("connection_init twice", 4429, "BAD_REQUEST", (_init({}),)),
    Said("a WebSocket of the older protocol", 4406, "", (), None, "graphql-ws"),
    Said("a WebSocket of no protocol", 4406, "", (), None, None),
    Said("a WebSocket of a page of another origin", 403, "", (), None, headers={"Origin": "https://evil.example.org"}),
    Said("a WebSocket of a page of no origin", 403, "", (), None, headers={"Origin": "null"}),
    Said("a WebSocket of a page of another port", 403, "", (), None, headers={"Origin": "http://127.0.0.1:1"}),
)  # fmt: skip

FRAMES = (
    Said("a message that is no JSON", 4400, "BAD_REQUEST", ("{",)),
    Said("a message that is a list", 4400, "BAD_REQUEST", ("[]",)),
    Said("a message that is null", 4400, "BAD_REQUEST", ("null",)),
    Said("a message nested 30,000 deep", 4400, "BAD_REQUEST", ("[" * 30_000,)),
    Said("a message of half a character", 4400, "BAD_REQUEST", ('{"type": "\\ud800"}',)),
    Said("a binary frame", 4400, "BAD_REQUEST", (b"\x00",)),
    Said("a message in a binary frame", 4400, "BAD_REQUEST", (b'{"type": "ping"}',)),
    Said("a message of a number as type", 4400, "BAD_REQUEST", ({"type": 1},)),
    Said("a message of the server's own", 4400, "BAD_REQUEST", ({"type": "next"},)),
    Said("a message of the older protocol", 4400, "BAD_REQUEST", ({"type": "start", "id": "1"},)),
    Said("a subscription without an id", 4400, "BAD_REQUEST", ({"type": "subscribe"},)),
    Said("a subscription with an id of 65 characters", 4400, "BAD_REQUEST", (_subscribe(QUEUE, "x" * 65),)),
    Said("a message of 70,000 characters", 1009, "", ({"type": "ping", "payload": "x" * 70_000},)),
    Said("a frame that says 100 MB", 1009, "",
         (Raw(b"\x81\xff" + (100_000_000).to_bytes(8) + bytes(4) + b"x" * 1_000),)),
    Said("a frame that says 2⁶³ bytes", 1009, "", (Raw(b"\x81\xff" + (2**63 - 1).to_bytes(8) + bytes(4)),)),
    Said("fragments without an end", 1009, "", (_masked(0x01, b"x"), *(_masked(0x00, b"x" * 125) for _ in range(600)))),
    Said("a frame without a mask", 1002, "", (Raw(b"\x81\x02{}"),)),
    Said("a frame with reserved bits", 1002, "", (_masked(0xF1, b"{}"),)),
    Said("a frame of an unknown kind", 1002, "", (_masked(0x83, b"{}"),)),
    Said("a text that is no UTF-8", 1007, "", (_masked(0x81, b"\xff\xfe"),)),
    Said("1,000 pings", 4429, "TOO_MANY_STREAMS", ({"type": "ping"},) * 1_000),
    Said("1,000 pongs", 4429, "TOO_MANY_STREAMS", ({"type": "pong"},) * 1_000),
    Said("1,000 ends of what never began", 4429, "TOO_MANY_STREAMS", ({"type": "complete", "id": "x"},) * 1_000),
)  # fmt: skip

OPERATIONS = (
    Said("a subscription without a payload", None, "BAD_REQUEST", ({"type": "subscribe", "id": "1"},)),
    Said("a subscription that is a list", None, "BAD_REQUEST", ({"type": "subscribe", "id": "1", "payload": []},)),
    Said("a subscription of no document", None, "BAD_REQUEST", (_subscribe(""),)),
    Said("a subscription of a number", None, "BAD_REQUEST", (_subscribe(1),)),
    Said("variables of a subscription as a list", None, "BAD_REQUEST",
         ({"type": "subscribe", "id": "1", "payload": {"query": QUEUE, "variables": []}},)),
    Said("a subscription of punctuation", None, "SYNTAX_ERROR", (_subscribe("!!!$$$"),)),
    Said("two fields in a subscription", None, "INVALID_QUERY",
         (_subscribe("subscription { queue { snapshot } dashboard { unindexed } }"),)),
    Said("a query over the socket", None, "BAD_REQUEST", (_subscribe("{ viewer { name } }"),)),
    Said("a mutation over the socket", None, "BAD_REQUEST", (_subscribe(HOLD + PROBLEM, x="$item"),)),
    Said("AE_EDITOR's mutation over the socket", None, "BAD_REQUEST",
         (_subscribe(HOLD + PROBLEM, x="$item"),), "editor"),
    Said("AE_EDITOR watches the queue", None, "FORBIDDEN", (_subscribe(QUEUE),), "editor"),
    Said("DICOM_QUEUE watches AEs", None, "FORBIDDEN", (_subscribe(STATUS),), "queue"),
    Said("another partition watches the queue", None, NOTHING, (_subscribe(QUEUE),), "elsewhere"),
    Said("another partition watches a study", None, NOTHING, (_subscribe(OF_STUDY, x="$study"),), "elsewhere"),
    Said("another partition watches a destination", None, NOTHING, (_subscribe(TO, x="default/pacs"),), "elsewhere"),
    Said("an id of another type in a subscription", None, "NOT_FOUND", (_subscribe(OF_STUDY, x="$item"),)),
    Said("SQL as an id in a subscription", None, "NOT_FOUND", (_subscribe(OF_STUDY, x=QUOTE),)),
    Said("SQL in the filter of a subscription", None, "BAD_FILTER", (_subscribe(TO, x=QUOTE),)),
    Said("a cursor of a list in a subscription", None, "BAD_CURSOR", (_subscribe(AFTER, x="$cursor"),)),
    Said("SQL as a cursor of a subscription", None, "BAD_CURSOR", (_subscribe(AFTER, x=QUOTE),)),
    Said("a subscription to pages of pages", None, "TOO_COMPLEX", (_subscribe(WIDE),)),
    Said("a subscription of 40 nested fragments", None, "TOO_COMPLEX",
         (_subscribe("subscription { queue { ...F0 } } " + chained(40, "QueueUpdate", "snapshot")),)),
    Said("a subscription of open brackets", None, "TOO_COMPLEX", (_subscribe("{" * 30_000),)),
    Said("a subscription with 6,000 ids", None, "TOO_COMPLEX",
         (_subscribe("subscription($x: [ID!]) { queue(where: {studyIds: $x}) { snapshot } }", x=["x"] * 6_000),)),
    Said("21 subscriptions at once", None, "TOO_MANY_STREAMS", tuple(_subscribe(QUEUE, str(n)) for n in range(21))),
    Said("an id twice", 4409, "BAD_REQUEST", (_subscribe(QUEUE), _subscribe(QUEUE))),
    Said("an end of another's subscription", None, OK, ({"type": "complete", "id": "2"}, _subscribe(QUEUE))),
)  # fmt: skip

OVER_WEBSOCKETS = (*FIRST_WORDS, *FRAMES, *OPERATIONS)
