"""The AE that images came from, as it counts now: live, else as its tombstone says, else with the defaults.

An AE may be removed while what it sent still lies in the spool: that is indexed, closed and routed by its last good
values.
"""

from __future__ import annotations

from collections.abc import Iterable

from aegate_core.database import Database
from aegate_core.decisions.route_matching import Source
from aegate_core.dicom.ae_title import AETitle
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import InvalidResource
from aegate_core.resources.values import ApplicationEntity, Metadata
from aegate_core.services.entities import Configuration
from aegate_core.stores.index.projections import read_tombstone

UNKNOWN_TITLE = AETitle("UNKNOWN")


async def senders(
    db: Database, configuration: Configuration, keys: Iterable[ResourceKey]
) -> dict[ResourceKey, ApplicationEntity]:
    """Return the AE of each key; there is always one."""
    found = {}
    for key in keys:
        live = configuration.entities.get(key)
        found[key] = live if live is not None else await _gone(db, key)
    return found


async def _gone(db: Database, key: ResourceKey) -> ApplicationEntity:
    row = await read_tombstone(db, "ApplicationEntity", key)
    if row is not None:
        try:
            resource = row.resource()
        except InvalidResource:
            resource = None
        if isinstance(resource, ApplicationEntity):
            return resource
    return ApplicationEntity(Metadata(key), UNKNOWN_TITLE, node="", port=0)


def source_of(entity: ApplicationEntity, *, location_code: str | None, document_type: str) -> Source:
    """Return the facts that routes look at; location and document type are the study's, stamped on arrival."""
    return Source(
        ae=entity.key,
        level=entity.route_level,
        partition=entity.patient_partition,
        labels=entity.metadata.labels,
        location_code=location_code,
        document_type=document_type,
    )
