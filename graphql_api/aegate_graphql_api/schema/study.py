"""Patient, Study, Series, Instance: what was received. Patient data: only for the holders of DICOM_QUEUE."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Annotated, Any, Optional, cast

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
    By,
    Connection,
    First,
    Id,
    Last,
    Listing,
    Search,
    Sort,
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


@strawberry.type(description="A person, as known in one patient partition.", directives=[QUEUE, PATIENT_DATA])
class Patient(Node):
    """A patient."""

    patient_id: str = strawberry.field(
        description="The hospital's id of the patient, such as 4711; empty: none came."
    )
    issuer: str = strawberry.field(
        description="Who handed the id out, such as MAIN_HOUSE: two hospitals may give one id to two persons."
    )
    name: str = strawberry.field(description="Alphabetic group, as in DICOM: Family^Given.")
    name_ideographic: str = strawberry.field(
        description="The name in ideographs, as in DICOM, such as 山田^太郎; may be empty."
    )
    name_phonetic: str = strawberry.field(
        description="The name as it is spoken, as in DICOM, such as やまだ^たろう; may be empty."
    )
    birth_date: str = strawberry.field(description="YYYYMMDD, as in DICOM; may be empty.")
    sex: str = strawberry.field(description="M, F or O (other), as in DICOM; may be empty.")
    identified: bool = strawberry.field(
        description="False: arrived without PatientID, belongs to one study alone."
    )


@strawberry.type(
    description="An image or other object of a series (a SOP instance), as it last came.",
    directives=[QUEUE, PATIENT_DATA],
)
class Instance(Node):
    """An instance."""

    sop_instance_uid: str = strawberry.field(
        description="DICOM's own id of the image, such as 1.2.826.0.1.3680043.2.1.1."
    )
    sop_class_uid: str = strawberry.field(
        description="What kind of object it is, as a UID: 1.2.840.10008.5.1.4.1.1.2 is a CT image."
    )
    instance_number: str = strawberry.field(
        description="Its number in the series, as the device wrote it; may be empty."
    )
    number_of_frames: int = strawberry.field(description="How many pictures it holds: 1, or more in a clip.")
    arrival_id: str | None = strawberry.field(
        description="Which arrival counts: every time that an image comes is an arrival of its own."
    )
    source_ae: str | None = strawberry.field(
        description="namespace/name of the AE that sent it, such as default/ct1."
    )
    received_at: datetime | None = strawberry.field(description="When it came.")
    transfer_syntax_uid: str | None = strawberry.field(
        description="How it is encoded, as a UID: 1.2.840.10008.1.2.1 is uncompressed."
    )
    size_bytes: BigInt | None = strawberry.field(description="Size of its file in bytes.")
    sha256: str | None = strawberry.field(description="SHA-256 of its file, as hexadecimal digits.")
    removed_at: datetime | None = strawberry.field(
        description="When retention removed the image; what is known of it stays. Null: it is here."
    )


@strawberry.type(
    description="Images of a study that one device made in one go.", directives=[QUEUE, PATIENT_DATA]
)
class Series(Node):
    """A series."""

    key: strawberry.Private[int]
    series_instance_uid: str = strawberry.field(
        description="DICOM's own id of the series, such as 1.2.826.0.1.3680043.2.1."
    )
    modality: str = strawberry.field(description="Kind of device that made it, such as CT, MR, US or CR.")
    series_number: str = strawberry.field(
        description="Its number in the study, as the device wrote it; may be empty."
    )
    description: str = strawberry.field(
        description="What the device calls it, such as Thorax 5.0; may be empty."
    )
    body_part: str = strawberry.field(
        description="Which part of the body it shows, as the device wrote it, such as CHEST; may be empty."
    )
    station_name: str = strawberry.field(description="Name of the device as it wrote it; may be empty.")
    instance_count: int = strawberry.field(description="How many images of it are known.")
    size_bytes: BigInt = strawberry.field(description="Size of its files together, in bytes.")

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


@strawberry.type(
    description="An examination of a patient: all images that were made for it, in series.",
    directives=[QUEUE, PATIENT_DATA],
)
class Study(Node):
    """A study."""

    key: strawberry.Private[int]
    study_instance_uid: str = strawberry.field(
        description="DICOM's own id of the study, such as 1.2.826.0.1.3680043.2."
    )
    partition: str = strawberry.field(
        description="namespace/name of the patient partition that it belongs to."
    )
    patient: Patient = strawberry.field(description="Whose study it is.")
    accession_number: str = strawberry.field(
        description="The number under which the examination was ordered; may be empty."
    )
    study_id: str = strawberry.field(description="The device's own number of the study; may be empty.")
    study_date: str = strawberry.field(
        description="YYYYMMDD, as the device wrote it, such as 20260131; may be empty."
    )
    study_time: str = strawberry.field(
        description="HHMMSS, as the device wrote it, such as 143000, in the device's own time zone; may be empty."
    )
    description: str = strawberry.field(
        description="What was examined, as the device wrote it, such as CT Thorax; may be empty."
    )
    referring_physician: str = strawberry.field(
        description="Who asked for the examination: Family^Given; may be empty."
    )
    modalities: list[str] = strawberry.field(description='Kinds of devices that made it, such as ["CT"].')
    document_type: str = strawberry.field(
        description="Code of the kind of document that it is, such as XR; may be empty."
    )
    location_code: str | None = strawberry.field(
        description="Code of the place where the device stands that sent it first, such as ER; null: none is given."
    )
    source_ae: str = strawberry.field(description="namespace/name of the AE whose image came first.")
    first_arrival_at: datetime = strawberry.field(description="When its first image came.")
    last_arrival_at: datetime = strawberry.field(description="When its last image came.")
    series_count: int = strawberry.field(description="How many series it has.")
    instance_count: int = strawberry.field(description="How many images it has, such as 120.")
    size_bytes: BigInt = strawberry.field(description="Size of its files together, in bytes.")

    @strawberry.field(description="All its series.")
    async def series(self, info: Info) -> list[Series]:
        """Load the series of all studies of the answer at once."""
        return cast("list[Series]", await info.context.loader(load_series).load(self.key))

    @strawberry.field(description="What closes together in it, and how that went.")
    async def close_units(self, info: Info) -> list[CloseUnit]:
        """Load the units of all studies of the answer at once."""
        return cast("list[CloseUnit]", await info.context.loader(load_units).load(self.key))


_MOVES = " An image that arrives moves its study: while you page it may be missed or come twice."
_DATED = " The first image that has a date moves a study that had none: while you page it may be missed or come twice."
_RENAMED = (
    " A patient whose name changes moves with all studies: while you page they may be missed or come twice."
)


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
        description="By the date that the device wrote, the latest first; without one: last." + _DATED,
    )
    OLDEST_STUDY_DATE = strawberry.enum_value(
        "OLDEST_STUDY_DATE",
        description="By the date that the device wrote, the earliest first; without one: first." + _DATED,
    )
    PATIENT_NAME_A_TO_Z = strawberry.enum_value(
        "PATIENT_NAME_A_TO_Z",
        description="By the patient's name, family name first, without regard to case and accents; without one: first."
        + _RENAMED,
    )
    PATIENT_NAME_Z_TO_A = strawberry.enum_value(
        "PATIENT_NAME_Z_TO_A",
        description="The same from the end of the alphabet; without a name: last." + _RENAMED,
    )


@strawberry.input(description="All that is given must hold. Dates are YYYYMMDD.")
class StudyWhere:
    """Filter of studies."""

    patient_name: TextFilter | None = strawberry.field(default=None, description="The patient's name.")
    patient_id: TextFilter | None = strawberry.field(
        default=None, description="The hospital's id of the patient."
    )
    accession_number: TextFilter | None = strawberry.field(
        default=None, description="The number under which the examination was ordered."
    )
    study_instance_uid: TextFilter | None = strawberry.field(
        default=None, description="DICOM's own id of the study, such as 1.2.826.0.1.3680043.2."
    )
    study_date: TextFilter | None = strawberry.field(default=None, description="YYYYMMDD, such as 20260131.")
    description: TextFilter | None = strawberry.field(
        default=None, description="What was examined, as the device wrote it, such as CT Thorax."
    )
    modality: TextFilter | None = strawberry.field(
        default=None, description="Kinds of devices that made it, such as CT."
    )
    document_type: TextFilter | None = strawberry.field(
        default=None, description="Code of the kind of document that it is, such as XR."
    )
    location_code: TextFilter | None = strawberry.field(
        default=None, description="Code of the place where the device stands, such as ER."
    )
    partition: TextFilter | None = strawberry.field(
        default=None, description="namespace/name of the patient partition."
    )
    source_ae: TextFilter | None = strawberry.field(
        default=None, description="namespace/name of the AE whose image came first, such as default/ct1."
    )
    last_arrival_at: TimeFilter | None = strawberry.field(
        default=None, description="When its last image came."
    )
    instance_count: NumberFilter | None = strawberry.field(
        default=None, description="How many images it has."
    )
    all_of: Optional[list[StudyWhere]] = strawberry.field(  # noqa: UP045 - strawberry resolves the name later
        default=None,
        name="AND",
        description="All of these must hold, too.",
    )
    any_of: Optional[list[StudyWhere]] = strawberry.field(  # noqa: UP045 - as above
        default=None,
        name="OR",
        description="One of these must hold, too.",
    )


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
    search: Search = None,
    where: Annotated[StudyWhere | None, By] = None,
    order_by: Annotated[StudyOrder, Sort] = StudyOrder.NEWEST_ARRIVAL,
    first: First = DEFAULT_FIRST,
    after: After = None,
    last: Last = None,
    before: Before = None,
) -> Connection[Study]:
    """List studies."""
    found = await studies_filter(info.context, search, where)
    listing = Listing("studies", STUDIES, STUDY_ORDERS[order_by.name], found, (search, where))
    return await connection(info.context, listing, study_of, page=Asked(first, after, last, before))


async def studies_filter(context: Context, search: str | None, where: object | None) -> Filter:
    """Return what a search and a filter ask for: of studies, or of series or images, which know the same columns."""
    parts = [filter_of(where)]
    for term in terms(search, (*PREFIXES, "ae")):
        parts.append(await _term(context, term))
    return AllOf(tuple(parts))


async def study(info: Info, id: Id) -> Study | None:
    """Return one study."""
    return cast("Study | None", await info.context.loader(load_studies).load(number_of(id, "Study")))


async def _term(context: Context, term: Term) -> Filter:
    if term.prefix is not None and term.prefix in PREFIXES:
        column, op = PREFIXES[term.prefix]
        text = term.text.replace("-", "") if term.prefix == "date" else term.text
        return Term(term.prefix, text).compare(column, op)
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
