"""The operator as a process of its own, over the lab's cheap ring: ``python -m tests.proofs.fleet.process``.

What differs from ``python -m aegate_operator`` is whom it asks what a pod has in force: a pod that is only said to run
answers nobody, and one that is a process of this machine reads its configuration with other paths in it, so its
revision is another one. Both serve what their ConfigMap says; the second only once it says that it is ready.
"""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from aegate_core.database import open_database
from aegate_core.events import configure_logging
from aegate_core.health import HealthServer
from aegate_core.stores.cluster import ClusterClient, from_kubeconfig
from aegate_core.stores.cluster.connection import read_connection
from aegate_operator.assembly import Operator
from aegate_operator.pods import Pod
from aegate_operator.reports import HTTPStateReader, Report, StateReader
from aegate_operator.settings import read_settings
from tests.cluster.operator.operating import Listeners

LAB = "AEGATE_LAB_ADMIN"
"""Names the kubeconfig of the lab's administrator: what is asked for a pod is no request of the operator's."""


@dataclass(frozen=True, slots=True)
class LabReader:
    """Asks a pod, and its ConfigMap for it."""

    pods: StateReader
    config_maps: StateReader

    async def read(self, pod: Pod) -> Report:
        """Return what the pod has in force. A pool's pods are all real, and what they read names no path."""
        said = await self.pods.read(pod)
        is_on_its_way = not said.problem and said.state != "ready"
        return said if pod.pool or is_on_its_way else await self.config_maps.read(pod)


async def operate() -> None:
    """Operate until SIGTERM."""
    settings, connection = read_settings(os.environ), read_connection(os.environ)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with (
        open_database(settings.database_url) as db,
        HTTPStateReader() as pods,
        ClusterClient(from_kubeconfig(Path(os.environ[LAB])), manager="pods") as admin,
    ):
        operator = Operator(settings, connection, db, LabReader(pods, Listeners(admin)))
        health = HealthServer(
            settings.health_address,
            registry=operator.metrics.registry,
            alive=operator.liveness.trouble,
            ready=operator.trouble,
            note=operator.note,
        )
        health.start()
        try:
            await operator.run(stop)
        finally:
            health.stop()


if __name__ == "__main__":
    configure_logging(terminal=False)
    asyncio.run(operate())
