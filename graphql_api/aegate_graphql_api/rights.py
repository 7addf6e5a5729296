"""Every verb that the API uses, on every resource: the chart's Role is this list, and no ``*`` is in it.

It changes what people declare, never what follows from it: no Deployment, no Service, no Secret, no status.
"""

from __future__ import annotations

from aegate_core.stores.cluster.kinds import APPLICATION_ENTITY, IMAGE_ROUTE, PATIENT_PARTITION, Kind

KINDS: tuple[Kind, ...] = (APPLICATION_ENTITY, IMAGE_ROUTE, PATIENT_PARTITION)
VERBS = ("get", "create", "patch", "delete")
