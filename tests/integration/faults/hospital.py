"""A small hospital on a real `aegate up` whose database is about to fail: what it says meanwhile, and what got lost."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from aegate_core.health import ProcessState, read_state
from aegate_graphql_api.tokens import create_token
from aegate_scp.sink import Sink, SinkOptions
from tests.integration.cli.installations import QUICK, ROUTE, Up, aegate, device, installation, send_study
from tests.integration.peers import run_dcmtk
from tests.integration.processes import free_port
from tests.integration.waiting import eventually

RECOVERY_S = 120
"""The deadline of a recovery; how long it took is measured."""
NOTICED_S = 60
"""The deadline for a fault to be noticed."""
LEASE_S = 3
QUICKLY = "connect_timeout=2&command_timeout=4"
"""Parameters of a database URL: a minute's wait takes four seconds."""
PACS = "RGVzdGluYXRpb246ZGVmYXVsdC9wYWNz"
"""The receiver's id in the API."""
HOLD = f'mutation {{ holdDestination(id: "{PACS}") {{ __typename ... on Problem {{ code message }} }} }}'


@dataclass
class Hospital:
    """A device that sends, a receiver that takes everything, and all of aegate between them."""

    up: Up
    sink: Sink
    database_url: str
    sent: list[str] = field(default_factory=list)
    """SOP Instance UIDs that the device saw acknowledged."""
    studies: int = 0
    before: Hospital | None = None
    """The same hospital before `aegate up` was started anew."""

    def received(self) -> Counter[str]:
        """Return how often each SOP Instance UID came to the receiver."""
        earlier = self.before.received() if self.before else Counter[str]()
        return earlier + Counter(one.sop_instance_uid for one in self.sink.received)

    def send(self, count: int = 4) -> None:
        """Send a study; the device sees every image acknowledged."""
        self.studies += 1
        self.sent += send_study(self.up, self.up.data.parent, f"study {self.studies}", count)

    def echo(self) -> None:
        """Ask the listener whether it is there; it is."""
        arguments = ("-aet", "CT1", "-aec", "AEGATE", "127.0.0.1", str(self.up.dicom_port))
        assert run_dcmtk("echoscu", *arguments).returncode == 0

    def state(self, process: str) -> ProcessState:
        """Return what a process says of itself in its state file."""
        said = read_state(self.up.data / "run" / f"{process}.state")
        assert said is not None
        return said

    def readiness(self, process: str) -> tuple[int, str]:
        """Return status and text of a process's /readyz."""
        try:
            url = f"http://127.0.0.1:{self.state(process).health_port}/readyz"
            with urllib.request.urlopen(url, timeout=30) as answer:
                return answer.status, answer.read().decode().strip()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode().strip()

    def post(self, query: str) -> dict[str, Any]:
        """Return the whole answer of the API."""
        if not self.up.token:
            tokens = self.up.data / "run" / "tokens.json"
            self.up.token = create_token(tokens, "test", ["DICOM_QUEUE", "AE_EDITOR"])
        headers = {"Authorization": f"Bearer {self.up.token}"}
        url = f"http://127.0.0.1:{self.up.http_port}/graphql"
        # Without TLS there are no authorities to load, which takes longer than to ask and to answer.
        answer = httpx.post(url, json={"query": query}, headers=headers, timeout=60, verify=False)
        return dict(answer.json())

    def refusal(self, query: str = "{ queueItems { totalCount { value } } }") -> str:
        """Return with what words the API refuses a query, the database being away."""
        (error,) = self.post(query)["errors"]
        assert error["extensions"] == {"code": "UNAVAILABLE"}
        return str(error["message"])

    def says(self, component: str, event: str, words: str = "") -> int:
        """Return how often a component has logged an event with these words in its error."""
        found = [e for e in self.up.events(event) if e["component"] == component]
        return sum(words in str(e.get("error")) for e in found)

    def until_delivered(self) -> None:
        """Wait until every study is delivered."""
        eventually(self._is_delivered, deadline_s=RECOVERY_S, what="every study is delivered")

    def _is_delivered(self) -> bool:
        items = (
            (self.post("{ queueItems { nodes { state } } }").get("data") or {}).get("queueItems") or {}
        ).get("nodes")
        return items == [{"state": "COMPLETED"}] * self.studies

    def why_not_moving(self) -> tuple[str, str]:
        """Return code and text of the one item that is not done."""
        answer = self.post("{ queueItems { nodes { state whyNotMoving { code text } } } }")
        items = [] if answer.get("errors") else answer["data"]["queueItems"]["nodes"]
        found = [item["whyNotMoving"] for item in items if item["state"] != "COMPLETED"]
        return (found[0]["code"], found[0]["text"]) if found else ("", "")

    def until_noticed(self, words: str, *, within_s: float = NOTICED_S) -> None:
        """Wait until every process says what is wrong with the database, each in all the ways it has."""
        components = ("indexer", "scu", "api", "up")
        said = {c: self.says(c, "database.back") for c in components}  # before this outage: as often as away
        news = device("ct9", port=free_port())  # something to write for the supervisor
        (self.up.folder / "ct9.yaml").write_text(news)
        for component in components:
            eventually(
                lambda component=component: self.says(component, "database.away") > said[component],
                deadline_s=within_s,
                what=f"{component} logs that the database is away",
            )
        for process in ("indexer", "worker", "api"):
            self.until_said(process, words, within_s=within_s)
        assert words in self.refusal()

    def until_said(self, process: str, words: str, *, within_s: float = NOTICED_S) -> None:
        """Wait until a process says what is wrong, to whoever asks it and in its state file."""
        eventually(
            lambda: (
                self.readiness(process)[0] == 503
                and words in self.readiness(process)[1]
                and words in self.state(process).message
            ),
            deadline_s=within_s,
            what=f"{process} says: {words}",
        )

    def until_well(self) -> None:
        """Wait until every process says that it is well again."""
        for process in ("indexer", "worker", "api"):
            eventually(
                lambda process=process: self.readiness(process)[0] == 200,
                deadline_s=RECOVERY_S,
                what=f"{process} is ready",
            )

    def check(self) -> None:
        """Fail when something was lost, changed its count, or was left over; call it after the end of `aegate up`."""
        assert self.received().keys() == set(self.sent)
        assert len(set(self.sent)) == len(self.sent)
        assert list(self.up.data.glob("spool/*/*/*/*.dcm")) == []
        judged = aegate(
            *("fsck", "--settled", "0", "--data", self.up.data, "--database", self.database_url),
            timeout_s=120,
        )
        assert judged.returncode == 0, judged.stdout + judged.stderr
        assert self.up.events("request.failed") == []
        assert self.up.events("child.exited") == []

    def sent_twice(self) -> list[str]:
        """Return what came to the receiver more than once."""
        return [uid for uid, times in self.received().items() if times > 1]


@contextmanager
def hospital(
    tmp_path: Path,
    database_url: str,
    *,
    delay_ms: int = 0,
    judged_url: str = "",
    nodes: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    before: Hospital | None = None,
    is_done: bool = True,
) -> Iterator[Hospital]:
    """Run a hospital on a database until the end of the block, then check it unless another start is to follow.

    ``judged_url``: where fsck finds the database at the end, if elsewhere; ``nodes``: host names of ct1 and pacs.
    """
    with Sink(SinkOptions(tmp_path / "received", title="PACS", delay_ms=delay_ms)) as sink:
        manifests = {
            "ct1.yaml": device("ct1", more=QUICK),
            "pacs.yaml": device("pacs", sink.port),
            "r.yaml": ROUTE,
        }
        for name, node in (nodes or {}).items():
            named = f"node: {node}\n  sourceRanges: [127.0.0.1/32]"
            manifests[f"{name}.yaml"] = manifests[f"{name}.yaml"].replace("node: 127.0.0.1", named)
        settings = {"AEGATE_LEASE_SECONDS": str(LEASE_S), **(environ or {})}
        more = ("--database", database_url)
        with installation(tmp_path, manifests, more=more, environ=settings) as up:
            here = Hospital(up, sink, judged_url or database_url, before=before)
            if before is not None:
                here.sent, here.studies, up.token = list(before.sent), before.studies, before.up.token
            yield here
        assert up.child.returncode == 0
        if is_done:
            here.check()
