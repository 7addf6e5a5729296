"""What the headers of a folder's files cost, one JSON line a file: a process of its own, for its memory is measured."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

from aegate_core.dicom.header import read_header
from aegate_core.errors import NotDICOM
from aegate_core.events import configure_logging


def main(folder: Path) -> None:
    configure_logging(terminal=False)
    for path in sorted(folder.glob("*.dcm")):
        print(json.dumps({"file": path.stem} | _cost(path)), flush=True)


def _cost(path: Path) -> dict[str, object]:
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew (proc(5))
    before, began = _peak_kib(), time.process_time()
    try:
        read_header(path)
        reason = ""
    except NotDICOM as refusal:
        reason = refusal.message
    seconds = time.process_time() - began
    return {"reason": reason, "seconds": seconds, "mib": (_peak_kib() - before) / 1024}


def _peak_kib() -> int:
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert peak is not None
    return int(peak[1])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
