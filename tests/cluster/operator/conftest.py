"""A lab of its own for the operator's tests: a real control plane, and pods that are only said to run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from aegate_core.stores.cluster import ClusterClient, from_kubeconfig
from tests.cluster.lab.lab import Lab
from tests.cluster.lab.starting import LabSettings, running_lab
from tests.cluster.operator.operating import Listeners, Ward, apply_all, rights, store
from tests.integration.conftest import sqlite_template

__all__ = ["sqlite_template"]

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def operator_lab(say: Callable[[str], None]) -> Iterator[Lab]:
    """A control plane with our CRDs and the operator's account."""
    with operators_lab(0, say) as lab:
        yield lab


@contextmanager
def operators_lab(processes: int, say: Callable[[str], None]) -> Iterator[Lab]:
    """Run such a lab; so many pods are processes, the others are only said to run."""
    with running_lab(LabSettings(processes=processes), say) as lab:
        crds = [
            YAML(typ="safe", pure=True).load(file.read_text())
            for file in sorted((ROOT / "crds").glob("*.yaml"))
        ]
        apply_all(lab, [*crds, *rights()])
        for crd in ("applicationentities", "imageroutes", "patientpartitions"):
            lab.kubectl("wait", f"crd/{crd}.aegate.dev", "--for=condition=Established", "--timeout=60s")
        yield lab


@pytest.fixture
async def ward(operator_lab: Lab, tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Ward]:
    """The lab, as a test uses it."""
    async with ClusterClient(from_kubeconfig(operator_lab.kubeconfig), manager="kubectl") as admin:
        yield Ward(operator_lab, admin, Listeners(admin), tmp_path / "aegate.sqlite3", sqlite_template)


@pytest.fixture
def radiology(operator_lab: Lab, namespace: str) -> Iterator[str]:
    """A namespace with what AEs need; gone at the end, and with it all AEs."""
    yield from _space(operator_lab, f"radiology-{namespace}")


@pytest.fixture
def cardiology(operator_lab: Lab, namespace: str) -> Iterator[str]:
    """Another one."""
    yield from _space(operator_lab, f"cardiology-{namespace}")


def _space(lab: Lab, name: str) -> Iterator[str]:
    apply_all(lab, [{"kind": "Namespace", "metadata": {"name": name}}, *store(name)])
    yield name
    # The titles are free for the next test then, and its operator has nothing to say in a namespace that is going: it
    # may not, there. The rest of the namespace goes in its own time.
    ours = "imageroutes,patientpartitions,applicationentities"
    lab.kubectl("delete", ours, "--all", f"--namespace={name}", "--timeout=120s")
    lab.kubectl("delete", "namespace", name, "--wait=false")
    lab.kubectl("delete", "persistentvolume", f"blobs-{name}", "--wait=false")
