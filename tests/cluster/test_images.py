"""The images that `make images` builds: small, without root, the same every time, and with a bill of materials."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.lab.cache import cache_folder
from tests.cluster.lab.images import build_images, image_name, root_file_system
from tools.images.build import PARTS, Builder
from tools.images.buildah import Buildah

LARGEST_BYTES = 150_000_000
SMALLEST = "scp"
OTHERS = tuple(part for part in PARTS if part != SMALLEST)
ONLY_IN = {"kopf": "operator", "numpy": "scu", "apt": ""}
"""What one image needs, or none."""
Say = Callable[[str], None]
IMPORT_ALL = """
import importlib, os, pkgutil, sys
roots = [importlib.import_module(name) for name in ("aegate_core", sys.argv[1])]
names = [m.name for r in roots for m in pkgutil.walk_packages(r.__path__, r.__name__ + ".")]
for name in names:
    if not name.endswith(("__main__", "print_schema", *sys.argv[2:])):
        importlib.import_module(name)
print(len(names), os.getuid())
"""
OF_IMAGES = ("blobs.bucket", "blobs.s3")
"""Modules that only those need, and load, which touch images: operator and API know neither bucket nor its client."""


@pytest.fixture(scope="module")
def archives(say: Say) -> dict[str, Path]:
    """The archive of each image."""
    tag, images = build_images(say)
    return {part: cache_folder() / "images" / f"{part}-{tag}.tar" for part in PARTS} if images else {}


@pytest.mark.parametrize("part", PARTS)
def test_image_is_small_and_runs_as_nobody_in_particular(archives: dict[str, Path], part: str) -> None:
    assert archives[part].stat().st_size <= LARGEST_BYTES
    config = _config(archives[part])
    assert config["config"]["User"] == "10001:10001"
    assert config["config"]["Cmd"] == ["python3", "-m", f"aegate_{part.replace('-', '_')}"]
    assert config["config"]["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"


@pytest.mark.parametrize("part", PARTS)
def test_image_has_whatever_its_modules_import(archives: dict[str, Path], part: str) -> None:
    assert archives
    package = f"aegate_{part.replace('-', '_')}"
    tag = archives[part].stem.rpartition("-")[2]
    needless = () if part in ("scp", "scu") else OF_IMAGES
    told = Buildah(cache_folder() / "buildah").run(
        image_name(part, tag), "python3", "-c", IMPORT_ALL, package, *needless
    )
    assert told.split()[-1] == "10001"
    assert int(told.split()[0]) > 50


@pytest.mark.parametrize("part", [SMALLEST, *(pytest.param(p, marks=pytest.mark.full) for p in OTHERS)])
def test_two_builds_from_one_root_file_system_are_one_digest(
    archives: dict[str, Path], tmp_path: Path, part: str
) -> None:
    assert archives
    built = []
    for name in ("first", "second"):
        folder = tmp_path / name
        (folder / "base").mkdir(parents=True)
        shutil.copyfile(root_file_system(), folder / "base" / "root.tar")
        builder = Builder(folder, lambda text: None, Buildah(tmp_path / f"storage-{name}"), "1.2.3")
        built += builder.build([part])
    first, second = built
    assert first.digest == second.digest
    assert first.bill.read_text() == second.bill.read_text()

    bill = json.loads(first.bill.read_text())
    components = {c["name"]: c for c in bill["components"]}
    assert {"aegate-core", f"aegate-{part}", "pydicom", "python3.11", "libc6"} <= components.keys()
    assert {name for name in components if name.startswith("aegate-")} == {"aegate-core", f"aegate-{part}"}
    assert {name: ONLY_IN[name] for name in ONLY_IN.keys() & components} == {
        name: only for name, only in ONLY_IN.items() if only == part
    }
    assert [name for name, c in components.items() if not c.get("licenses")] == []


def _config(archive: Path) -> dict[str, Any]:
    with tarfile.open(archive) as opened:

        def read(name: str) -> Any:
            file = opened.extractfile(name)
            assert file is not None
            return json.loads(file.read())

        manifest = read(_blob(read("index.json")["manifests"][0]["digest"]))
        config: dict[str, Any] = read(_blob(manifest["config"]["digest"]))
    return config


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"
