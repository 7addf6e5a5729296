"""Say what came of changes that were cut off between their intent and their outcome, by looking at the object."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import cast

from aegate_core.database import Database
from aegate_core.dicom.identifiers import parse_resource_key
from aegate_core.errors import AegateError, InvalidResource
from aegate_core.events import AUDIT_OPEN, AUDIT_SETTLED, AUDIT_WAITS, Log
from aegate_core.resources.manifest_of import API_VERSION, to_spec
from aegate_core.resources.merge import merged
from aegate_core.resources.parse import parse_resource
from aegate_core.resources.reference import ResourceRef
from aegate_core.resources.versions import spec_version
from aegate_core.resources.yaml_tree import members
from aegate_core.services.intents import OpenIntent, Place, sweep
from aegate_core.services.manifests import Manifests
from aegate_core.stores.index.projections import TABLES, Projection

EVERY_S = 30.0

log = Log("api")


async def keep_swept(db: Database, manifests: Manifests, *, open_after: timedelta, place: Place) -> None:
    """Sweep again and again, until cancelled; what cannot be looked at now is looked at later."""
    every_s = min(EVERY_S, open_after.total_seconds())
    while True:
        try:
            settled = await sweep(
                db, Judge(manifests), now=await db.time(), open_after=open_after, place=place
            )
        except AegateError as error:
            log(AUDIT_WAITS, error=error.message, retry_s=every_s)
        else:
            if settled:
                log(AUDIT_SETTLED, count=settled)
        await asyncio.sleep(every_s)


class Judge:
    """Says of an open intent what came of it."""

    def __init__(self, manifests: Manifests) -> None:
        self._manifests = manifests

    async def __call__(self, intent: OpenIntent) -> str | None:
        """Return DONE, FAILED, or UNKNOWN where others have changed the object since; None: that cannot be seen now."""
        kind, _, key = intent.deed.target.partition(":")
        if kind not in TABLES:
            return None
        try:
            found = await self._manifests.read(ResourceRef(kind, parse_resource_key(key)))
        except AegateError as error:
            log(AUDIT_OPEN, action=intent.deed.action, target=intent.deed.target, error=error.message)
            return None
        is_deletion = intent.deed.action.startswith("delete")
        if found is None:
            made = intent.deed.action.startswith("create")
            return "DONE" if is_deletion else "FAILED" if made else "UNKNOWN"
        if not is_deletion and "spec" not in intent.deed.detail:
            return "UNKNOWN"  # the wish was too long to be kept
        if not is_deletion and says(found, intent.deed.detail):
            return "DONE"
        before = members(intent.deed.detail.get("before")).get("version")
        return "FAILED" if before == spec_version(found.spec) else "UNKNOWN"


def says(found: Projection, detail: Mapping[str, object]) -> bool:
    """Whether the object is as the intent wished: what was wished changes nothing of it any more."""
    wished = merged(found.spec, detail.get("spec"))
    try:
        again = parse_resource(
            {
                "apiVersion": API_VERSION,
                "kind": found.ref.kind,
                "metadata": {"name": found.ref.key.name, "namespace": found.ref.key.namespace},
                "spec": wished,
            }
        )
    except InvalidResource:
        return False
    labels = cast("Mapping[str, str | None]", members(detail.get("labels")))
    return to_spec(again) == found.spec and all(
        found.labels.get(name) == value for name, value in labels.items()
    )
