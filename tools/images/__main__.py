"""``python -m tools.images``: build the images of `images/` into build/images, as archives with bills of materials."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.images.build import PARTS, ROOT, Builder, version
from tools.images.buildah import Buildah, NoImage


def main() -> int:
    """Build, print a table, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.images", description=(__doc__ or "").split(": ")[1]
    )
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument(
        "--into", type=Path, default=ROOT / "build" / "images", help="(default: build/images)"
    )
    parser.add_argument("--storage", type=Path, help="where buildah keeps layers (default: its own place)")
    parser.add_argument("--tag", default=version(), help="(default: the version, %(default)s)")
    options = parser.parse_args()
    unknown = sorted(set(options.parts) - set(PARTS))
    if unknown:
        parser.error(f"there is no image {', '.join(unknown)}: there are {', '.join(PARTS)}")
    builder = Builder(options.into.absolute(), _say, Buildah(options.storage), options.tag)
    try:
        for image in builder.build(options.parts or PARTS):
            print(image)
    except NoImage as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
