"""Ask a judge: JSON in, JSON out."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any


def ask(program: Path, question: object) -> Any:
    """Return what the program says; it ends with an error, and its words, for what it cannot read."""
    done = subprocess.run([program], input=json.dumps(question), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
