"""Killed in the middle of its first start's migration, on the n-th statement or with COMMIT's answer on its way."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.integration.cli.installations import AEGATE, device, up_arguments
from tests.integration.faults.hospital import hospital
from tests.integration.faults.proxies import CUT_AFTER, Statement, postgres_proxy
from tests.integration.postgres import postgres_server
from tests.integration.processes import free_port, process

pytestmark = pytest.mark.timeout(300)


class Killer:
    """SIGKILL a process when its n-th statement within a transaction comes, or when its COMMIT is done."""

    def __init__(self, nth: int | None) -> None:
        self.pid = 0
        self._left = nth

    def __call__(self, statement: Statement) -> str | None:
        if self._left is not None and statement.in_transaction:
            self._left -= 1
        is_commit = statement.sql.startswith("COMMIT")
        if self._left == 0 or (self._left is None and is_commit):
            os.kill(self.pid, signal.SIGKILL)
            return CUT_AFTER
        return None


def test_a_start_that_is_killed_while_it_migrates_is_done_by_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "resources"
    folder.mkdir()
    (folder / "ct1.yaml").write_text(device("ct1"))
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    found = []
    with postgres_server() as server, postgres_proxy(server.folder) as proxy:
        direct = server.create("hospital")
        for nth in (40, None):
            proxy.fault = killer = Killer(nth)
            arguments = up_arguments(folder, tmp_path / f"data-{nth}", free_port(), free_port())
            command = [*AEGATE, *arguments, "--database", proxy.url("hospital")]
            with process(command, log=tmp_path / "killed.log") as child:
                killer.pid = child.pid
                assert child.wait(120) == -signal.SIGKILL
            found.append(int(server.run(tables, database="hospital")))
        assert found[0] == 0
        assert found[1] > 20
        with hospital(tmp_path, direct) as here:
            here.send()
            here.until_delivered()
