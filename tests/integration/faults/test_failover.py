"""A PostgreSQL that fails over: what is said, that its standby is found, and that nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.faults.conftest import Recovery
from tests.integration.faults.hospital import QUICKLY, hospital
from tests.integration.postgres import USER, postgres_server
from tests.integration.waiting import eventually

pytestmark = pytest.mark.timeout(300)


def test_a_failover_loses_nothing_and_is_followed(tmp_path: Path, recovery: Recovery) -> None:
    with postgres_server() as primary:
        primary.create("hospital")
        with postgres_server(standby_of=primary) as standby:
            # Only what the standby has, too, is committed: without it a failover loses the last transactions.
            primary.run("ALTER SYSTEM SET synchronous_standby_names = '*'")
            primary.run("SELECT pg_reload_conf()")
            url = f"postgres://{USER}@/hospital?host={primary.folder},{standby.folder}&{QUICKLY}"
            with hospital(tmp_path, url, delay_ms=50) as here:
                here.send(20)
                eventually(lambda: len(here.sink.received) > 2, deadline_s=60, what="a delivery is under way")
                primary.kill()
                here.send()
                here.echo()
                here.until_noticed("is a standby, which takes no writes: promote it")
                standby.run("SELECT pg_promote()")
                with recovery("PostgreSQL failing over"):
                    here.until_well()
                    here.until_delivered()
