"""The example's sign-in without a browser: what it does when a session ends, by Node's own test runner."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.integration.nodejs.program import node


def test_sessions_end_when_they_should() -> None:
    program = Path(__file__).with_name("sign_in.test.mjs")
    told = subprocess.run([node(), "--test", program], capture_output=True, text=True, timeout=120)
    assert told.returncode == 0, told.stdout + told.stderr
