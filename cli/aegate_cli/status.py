"""How the processes are, for people (a table) and for programs (Prometheus)."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from rich.table import Table

from aegate_cli.supervisor import ProcessView, Supervisor

_STYLES = {"ready": "green", "degraded": "yellow", "starting": "cyan", "restarting": "red", "failed": "red"}


def process_table(views: Iterable[ProcessView]) -> Table:
    """Return the table that `aegate up` prints."""
    table = Table(title="aegate", title_justify="left", header_style="bold")
    for heading in ("process", "state", "pid", "port", "health", "restarts", ""):
        table.add_column(heading, overflow="fold")
    for view in views:
        table.add_row(
            view.name,
            f"[{_STYLES.get(view.state, 'white')}]{view.state}[/]",
            str(view.pid or ""),
            str(view.port or ""),
            str(view.health_port or ""),
            str(view.restarts),
            view.message,
        )
    return table


class ProcessCollector(Collector):
    """State of every process at the moment of the scrape."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Return one gauge for readiness and one for restarts."""
        ready = GaugeMetricFamily(
            "aegate_process_ready", "1 when the process says that it is ready, else 0.", labels=["process"]
        )
        restarts = GaugeMetricFamily(
            "aegate_process_restarts", "How often the supervisor started it again.", labels=["process"]
        )
        for view in self._supervisor.views():
            ready.add_metric([view.name], float(view.state in ("ready", "degraded")))
            restarts.add_metric([view.name], view.restarts)
        return (ready, restarts)
