"""A study most of which waited in the spool for longer than its quiet period goes out once to each destination.

``make outage`` does the same with 3,000 images and a database that is away for ten minutes.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.outage import BEFORE, QUIET_S, indexer_paused, through

COUNT = 300


@pytest.mark.timeout(300)
def test_what_waited_in_the_spool_makes_one_delivery(database_url: str, tmp_path: Path) -> None:
    outcome = through(tmp_path, database_url, COUNT, indexer_paused, lasts_s=2 * QUIET_S, deadline_s=120)

    assert outcome.spooled == COUNT - BEFORE
    assert outcome.deliveries == [("default/pacs", "COMPLETED", COUNT), ("default/ws", "COMPLETED", COUNT)]
    assert outcome.received == {"pacs": outcome.sent, "ws": outcome.sent}
