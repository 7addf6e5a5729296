"""aegate as its chart installs it on a real node: its images in real pods, PostgreSQL, devices and receivers outside.

Devices call a node's port: what comes through a Service's own address from outside has a node's address for its
sender, and a listener admits by address.
"""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pydicom
from pydicom.errors import InvalidDicomError

from tests.cluster.chart.rendering import CHART, helm_program, sets
from tests.cluster.lab.hosts import SHARED
from tests.cluster.lab.lab import Lab
from tests.cluster.release.paced import PacedSender, paced_sender
from tests.integration.identities import Authority
from tests.integration.peers import StoreSCP, run_dcmtk
from tests.integration.postgres import PostgresServer, find_binaries, postgres_server
from tests.integration.processes import process
from tests.integration.waiting import eventually

EXAMPLE = Path(__file__).parents[3] / "examples" / "hospital"
SYSTEM, RELEASE = "pacs", "aegate"
SECRETS = {
    "aegate-database-owner": "aegate_owner",
    "aegate-database-worker": "aegate_worker",
    "aegate-database-api": "aegate_api",
    "aegate-database": "aegate_indexer",
    "aegate-database-operator": "aegate_operator",
}
"""Secret, and the role that its DSN names."""
TOKENS = "aegate-tokens"
USER = 10001
HOT_PER_MINUTE = 60
"""What an operator may ask of its API server while something is wrong, at most, besides a burst of this many."""
STARTING, AN_ENTITY = 60, 20
"""And what is news: to an operator that starts, and of each AE to it."""
SPOOLS = 20
"""Volumes for claims; one that was let go is not used again."""
VALUES = sets(
    "image.pullPolicy=Never",
    "listener.serviceType=NodePort",
    "listener.spool.size=1Gi",
    "listener.graceSeconds=60",
    "blobs.size=1Gi",
    "worker.replicas=1",
    "pools.default.shares=2",
    "api.enabled=true",
    "api.replicas=1",
    f"api.tokensSecret={TOKENS}",
)


@dataclass(frozen=True, slots=True)
class Hospital:
    """The release, and the namespace that has its ApplicationEntities."""

    lab: Lab
    database: PostgresServer
    token: str
    folder: Path
    namespace: str
    system: str = SYSTEM
    """The release's own namespace."""
    release: str = RELEASE
    devices: list[PacedSender] = field(default_factory=list)
    """All that have sent by `paced_sender`, those that have released, too."""
    others: tuple[str, ...] = ()
    """More namespaces that may have ApplicationEntities of the release."""

    def elsewhere(self, namespace: str) -> Hospital:
        """Return the same release as it is seen from another of its namespaces."""
        assert namespace in self.others
        return replace(self, namespace=namespace)

    def helm(self, *arguments: str | Path) -> str:
        """Run Helm in the release's namespace. Raises AssertionError with what it said."""
        command = [helm_program(), *arguments, "--namespace", self.system]
        environ = {**os.environ, **self.lab.environ}
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environ)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def install(
        self,
        *arguments: str,
        until_ready: bool = True,
        chart: Path = CHART,
        tag: str = "",
        release: str = "",
    ) -> None:
        """Install the chart, or upgrade to it, and wait until all is there; this tree's, unless another is given."""
        images = sets("image.repository=localhost/aegate", f"image.tag={tag or self.lab.tag}")
        waiting = ("--wait", "--timeout=5m") if until_ready else ()
        self.helm(
            "upgrade", release or self.release, chart, "--install", *waiting, *images, *VALUES, *arguments
        )

    def apply_example(self, **ports: int) -> None:
        """Apply `examples/hospital` with this machine for all devices; ``ports``: where its receivers listen."""
        copy = self.folder / "hospital"
        copy.mkdir(exist_ok=True)
        for file in EXAMPLE.glob("*.yaml"):
            text = file.read_text().replace("node: 127.0.0.1", f"node: {self.lab.plan.machine}")
            for name, port in ports.items():
                if f"\n  name: {name.replace('_', '-')}\n" in text:
                    text = re.sub(
                        rf"^  port: {EXAMPLE_PORTS[name]}\b", f"  port: {port}", text, flags=re.MULTILINE
                    )
            (copy / file.name).write_text(text)
        self.lab.apply(copy, f"--namespace={self.namespace}")

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl in the AEs' namespace."""
        return self.lab.kubectl(f"--namespace={self.namespace}", *arguments)

    def get(self, *arguments: str) -> Any:
        """Return what is in the AEs' namespace."""
        return self.lab.get(*arguments, f"--namespace={self.namespace}")

    def wait_until_ready(self, *names: str) -> None:
        """Return when these AEs are Ready."""
        entities = [f"applicationentity/{name}" for name in names]
        self.kubectl("wait", *entities, "--for=condition=Ready", "--timeout=180s")

    def address(self, name: str, *, node: int = 1) -> tuple[str, int]:
        """Return where a device reaches an AE's listener: the node that has its pod, and its port there."""
        return self._node_port(self.get("service", f"ae-{name}"), node)

    def pool_address(self, name: str) -> tuple[str, int]:
        """Return where a device reaches a pool."""
        return self._node_port(
            self.lab.get("service", f"{self.release}-pool-{name}", f"--namespace={self.system}")
        )

    def _node_port(self, service: Any, node: int = 1) -> tuple[str, int]:
        return str(self.lab.plan.node(node)), int(service["spec"]["ports"][0]["nodePort"])

    def scale(self, deployment: str, replicas: int) -> None:
        """Have so many pods of one of the release's Deployments; returns when it is so."""
        there = (f"deployment/{deployment}", f"--namespace={self.system}")
        self.lab.kubectl("scale", *there, f"--replicas={replicas}")
        self.lab.kubectl("rollout", "status", *there, "--timeout=180s")

    def make_volume(self, name: str, path: str, *, storage_class: str = "", owner: int = USER) -> None:
        """Make a volume of one of the lab's folders for whoever claims it."""
        self.lab.apply(json.dumps(_volume(self.lab, name, path, None, storage_class)))
        os.chown(self.lab.folder / SHARED / path, owner, owner)

    def add_ae(self, name: str, **spec: Any) -> None:
        """Apply an AE whose device is this machine."""
        given = {
            "title": name.upper().replace("-", "_"),
            "node": str(self.lab.plan.machine),
            "port": 104,
            **spec,
        }
        metadata = {"name": name, "namespace": self.namespace}
        manifest = {"apiVersion": "aegate.dev/v1alpha1", "kind": "ApplicationEntity", "metadata": metadata}
        self.lab.apply(json.dumps(manifest | {"spec": given}))

    def add_route(self, name: str, *, source: str, to: str) -> None:
        """Apply a route from one AE to another."""
        manifest = {
            "apiVersion": "aegate.dev/v1alpha1",
            "kind": "ImageRoute",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"from": {"aes": [source]}, "to": [to]},
        }
        self.lab.apply(json.dumps(manifest))

    def send(self, address: tuple[str, int], title: str, files: Sequence[Path]) -> None:
        """Send files as the device ``title``, by dcmtk. Raises AssertionError with what it said."""
        host, port = address
        sent = run_dcmtk("storescu", "-aet", title, "-aec", "AEGATE", host, str(port), *files)
        assert sent.returncode == 0, sent.stdout

    @contextmanager
    def paced_sender(
        self, address: tuple[str, int], title: str, study: str, *, tls: ssl.SSLContext | None = None
    ) -> Iterator[PacedSender]:
        """As `paced.paced_sender`; what it was told is kept is looked for by `until_nothing_is_lost`."""
        with paced_sender(address, title, study, tls=tls) as sender:
            self.devices.append(sender)
            yield sender

    def until_nothing_is_lost(self) -> None:
        """Return when the index has every image that a device of `paced_sender` was told is kept."""
        told = {uid for device in self.devices for uid in device.acknowledged}
        assert told, "no device has sent"

        def lost() -> set[str]:
            images = "SELECT sop_instance_uid FROM instance"
            return told - set(self.database.run(images, database=database_of(self.release)).split())

        eventually(
            lambda: not lost(), deadline_s=120, what=lambda: f"of {len(told)} images none is lost: {lost()}"
        )

    @contextmanager
    def api(self, release: str = "") -> Iterator[httpx.Client]:
        """A client of the API, through `kubectl port-forward` and with a token."""
        log = self.folder / "port-forward.log"
        log.unlink(missing_ok=True)
        command = [
            "kubectl",
            "port-forward",
            f"--namespace={self.system}",
            f"deployment/{api_of(release or self.release)}",
            ":8080",
        ]
        with process(command, log=log, environ=self.lab.environ):
            said = "Forwarding from 127.0.0.1:"
            eventually(lambda: said in log.read_text(), deadline_s=30, what="a port is forwarded")
            port = log.read_text().partition(said)[2].partition(" ")[0]
            headers = {"Authorization": f"Bearer {self.token}"}
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as client:
                yield client

    def until_indexed(self, counts: Mapping[str, int], *, release: str = "") -> None:
        """Return when the index has so many images of each of these studies, by UID."""
        api = (f"deployment/{api_of(release or self.release)}", f"--namespace={self.system}")
        self.lab.kubectl("rollout", "status", *api, "--timeout=300s")
        with self.api(release) as client:
            eventually(lambda: counts.items() <= studies(client).items(), deadline_s=300, what=str(counts))

    @contextmanager
    def never_hot(self, *, rolls: int = 0) -> Iterator[None]:
        """See that the operator asks the API server for no more than what is news, and a few tries a minute.

        ``rolls``: how often the block has another operator or other listeners, which makes news of everything.
        """
        began, news = datetime.now(UTC), rolls * (STARTING + AN_ENTITY * len(self.get("aes")["items"]))
        yield
        minutes = (datetime.now(UTC) - began).total_seconds() / 60
        user = f"system:serviceaccount:{self.system}:{self.release}-operator"
        asked = [r for r in self.lab.audit() if r.user == user and r.at >= began]
        told = Counter((r.verb, r.resource, r.code) for r in asked)
        assert len(asked) <= HOT_PER_MINUTE * (1 + minutes) + news, (minutes, told)

    def remove(self) -> None:
        """Take everything away, for the next test on the same lab; what hangs is its own tests' concern."""
        for release in self.helm("list", "--short").split():
            self.helm("uninstall", release)
        spaces = [self.system, self.namespace, *self.others]
        volumes = [*(f"blobs-{space}" for space in spaces), *(f"spool-{i}" for i in range(SPOOLS))]
        for what in (["namespace", *spaces], ["persistentvolume", *volumes]):
            self.lab.kubectl("delete", *what, "--ignore-not-found", "--wait=false")

    def uids(self, *kinds: str) -> dict[str, str]:
        """Return uid by kind/name of everything of these kinds in the AEs' namespace."""
        items = self.get(",".join(kinds))["items"]
        return {f"{o['kind']}/{o['metadata']['name']}": o["metadata"]["uid"] for o in items}


def api_of(release: str) -> str:
    """Return the name of a release's API: the chart's own name stands in every one."""
    return f"{release}-api" if "aegate" in release else f"{release}-aegate-api"


def database_of(release: str) -> str:
    """Return the name of a release's database."""
    return "aegate" if release == RELEASE else release.replace("-", "_")


EXAMPLE_PORTS = {"pacs": 11113, "ws_read_1": 11114}


def ask(client: httpx.Client, query: str, **variables: object) -> Any:
    """Return the data of a GraphQL query that has no errors."""
    answer = client.post("/graphql", json={"query": query, "variables": variables}).json()
    assert "errors" not in answer, answer
    return answer["data"]


def received(receiver: StoreSCP, study: str) -> dict[str, bytes]:
    """What a receiver has of a study: pixels by SOP Instance UID."""
    found = {}
    for path in receiver.received():
        with suppress(InvalidDicomError, AttributeError):  # it is being written
            ds = pydicom.dcmread(path)
            if ds.StudyInstanceUID == study:
                found[str(ds.SOPInstanceUID)] = bytes(ds.PixelData)
    return found


def studies(client: httpx.Client) -> dict[str, int]:
    """Return the number of images of each study, by UID."""
    nodes = ask(client, "{ studies(first: 100) { nodes { studyInstanceUid instanceCount } } }")["studies"][
        "nodes"
    ]
    return {node["studyInstanceUid"]: node["instanceCount"] for node in nodes}


@dataclass(frozen=True, slots=True)
class Ground:
    """What releases stand on: PostgreSQL with their roles, and who vouches for it."""

    lab: Lab
    server: PostgresServer
    authority: Authority

    @contextmanager
    def hospital(
        self,
        folder: Path,
        namespace: str,
        *,
        system: str = SYSTEM,
        release: str = RELEASE,
        sslmode: str = "verify-full",
        others: tuple[str, ...] = (),
    ) -> Iterator[Hospital]:
        """Install everything but the chart: a database, volumes, Secrets, a token."""
        database = database_of(release)
        self.server.run(f"CREATE DATABASE {database} OWNER aegate_owner TEMPLATE template0")
        spaces = (namespace, *others)
        for space in (system, *spaces):
            _make_namespace(self.lab, space)
        _make_volumes(self.lab, system, *spaces)
        token = _make_token(self.lab, folder, system)
        address = f"{self.lab.plan.machine}:5432/{database}?sslmode={sslmode}"
        ca = f"--from-file=ca.crt={self.authority.folder / 'ca.crt'}"
        for secret, role in SECRETS.items():
            dsn = f"--from-literal=dsn=postgres://{role}@{address}"
            for space in {system, *spaces} if secret == "aegate-database" else {system}:
                self.lab.kubectl("create", "secret", "generic", secret, dsn, ca, f"--namespace={space}")
        made = Hospital(self.lab, self.server, token, folder, namespace, system, release, others=others)
        try:
            yield made
        finally:
            made.remove()


@contextmanager
def ground(lab: Lab, folder: Path) -> Iterator[Ground]:
    """Run PostgreSQL for releases in real pods."""
    authority = Authority.make(folder / "authority")
    with postgres_server(listen_addresses=str(lab.plan.machine)) as server:
        _open_to_pods(server, lab)
        server.serve_tls(authority.issue(folder / "database", str(lab.plan.machine)))
        for role in SECRETS.values():
            server.run(f"CREATE ROLE {role} LOGIN")
        yield Ground(lab, server, authority)


@contextmanager
def hospital(
    lab: Lab, folder: Path, namespace: str, *others: str, sslmode: str = "verify-full"
) -> Iterator[Hospital]:
    """Install everything but the chart of the only release that there is."""
    with ground(lab, folder) as made, made.hospital(folder, namespace, sslmode=sslmode, others=others) as one:
        yield one


@contextmanager
def trial_hospital(lab: Lab, folder: Path) -> Iterator[Hospital]:
    """Install everything but the chart and a database; the AEs are in the release's own namespace."""
    _make_namespace(lab, SYSTEM)
    _make_volumes(lab, SYSTEM, SYSTEM)
    nobodys = PostgresServer(folder, find_binaries())  # never started
    made = Hospital(lab, nobodys, _make_token(lab, folder, SYSTEM), folder, SYSTEM)
    try:
        yield made
    finally:
        made.remove()


def _make_namespace(lab: Lab, name: str) -> None:
    lab.make_namespace(name)
    for mode in ("enforce", "warn"):
        lab.kubectl("label", "namespace", name, f"pod-security.kubernetes.io/{mode}=restricted")


def _open_to_pods(server: PostgresServer, lab: Lab) -> None:
    with (server.folder / "data" / "pg_hba.conf").open("a") as rules:
        for network in lab.plan.networks():
            rules.write(f"hostssl all all {network} trust\n")
    server.run("SELECT pg_reload_conf()")


def _make_volumes(lab: Lab, system: str, *spaces: str) -> None:
    """Make the blobs' volume for all namespaces, and some for spools: whoever claims one has it."""
    items = [
        _volume(lab, f"blobs-{space}", f"blobs-{system}", (space, "aegate-blobs"))
        for space in sorted({system, *spaces})
    ]
    items += [_volume(lab, f"spool-{i}", f"spool-{i}", None) for i in range(SPOOLS)]
    items += [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "aegate-blobs", "namespace": space},
            "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
        }
        for space in spaces
        if space != system  # there the chart makes it
    ]
    lab.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))


def _volume(
    lab: Lab, name: str, path: str, claim: tuple[str, str] | None, storage_class: str = ""
) -> dict[str, Any]:
    folder = lab.folder / SHARED / path
    folder.mkdir(parents=True, exist_ok=True)
    os.chown(folder, USER, USER)  # kubelet leaves the owner of a hostPath as it is
    spec: dict[str, Any] = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
        "hostPath": {"path": f"/srv/{path}"},
        "persistentVolumeReclaimPolicy": "Retain",
    }
    if storage_class:
        spec["storageClassName"] = storage_class
    if claim:
        spec["claimRef"] = {"namespace": claim[0], "name": claim[1]}
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}


def _make_token(lab: Lab, folder: Path, system: str) -> str:
    """Make a token as docs/operations/install.md says, with its Secret; return it."""
    tokens = folder / "tokens.json"
    command: list[str | Path] = [sys.executable, "-m", "aegate_cli", "token", "create", "reading-room"]
    done = subprocess.run(
        [*command, "--file", tokens], capture_output=True, text=True, check=True, timeout=60
    )
    file = f"--from-file=tokens.json={tokens}"
    lab.kubectl("create", "secret", "generic", TOKENS, file, f"--namespace={system}")
    return str(done.stdout).strip()
