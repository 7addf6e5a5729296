"""Keep numpy and GDCM out of a process that looks at no pixel.

pydicom imports both wherever they are installed, and does without where they are not: 36 MiB of memory in every
listener, and a third of the time that it takes to start.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import cast


def leave_pixel_libraries_out() -> None:
    """Let nobody find numpy and GDCM from now on, unless they are loaded already; call it before pydicom comes in."""
    for name in ("numpy", "gdcm"):
        # None in sys.modules is the import system's own word for "not to be found".
        sys.modules.setdefault(name, cast("ModuleType", None))
