"""The operator's process as a proof sees it: started and stopped, its memory, its metrics."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.lab.lab import Lab
from tests.cluster.operator.operating import HOME
from tests.integration.processes import cpu_s, free_port, peak_rss_bytes, process, rss_bytes
from tests.integration.waiting import eventually
from tests.proofs.fleet.process import LAB

START_S = 300
TOKEN_LIFE = "24h"


@dataclass(frozen=True, slots=True)
class Running:
    """One process."""

    child: subprocess.Popen[bytes]
    port: int
    began: float

    @property
    def rss_bytes(self) -> int:
        """Its memory now."""
        return rss_bytes(self.child.pid)

    @property
    def peak_bytes(self) -> int:
        """The most that it has held."""
        return peak_rss_bytes(self.child.pid)

    @property
    def cpu_s(self) -> float:
        """The processor time that it has used."""
        return cpu_s(self.child.pid)

    @property
    def age_s(self) -> float:
        """Since when it runs."""
        return time.monotonic() - self.began

    def has_listed(self) -> bool:
        """Whether it knows all that there is."""
        assert self.child.poll() is None, f"the operator ended with {self.child.returncode}"
        try:
            return (
                httpx.get(f"http://127.0.0.1:{self.port}/readyz", timeout=30, trust_env=False).status_code
                == 200
            )
        except httpx.HTTPError:
            return False

    def metrics(self) -> Metrics:
        """Return what it counts."""
        text = httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=30, trust_env=False).text
        return read_metrics(text)


@dataclass(frozen=True, slots=True)
class Metrics:
    """What the operator counts, as far as a proof asks."""

    looks: int
    """At one resource each, of whatever result."""
    depth: int
    """Resources that are due or looked at."""
    ready: int
    """AEs whose Ready condition is True."""


def read_metrics(text: str) -> Metrics:
    """Return what an answer of /metrics says."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return Metrics(
        looks=int(found.get("aegate_operator_reconcile_total", 0)),
        depth=int(found.get("aegate_operator_workqueue_depth", 0)),
        ready=int(found.get("aegate_ae_ready", 0)),
    )


@contextmanager
def running_operator(
    lab: Lab, folder: Path, installation: Mapping[str, Any], database_url: str
) -> Iterator[Running]:
    """Run it under the operator's own account; yield when it has listed everything."""
    file = folder / "installation.json"
    file.write_text(json.dumps(installation))
    port = free_port()
    environ = {
        "KUBECONFIG": str(_kubeconfig(lab, folder)),
        LAB: str(lab.kubeconfig),
        "AEGATE_INSTALLATION": str(file),
        "AEGATE_DATABASE_URL": database_url,
        "AEGATE_HEALTH_LISTEN": f"127.0.0.1:{port}",
    }
    command = [sys.executable, "-m", "tests.proofs.fleet.process"]
    with process(command, log=folder / "operator.log", environ=environ, stop_s=60) as child:
        running = Running(child, port, time.monotonic())
        eventually(running.has_listed, deadline_s=START_S, what="the operator has listed everything")
        yield running


def _kubeconfig(lab: Lab, folder: Path) -> Path:
    """Write the kubeconfig of the operator's account: its token, no client certificate."""
    file = folder / "kubeconfig"
    token = lab.kubectl(
        "create", "token", "aegate-operator", f"--namespace={HOME}", f"--duration={TOKEN_LIFE}"
    ).strip()
    config = json.loads(lab.kubectl("config", "view", "--raw", "--minify", "--flatten", "--output=json"))
    config["users"] = [{"name": "operator", "user": {"token": token}}]
    config["contexts"][0]["context"]["user"] = "operator"
    file.touch(0o600)
    file.write_text(json.dumps(config))
    return file
