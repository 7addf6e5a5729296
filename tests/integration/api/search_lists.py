"""Queue items, AEs, routes and an audit of every kind, and a plain model of what people type to find them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import cast

from aegate_core.database import Database
from aegate_core.dicom.ae_title import AETitle
from aegate_core.dicom.text import search_text
from aegate_core.resources.values import Ability, ApplicationEntity, ImageRoute, Level
from aegate_core.services.audit import Area, Deed, record
from aegate_core.services.entities import apply_configuration
from aegate_core.stores.index.list_audit import AUDIT
from aegate_core.stores.index.list_resources import ENTITIES, ROUTES
from aegate_core.stores.listing import Filter, Op, Source
from aegate_core.stores.queue.list_items import ITEMS
from aegate_graphql_api.context import Context
from aegate_graphql_api.permission import Permission
from aegate_graphql_api.permissions import Caller
from aegate_graphql_api.schema.audit import events_filter
from aegate_graphql_api.schema.queue_item import items_filter
from aegate_graphql_api.schema.resources import entities_filter, named_filter
from tests.integration.api.test_search_model import (
    HOSPITAL,
    NOW,
    finds,
    has_phrase,
    has_word,
    insert_studies,
    of_name,
    of_text,
)
from tests.integration.intake.hospital import entity, route

Row = Mapping[str, object]
"""By column of the list; a number, a time, a text, the three groups of a name; ``text``: what is searched, folded."""


@dataclass(frozen=True)
class Listed:
    """A list, its rows as the model knows them, and what people type to find them."""

    source: Source
    key: str
    insert: Callable[[Database], Coroutine[None, None, None]]
    rows: Sequence[Row]
    box: Callable[[Database, str], Coroutine[None, None, Filter]]
    prefixes: tuple[str, ...]
    has: Callable[[str | None, str, Row], bool]
    """Whether a term, after this prefix, finds a row."""
    typed: Mapping[str, set[int]]
    """What people type, and the places of the rows that it finds."""
    untold: frozenset[str] = frozenset({"text"})
    """Columns that are asked by the box alone, or have a test of their own."""


# The model.


def with_wildcards(text: str) -> str:
    """Return a pattern with the wide forms of its wildcards as the narrow ones."""
    return "".join(
        narrow if re.search(r"[*?]", narrow := unicodedata.normalize("NFKD", c)) else c for c in text
    )


def is_wild(text: str) -> bool:
    return re.search(r"[*?]", with_wildcards(text)) is not None


def is_short(text: str) -> bool:
    return len(re.sub(r"[*?\s]", "", search_text(text))) < 3


def plain(prefix: str | None, op: Op, text: str, value: object) -> bool:
    """Whether a term finds a text that is not folded."""
    found = cast("str | None", value)
    if is_wild(text):
        return of_text(Op.MATCHES, with_wildcards(text), found)
    if prefix is None and is_short(text):
        return of_text(Op.STARTS_WITH, text, found)
    return found == text if op is Op.EQ else of_text(op, text, found)


def folded(prefix: str | None, text: str, said: object) -> bool:
    """Whether a term finds a search text."""
    if prefix is None:
        return finds(text, str(said))
    wanted = search_text(text)
    return has_word(wanted, str(said)) if is_wild(wanted) else has_phrase(wanted, str(said))


# AEs and routes.

_AES: tuple[ApplicationEntity, ...] = (
    replace(entity("ct1"), node="ct1.example", location_code="ER", comment="Röntgen, 1. Stock"),
    replace(entity("ct10"), node="10.0.0.1", port=11112, location_code="er", comment="100% * neu?"),
    replace(entity("eye/ct1"), title=AETitle("CT_1 %"), node="ct1", ability=Ability.PRINT),
    replace(entity("pacs"), title=AETitle("Pacs"), location_code="Ü1", comment="山田 ﾊﾟｯｸｽ"),
    replace(entity("eye/ws-1"), node="WS-1.example", port=4242, patient_partition="lab", comment="a\\b = c"),
    replace(entity("ws.1"), location_code="", comment="Straße ẞ", enabled=False),
)
_ROUTES: tuple[ImageRoute, ...] = (
    route("ct-to-pacs", ["pacs"], comment="Nächte"),
    route("ct1-to-ws", ["ws.1", "pacs"], comment="100%?", enabled=False),
    route("eye/ct-to-pacs", ["ws-1"], level=Level.SERIES, priority=7),
    route("all", ["ws.1"], comment="山田", level=Level.STUDY, priority=70),
)


async def _apply(db: Database) -> None:
    gone = entity("ct2", comment="Röntgen")
    await apply_configuration(db, (*_AES, *_ROUTES, gone, route("ct2-to-pacs", ["pacs"])), now=NOW)
    await apply_configuration(db, (*_AES, *_ROUTES), now=NOW)


def _entity_row(ae: ApplicationEntity) -> Row:
    return {
        "key": str(ae.key),
        "namespace": ae.key.namespace,
        "name": ae.key.name,
        "title": ae.title.value,
        "node": ae.node,
        "port": ae.port,
        "ability": ae.ability.value,
        "location_code": ae.location_code,
        "partition": f"{ae.key.namespace}/{ae.patient_partition}",
        "enabled": ae.enabled,
        "comment": ae.comment or None,
        "text": search_text(ae.title.value, ae.key.name, ae.node, ae.location_code, ae.comment),
    }


def _route_row(found: ImageRoute) -> Row:
    return {
        "key": str(found.key),
        "namespace": found.key.namespace,
        "name": found.key.name,
        "enabled": found.enabled,
        "comment": found.comment or None,
        "priority": found.priority,
        "level": found.level and found.level.value,
        "text": search_text(found.key.name, *found.to, found.comment),
    }


def _entity_has(prefix: str | None, text: str, row: Row) -> bool:
    if prefix is None:
        return folded(prefix, text, row["text"])
    column = {"title": "title", "location": "location_code"}[prefix]
    return plain(prefix, Op.STARTS_WITH, text, row[column])


def _route_has(prefix: str | None, text: str, row: Row) -> bool:
    if prefix is None:
        return folded(prefix, text, row["text"])
    return plain(prefix, Op.STARTS_WITH, text, row["name"])


async def _entity_box(_: Database, search: str) -> Filter:
    return entities_filter(search, None)


async def _route_box(_: Database, search: str) -> Filter:
    return named_filter(search, None)


# Queue items: of a study each, to an AE, asked for by a route or a person.

_STATES = ("SCHEDULED", "IN_PROGRESS", "RETRY", "HELD", "COMPLETED", "WARNING", "FAILED", "CANCELED")
_REQUESTED = (
    "route:default/ct-to-pacs",
    "person:Ann Müller",
    "close",
    "route:eye/ct-to-pacs",
    "route:default/all",
)


def _item_row(n: int) -> Row:
    study = HOSPITAL[n % len(HOSPITAL)]
    to, source = _AES[n % 5], _AES[n * 5 % 6]
    return {
        "id": n + 1,
        "state": _STATES[n % 8],
        "destination": str(to.key),
        "source_ae": str(source.key),
        "partition": ("default/default", "eye/lab")[n % 2],
        "location_code": source.location_code,
        "requested_by": _REQUESTED[n * 7 % 5],
        "priority": n * 13 % 101,
        "attempts": n % 4,
        "created_at": NOW + timedelta(microseconds=n % 3, minutes=n // 3),
        "finished_at": NOW + timedelta(hours=n) if n % 8 >= 4 else None,
        "unit_uid": f"1.2.{n % len(HOSPITAL)}" + (".1" if n % 3 else ""),
        "error_code": ("STATUS_A900", "", None)[n % 3],
        "hold_code": "PERSON" if n % 8 == 3 else None,
        "study": n % len(HOSPITAL),
        "patient_name": study.name,
        "patient_id": study.patient_id,
        "accession_number": study.accession,
        "study_instance_uid": f"1.2.{n % len(HOSPITAL)}",
        "study_date": study.date,
        "document_type": "CT",
        "text": study.text,
    }


_ITEM_ROWS = tuple(_item_row(n) for n in range(24))
_STORED = tuple(
    name
    for name in _ITEM_ROWS[0]
    if name in ITEMS.columns and ITEMS.columns[name].sql.startswith("q.") and name != "study"
)


async def _enqueue(db: Database) -> None:
    await insert_studies(db)
    await _apply(db)
    destinations = {str(row["ae"]): row["id"] for row in await db.fetch("SELECT id, ae FROM destination")}
    values = ", ".join(f"${n + 4}" for n in range(len(_STORED)))
    created = _STORED.index("created_at") + 4
    for row in _ITEM_ROWS:
        await db.execute(
            "INSERT INTO delivery (study_id, destination_id, level, rank, supplementary, dedup_key, available_at, "
            f"instances_total, instances_done, instances_failed, size_bytes, version, {', '.join(_STORED)}) "
            f"VALUES ($1, $2, 'Study', 0, FALSE, $3, ${created}, 0, 0, 0, 0, 1, {values})",
            row["study"],
            destinations[str(row["destination"])],
            f"item-{row['id']}",
            *(row[name] for name in _STORED),
        )


def _item_has(prefix: str | None, text: str, row: Row) -> bool:
    if prefix == "patient":
        op = Op.MATCHES if is_wild(text) else Op.CONTAINS
        return of_name(op, text, cast("tuple[str, str, str]", row["patient_name"]))
    if prefix in ("id", "accession"):
        column = {"id": "patient_id", "accession": "accession_number"}[prefix]
        return plain(prefix, Op.STARTS_WITH, text, row[column])
    if prefix == "study":
        uid = str(row["study_instance_uid"])
        return of_text(Op.MATCHES, with_wildcards(text), uid) if is_wild(text) else uid.startswith(text)
    said = {str(ae.key): _entity_row(ae)["text"] for ae in _AES}
    to, source = (folded(prefix, text, said[str(row[name])]) for name in ("destination", "source_ae"))
    if prefix is not None:
        return {"from": source, "to": to, "ae": source or to}[prefix]
    by = str(row["requested_by"])
    return (
        to
        or folded(prefix, text, row["text"])
        or (by.startswith("route:") and plain(prefix, Op.CONTAINS, text, by.removeprefix("route:")))
        or (
            re.fullmatch(r"[0-9]+(\.[0-9]*)+", text) is not None
            and str(row["study_instance_uid"]).startswith(text)
        )
    )


async def _item_box(db: Database, search: str) -> Filter:
    return await items_filter(Context(db, Caller("somebody", frozenset()), NOW), search, None)


# The audit.

_DEEDS: tuple[tuple[datetime, Deed], ...] = tuple(
    (NOW + timedelta(microseconds=n % 2, seconds=n // 2), deed)
    for n, deed in enumerate(
        (
            Deed("anna", "holdQueueItems", "QueueItem:1,17", partition="default/default"),
            Deed("Anna Müller", "holdDestination", "Destination:default/pacs", "REFUSED", "10.1.2.3"),
            Deed("müller@example", "readPatientData", "Operation:Studies_*", area=Area.ACCESS, address="::1"),
            Deed("retention", "remove-images", "Study:7", area=Area.IMAGES, partition="eye/lab"),
            Deed(
                "ANNA", "updateApplicationEntity", "ApplicationEntity:eye/ct1", "FAILED", area=Area.ENTITIES
            ),
            Deed("100%", "hold", "QueueItem:100%?", address="10.1.2.30"),
            Deed("山田", "sent", "QueueItem:2", area=Area.IMAGES, partition="default/Default"),
            Deed("a\\b 'c'", "remove-images", "Study:71", area=Area.IMAGES),
        )
    )
)
_AUDIT_ROWS: tuple[Row, ...] = tuple(
    {
        "id": n + 1,
        "at": at,
        "actor": deed.actor,
        "address": deed.address,
        "action": deed.action,
        "target": deed.target,
        "outcome": deed.outcome,
        "area": deed.area.value,
        "partition": deed.partition,
    }
    for n, (at, deed) in enumerate(_DEEDS)
)


async def _record(db: Database) -> None:
    for at, deed in _DEEDS:
        await record(db, deed, now=at)


def _event_has(prefix: str | None, text: str, row: Row) -> bool:
    if prefix is None:
        return any(plain(None, Op.CONTAINS, text, row[name]) for name in ("actor", "action", "target"))
    return plain(prefix, Op.STARTS_WITH if prefix == "target" else Op.EQ, text, row[prefix])


async def _event_box(_: Database, search: str) -> Filter:
    return events_filter(Caller("somebody", frozenset(Permission)), search, None)


LISTED = {
    "AEs": Listed(
        ENTITIES,
        "key",
        _apply,
        tuple(map(_entity_row, _AES)),
        _entity_box,
        ("title", "location"),
        _entity_has,
        untold=frozenset({"text", "ready"}),
        typed={
            "rontgen": {0},
            "CT1": {0, 1, 2},
            "ct1*": {0, 1, 2},
            "location:er": {0, 1},
            "title:ct＊": {0, 1, 2},
            "ct2": set(),
        },
    ),
    "routes": Listed(
        ROUTES,
        "key",
        _apply,
        tuple(map(_route_row, _ROUTES)),
        _route_box,
        ("name",),
        _route_has,
        untold=frozenset({"text", "ready", "to"}),
        typed={"pacs": {0, 1, 2}, "name:ct": {0, 1, 2}, "nachte": {0}, "name:＊pacs": {0, 2}},
    ),
    "queue items": Listed(
        ITEMS,
        "id",
        _enqueue,
        _ITEM_ROWS,
        _item_box,
        ("patient", "id", "accession", "study", "ae", "from", "to"),
        _item_has,
        untold=frozenset({"text", "series", "instance", "destination_key"}),
        typed={
            "müller jörg": {0, 8, 12, 20},
            "to:pacs": {3, 8, 13, 18, 23},
            "id:p1＊": {0, 1, 9, 12, 13, 21},
            "study:1.2.3": {3, 15},
        },
    ),
    "audit": Listed(
        AUDIT,
        "id",
        _record,
        _AUDIT_ROWS,
        _event_box,
        ("actor", "address", "action", "target", "partition"),
        _event_has,
        untold=frozenset(),
        typed={
            "anna": {0, 1, 4},
            "actor:anna": {0},
            "actor:ann＊": {0, 1, 4},
            "target:study:7": {3, 7},
            'action:remove-images "Study:71"': {7},
        },
    ),
}
