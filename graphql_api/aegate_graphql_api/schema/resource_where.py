"""Filters of Application Entities, routes and patient partitions; fields are named as the columns of their lists."""

from __future__ import annotations

from typing import Optional

import strawberry

from aegate_graphql_api.search import BooleanFilter, NumberFilter, TextFilter

READY = (
    "Status of its condition Ready, which sums up how it goes: True, False or Unknown; null: not judged yet."
)
COMMENT = "What people noted about it; null: nothing."


@strawberry.input(description="All that is given must hold.")
class ApplicationEntityWhere:
    """Filter of AEs."""

    title: TextFilter | None = strawberry.field(
        default=None, description="AE title, the name by which devices call one another, such as CT1."
    )
    name: TextFilter | None = strawberry.field(default=None, description="Its name, such as ct1.")
    namespace: TextFilter | None = strawberry.field(
        default=None, description="Namespace that it is in, such as default."
    )
    node: TextFilter | None = strawberry.field(
        default=None, description="Network name or address of the device."
    )
    port: NumberFilter | None = strawberry.field(
        default=None, description="TCP port on which the device listens, such as 11112."
    )
    ability: TextFilter | None = strawberry.field(
        default=None, description="Push: it stores images. Print: it prints them."
    )
    location_code: TextFilter | None = strawberry.field(
        default=None, description="Code of the place where it stands, such as ER."
    )
    partition: TextFilter | None = strawberry.field(
        default=None, description="namespace/name of its patient partition."
    )
    enabled: BooleanFilter | None = strawberry.field(
        default=None, description="false: it is switched off, with no listener, and nothing is sent to it."
    )
    ready: TextFilter | None = strawberry.field(default=None, description=READY)
    comment: TextFilter | None = strawberry.field(default=None, description=COMMENT)
    all_of: Optional[list[ApplicationEntityWhere]] = strawberry.field(  # noqa: UP045 - strawberry resolves the name later
        default=None,
        name="AND",
        description="All of these must hold, too.",
    )
    any_of: Optional[list[ApplicationEntityWhere]] = strawberry.field(  # noqa: UP045 - as above
        default=None,
        name="OR",
        description="One of these must hold, too.",
    )


@strawberry.input(description="All that is given must hold.")
class ImageRouteWhere:
    """Filter of routes."""

    name: TextFilter | None = strawberry.field(default=None, description="Its name, such as ct-to-pacs.")
    namespace: TextFilter | None = strawberry.field(
        default=None, description="The namespace that it is in, such as default."
    )
    enabled: BooleanFilter | None = strawberry.field(
        default=None, description="false: it is switched off and wants nothing."
    )
    to: TextFilter | None = strawberry.field(
        default=None,
        description="Name of an AE that it sends to, in its own namespace, such as pacs; one of several will do.",
    )
    level: TextFilter | None = strawberry.field(
        default=None,
        description="What goes as one, instead of the AE's routeLevel: Study, Series or Image; null: as the AE says.",
    )
    priority: NumberFilter | None = strawberry.field(
        default=None,
        description="Priority of what it sends, 0 to 100; those without one, as the receiving AE says, are left out.",
    )
    ready: TextFilter | None = strawberry.field(default=None, description=READY)
    comment: TextFilter | None = strawberry.field(default=None, description=COMMENT)
    all_of: Optional[list[ImageRouteWhere]] = strawberry.field(  # noqa: UP045 - as above
        default=None,
        name="AND",
        description="All of these must hold, too.",
    )
    any_of: Optional[list[ImageRouteWhere]] = strawberry.field(  # noqa: UP045 - as above
        default=None,
        name="OR",
        description="One of these must hold, too.",
    )


@strawberry.input(description="All that is given must hold.")
class PatientPartitionWhere:
    """Filter of patient partitions."""

    name: TextFilter | None = strawberry.field(default=None, description="Its name, such as house-b.")
    namespace: TextFilter | None = strawberry.field(
        default=None, description="The namespace that it is in, such as default."
    )
    issuer_of_patient_id: TextFilter | None = strawberry.field(
        default=None,
        description="Who gives the patient ids of it, such as HOSPITAL-B; null: nobody is named.",
    )
    all_of: Optional[list[PatientPartitionWhere]] = strawberry.field(  # noqa: UP045 - as above
        default=None,
        name="AND",
        description="All of these must hold, too.",
    )
    any_of: Optional[list[PatientPartitionWhere]] = strawberry.field(  # noqa: UP045 - as above
        default=None,
        name="OR",
        description="One of these must hold, too.",
    )
