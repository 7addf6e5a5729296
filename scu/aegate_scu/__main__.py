"""``python -m aegate_scu``: a worker process, until SIGTERM or SIGINT."""

from __future__ import annotations

from aegate_core.dicom.without_pixels import leave_pixel_libraries_out
from aegate_core.starting import end_at_once_on_sigterm, importing


def main() -> None:
    """Run a worker; SIGTERM during the imports ends it at once, as process 1 of a container, too."""
    end_at_once_on_sigterm()
    with importing():
        leave_pixel_libraries_out()  # decoders are processes of their own
        from aegate_core.stopping import leave
        from aegate_scu.process import run

    leave(run())


if __name__ == "__main__":
    main()
