"""What is built from the distributions runs without the repository beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.examples import MANIFESTS

ROOT = Path(__file__).parents[3]
UV = Path(sys.executable).parent / "uv"
DISTRIBUTIONS = ("core", "scp", "scu", "graphql_api", "cli")


def built(tmp_path: Path) -> list[Path]:
    """Build each source distribution, and each wheel from it; nothing is fetched."""
    for distribution in DISTRIBUTIONS:
        arguments = ["build", "--quiet", "--offline", "--no-config", "--out-dir", tmp_path / "dist"]
        subprocess.run([UV, *arguments, ROOT / distribution], check=True, cwd=tmp_path)
    return sorted((tmp_path / "dist").glob("*.whl"))


def test_the_wheels_validate_by_the_crds_of_the_repository(tmp_path: Path) -> None:
    wheels, site = built(tmp_path), tmp_path / "site"
    assert len(wheels) == len(DISTRIBUTIONS)
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    carried = {file.name: file.read_bytes() for file in (site / "aegate_core" / "crds").iterdir()}
    assert carried == {file.name: file.read_bytes() for file in (ROOT / "crds").glob("*.yaml")}
    environ = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-m", "aegate_cli", "validate", *MANIFESTS]
    result = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (
        0,
        "valid: 1 AEPolicy, 8 ApplicationEntity, 5 ImageRoute, 3 PatientPartition; problems: 0; warnings: 1\n",
    )
    where = [sys.executable, "-c", "import aegate_core; print(aegate_core.__file__)"]
    assert subprocess.check_output(where, cwd=tmp_path, env=environ, text=True).startswith(str(site))
