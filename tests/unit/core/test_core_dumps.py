"""A process may forbid its core files whatever its limit is: an administrator may have set it to nothing for good."""

import subprocess
import sys

import pytest

from aegate_core.core_dumps import LIMIT_BYTES

_PROGRAM = """
import resource
from aegate_core.core_dumps import forbid_core_dumps
resource.setrlimit(resource.RLIMIT_CORE, ({hard}, {hard}))
forbid_core_dumps()
print(resource.getrlimit(resource.RLIMIT_CORE))
"""


@pytest.mark.parametrize(("hard", "left"), [(0, 0), (LIMIT_BYTES, LIMIT_BYTES), (4096, LIMIT_BYTES)])
def test_limit_becomes_too_small_for_a_core_file_and_never_larger(hard: int, left: int) -> None:
    program = [sys.executable, "-c", _PROGRAM.format(hard=hard)]
    ran = subprocess.run(program, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"({left}, {left})\n", "")
