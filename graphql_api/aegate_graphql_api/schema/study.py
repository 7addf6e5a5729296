"""Patient, Study, Series, Instance: what was received. Patient data: only for the holders of DICOM_QUEUE."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Any, Optional, cast

import strawberry

from aegate_core.database import as_datetime, as_json
from aegate_core.stores.index.list_resources import keys_matching
from aegate_core.stores.index.list_studies import (
    INSTANCE_ORDER,
    INSTANCES,
    SERIES,
    STUDIES,
    STUDY_ORDERS,
)
from aegate_core.stores.listing import AllOf, Compare, Filter, Op, read_by
from aegate_graphql_api.connections import (
    DEFAULT_FIRST,
    After,
    Asked,
    Before,
    Connection,
    First,
    Last,
    Listing,
    connection,
)
from aegate_graphql_api.context import Context, Info, moment
from aegate_graphql_api.patient_data import PATIENT_DATA
from aegate_graphql_api.permissions import QUEUE
from aegate_graphql_api.schema.close_unit import CloseUnit, load_units
from aegate_graphql_api.schema.node import Node, global_id, number_of
from aegate_graphql_api.schema.of_study import anything_of_a_study
from aegate_graphql_api.schema.scalars import BigInt
from aegate_graphql_api.search import NumberFilter, Term, TextFilter, TimeFilter, filter_of, terms


@strawberry.type(description="A person as known in a partition.", directives=[QUEUE, PATIENT_DATA])
class Patient(Node):
    """A patient."""

    patient_id: str
    issuer: str
    name: str = strawberry.field(description="Alphabetic group, as in DICOM: Family^Given.")
    name_ideographic: str
    name_phonetic: str
    birth_date: str = strawberry.field(description="YYYYMMDD, as in DICOM; may be empty.")
    sex: str
    identified: bool = strawberry.field(
        description="False: arrived without PatientID, belongs to one study alone."
    )


@strawberry.type(description="A SOP instance with its current arrival.", directives=[QUEUE, PATIENT_DATA])
class Instance(Node):
    """An instance."""

    sop_instance_uid: str
    sop_class_uid: str
    instance_number: str
    number_of_frames: int
    arrival_id: str | None
    source_ae: str | None
    received_at: datetime | None
    transfer_syntax_uid: str | None
    size_bytes: BigInt | None
    sha256: str | None
    removed_at: datetime | None = strawberry.field(
        description="When retention removed the image; what is known of it stays. Null: it is here."
    )


@strawberry.type(description="A series of a study.", directives=[QUEUE, PATIENT_DATA])
class Series(Node):
    """A series."""

    key: strawberry.Private[int]
    series_instance_uid: str
    modality: str
    series_number: str
    description: str
    body_part: str
    station_name: str
    instance_count: int
    size_bytes: BigInt

    @strawberry.field(description="In the order of their first arrival.")
    async def instances(
        self,
        info: Info,
        first: First = DEFAULT_FIRST,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Instance]:
        """Page through the instances."""
        listing = Listing(
            "instances", INSTANCES, INSTANCE_ORDER, Compare("series", Op.EQ, self.key), self.key
        )
        return await connection(info.context, listing, instance_of, page=Asked(first, after, last, before))


@strawberry.type(description="A study in a partition.", directives=[QUEUE, PATIENT_DATA])
class Study(Node):
    """A study."""

    key: strawberry.Private[int]
    study_instance_uid: str
    partition: str
    patient: Patient
    accession_number: str
    study_id: str
    study_date: str
    study_time: str
    description: str
    referring_physician: str
    modalities: list[str]
    document_type: str
    location_code: str | None
    source_ae: str = strawberry.field(description="namespace/name of the AE whose image came first.")
    first_arrival_at: datetime
    last_arrival_at: datetime
    series_count: int
    instance_count: int
    size_bytes: BigInt

    @strawberry.field(description="All series.")
    async def series(self, info: Info) -> list[Series]:
        """Load the series of all studies of the answer at once."""
        return cast("list[Series]", await info.context.loader(load_series).load(self.key))

    @strawberry.field(description="What closes together in it, and how that went.")
    async def close_units(self, info: Info) -> list[CloseUnit]:
        """Load the units of all studies of the answer at once."""
        return cast("list[CloseUnit]", await info.context.loader(load_units).load(self.key))


_MOVES = " An image that arrives moves its study: while you page it may be missed or come twice."


@strawberry.enum(description="Orders that an index serves.")
class StudyOrder(Enum):
    """Orders of studies."""

    NEWEST_ARRIVAL = strawberry.enum_value(
        "NEWEST_ARRIVAL", description="Whose last image came last comes first." + _MOVES
    )
    OLDEST_ARRIVAL = strawberry.enum_value(
        "OLDEST_ARRIVAL", description="Whose last image came first comes first." + _MOVES
    )
    NEWEST_STUDY_DATE = strawberry.enum_value(
        "NEWEST_STUDY_DATE",
        description="By the date that the device wrote, the latest first; without one: last.",
    )
    OLDEST_STUDY_DATE = strawberry.enum_value(
        "OLDEST_STUDY_DATE",
        description="By the date that the device wrote, the earliest first; without one: first.",
    )


@strawberry.input(description="All that is given must hold. Dates are YYYYMMDD.")
class StudyWhere:
    """Filter of studies."""

    patient_name: TextFilter | None = None
    patient_id: TextFilter | None = None
    accession_number: TextFilter | None = None
    study_instance_uid: TextFilter | None = None
    study_date: TextFilter | None = None
    description: TextFilter | None = None
    modality: TextFilter | None = None
    document_type: TextFilter | None = None
    location_code: TextFilter | None = None
    partition: TextFilter | None = None
    source_ae: TextFilter | None = None
    last_arrival_at: TimeFilter | None = None
    instance_count: NumberFilter | None = None
    all_of: Optional[list[StudyWhere]] = strawberry.field(default=None, name="AND")  # noqa: UP045 - strawberry resolves the name later
    any_of: Optional[list[StudyWhere]] = strawberry.field(default=None, name="OR")  # noqa: UP045 - as above


PREFIXES: Mapping[str, tuple[str, Op]] = {
    "patient": ("patient_name", Op.CONTAINS),
    "id": ("patient_id", Op.STARTS_WITH),
    "accession": ("accession_number", Op.STARTS_WITH),
    "study": ("study_instance_uid", Op.STARTS_WITH),
    "date": ("study_date", Op.STARTS_WITH),
    "modality": ("modality", Op.STARTS_WITH),
    "location": ("location_code", Op.STARTS_WITH),
    "partition": ("partition", Op.CONTAINS),
}


async def studies(  # noqa: PLR0913 - a GraphQL field has the arguments that callers need
    info: Info,
    search: str | None = None,
    where: StudyWhere | None = None,
    order_by: StudyOrder = StudyOrder.NEWEST_ARRIVAL,
    first: First = DEFAULT_FIRST,
    after: After = None,
    last: Last = None,
    before: Before = None,
) -> Connection[Study]:
    """List studies."""
    found = await studies_filter(info.context, search, where)
    listing = Listing("studies", STUDIES, STUDY_ORDERS[order_by.name], found, (search, where))
    return await connection(info.context, listing, study_of, page=Asked(first, after, last, before))


async def studies_filter(context: Context, search: str | None, where: StudyWhere | None) -> Filter:
    """Return what a search and a filter ask for."""
    parts = [filter_of(where)]
    for term in terms(search, (*PREFIXES, "ae")):
        parts.append(await _term(context, term))
    return AllOf(tuple(parts))


async def study(info: Info, id: strawberry.ID) -> Study | None:
    """Return one study."""
    return cast("Study | None", await info.context.loader(load_studies).load(number_of(id, "Study")))


async def _term(context: Context, term: Term) -> Filter:
    if term.prefix is not None and term.prefix in PREFIXES:
        column, op = PREFIXES[term.prefix]
        return term.compare(column, op)
    if term.prefix == "ae":
        return Compare("source_ae", Op.IN, await keys_matching(context.db, term.compare("text")))
    return anything_of_a_study(term)


async def load_studies(context: Context, keys: list[int]) -> list[Study | None]:
    """Load studies by their keys."""
    found = {
        int(str(r["id"])): study_of(r) for r in await read_by(context.db, STUDIES, "id", keys, context.scope)
    }
    return [found.get(key) for key in keys]


async def load_series(context: Context, keys: list[int]) -> list[list[Series]]:
    """Load the series of studies."""
    found: dict[int, list[Series]] = defaultdict(list)
    for row in await read_by(context.db, SERIES, "study", keys, context.scope):
        found[int(str(row["study_key"]))].append(series_of(row))
    return [sorted(found[key], key=lambda s: s.key) for key in keys]


def study_of(row: Mapping[str, Any]) -> Study:
    """Return a row of STUDIES as its type."""
    return Study(
        id=global_id("Study", row["id"]),
        key=int(row["id"]),
        patient=Patient(
            id=global_id("Patient", row["patient_key"]),
            patient_id=row["patient_id"],
            issuer=row["issuer"],
            name=row["name_alphabetic"],
            name_ideographic=row["name_ideographic"],
            name_phonetic=row["name_phonetic"],
            birth_date=row["birth_date"],
            sex=row["sex"],
            identified=not row["unidentified_study_uid"],
        ),
        modalities=cast("list[str]", as_json(row["modalities"])),
        first_arrival_at=as_datetime(row["first_arrival_at"]),
        last_arrival_at=as_datetime(row["last_arrival_at"]),
        **{name: row[name] for name in _STUDY_FIELDS},
    )


_STUDY_FIELDS = (
    "study_instance_uid",
    "partition",
    "accession_number",
    "study_id",
    "study_date",
    "study_time",
    "description",
    "referring_physician",
    "document_type",
    "location_code",
    "source_ae",
    "series_count",
    "instance_count",
    "size_bytes",
)


def series_of(row: Mapping[str, Any]) -> Series:
    """Return a row of SERIES as its type."""
    names = "series_instance_uid modality series_number description body_part station_name instance_count size_bytes"
    return Series(
        id=global_id("Series", row["id"]), key=int(row["id"]), **{name: row[name] for name in names.split()}
    )


def instance_of(row: Mapping[str, Any]) -> Instance:
    """Return a row of INSTANCES as its type."""
    names = (
        "sop_instance_uid sop_class_uid instance_number number_of_frames arrival_id transfer_syntax_uid "
        "size_bytes sha256"
    )
    return Instance(
        id=global_id("Instance", row["id"]),
        source_ae=row["ae"],
        received_at=moment(row["received_at"]),
        removed_at=moment(row["removed_at"]),
        **{name: row[name] for name in names.split()},
    )
