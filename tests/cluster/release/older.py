"""An older version of aegate, chart and images, as git has it: what people upgrade from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.lab.cache import cache_folder
from tests.cluster.lab.images import ROOT, Image

OLDER = "cdb6bdb9cae7b79da3e1119aeb91323732a711d0"
"""The commit."""
_BUILD = """
import json
from tests.cluster.lab.images import build_images
tag, images = build_images()
print(json.dumps([tag, [[str(image.archive), image.name] for image in images]]))
"""


@dataclass(frozen=True, slots=True)
class OlderVersion:
    """What an installation of then needs."""

    chart: Path
    tag: str
    images: list[Image]


def older_version() -> OlderVersion:
    """Return it; taken out of git and built where the cache lacks it. Raises AssertionError without git's history."""
    tree = cache_folder() / "older" / OLDER
    if not tree.exists():
        _take_out(tree)
    done = subprocess.run(
        [sys.executable, "-c", _BUILD],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    tag, images = json.loads(done.stdout.splitlines()[-1])
    return OlderVersion(tree / "charts" / "aegate", tag, [Image(Path(a), name) for a, name in images])


def _take_out(tree: Path) -> None:
    archive = subprocess.run(["git", "archive", OLDER], cwd=ROOT, capture_output=True)
    assert archive.returncode == 0, (
        f"the commit {OLDER} must be in this clone: {archive.stderr.decode()}; run `git fetch --unshallow`"
    )
    tree.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=tree.parent))
    try:
        subprocess.run(["tar", "-x", "-C", unfinished], input=archive.stdout, check=True)
        unfinished.rename(tree)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
