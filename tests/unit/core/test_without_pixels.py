"""No process holds what only decoders need: 40 MiB each, of which a hospital has two for every device."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

PROCESSES = (
    "aegate_scp",
    "aegate_scp.indexer",
    "aegate_scu",
    "aegate_graphql_api",
    "aegate_operator",
)
HEAVY = {"numpy._core", "_gdcm", "PIL._version", "requests.api"}
"""Modules in them: what was looked for and not found is listed, too."""


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_starts_without_what_looks_at_pixels(process: str) -> None:
    """Without any setting it ends in words, once all is imported."""
    command = [sys.executable, "-X", "importtime", "-m", process]
    ended = subprocess.run(command, env={}, capture_output=True, text=True, timeout=60)
    imported = set(re.findall(r"^import time:.*\| +(\S+)$", ended.stderr, re.MULTILINE))
    assert ended.returncode == 2, ended.stderr[-500:]
    assert "pydicom" in imported
    assert not imported & HEAVY
