"""The images of the lab's pods: the sandbox's, and aegate's over a Debian root; made here, imported, never pulled.

Their names start with ``localhost/`` and end with a digest of what is in them, so pods say ``imagePullPolicy:
Never`` and a changed tree is another image.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.lab.cache import cache_folder, digest, only_builder
from tests.cluster.lab.oci import Entry, folder_entries, image_name, layer, write_image

ROOT = Path(__file__).parents[3]
PAUSE_SOURCE = Path(__file__).with_name("pause.c")
PAUSE = "localhost/pause:1"

DEBIAN = "bookworm"
"""Its Python is what aegate's wheels are chosen for."""
PYTHON = "3.11"
PACKAGES = (
    "base-files,libc-bin,dash,coreutils,python3,python3-minimal,python3.11,libstdc++6,ca-certificates,netbase"
)
SITE = f"usr/local/lib/python{PYTHON}/dist-packages"

PASSWD = (
    b"root:x:0:0:root:/root:/bin/sh\n"
    b"aegate:x:10001:10001::/tmp:/usr/sbin/nologin\n"
    b"nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
)
GROUP = b"root:x:0:\naegate:x:10001:\nnogroup:x:65534:\n"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True, slots=True)
class Image:
    """An archive, and the name that its image has on a node."""

    archive: Path
    name: str


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


def pause_image() -> Image:
    """Return the image of every sandbox."""
    program = pause_program()

    def write(archive: Path) -> None:
        content = layer([Entry("pause", program, 0o755)])
        write_image(archive, PAUSE, [content], {"Entrypoint": ["/pause"], "User": "65535:65535"})

    return _image(f"pause-{digest(program.read_bytes())}", write)


def aegate_image() -> Image:
    """Return the image of aegate as this tree is: ``python3 -m aegate_scp`` and the others run in it, as user 10001."""
    lock = (ROOT / "requirements-run.lock").read_bytes()
    base = _base_image()
    libraries_key = digest(base.name, lock)
    libraries = _image(f"libraries-{libraries_key}", lambda archive: _write_libraries(archive, base))
    tag = digest(libraries_key, *_own_files())

    def write(archive: Path) -> None:
        name, config = f"localhost/aegate:{tag}", {"Cmd": ["python3", "-m", "aegate_cli", "--help"]}
        with _installed("--no-deps", *_distributions()) as site:
            content = layer(folder_entries(SITE, site))
        write_image(archive, name, [content], config | {"User": "10001:10001"}, base=libraries.archive)

    return _image(f"aegate-{tag}", write)


def _base_image() -> Image:
    """Return Debian with Python, unpacked and not configured: no maintainer script runs (14 s; minbase: 53 s)."""
    recipe = digest(DEBIAN, PACKAGES, PASSWD, GROUP)

    def write(archive: Path) -> None:
        with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
            root = Path(folder) / "root.tar"
            excluded = [
                f"--dpkgopt=path-exclude=/usr/share/{d}/*" for d in ("doc", "man", "locale", "lintian")
            ]
            command = ["mmdebstrap", "--quiet", "--variant=extract", "--mode=root", f"--include={PACKAGES}"]
            subprocess.run([*command, *excluded, DEBIAN, root], check=True)
            debian = root.read_bytes()
        ours = layer(
            [
                Entry("etc/passwd", PASSWD),
                Entry("etc/group", GROUP),
                Entry("etc/ssl/certs/ca-certificates.crt", CERTIFICATES),
            ]
        )
        environ = ["PATH=/usr/local/bin:/usr/bin:/bin", "PYTHONUNBUFFERED=1", "LANG=C.UTF-8"]
        write_image(
            archive, f"localhost/python:{recipe}", [debian, ours], {"Env": environ, "Cmd": ["python3"]}
        )

    return _image(f"python-{recipe}", write)


def _write_libraries(archive: Path, base: Image) -> None:
    name = f"localhost/aegate-libraries:{archive.stem.rpartition('-')[2]}"
    with _installed("--require-hashes", "-r", str(ROOT / "requirements-run.lock")) as site:
        write_image(archive, name, [layer(folder_entries(SITE, site))], {}, base=base.archive)


@contextmanager
def _installed(*what: str) -> Iterator[Path]:
    """Install distributions into a folder of their own, as for Debian's Python, whatever Python runs the tests."""
    uv = Path(sys.executable).with_name("uv")
    command: list[str | Path] = [
        uv,
        "pip",
        "install",
        "--quiet",
        "--python",
        sys.executable,
        "--python-version",
        PYTHON,
    ]
    with tempfile.TemporaryDirectory(prefix="aegate-site-") as folder:
        subprocess.run([*command, "--target", folder, *what], check=True, cwd=ROOT)
        # Programs whose first line names this machine's Python.
        shutil.rmtree(Path(folder) / "bin", ignore_errors=True)
        yield Path(folder)


def _distributions() -> list[str]:
    return [f"./{p.parent.name}" for p in sorted(ROOT.glob("*/pyproject.toml"))]


def _own_files() -> list[bytes]:
    """Return names and contents of all that the distributions are built from."""
    found = []
    for folder in (*_distributions(), "crds"):
        files = (p for p in (ROOT / folder).rglob("*") if p.is_file() and "__pycache__" not in p.parts)
        found += [part for p in sorted(files) for part in (str(p.relative_to(ROOT)).encode(), p.read_bytes())]
    return found


def _image(key: str, write: Callable[[Path], None]) -> Image:
    folder = cache_folder() / "images"
    archive = folder / f"{key}.tar"
    if not archive.exists():
        folder.mkdir(exist_ok=True)
        write(archive)
    return Image(archive, image_name(archive))


def build_images() -> tuple[Image, Image]:
    """Return the sandbox's image and aegate's, made where the cache lacks them."""
    with only_builder():
        return pause_image(), aegate_image()
