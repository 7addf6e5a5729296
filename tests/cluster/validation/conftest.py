"""A control plane with our CRDs in it. Nothing of ours runs there: it is the API server alone that answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.cluster.lab.lab import Lab
from tests.cluster.lab.starting import LabSettings, running_lab
from tests.cluster.validation.api_server import ApiServer
from tests.cluster.validation.installing import OldObjects, install, install_without_rules
from tests.crd_cases.table import load_cases


@pytest.fixture(scope="package")
def cluster(say: Callable[[str], None]) -> Iterator[Lab]:
    """A lab of these tests' own: they put CRDs without rules in force, and admission policies."""
    with running_lab(LabSettings(), say) as lab:
        yield lab


@pytest.fixture(scope="package")
def api(cluster: Lab) -> Iterator[ApiServer]:
    server = ApiServer(cluster.kubeconfig)
    yield server
    server.close()


@pytest.fixture(scope="package")
def stored(api: ApiServer) -> OldObjects:
    """The old versions of updates, those from before the rules stored already; our CRDs are in force."""
    install_without_rules(api)
    objects = OldObjects(api)
    for case in load_cases():
        if case.is_old_unchecked:
            objects.store(case)
    install(api)
    return objects
