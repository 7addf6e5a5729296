"""The operator's process: from its environment to Ready, and its end in good order."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import httpx
import pytest

from tests.integration.operator.api_server import api_server
from tests.integration.processes import free_port, process, stop
from tests.integration.waiting import eventually_async

COMMAND = [sys.executable, "-m", "aegate_operator"]


def environment(tmp_path: Path, server: str, health: int) -> dict[str, str]:
    """A pod's environment, but for the kubeconfig."""
    config = {
        "current-context": "lab",
        "contexts": [{"name": "lab", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    (tmp_path / "installation.json").write_text(
        json.dumps({"image": "localhost/aegate:1", "namespace": "here"})
    )
    return {
        "KUBECONFIG": str(tmp_path / "kubeconfig"),
        "AEGATE_INSTALLATION": str(tmp_path / "installation.json"),
        "AEGATE_DATABASE_URL": f"sqlite://{tmp_path / 'aegate.sqlite3'}",
        "AEGATE_HEALTH_LISTEN": f"127.0.0.1:{health}",
        "AEGATE_LOG_FORMAT": "json",
    }


def says(port: int, path: str) -> tuple[int, str]:
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}{path}", timeout=5)
    except httpx.HTTPError:
        return 0, ""
    return answer.status_code, answer.text


async def test_it_is_ready_when_all_is_listed_and_ends_in_good_order(tmp_path: Path) -> None:
    health, log = free_port(), tmp_path / "operator.log"
    async with api_server() as server:
        environ = environment(tmp_path, server.url, health)
        await server.stop()
        with process(COMMAND, log=log, environ=environ, stop_s=30) as child:

            async def asked(path: str) -> tuple[int, str]:
                return await asyncio.to_thread(says, health, path)

            async def waits() -> bool:
                status, text = await asked("/readyz")
                return status == 503 and "does not answer" in text

            await eventually_async(waits, deadline_s=60)
            assert (await asked("/healthz"))[0] == 200
            await server.start()

            async def is_ready() -> bool:
                return (await asked("/readyz"))[0] == 200

            await eventually_async(is_ready, deadline_s=60)
            await eventually_async(lambda: server.requests["watch", "pods"] > 0, deadline_s=60)

            async def tells() -> bool:
                _, metrics = await asked("/metrics")
                return all(name in metrics for name in wanted)

            wanted = (
                "aegate_operator_workqueue_depth 0.0",
                'aegate_operator_api_requests_total{code="200",resource="pods",verb="list"}',
                'aegate_operator_watch_last_event_seconds{watch="pods in all namespaces"}',
                'aegate_operator_rollouts{state="failed"} 0.0',
            )
            await eventually_async(tells, deadline_s=60, what=f"metrics tell of {wanted}")
            assert await asyncio.to_thread(stop, child, timeout_s=30) == 0
    events = [json.loads(line)["event"] for line in log.read_text().splitlines() if line.startswith("{")]
    assert events[0] == "process.started"
    assert events[-1] == "process.stopped"
    assert "cluster.away" in events
    assert "cluster.back" in events


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"AEGATE_DATABASE_URL": ""}, "AEGATE_DATABASE_URL must be set"),
        ({"AEGATE_INSTALLATION": "/nowhere"}, "AEGATE_INSTALLATION must name a file of JSON"),
        ({"KUBECONFIG": "/nowhere"}, "KUBECONFIG must be a readable kubeconfig"),
    ],
)
async def test_an_environment_that_cannot_be_used(
    tmp_path: Path, changes: dict[str, str], words: str
) -> None:
    log = tmp_path / "operator.log"
    environ = {**environment(tmp_path, "http://127.0.0.1:1", 0), **changes}
    with process(COMMAND, log=log, environ=environ) as child:
        assert await asyncio.to_thread(child.wait, 60) == 2
    assert words in log.read_text()
