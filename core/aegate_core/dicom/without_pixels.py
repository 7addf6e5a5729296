"""Keep numpy, GDCM, Pillow and requests out of a process that looks at no pixel.

pydicom imports all of them wherever they are installed, and does without where they are not: 40 MiB of memory in every
process, and up to half of the time that a listener takes to start.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import cast

_NOBODY_NEEDS = ("numpy", "gdcm")
_OTHERS_NEED = ("PIL", "requests")
"""requests: the exporter of traces, where it is asked for."""

_NOT_TO_BE_FOUND = cast("ModuleType", None)
"""None in sys.modules is the import system's own word for that."""


def leave_pixel_libraries_out() -> None:
    """Import pydicom without them, unless they are loaded already; call it before anything else imports it.

    Nobody finds numpy and GDCM from then on.
    """
    for name in _NOBODY_NEEDS:
        sys.modules.setdefault(name, _NOT_TO_BE_FOUND)
    hidden = [name for name in _OTHERS_NEED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden, _NOT_TO_BE_FOUND))
    import pydicom  # noqa: F401 - what it finds now is what it knows

    for name in hidden:
        del sys.modules[name]
