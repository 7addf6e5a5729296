"""A name server that does not answer: devices are still let in, receivers and the database are waited for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.faults.conftest import Recovery
from tests.integration.faults.hospital import QUICKLY, hospital
from tests.integration.faults.proxies import postgres_proxy
from tests.integration.postgres import postgres_server
from tests.integration.shims import build_shim
from tests.integration.waiting import eventually

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="session")
def resolver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """names.c, built."""
    return build_shim(Path(__file__).with_name("names.c"), tmp_path_factory.mktemp("resolver"))


def test_names_that_do_not_resolve_are_said_and_waited_for(
    tmp_path: Path, resolver: Path, recovery: Recovery
) -> None:
    away = tmp_path / "away"
    away.mkdir()
    environ = {"LD_PRELOAD": str(resolver), "AEGATE_NAMES_AWAY": str(away)}
    nodes = {"ct1": "ct1.test", "pacs": "pacs.test"}
    with postgres_server() as server, postgres_proxy(server.folder) as proxy:
        direct = server.create("hospital")
        url = f"{proxy.url('hospital', host='db.test')}?{QUICKLY}"
        with hospital(tmp_path, url, judged_url=direct, nodes=nodes, environ=environ) as here:
            here.send()
            here.until_delivered()

            (away / "ct1.test").touch()
            (away / "pacs.test").touch()
            here.send()
            here.echo()
            eventually(lambda: here.why_not_moving()[0] == "BREAKER_OPEN", deadline_s=60)
            _, text = here.why_not_moving()
            assert "CONNECT: the name of default/pacs cannot be resolved" in text

            (away / "db.test").touch()
            proxy.cut()
            here.until_noticed("has a host whose name cannot be resolved: mend the name server")
            here.send()
            here.echo()
            for name in away.iterdir():
                name.unlink()
            with recovery("no name resolving"):
                here.until_well()
                here.until_delivered()
            assert here.sent_twice() == []
