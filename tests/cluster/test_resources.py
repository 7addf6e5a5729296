"""The CRDs and the examples before a real API server."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.cluster.lab.images import ROOT
from tests.cluster.lab.lab import KubectlFailed, Lab
from tests.cluster.listeners import WAIT
from tests.examples import MANIFESTS

CRDS = sorted((ROOT / "crds").glob("*.yaml"))


@pytest.fixture(scope="module")
def crds(cheap_lab: Lab) -> Lab:
    for crd in CRDS:
        cheap_lab.apply(crd)
    cheap_lab.kubectl("wait", "crd", "--all", "--for=condition=Established", WAIT)
    return cheap_lab


def test_all_crds_are_established_without_a_warning_of_their_schema(crds: Lab) -> None:
    found = crds.get("crds")["items"]
    assert len(found) == len(CRDS)
    faulty = [c for crd in found for c in crd["status"]["conditions"] if c["type"] == "NonStructuralSchema"]
    assert faulty == []


@pytest.mark.parametrize("example", MANIFESTS, ids=lambda p: str(p.relative_to(ROOT / "examples")))
def test_example_is_taken_under_strict_validation(crds: Lab, example: Path) -> None:
    documents = [d for d in YAML(typ="safe").load_all(example.read_text()) if d]
    for name in {d["metadata"].get("namespace", "default") for d in documents} - {"default"}:
        crds.apply(f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")

    applied = crds.apply(example)

    assert len(applied.splitlines()) == len(documents)
    assert all(line.endswith((" created", " unchanged", " configured")) for line in applied.splitlines())


def test_misspelt_field_is_refused_and_nothing_is_made(crds: Lab) -> None:
    text = (ROOT / "examples" / "applicationentity.yaml").read_text()
    misspelt = text.replace("name: xr-2", "name: misspelt").replace("maxConnections:", "maxConections:")

    with pytest.raises(KubectlFailed, match=r'unknown field "spec\.maxConections"'):
        crds.apply(misspelt)

    assert "misspelt" not in crds.kubectl("get", "applicationentities", "--all-namespaces")
