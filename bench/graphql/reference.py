"""The reference query beside PostGraphile on the same table: ``python -m bench.graphql.reference --rows 100000``.

50 rows of ten fields, filtered, newest first, one process each, in turns; ours with permissions, limits and audit on.
The server's processor time for each answer is printed beside the rate: on a machine that does other work too, it is
the figure that can still be compared.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx

from aegate_graphql_api.tokens import create_token
from bench.graphql.reads import filled_database
from tests.integration.api.test_process import api_process
from tests.integration.processes import cpu_s, free_port
from tests.integration.waiting import eventually

HERE = Path(__file__).parent
POSTGRAPHILE = HERE / "postgraphile"
OURS = """{ queueItems(where: {state: {eq: COMPLETED}}, orderBy: NEWEST, first: 50) { nodes {
    id state destinationAe sourceAe priority attempts instancesTotal instancesDone createdAt finishedAt } } }"""
THEIRS = """{ allDeliveries(condition: {state: "COMPLETED"}, orderBy: [ROW_ID_DESC], first: 50) { nodes {
    id state destinationId sourceAe priority attempts instancesTotal instancesDone createdAt finishedAt } } }"""
"""Without our join for the destination's name: it is given the lighter work."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server under test."""

    name: str
    url: str
    pid: int
    query: str
    token: str = ""

    def rows(self) -> list[str]:
        """Return when each row of one answer was made. Raises RuntimeError for an error."""
        answer = httpx.post(
            self.url,
            json={"query": self.query},
            headers={"Authorization": f"Bearer {self.token}"} if self.token else {},
            timeout=60,
            trust_env=False,
        ).json()
        if answer.get("errors"):
            raise RuntimeError(f"{self.name}: {answer['errors']}")
        [listed] = answer["data"].values()
        return [node["createdAt"] for node in listed["nodes"]]


@dataclass(frozen=True, slots=True)
class Run:
    """What wrk saw of one server in one round."""

    rate: float
    """Answers a second."""
    median_ms: float
    p99_ms: float
    cpu_ms: float
    """Of the server's process, for each answer."""


def run(server: Server, *, connections: int, seconds: int) -> Run:
    """Ask as fast as answers come. Raises RuntimeError when one of them was an error."""
    environ = {**os.environ, "BENCH_BODY": json.dumps({"query": server.query})}
    if server.token:
        environ["BENCH_TOKEN"] = server.token
    before = cpu_s(server.pid)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(HERE / "post.lua")]
    said = subprocess.run(
        [*command, server.url], env=environ, check=True, capture_output=True, text=True, timeout=seconds + 60
    ).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"{server.name}: {said}")
    answers = int(_number(said, r"(\d+) requests in"))
    return Run(
        _number(said, r"Requests/sec:\s+([\d.]+)"),
        _milliseconds(said, "50%"),
        _milliseconds(said, "99%"),
        (cpu_s(server.pid) - before) * 1000 / max(answers, 1),
    )


def _number(said: str, pattern: str) -> float:
    found = re.search(pattern, said)
    if found is None:
        raise RuntimeError(f"wrk must say {pattern}, got: {said}")
    return float(found[1])


def _milliseconds(said: str, share: str) -> float:
    found = re.search(rf"{share}\s+([\d.]+)(us|ms|s)", said)
    if found is None:
        raise RuntimeError(f"wrk must say its latency, got: {said}")
    return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[found[2]]


@contextmanager
def postgraphile(database_url: str) -> Iterator[Server]:
    """Run PostGraphile over the database."""
    port = free_port()
    address = database_url.replace("@/", "@localhost/")
    environ = {**os.environ, "DATABASE_URL": address, "PORT": str(port), "NODE_ENV": "production"}
    modules = POSTGRAPHILE / "node_modules"
    command = [modules / "node/bin/node", modules / ".bin/postgraphile"]
    with subprocess.Popen(command, cwd=POSTGRAPHILE, env=environ, stdout=subprocess.DEVNULL) as child:
        server = Server("PostGraphile", f"http://127.0.0.1:{port}/graphql", child.pid, THEIRS)
        try:
            eventually(lambda: _answers(server), deadline_s=60, what="PostGraphile answers")
            yield server
        finally:
            child.terminate()


def _answers(server: Server) -> bool:
    try:
        return bool(server.rows())
    except httpx.HTTPError:
        return False


@contextmanager
def aegate(database_url: str, folder: Path) -> Iterator[Server]:
    """Run our API over the database; its caller may ask as fast as it can."""
    token = create_token(folder / "tokens.json", "bench", ["DICOM_QUEUE"])
    with api_process(folder, database_url, "api", AEGATE_RATE="1000000000") as (client, child):
        url = f"http://127.0.0.1:{client.base_url.port}/graphql"
        yield Server("aegate", url, cast("Any", child).pid, OURS, token)


def compare(servers: Sequence[Server], *, connections: int, seconds: int, rounds: int) -> None:
    """Warm both up, ask them in turns, print the medians."""
    ours, theirs = ([row[:19] for row in server.rows()] for server in servers)
    if len(ours) != 50 or len(theirs) != 50:
        raise RuntimeError(f"both must answer 50 rows, got {len(ours)} and {len(theirs)}")
    for server in servers:
        run(server, connections=connections, seconds=max(seconds, 10))
    runs: dict[str, list[Run]] = {server.name: [] for server in servers}
    for _ in range(rounds):
        for server in servers:
            runs[server.name].append(run(server, connections=connections, seconds=seconds))
    print(f"{'':14}{'req/s':>10}{'median ms':>12}{'p99 ms':>10}{'CPU ms':>10}  medians of {rounds}, in turns")
    for name, seen in runs.items():
        rate, median, p99, cpu = (
            statistics.median(getattr(r, what) for r in seen)
            for what in ("rate", "median_ms", "p99_ms", "cpu_ms")
        )
        print(f"{name:14}{rate:10.0f}{median:12.2f}{p99:10.2f}{cpu:10.2f}")
    of_ours, of_theirs = (runs[server.name] for server in servers)
    ratios = [a.rate / b.rate for a, b in zip(of_ours, of_theirs, strict=True)]
    print(
        f"ours in theirs: {statistics.median(ratios):.2f} of the rate ({min(ratios):.2f} to {max(ratios):.2f})"
    )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--url", help="ask this database, which was filled so before, instead of a new one")
    asked = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aegate-bench-")))
        url = stack.enter_context(filled_database(asked.url, asked.rows, asked.rows))
        servers = [stack.enter_context(aegate(url, folder)), stack.enter_context(postgraphile(url))]
        compare(servers, connections=asked.connections, seconds=asked.seconds, rounds=asked.rounds)


if __name__ == "__main__":
    main()
