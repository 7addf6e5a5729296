"""How series and single images are found, to be sent by hand: by what they are, and by their study."""

from __future__ import annotations

from typing import Optional

import strawberry

from aegate_graphql_api.schema.of_study import OfStudyWhere
from aegate_graphql_api.search import NumberFilter, TextFilter, TimeFilter


@strawberry.input
class _OfSeriesWhere(OfStudyWhere):
    """Filter by the series, and by the study that it is of."""

    series_instance_uid: TextFilter | None = strawberry.field(
        default=None, description="DICOM's own id of the series, such as 1.2.826.0.1.3680043.2.1."
    )
    modality: TextFilter | None = strawberry.field(
        default=None, description="Kind of device that made the series, such as CT."
    )
    location_code: TextFilter | None = strawberry.field(
        default=None, description="Code of the place where the device stands that sent the study, such as ER."
    )
    partition: TextFilter | None = strawberry.field(
        default=None, description="namespace/name of the patient partition, such as default/default."
    )
    document_type: TextFilter | None = strawberry.field(
        default=None, description="Code of the kind of document that the study is, such as XR."
    )


@strawberry.input(description="All that is given must hold. Dates are YYYYMMDD.")
class SeriesWhere(_OfSeriesWhere):
    """Filter of series."""

    series_number: TextFilter | None = strawberry.field(
        default=None, description="Its number in the study, as the device wrote it, such as 3."
    )
    description: TextFilter | None = strawberry.field(
        default=None, description="What the device calls it, such as Thorax 5.0."
    )
    body_part: TextFilter | None = strawberry.field(
        default=None, description="Which part of the body it shows, as the device wrote it, such as CHEST."
    )
    station_name: TextFilter | None = strawberry.field(
        default=None, description="Name of the device as it wrote it, such as CT-ROOM-2."
    )
    instance_count: NumberFilter | None = strawberry.field(
        default=None, description="How many images it has, such as 120."
    )
    all_of: Optional[list[SeriesWhere]] = strawberry.field(  # noqa: UP045 - strawberry resolves the name later
        default=None, name="AND", description="All of these must hold, too."
    )
    any_of: Optional[list[SeriesWhere]] = strawberry.field(  # noqa: UP045 - as above
        default=None, name="OR", description="One of these must hold, too."
    )


@strawberry.input(description="All that is given must hold. Dates are YYYYMMDD.")
class InstanceWhere(_OfSeriesWhere):
    """Filter of single images."""

    sop_instance_uid: TextFilter | None = strawberry.field(
        default=None, description="DICOM's own id of the image, such as 1.2.826.0.1.3680043.2.1.1."
    )
    sop_class_uid: TextFilter | None = strawberry.field(
        default=None,
        description="What kind of object it is, as a UID: 1.2.840.10008.5.1.4.1.1.88.11 is a report of text.",
    )
    instance_number: TextFilter | None = strawberry.field(
        default=None, description="Its number in the series, as the device wrote it, such as 17."
    )
    received_at: TimeFilter | None = strawberry.field(default=None, description="When it came last.")
    all_of: Optional[list[InstanceWhere]] = strawberry.field(  # noqa: UP045 - as above
        default=None, name="AND", description="All of these must hold, too."
    )
    any_of: Optional[list[InstanceWhere]] = strawberry.field(  # noqa: UP045 - as above
        default=None, name="OR", description="One of these must hold, too."
    )
