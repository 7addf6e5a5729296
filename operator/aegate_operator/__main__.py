"""``python -m aegate_operator``: the operator's process, until SIGTERM or SIGINT."""

from __future__ import annotations

import sys

from aegate_core.dicom.without_pixels import leave_pixel_libraries_out
from aegate_core.starting import end_at_once_on_sigterm, importing


def main() -> int:
    """Run the operator; SIGTERM during the imports ends it at once, as process 1 of a container, too."""
    end_at_once_on_sigterm()
    with importing():
        leave_pixel_libraries_out()
        from aegate_operator.process import run

    return run()


if __name__ == "__main__":
    sys.exit(main())
