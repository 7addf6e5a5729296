"""Pods whose clocks are ten minutes apart, on a cluster whose API server and database are right.

What goes by time goes by the database's clock. So all arrives once, soon after its quiet period; nobody takes a worker
for dead, and what is only told, the times of conditions, is off by the skew alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from aegate_core.database import migrate
from aegate_scp.sink import Sink, SinkOptions
from tests.cluster.lab.lab import Lab
from tests.cluster.operator.conftest import operators_lab
from tests.cluster.operator.operating import HOME, apply_all
from tests.dicom import ct_study, write
from tests.integration.faults.stepped_clock import SteppedClock
from tests.integration.peers import run_dcmtk
from tests.integration.postgres import PostgresServer, postgres_server
from tests.integration.processes import process
from tests.integration.waiting import eventually

SPACE, DATABASE = "clocks", "clocks"
SKEW = timedelta(minutes=10)
STUDIES, IMAGES, QUIET_S = 12, 3, 3
AGENT = "aegate-operator"
HOT_PER_MINUTE = 60


pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def lab(say: Callable[[str], None]) -> Iterator[Lab]:
    """A lab whose pods run."""
    with operators_lab(8, say) as made:
        yield made


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    """A database whose clock is right."""
    with postgres_server() as server:
        asyncio.run(migrate(server.create(DATABASE)))
        yield server


@dataclass(frozen=True, slots=True)
class Clocks:
    """One that is ahead, one that is behind; beside the lab, because pods have a /tmp of their own."""

    ahead: SteppedClock
    behind: SteppedClock

    @classmethod
    def build(cls, folder: Path) -> Clocks:
        """Compile both."""
        made = cls(SteppedClock.build(folder / "ahead"), SteppedClock.build(folder / "behind"))
        made.ahead.step(round(SKEW.total_seconds()))
        made.behind.step(-round(SKEW.total_seconds()))
        return made


@pytest.fixture
def clocks(lab: Lab) -> Iterator[Clocks]:
    folder = lab.folder / "clocks"
    yield Clocks.build(folder)
    shutil.rmtree(folder)


def test_ten_minutes_apart(lab: Lab, postgres: PostgresServer, clocks: Clocks, tmp_path: Path) -> None:
    place(lab, postgres, tmp_path)
    with Sink(SinkOptions(tmp_path / "sink", title="SINK")) as sink, ExitStack() as running:
        declare(lab, sink)
        running.enter_context(operator(lab, postgres, clocks.ahead, tmp_path))
        skew_listener(lab, clocks)
        for name, clock in (("w-ahead", clocks.ahead), ("w-behind", clocks.behind)):
            running.enter_context(worker(postgres, clock, name, tmp_path))
        # Never Ready here: pods of the cheap ring read paths of this machine, another configuration than they are told.
        eventually(lambda: len(conditions(lab)) > 2, deadline_s=60, what="the operator has looked")
        assert run_by(clocks.ahead) == {"aegate_operator", "aegate_scp.indexer", "aegate_scu"}
        assert run_by(clocks.behind) == {"aegate_scp", "aegate_scu"}
        began, asked, at = datetime.now(UTC), len(requests(lab)), time.monotonic()

        sent = send(lab, tmp_path)
        eventually(lambda: len(sink.received) >= len(sent), deadline_s=180, what="all has come")

        eventually(
            lambda: states(postgres) == f"COMPLETED 0 {STUDIES}", deadline_s=60, what=lambda: states(postgres)
        )
        assert sorted(r.sop_instance_uid for r in sink.received) == sorted(sent)
        seen = "SELECT count(*) FROM worker_state WHERE abs(extract(epoch FROM now() - seen_at)) < 60"
        assert postgres.run(seen, database=DATABASE) == "2", "by the database's clock nobody is silent"
        assert len(requests(lab)) - asked <= HOT_PER_MINUTE * (1 + (time.monotonic() - at) / 60)
        for condition in conditions(lab):
            told = datetime.fromisoformat(condition["lastTransitionTime"])
            assert abs(told - SKEW - began) < timedelta(minutes=3), condition


def place(lab: Lab, postgres: PostgresServer, folder: Path) -> None:
    """Make the namespace with what AEs need there."""
    (folder / "data" / "blobs").mkdir(parents=True)
    size, modes = {"storage": "1Gi"}, ["ReadWriteMany"]
    bound = {"accessModes": modes, "storageClassName": ""}
    volume = {**bound, "capacity": size, "hostPath": {"path": str(folder / "data" / "blobs")}}
    claim = {**bound, "resources": {"requests": size}, "volumeName": "blobs-clocks"}
    there = {"apiVersion": "v1", "metadata": {"namespace": SPACE, "name": "aegate-blobs"}}
    secret = {"namespace": SPACE, "name": "aegate-database"}
    apply_all(
        lab,
        [
            {"kind": "Namespace", "metadata": {"name": SPACE}},
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": "blobs-clocks"},
                "spec": volume,
            },
            {**there, "kind": "PersistentVolumeClaim", "spec": claim},
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": secret,
                "stringData": {"dsn": postgres.url(DATABASE)},
            },
        ],
    )


def declare(lab: Lab, sink: Sink) -> None:
    """A device, the archive, and the route between them."""
    api = {"apiVersion": "aegate.dev/v1alpha1"}
    device = {
        "title": "CT1",
        "node": "127.0.0.1",
        "port": 104,
        "study": {"quietPeriodSeconds": QUIET_S, "maxAgeSeconds": 300},
        "listener": {"verifyNode": False},
    }
    archive = {"title": "SINK", "node": "127.0.0.1", "port": sink.port, "listener": {"mode": "None"}}
    for kind, name, spec in (
        ("ApplicationEntity", "ct1", device),
        ("ApplicationEntity", "sink", archive),
        ("ImageRoute", "to-sink", {"from": {"aes": ["ct1"]}, "to": ["sink"]}),
    ):
        lab.apply(
            json.dumps({**api, "kind": kind, "metadata": {"namespace": SPACE, "name": name}, "spec": spec})
        )


def operator(lab: Lab, postgres: PostgresServer, clock: SteppedClock, folder: Path) -> Any:
    """The operator's process."""
    told = {
        "image": "localhost/aegate:tree",
        "namespace": HOME,
        "listener": {"spool": {"type": "EmptyDir"}, "preStopSeconds": 1},
    }
    (folder / "installation.json").write_text(json.dumps(told))
    environ = {
        **clock.environ,
        "KUBECONFIG": str(lab.kubeconfig),
        "AEGATE_INSTALLATION": str(folder / "installation.json"),
        "AEGATE_DATABASE_URL": postgres.url(DATABASE),
    }
    return process([sys.executable, "-m", "aegate_operator"], log=folder / "operator.log", environ=environ)


def worker(postgres: PostgresServer, clock: SteppedClock, name: str, folder: Path) -> Any:
    """A worker's process, with a short lease."""
    environ = {
        **clock.environ,
        "AEGATE_DATA": str(folder / "data"),
        "AEGATE_DATABASE_URL": postgres.url(DATABASE),
        "AEGATE_WORKER": name,
        "AEGATE_LEASE_SECONDS": "6",
        "AEGATE_RETENTION": "no",
    }
    return process([sys.executable, "-m", "aegate_scu"], log=folder / f"{name}.log", environ=environ)


def skew_listener(lab: Lab, clocks: Clocks) -> None:
    """Let the receiver's clock be behind and its indexer's ahead, as somebody edits a Deployment."""
    deployment = (f"--namespace={SPACE}", "deployment/ae-ct1")
    eventually(
        lambda: "ae-ct1" in lab.kubectl("get", "deployments", deployment[0], "--output=name"), deadline_s=120
    )

    def skewed(name: str, clock: SteppedClock) -> dict[str, Any]:
        given = {**clock.environ, "LD_PRELOAD": f"$(LD_PRELOAD):{clock.environ['LD_PRELOAD']}"}
        return {"name": name, "env": [{"name": key, "value": value} for key, value in given.items()]}

    pod = {
        "initContainers": [skewed("indexer", clocks.ahead)],
        "containers": [skewed("receiver", clocks.behind)],
    }
    patch = json.dumps({"spec": {"template": {"spec": pod}}})
    lab.kubectl("patch", *deployment, "--type=strategic", f"--patch={patch}")
    lab.kubectl("rollout", "status", *deployment, "--timeout=180s")


def send(lab: Lab, folder: Path) -> list[str]:
    """Send all studies as the device; return the UIDs of the images."""
    pods = lab.get("pods", f"--namespace={SPACE}", "--selector=aegate.dev/ae=ct1")["items"]
    [address] = [p["status"]["podIP"] for p in pods if "deletionTimestamp" not in p["metadata"]]
    sent = []
    for number in range(STUDIES):
        images = ct_study(f"study {number}", IMAGES)
        files = [write(image, folder / str(number) / f"{n}.dcm") for n, image in enumerate(images)]
        done = run_dcmtk("storescu", "-aet", "CT1", "-aec", "AEGATE", address, "11112", *files)
        assert done.returncode == 0, done.stdout
        sent += [str(image.SOPInstanceUID) for image in images]
    return sent


def conditions(lab: Lab) -> list[dict[str, Any]]:
    live = lab.get("applicationentity", "ct1", f"--namespace={SPACE}")
    told: list[dict[str, Any]] = live["status"].get("conditions", [])
    return told


def run_by(clock: SteppedClock) -> set[str]:
    """Return the programs that a clock is loaded into."""
    found, library = set(), clock.environ["LD_PRELOAD"]
    for one in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if library in (one / "maps").read_text():
                words = (one / "cmdline").read_text().split("\0")
                found |= {word for word in words if word.startswith("aegate_")}
    return found


def requests(lab: Lab) -> list[Any]:
    return [r for r in lab.audit() if r.agent.startswith(AGENT)]


def states(postgres: PostgresServer) -> str:
    """Return the states of all deliveries, how many attempts failed, and how many there are."""
    asked = "SELECT string_agg(DISTINCT state, ','), sum(attempts), count(*) FROM delivery"
    return postgres.run(asked, database=DATABASE).replace("|", " ")
