"""``python -m aegate_scp.indexer [--until-empty]``: one indexer process."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from aegate_core.core_dumps import forbid_core_dumps
from aegate_core.dicom.without_pixels import leave_pixel_libraries_out
from aegate_core.starting import end_at_once_on_sigterm, importing
from aegate_scp.indexer.exit_codes import NOT_EMPTY

UNTIL_EMPTY = "--until-empty"
"""End with 0 when nothing is left in the spool, and remove its folders; for what an ApplicationEntity left behind."""


def main() -> NoReturn:
    """Run the indexer; SIGTERM during the imports ends it at once, as process 1 of a container, too."""
    end_at_once_on_sigterm(NOT_EMPTY if UNTIL_EMPTY in sys.argv else 0)
    forbid_core_dumps()
    with importing():
        leave_pixel_libraries_out()
        from aegate_core.stopping import leave
        from aegate_scp.indexer.process import run

    if sys.argv[1:] not in ([], [UNTIL_EMPTY]):
        sys.stderr.write(f"arguments must be {UNTIL_EMPTY} or none: mend the command\n")
        sys.exit(2)
    # What it left to a thread, such as a blob on its way, is done again by the next one.
    leave(run(os.environ, is_until_empty=bool(sys.argv[1:])))


if __name__ == "__main__":
    main()
