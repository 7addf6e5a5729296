"""The images of the lab's pods: the sandbox's, and aegate's as `make images` builds them; imported, never pulled.

Aegate's have the digest of all that they are built from as their tag, so pods say ``imagePullPolicy: Never`` and a
changed tree is other images.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.lab.cache import cache_folder, digest, only_builder
from tools.images.build import PARTS, REPOSITORY, Builder, containerfile, distributions
from tools.images.buildah import Buildah
from tools.images.debian import PACKAGES, RELEASE, make_root

ROOT = Path(__file__).parents[3]
PAUSE_SOURCE = Path(__file__).with_name("pause.c")
PAUSE_IMAGE = Path(__file__).with_name("pause.Containerfile")
PAUSE = "localhost/pause:1"
POSTGRES_START = Path(__file__).with_name("postgres.sh")
POSTGRES_IMAGE = Path(__file__).with_name("postgres.Containerfile")
POSTGRES_PACKAGES = ("base-files", "coreutils", "dash", "libc-bin", "postgresql-15", "tzdata")
POSTGRES = "localhost/postgres:15"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Image:
    """An archive, and the name that its image has on a node."""

    archive: Path
    name: str


def image_name(part: str, tag: str) -> str:
    """Return the name of one of aegate's images."""
    return f"{REPOSITORY}/{part}:{tag}"


def pause_program() -> Path:
    """Return the program that is process 1 wherever a lab needs one that does nothing."""
    target = cache_folder() / "programs" / f"pause-{digest(PAUSE_SOURCE.read_bytes())}" / "pause"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_suffix(".part")
        flags = ["-static", "-Os", "-s", "-Wall", "-Wextra", "-Werror"]
        subprocess.run(["gcc", *flags, "-o", str(unfinished), str(PAUSE_SOURCE)], check=True)
        unfinished.rename(target)
    return target


def postgres_image() -> Image:
    """Return the image of a PostgreSQL for trials; built where missing."""
    with only_builder() as cache:
        described = (POSTGRES_START.read_bytes(), POSTGRES_IMAGE.read_bytes())
        key = digest(RELEASE, *POSTGRES_PACKAGES, *described)
        archive = cache / "images" / f"postgres-{key}.tar"
        if not archive.exists():
            with tempfile.TemporaryDirectory() as made:
                context = Path(made)
                make_root(context / "root.tar", POSTGRES_PACKAGES)
                shutil.copyfile(POSTGRES_START, context / "start")
                buildah = Buildah(cache / "buildah")
                buildah.build(POSTGRES_IMAGE, context, POSTGRES)
                archive.parent.mkdir(exist_ok=True)
                buildah.save(POSTGRES, archive)
        return Image(archive, POSTGRES)


def build_images(say: Say = print) -> tuple[str, list[Image]]:
    """Return the tag of aegate's images as this tree is, and all images that a node needs; built where missing."""
    with only_builder() as cache:
        buildah, tag = Buildah(cache / "buildah"), _tag()
        folder = cache / "images"
        folder.mkdir(exist_ok=True)
        program = pause_program()
        pause = folder / f"{program.parent.name}.tar"
        if not pause.exists():
            buildah.build(PAUSE_IMAGE, program.parent, PAUSE)
            buildah.save(PAUSE, pause)
        archives = {part: folder / f"{part}-{tag}.tar" for part in PARTS}
        if not all(archive.exists() for archive in archives.values()):
            for built in Builder(_build_folder(), say, buildah, tag).build():
                built.archive.rename(folder / f"{built.archive.stem}-{tag}.tar")
        return tag, [Image(pause, PAUSE), *(Image(archives[p], image_name(p, tag)) for p in PARTS)]


def root_file_system() -> Path:
    """Return the tar that the images stand on; it is there when they are."""
    return _build_folder() / "base" / "root.tar"


def _build_folder() -> Path:
    return cache_folder() / "build" / _root_key()


def _root_key() -> str:
    return digest(RELEASE, *PACKAGES)


def _tag() -> str:
    """Name everything that aegate's images are built from."""
    folders = {folder for part in PARTS for folder in distributions(part)} | {ROOT / "crds"}
    described = [p for part in ("base", *PARTS) for p in containerfile(part).parent.iterdir()]
    files = [
        p for folder in folders for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts
    ]
    parts = [part for p in sorted(files + described) for part in (str(p.relative_to(ROOT)), p.read_bytes())]
    return digest(_root_key(), *parts)
