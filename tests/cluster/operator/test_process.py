"""What a kubelet hears from the operator's real process, and so when it starts it anew."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import httpx

from tests.cluster.operator.operating import HOME, Ward
from tests.integration.processes import free_port, process
from tests.integration.waiting import eventually

SILENT_S = 3
"""Instead of four minutes: between two bookmarks, which come every minute, a watch of a quiet cluster says nothing."""
_RUN = f"""
from aegate_operator import liveness, process
liveness.SILENT_S = {SILENT_S}
raise SystemExit(process.run())
"""


async def test_a_silent_watch_fails_the_probe_in_words_while_the_server_answers(
    ward: Ward, tmp_path: Path
) -> None:
    shutil.copyfile(ward.sqlite_template, ward.database)
    installation = tmp_path / "installation.json"
    installation.write_text(json.dumps({"image": "localhost/aegate:tree", "namespace": HOME}))
    port = free_port()
    environ = {
        "KUBECONFIG": str(ward.lab.kubeconfig),
        "AEGATE_INSTALLATION": str(installation),
        "AEGATE_DATABASE_URL": f"sqlite://{ward.database}",
        "AEGATE_HEALTH_LISTEN": f"127.0.0.1:{port}",
    }
    with process([sys.executable, "-c", _RUN], log=tmp_path / "operator.log", environ=environ):
        said: dict[int, str] = {}

        def probed(code: int) -> bool:
            try:
                answer = httpx.get(f"http://127.0.0.1:{port}/healthz")
            except httpx.ConnectError:  # it starts
                return False
            said[answer.status_code] = answer.text
            return code in said

        eventually(lambda: probed(200))
        eventually(lambda: probed(503))
    assert "the watch of " in said[503]
    assert "has been silent for " in said[503]
    assert said[503].strip().endswith("and the API server answers")
