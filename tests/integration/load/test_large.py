"""A multi-frame object of 128 MiB goes in and out, converted too, and no process holds it in memory.

``make large`` does the same with 2 GiB.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.large_objects import MIB, through

SIZE_MIB = 128
MOST_GROWTH_BYTES = 32 * MIB
"""A quarter of the object; of one of 2 GiB, 128 MiB are allowed."""


@pytest.mark.timeout(400)
def test_no_process_holds_a_large_object_in_memory(database_url: str, tmp_path: Path) -> None:
    costs = through(tmp_path, database_url, SIZE_MIB, deadline_s=120)

    assert costs.wrong == []
    assert {name: n for name, n in costs.growth_bytes.items() if n > MOST_GROWTH_BYTES} == {}
    assert costs.growth_bytes.keys() == {"listener", "indexer", "worker", "api", "supervisor"}
