"""Add, rename and remove locations."""

from __future__ import annotations

from typing import Annotated, Union, cast

import strawberry

from aegate_core.database import Database
from aegate_core.resources.locations import Location as Place
from aegate_core.resources.locations import location_faults
from aegate_core.services.audit import Area
from aegate_core.services.locations import import_location, remove_location
from aegate_graphql_api.context import Context, Info
from aegate_graphql_api.mutations.change import Outcome, change
from aegate_graphql_api.mutations.problems import (
    FieldError,
    NotFoundProblem,
    Refused,
    UnavailableProblem,
    ValidationProblem,
    not_found,
)
from aegate_graphql_api.mutations.resource_problems import ForbiddenProblem
from aegate_graphql_api.permissions import ENTITIES
from aegate_graphql_api.schema.location import Location


@strawberry.type(
    description="A location after the change; of a removed one, as it was.", directives=[ENTITIES]
)
class LocationChanged:
    """A location after the change."""

    location: Location = strawberry.field(description="As it is now; of a removed one, as it was.")
    changed: bool = strawberry.field(description="false: it was so already.")


Code = Annotated[str, strawberry.argument(description="The code that AEs and routes name, such as ER.")]
LocationResult = Annotated[
    Union[  # noqa: UP007 - strawberry names a Union
        LocationChanged, ValidationProblem, NotFoundProblem, ForbiddenProblem, UnavailableProblem
    ],
    strawberry.union(
        "LocationResult", description="The location after the change, or why nothing was changed."
    ),
]


async def save_location(
    info: Info,
    code: Code,
    display_name: Annotated[
        str, strawberry.argument(description="Its name for people, such as Emergency Room.")
    ],
) -> LocationResult:
    """Add a location, or give the one of this code its new name."""

    async def work(tx: Database) -> Outcome:
        _check(info.context)
        place = Place(code.strip(), display_name.strip())
        if faults := location_faults(place):
            listed = [FieldError(field=_ARGUMENTS[column], message=said) for column, said in faults]
            told = "; ".join(f"{fault.field}: {fault.message}" for fault in listed)
            raise Refused(ValidationProblem(code="INVALID_VALUE", message=told, field_errors=listed))
        changed = await import_location(tx, place)
        shown = Location(code=place.code, display_name=place.display_name)
        detail: dict[str, object] = {"changed": changed, "displayName": place.display_name}
        return Outcome(
            LocationChanged(location=shown, changed=changed),
            f"Location:{place.code}",
            detail,
            area=Area.ENTITIES,
        )

    return cast("LocationResult", await change(info.context, "saveLocation", work))


async def remove_location_of(info: Info, code: Code) -> LocationResult:
    """Remove a location; what names it stays, and says that it is not known."""

    async def work(tx: Database) -> Outcome:
        _check(info.context)
        gone = await remove_location(tx, code)
        if gone is None:
            raise not_found("there is no location of this code: read the list again")
        shown = Location(code=gone.code, display_name=gone.display_name)
        detail: dict[str, object] = {"displayName": gone.display_name}
        return Outcome(
            LocationChanged(location=shown, changed=True), f"Location:{code}", detail, area=Area.ENTITIES
        )

    return cast("LocationResult", await change(info.context, "removeLocation", work))


_ARGUMENTS = {"code": "code", "display_name": "displayName"}


def _check(context: Context) -> None:
    """Raise Refused for who edits some namespaces alone: locations are of all of them."""
    if context.caller.namespaces is not None:
        message = "locations are of all namespaces, your AE_EDITOR is not: ask your administrator for it"
        raise Refused(ForbiddenProblem(code="FORBIDDEN", message=message))
