"""``python -m aegate_scp``: one listener process."""

from __future__ import annotations

import os
import sys

from aegate_core.core_dumps import forbid_core_dumps
from aegate_core.dicom.without_pixels import leave_pixel_libraries_out
from aegate_core.starting import end_at_once_on_sigterm, importing


def main() -> int:
    """Run the listener; SIGTERM during the imports ends it at once, as process 1 of a container, too."""
    end_at_once_on_sigterm()
    forbid_core_dumps()
    with importing():
        leave_pixel_libraries_out()
        from aegate_scp.process import run

    return run(os.environ)


if __name__ == "__main__":
    sys.exit(main())
