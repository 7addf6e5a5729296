"""A control plane with our CRDs in it. Nothing of ours runs there: it is the API server alone that answers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from tests.cluster.validation.api_server import ApiServer
from tests.cluster.validation.installing import OldObjects, install, install_without_rules
from tests.crd_cases.table import load_cases


class Cluster(Protocol):
    """What these tests need of a cluster."""

    @property
    def kubeconfig(self) -> Path:
        """How to get in."""

    def kubectl(self, *arguments: str | Path, stdin: str = "") -> str:
        """Return what kubectl prints. Raises AssertionError with what it said."""


@dataclass(frozen=True, slots=True)
class GivenCluster:
    """The cluster of ``KUBECONFIG``."""

    kubeconfig: Path

    def kubectl(self, *arguments: str | Path, stdin: str = "") -> str:
        program = shutil.which("kubectl") or os.environ["KUBECTL"]
        done = subprocess.run(
            [program, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
        )
        assert done.returncode == 0, done.stderr or done.stdout
        return done.stdout


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return GivenCluster(Path(os.environ["KUBECONFIG"]))


@pytest.fixture(scope="session")
def api(cluster: Cluster) -> Iterator[ApiServer]:
    server = ApiServer(cluster.kubeconfig)
    yield server
    server.close()


@pytest.fixture(scope="session")
def stored(api: ApiServer) -> OldObjects:
    """The old versions of updates, those from before the rules stored already; our CRDs are in force."""
    install_without_rules(api)
    objects = OldObjects(api)
    for case in load_cases():
        if case.is_old_unchecked:
            objects.store(case)
    install(api)
    return objects
