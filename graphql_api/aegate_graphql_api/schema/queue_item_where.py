"""How the image queue is filtered and ordered."""

from __future__ import annotations

from enum import Enum
from typing import Optional

import strawberry

from aegate_graphql_api.schema.delivery_states import DeliveryState
from aegate_graphql_api.search import NumberFilter, OneOfFilter, TextFilter, TimeFilter


@strawberry.enum(description="Orders that an index serves.")
class QueueOrder(Enum):
    """Orders of queue items."""

    NEWEST = strawberry.enum_value(
        "NEWEST", description="Made last comes first. An item's place never changes."
    )
    OLDEST = strawberry.enum_value(
        "OLDEST", description="Made first comes first. An item's place never changes."
    )
    LAST_FINISHED = strawberry.enum_value(
        "LAST_FINISHED",
        description="Finished items alone, those finished last come first. An item that is retried leaves the list: "
        "while you page it may be missed, or come again once it is finished anew.",
    )
    NEXT = strawberry.enum_value(
        "NEXT",
        description="Unfinished items alone, in the order in which workers take them: bumped ones, then by priority "
        "and age. A change of priority moves an item: while you page it may be missed or come twice.",
    )


@strawberry.input(description="All that is given must hold.")
class QueueItemWhere:
    """Filter of queue items."""

    state: OneOfFilter[DeliveryState] | None = strawberry.field(
        default=None, description="Where it is on its way."
    )
    destination: TextFilter | None = strawberry.field(
        default=None, description="namespace/name of the AE that it goes to, such as default/pacs."
    )
    source_ae: TextFilter | None = strawberry.field(
        default=None, description="namespace/name of the AE that sent it to us, such as default/ct1."
    )
    partition: TextFilter | None = strawberry.field(
        default=None, description="namespace/name of the patient partition."
    )
    location_code: TextFilter | None = strawberry.field(
        default=None, description="Code of the place where the sending device stands, such as ER."
    )
    requested_by: TextFilter | None = strawberry.field(
        default=None, description="What put it into the queue: route:default/ct-to-pacs, or person:NAME."
    )
    priority: NumberFilter | None = strawberry.field(
        default=None, description="0 to 100, the highest goes first."
    )
    attempts: NumberFilter | None = strawberry.field(default=None, description="How often it was begun.")
    created_at: TimeFilter | None = strawberry.field(
        default=None, description="When it was put into the queue."
    )
    finished_at: TimeFilter | None = strawberry.field(
        default=None, description="When it was completed, given up or cancelled."
    )
    unit_uid: TextFilter | None = strawberry.field(
        default=None, description="DICOM's own id of what is sent: of the study, series or image."
    )
    error_code: TextFilter | None = strawberry.field(
        default=None, description="What the last attempt failed with, for programs, such as STATUS_A900."
    )
    hold_code: TextFilter | None = strawberry.field(
        default=None,
        description="Why it is held: PERSON, PATIENT_MISMATCH, NEEDS_RECONCILIATION or DESTINATION_GONE.",
    )
    patient_name: TextFilter | None = strawberry.field(default=None, description="The patient's name.")
    patient_id: TextFilter | None = strawberry.field(
        default=None, description="The hospital's id of the patient."
    )
    accession_number: TextFilter | None = strawberry.field(
        default=None, description="The number under which the examination was ordered."
    )
    study_instance_uid: TextFilter | None = strawberry.field(
        default=None, description="DICOM's own id of the study that it is of."
    )
    study_date: TextFilter | None = strawberry.field(
        default=None, description="Date of the study: YYYYMMDD, such as 20260131."
    )
    document_type: TextFilter | None = strawberry.field(
        default=None, description="Code of the kind of document that the study is, such as XR."
    )
    all_of: Optional[list[QueueItemWhere]] = strawberry.field(  # noqa: UP045 - strawberry resolves the name later
        default=None,
        name="AND",
        description="All of these must hold, too.",
    )
    any_of: Optional[list[QueueItemWhere]] = strawberry.field(  # noqa: UP045 - as above
        default=None,
        name="OR",
        description="One of these must hold, too.",
    )
