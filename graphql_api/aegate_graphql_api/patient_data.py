"""Reading patient data leaves an audit row, committed before the answer goes out; without the row there is no answer.

Which types hold patient data they say themselves, by ``@patientData``. One row for each caller, operation and minute,
and one more for how often, when the minute is over: a kill costs that count, never the fact.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import strawberry
from graphql import (
    DocumentNode,
    GraphQLSchema,
    ListTypeNode,
    NamedTypeNode,
    NonNullTypeNode,
    OperationDefinitionNode,
    TypeNode,
)
from strawberry.schema_directive import Location

from aegate_core.database import Database
from aegate_core.services.audit import Area, Deed, record
from aegate_graphql_api.authorisation import selected_fields
from aegate_graphql_api.permissions import Caller

_ID = re.compile(r"[A-Za-z0-9+/=_-]{1,128}")
MOST_IDS = 20
"""Of the ids that an operation asks for, how many are recorded."""

MOST_KEPT = 10_000
"""Callers with their operations, of a minute; then it is as if the minute were over."""

READ = "readPatientData"


@strawberry.schema_directive(
    locations=[Location.OBJECT],
    description="Holds patient data: an operation that selects of it leaves a row in the audit.",
)
class PatientData:
    """Marks a type whose fields are patient data."""


PATIENT_DATA = PatientData()


@dataclass(frozen=True, slots=True)
class Reading:
    """What of patient data an operation selects; ``types`` are sorted."""

    operation: str
    """Its name; empty for one without."""
    document: str
    """The first 16 hex digits of the SHA-256 of its text."""
    types: tuple[str, ...]
    ids: tuple[str, ...] = ()
    """The global ids that it asks for by variables, at most MOST_IDS."""


def reading_of(
    schema: GraphQLSchema,
    document: DocumentNode,
    operation: str | None,
    variables: Mapping[str, object] | None,
) -> Reading | None:
    """Return what the operation reads of patients, or None when that is nothing."""
    types, id_variables, digest, name = _selected(schema, document, operation)
    if not types:
        return None
    given = [(variables or {}).get(variable) for variable in id_variables]
    ids = [
        str(i) for value in given for i in (value if isinstance(value, list) else [value]) if i is not None
    ]
    return Reading(name, digest, types, tuple(_as_kept(i) for i in ids[:MOST_IDS]))


def _as_kept(given: str) -> str:
    """Return an id as a row may hold it: what cannot be one of ours may be anything, a name or NUL too."""
    return given if _ID.fullmatch(given) else "no id"


@lru_cache(maxsize=64)
def _selected(
    schema: GraphQLSchema, document: DocumentNode, operation: str | None
) -> tuple[tuple[str, ...], tuple[str, ...], str, str]:
    marked = marked_types(schema)
    found = {kind for kind, _ in selected_fields(schema, document, operation)} & marked
    ids: list[str] = []
    names: list[str] = []
    for definition in document.definitions:
        if not isinstance(definition, OperationDefinitionNode):
            continue
        name = definition.name.value if definition.name else ""
        if operation is None or name == operation:
            names.append(name)
            variables = definition.variable_definitions or ()
            ids += [v.variable.name.value for v in variables if _named(v.type) == "ID"]
    text = document.loc.source.body if document.loc else ""
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return tuple(sorted(found)), tuple(ids), digest, names[0] if names else ""


def _named(kind: TypeNode) -> str:
    while isinstance(kind, NonNullTypeNode | ListTypeNode):
        kind = kind.type
    assert isinstance(kind, NamedTypeNode), "what is left of a type without its wrappers"
    return kind.name.value


@lru_cache(maxsize=8)
def marked_types(schema: GraphQLSchema) -> frozenset[str]:
    """Return the names of the types that hold patient data."""
    return frozenset(
        name
        for name, kind in schema.type_map.items()
        if any(
            isinstance(d, PatientData)
            for d in getattr(kind.extensions.get("strawberry-definition"), "directives", None) or ()
        )
    )


class AccessLog:
    """Writes who read patient data. One for a process; several processes each write their own rows."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._minute: datetime | None = None
        self._again: dict[tuple[Caller, Reading], int] = {}
        """How often since the row of this minute."""

    async def note(self, caller: Caller, reading: Reading, *, now: datetime) -> None:
        """Commit the row, unless this minute has it. Raises StorageError: then nothing may be answered."""
        await self.turn(now=now)
        key = (caller, reading)
        if key in self._again:
            self._again[key] += 1
            return
        await record(self._db, _deed(caller, reading, {}), now=now)
        self._again[key] = 0

    async def turn(self, *, now: datetime) -> None:
        """Begin another minute, if the last one is over. Raises StorageError."""
        minute = now.replace(second=0, microsecond=0)
        if minute != self._minute or len(self._again) >= MOST_KEPT:
            await self.flush(now=now)
            self._minute = minute

    async def flush(self, *, now: datetime) -> None:
        """Write how often each was read again in the minute that is over."""
        again, self._again, minute = self._again, {}, self._minute
        for (caller, reading), times in again.items():
            if times and minute is not None:
                detail = {"again": times, "minute": minute.isoformat()}
                await record(self._db, _deed(caller, reading, detail), now=now)


def _deed(caller: Caller, reading: Reading, detail: Mapping[str, object]) -> Deed:
    return Deed(
        caller.name,
        READ,
        f"Operation:{reading.operation or reading.document}",
        address=caller.address,
        detail={
            "document": reading.document,
            "types": list(reading.types),
            **({"ids": list(reading.ids)} if reading.ids else {}),
            **detail,
        },
        area=Area.ACCESS,
    )
