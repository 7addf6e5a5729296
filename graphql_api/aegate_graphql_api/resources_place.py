"""Where this API changes resources: in the cluster, in the folder that `aegate up` watches, or nowhere."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aegate_core.database import Database
from aegate_core.services.manifests import Manifests
from aegate_core.services.manifests.folder import FolderManifests

CLUSTER = "cluster"
TIMEOUT_S = 15.0
"""Of one request to the API server: people wait for it."""


@asynccontextmanager
async def open_manifests(place: str, db: Database) -> AsyncIterator[Manifests | None]:
    """Give what `Settings.resources` names. Raises InvalidInput for a cluster that cannot be reached from here."""
    if not place:
        yield None
    elif place == CLUSTER:
        # Its HTTP client is no small thing to load, and of no use beside a folder.
        from aegate_core.services.manifests.cluster import MANAGER, ClusterManifests
        from aegate_core.stores.cluster import ClusterClient, read_connection

        connection = read_connection(os.environ)
        async with ClusterClient(connection, manager=MANAGER, timeout_s=TIMEOUT_S) as client:
            yield ClusterManifests(client)
    else:
        yield FolderManifests(Path(place), db)
