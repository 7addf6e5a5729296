"""The chart as Helm renders it, and where Helm is: the one that the lab builds, or ``AEGATE_HELM``."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

CHART = Path(__file__).parents[3] / "charts/aegate"
HERE = Path(__file__).parent
VALUES = sorted(path.stem for path in (HERE / "values").glob("*.yaml"))
KNOWN = ("monitoring.coreos.com/v1", "gateway.networking.k8s.io/v1")
"""Kinds of others that the cluster knows."""
GIVEN = ("image.repository=registry.example.org/aegate",)

Object = Mapping[str, Any]


def helm_program() -> Path:
    """Return Helm; the lab builds it where it has not yet."""
    if given := os.environ.get("AEGATE_HELM"):
        return Path(given)
    from tests.cluster.lab.build import build

    return build().folder("helm") / "helm"


def template(
    helm: Path,
    *arguments: str,
    release: str = "aegate",
    namespace: str = "pacs",
    kubernetes: str = "1.36.0",
    known: Sequence[str] = KNOWN,
) -> subprocess.CompletedProcess[str]:
    """Run ``helm template``."""
    apis = [word for api in known for word in ("--api-versions", api)]
    command: list[str | Path] = [
        helm,
        "template",
        release,
        CHART,
        "--namespace",
        namespace,
        "--kube-version",
        kubernetes,
    ]
    return subprocess.run([*command, *apis, *arguments], capture_output=True, text=True, timeout=300)


def render(helm: Path, *arguments: str, **settings: Any) -> str:
    """Return what Helm renders."""
    done = template(helm, *arguments, **settings)
    assert done.returncode == 0, done.stderr
    return done.stdout


def with_values(name: str) -> tuple[str, ...]:
    """Return the arguments for one of the files in values/."""
    return ("--values", str(HERE / "values" / f"{name}.yaml"))


def sets(*values: str) -> tuple[str, ...]:
    """Return the arguments for ``--set``."""
    return tuple(word for value in values for word in ("--set", value))


def refusal(helm: Path, *arguments: str, **settings: Any) -> str:
    """Return why Helm refuses."""
    done = template(helm, *arguments, **settings)
    assert (done.returncode != 0, done.stdout) == (True, ""), "it was taken"
    return done.stderr


def objects(rendered: str) -> list[Object]:
    """Return the objects that were rendered."""
    return [one for one in YAML(typ="safe").load_all(rendered) if one]


def pods(rendered: str) -> Iterator[tuple[str, Object]]:
    """Yield every pod's specification, with the kind and name of what makes it."""
    for one in objects(rendered):
        spec = one.get("spec", {})
        for path in ((), ("template", "spec"), ("jobTemplate", "spec", "template", "spec")):
            found = spec
            for step in path:
                found = found.get(step, {})
            if "containers" in found:
                yield f"{one['kind']} {one['metadata']['name']}", found


def snapshot(rendered: str) -> str:
    """Return what is compared: without CRDs and policies, which are compared with their source."""
    copied = re.compile(r"^kind: (CustomResourceDefinition|ValidatingAdmissionPolicy)", re.MULTILINE)
    kept = "\n---\n".join(part for part in rendered.split("\n---\n") if not copied.search(part))
    return re.sub(r"[ \t]+$", "", kept, flags=re.MULTILINE).strip() + "\n"
