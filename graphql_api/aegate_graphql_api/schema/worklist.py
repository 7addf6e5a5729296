"""Worklist items: what is scheduled. Patient data: only for the holders of DICOM_QUEUE."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Annotated, Any, Optional, cast

import strawberry

from aegate_core.database import as_datetime
from aegate_core.dicom.worklist import ATTRIBUTES, StepStatus
from aegate_core.stores.listing import AllOf, Op, read_by
from aegate_core.stores.worklist.items import ITEM_ORDERS, ITEMS, kept_values, stations
from aegate_graphql_api.connections import (
    DEFAULT_FIRST,
    After,
    Asked,
    Before,
    By,
    Connection,
    First,
    Last,
    Listing,
    Search,
    Sort,
    connection,
)
from aegate_graphql_api.context import Context, Info
from aegate_graphql_api.patient_data import PATIENT_DATA
from aegate_graphql_api.permissions import QUEUE
from aegate_graphql_api.schema.enums import in_words
from aegate_graphql_api.schema.node import Node, global_id
from aegate_graphql_api.schema.of_study import anything_of_a_study
from aegate_graphql_api.search import OneOfFilter, TextFilter, TimeFilter, filter_of, terms

in_words(
    "How far a step of an examination is (Scheduled Procedure Step Status of DICOM). People set SCHEDULED and "
    "CANCELED.",
    name="ScheduledProcedureStepStatus",
    SCHEDULED="It is to be done: devices see it on their worklists.",
    STARTED="The device has begun it, as the device says itself.",
    COMPLETED="The device has done it, as the device says itself.",
    DISCONTINUED="The device broke it off, as the device says itself.",
    CANCELED="A person cancelled it before it began.",
)(StepStatus)


def told(attribute: str) -> Any:
    """Return the field of an attribute."""
    return strawberry.field(description=ATTRIBUTES[attribute].said)


@strawberry.type(
    description="An entry of a code system: what a device or a house calls something, for programs.",
    directives=[QUEUE],
)
class CodedEntry:
    """An entry of a code sequence."""

    code_value: str = strawberry.field(description="The code, such as RPID16.")
    coding_scheme_designator: str = strawberry.field(description="Whose code it is, such as RADLEX.")
    code_meaning: str = strawberry.field(description="What it means, in words, such as CT Thorax.")
    coding_scheme_version: str = strawberry.field(description="Which edition of the codes; may be empty.")


@strawberry.type(
    description="A step of an examination that is scheduled (a scheduled procedure step): for which patient, when, and "
    "on which devices.",
    directives=[QUEUE, PATIENT_DATA],
)
class WorklistItem(Node):
    """A worklist item; its attributes are called as in DICOM."""

    key: strawberry.Private[int]
    partition: str = strawberry.field(
        description="namespace/name of the patient partition that it belongs to."
    )
    status: StepStatus = strawberry.field(description="How far it is.")
    version: int = strawberry.field(
        description="Grows with each change: give it back to change the item only if it is still as you saw it."
    )
    created_at: datetime = strawberry.field(description="When it was put on the worklist.")
    updated_at: datetime = strawberry.field(description="When it was changed last.")
    patient_name: str = told("patient_name")
    patient_id: str = told("patient_id")
    issuer_of_patient_id: str = told("issuer_of_patient_id")
    patient_birth_date: str = told("patient_birth_date")
    patient_sex: str = told("patient_sex")
    patient_weight: str = told("patient_weight")
    pregnancy_status: int | None = told("pregnancy_status")
    medical_alerts: list[str] = told("medical_alerts")
    allergies: list[str] = told("allergies")
    special_needs: str = told("special_needs")
    patient_state: str = told("patient_state")
    confidentiality_constraint_on_patient_data_description: str = told(
        "confidentiality_constraint_on_patient_data_description"
    )
    admission_id: str = told("admission_id")
    current_patient_location: str = told("current_patient_location")
    accession_number: str = told("accession_number")
    requesting_physician: str = told("requesting_physician")
    referring_physician_name: str = told("referring_physician_name")
    study_instance_uid: str = told("study_instance_uid")
    requested_procedure_id: str = told("requested_procedure_id")
    requested_procedure_description: str = told("requested_procedure_description")
    requested_procedure_code_sequence: list[CodedEntry] = told("requested_procedure_code_sequence")
    requested_procedure_priority: str = told("requested_procedure_priority")
    patient_transport_arrangements: str = told("patient_transport_arrangements")
    scheduled_procedure_step_id: str = told("scheduled_procedure_step_id")
    scheduled_procedure_step_start_date: str = told("scheduled_procedure_step_start_date")
    scheduled_procedure_step_start_time: str = told("scheduled_procedure_step_start_time")
    modality: str = told("modality")
    scheduled_performing_physician_name: str = told("scheduled_performing_physician_name")
    scheduled_procedure_step_description: str = told("scheduled_procedure_step_description")
    scheduled_protocol_code_sequence: list[CodedEntry] = told("scheduled_protocol_code_sequence")
    scheduled_station_name: list[str] = told("scheduled_station_name")
    scheduled_procedure_step_location: str = told("scheduled_procedure_step_location")
    pre_medication: str = told("pre_medication")
    requested_contrast_agent: str = told("requested_contrast_agent")
    comments_on_the_scheduled_procedure_step: str = told("comments_on_the_scheduled_procedure_step")

    @strawberry.field(description=ATTRIBUTES["scheduled_station_ae_title"].said)
    async def scheduled_station_ae_title(self, info: Info) -> list[str]:
        """Load the devices of all items of the answer at once."""
        return cast("list[str]", await info.context.loader(load_stations).load(self.key))


_MOVES = " One that is changed may move: while you page it may be missed or come twice."


@strawberry.enum(description="Orders that an index serves.")
class WorklistOrder(Enum):
    """Orders of worklist items."""

    EARLIEST_START = strawberry.enum_value(
        "EARLIEST_START", description="What begins first comes first." + _MOVES
    )
    LATEST_START = strawberry.enum_value("LATEST_START", description="What begins last comes first." + _MOVES)
    PATIENT_NAME_A_TO_Z = strawberry.enum_value(
        "PATIENT_NAME_A_TO_Z",
        description="By the patient's name, family name first, without regard to case and accents." + _MOVES,
    )
    PATIENT_NAME_Z_TO_A = strawberry.enum_value(
        "PATIENT_NAME_Z_TO_A", description="The same from the end of the alphabet." + _MOVES
    )
    NEWEST = strawberry.enum_value(
        "NEWEST", description="Made last comes first. An item's place never changes."
    )
    OLDEST = strawberry.enum_value(
        "OLDEST", description="Made first comes first. An item's place never changes."
    )


def by(attribute: str) -> Any:
    """Return the field of a filter by an attribute."""
    return strawberry.field(default=None, description=ATTRIBUTES[attribute].said)


@strawberry.input(description="All that is given must hold. Dates are YYYYMMDD.")
class WorklistItemWhere:
    """Filter of worklist items."""

    status: OneOfFilter[StepStatus] | None = strawberry.field(default=None, description="How far it is.")
    patient_name: TextFilter | None = by("patient_name")
    patient_id: TextFilter | None = by("patient_id")
    accession_number: TextFilter | None = by("accession_number")
    admission_id: TextFilter | None = by("admission_id")
    study_instance_uid: TextFilter | None = by("study_instance_uid")
    requested_procedure_id: TextFilter | None = by("requested_procedure_id")
    scheduled_procedure_step_id: TextFilter | None = by("scheduled_procedure_step_id")
    scheduled_station_ae_title: TextFilter | None = strawberry.field(
        default=None, description="AE title of one of its devices, such as CT1."
    )
    scheduled_procedure_step_start_date: TextFilter | None = by("scheduled_procedure_step_start_date")
    scheduled_procedure_step_start_time: TextFilter | None = by("scheduled_procedure_step_start_time")
    scheduled_start: TextFilter | None = strawberry.field(
        default=None,
        description="Day and time together, YYYYMMDDHHMMSS: what begins in a night lies in the range from "
        '"20260131220000" to "20260201060000".',
    )
    modality: TextFilter | None = by("modality")
    scheduled_procedure_step_description: TextFilter | None = by("scheduled_procedure_step_description")
    scheduled_procedure_step_location: TextFilter | None = by("scheduled_procedure_step_location")
    scheduled_performing_physician_name: TextFilter | None = by("scheduled_performing_physician_name")
    partition: TextFilter | None = strawberry.field(
        default=None, description="namespace/name of the patient partition."
    )
    created_at: TimeFilter | None = strawberry.field(
        default=None, description="When it was put on the worklist."
    )
    all_of: Optional[list[WorklistItemWhere]] = strawberry.field(  # noqa: UP045 - strawberry resolves the name later
        default=None,
        name="AND",
        description="All of these must hold, too.",
    )
    any_of: Optional[list[WorklistItemWhere]] = strawberry.field(  # noqa: UP045 - as above
        default=None,
        name="OR",
        description="One of these must hold, too.",
    )


PREFIXES: Mapping[str, tuple[str, Op]] = {
    "patient": ("patient_name", Op.CONTAINS),
    "id": ("patient_id", Op.STARTS_WITH),
    "accession": ("accession_number", Op.STARTS_WITH),
    "study": ("study_instance_uid", Op.STARTS_WITH),
    "step": ("scheduled_procedure_step_id", Op.STARTS_WITH),
    "date": ("scheduled_procedure_step_start_date", Op.STARTS_WITH),
    "modality": ("modality", Op.STARTS_WITH),
    "station": ("scheduled_station_ae_title", Op.STARTS_WITH),
    "location": ("scheduled_procedure_step_location", Op.STARTS_WITH),
    "partition": ("partition", Op.CONTAINS),
}


def items_filter(search: str | None, where: WorklistItemWhere | None) -> AllOf:
    """Return what a search and a filter ask for."""
    parts = [filter_of(where)]
    for term in terms(search, PREFIXES):
        if term.prefix is None:
            parts.append(anything_of_a_study(term))
        else:
            column, op = PREFIXES[term.prefix]
            parts.append(term.compare(column, op))
    return AllOf(tuple(parts))


async def worklist_items(  # noqa: PLR0913 - a GraphQL field has the arguments that callers need
    info: Info,
    search: Search = None,
    where: Annotated[WorklistItemWhere | None, By] = None,
    order_by: Annotated[WorklistOrder, Sort] = WorklistOrder.EARLIEST_START,
    first: First = DEFAULT_FIRST,
    after: After = None,
    last: Last = None,
    before: Before = None,
) -> Connection[WorklistItem]:
    """List worklist items."""
    found = items_filter(search, where)
    listing = Listing("worklistItems", ITEMS, ITEM_ORDERS[order_by.name], found, (search, where))
    return await connection(info.context, listing, item_of, page=Asked(first, after, last, before))


async def load_items(context: Context, keys: list[int]) -> list[WorklistItem | None]:
    """Load worklist items by their keys."""
    rows = await read_by(context.db, ITEMS, "id", keys, context.scope)
    found = {int(str(row["id"])): item_of(row) for row in rows}
    return [found.get(key) for key in keys]


async def load_stations(context: Context, keys: list[int]) -> list[list[str]]:
    """Load the devices of worklist items that were read."""
    found = await stations(context.db, keys)
    return [found.get(key, []) for key in keys]


def item_of(row: Mapping[str, Any]) -> WorklistItem:
    """Return a row of ITEMS as its type."""
    values = kept_values(row)
    for name in ("requested_procedure_code_sequence", "scheduled_protocol_code_sequence"):
        values[name] = [
            CodedEntry(**{part: getattr(code, part) for part in _CODE}) for code in cast("Any", values[name])
        ]
    return WorklistItem(
        id=global_id("WorklistItem", row["id"]),
        key=int(row["id"]),
        partition=row["partition"],
        status=StepStatus(row["scheduled_procedure_step_status"]),
        version=int(row["version"]),
        created_at=as_datetime(row["created_at"]),
        updated_at=as_datetime(row["updated_at"]),
        **cast("Any", {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}),
    )


_CODE = ("code_value", "coding_scheme_designator", "code_meaning", "coding_scheme_version")
