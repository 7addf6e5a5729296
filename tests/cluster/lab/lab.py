"""A running lab, as tests use it: ask it, apply to it, break it.

with running_lab(LabSettings(nodes=1)) as lab:      # `tests.cluster.lab.starting`
    lab.apply(manifest)
    lab.kubectl("rollout", "status", "deployment/pacs")
    lab.restart("kube-apiserver")
    assert not [r for r in lab.audit() if r.user == OPERATOR and r.is_write]
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.lab import credentials as identities
from tests.cluster.lab.audit import Request, read_requests
from tests.cluster.lab.control_plane import API_SERVER, AUDIT_LOG, Flags
from tests.cluster.lab.credentials import Credentials
from tests.cluster.lab.hosts import HERE, Here, Namespaces, Site
from tests.cluster.lab.images import Image, image_name, pause_program
from tests.cluster.lab.network import run
from tests.cluster.lab.node import Node
from tests.cluster.lab.plan import Plan
from tests.cluster.lab.remembered import Remembered, only_child
from tests.integration.processes import rss_bytes
from tests.integration.waiting import eventually

CONTROL_PLANE = "cp"
"""The namespaces of the control plane on the full ring."""

LOCAL_NODE = "local-node"
"""On the cheap ring: the node's name, and the program's that plays it."""

KUBELET = "kubelet"
"""And the number of its node: the name of its program."""

KUBECTL_S = 300
"""The longest that a kubectl command may take; those that wait have a timeout of their own."""


class KubectlFailed(AssertionError):
    """kubectl ended with another code than 0; the message is what it said."""


@dataclass(frozen=True, slots=True)
class Lab:
    """A cluster that was started by us. Its folder is all that has to be known of it."""

    plan: Plan
    site: Site
    flags: Flags
    plugins: Path
    """Where the network plugins of nodes lie."""
    tag: str
    """Of aegate's images, built from this tree; on the cheap ring pods run this tree as it is."""

    def image(self, part: str) -> str:
        """Return the name of one of aegate's images: scp, scu, operator, graphql-api."""
        return image_name(part, self.tag)

    @property
    def folder(self) -> Path:
        """State, logs and credentials: they go when the lab does."""
        return self.site.folder

    @property
    def credentials(self) -> Credentials:
        """Who is who."""
        return Credentials(self.folder / "credentials")

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig of an administrator."""
        return self.credentials.kubeconfig(identities.ADMIN)

    @property
    def environ(self) -> dict[str, str]:
        """What makes kubectl and helm of a child process talk to this lab."""
        # Without a HOME both keep what they have learnt of an API server in the folder they stand in.
        cache = {"KUBECACHEDIR": str(self.folder / "kubectl")}
        return {"KUBECONFIG": str(self.kubeconfig), "PATH": self.site.path, **cache}

    # Asking

    def kubectl(self, *arguments: str | Path, stdin: str = "") -> str:
        """Return what kubectl prints. Raises KubectlFailed with what it said."""
        done = subprocess.run(
            ["kubectl", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=KUBECTL_S,
            env={**os.environ, **self.environ},
        )
        if done.returncode:
            raise KubectlFailed(
                f"kubectl {' '.join(map(str, arguments))}: {done.stderr.strip() or done.stdout}"
            )
        return done.stdout

    def get(self, *arguments: str) -> Any:
        """Return what ``kubectl get … --output=json`` says."""
        return json.loads(self.kubectl("get", *arguments, "--output=json"))

    def read(self, path: str) -> Any:
        """Return what the API server has at a path; for what is asked again and again: a kubectl costs 0.2 s of a core.

        Raises KubectlFailed for any other answer than 200.
        """
        made = self.credentials
        trust = ssl.create_default_context(cafile=made.ca)
        trust.load_cert_chain(made.certificate(identities.ADMIN), made.key(identities.ADMIN))
        connection = http.client.HTTPSConnection(
            str(self.plan.control_plane), 6443, timeout=60, context=trust
        )
        with closing(connection):
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                body = answer.read()
            except (OSError, http.client.HTTPException) as error:
                raise KubectlFailed(f"GET {path}: {type(error).__name__}") from error
        if answer.status != http.HTTPStatus.OK:
            raise KubectlFailed(f"GET {path}: {answer.status}")
        return json.loads(body)

    def apply(self, manifest: str | Path, *arguments: str) -> str:
        """Apply YAML, a file or a folder, unknown fields refused. Raises KubectlFailed."""
        strict = ("apply", "--validate=strict", *arguments)
        if isinstance(manifest, Path):
            return self.kubectl(*strict, "--recursive", "--filename", manifest)
        return self.kubectl(*strict, "--filename", "-", stdin=manifest)

    def make_namespace(self, name: str) -> None:
        """Make a namespace; returns when pods can be made in it."""
        self.kubectl("create", "namespace", name)
        eventually(
            lambda: self.has_default_account(name), deadline_s=300, what=f"{name} has its service account"
        )

    def has_default_account(self, namespace: str = "default") -> bool:
        """Tell whether a namespace has its default service account, without which no pod can be made."""
        try:
            return bool(self.kubectl("get", "serviceaccount", "default", f"--namespace={namespace}"))
        except KubectlFailed:
            return False

    def audit(self) -> list[Request]:
        """Return the requests that the API server has written down so far."""
        return read_requests(self.folder / "log" / AUDIT_LOG)

    def log(self, program: str) -> str:
        """Return what a program has said."""
        return self.site.log(program).read_text(errors="replace")

    def is_serving(self) -> bool:
        """Tell whether the API server is ready."""
        try:
            return self.kubectl("get", "--raw=/readyz", "--request-timeout=5s") == "ok"
        except KubectlFailed:
            return False

    def programs(self) -> dict[str, int | None]:
        """Return every program and its pid on this machine; None: it does not run."""
        names = sorted(p.stem for p in (self.folder / "pids").glob("*.json"))
        return {n: self._pid(n) for n in names if not n.endswith((".init", ".unshare"))}

    def memory_bytes(self) -> dict[str, int]:
        """Return the resident memory of each program."""
        return {name: rss_bytes(pid) for name, pid in self.programs().items() if pid}

    # Changing

    def load(self, image: Image) -> None:
        """Import an image on every node."""
        for i in self.plan.node_numbers:
            self.node(i).load([image])

    def restart(self, program: str) -> None:
        """SIGKILL a program and start it again with the flags it had; the API server, kubelet: until they work."""
        host, command = self.site.started_as(program)
        heard = self._heartbeat(program)
        self.kill(program)
        self.site.remembered(program).wait()
        (Here(self.site) if host == HERE else self.namespaces(host)).start(program, *command)
        if program == API_SERVER:
            eventually(self.is_serving, deadline_s=300, what="the API server is ready again")
        eventually(
            lambda: not heard or self._heartbeat(program) != heard,
            deadline_s=300,
            what=f"{program} says that it is there",
        )

    def _heartbeat(self, program: str) -> str:
        """Return when a kubelet has said last that it is there; nothing for other programs."""
        if not program.startswith(KUBELET):
            return ""
        name = self.plan.node_name(int(program.removeprefix(KUBELET)))
        return str(self.get("lease", name, "--namespace=kube-node-lease")["spec"]["renewTime"])

    def kill(self, program: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a program a signal; after SIGKILL it stays away until `restart`."""
        self.site.started_as(program)
        if pid := self._pid(program):
            os.kill(pid, number)

    def compact(self) -> None:
        """Make etcd forget every version but the newest; the API server forgets them when it is started anew."""
        made, server = self.credentials, f"https://{self.plan.control_plane}:2379"
        keys = (f"--cert={made.certificate(identities.ETCD)}", f"--key={made.key(identities.ETCD)}")
        etcdctl = ("etcdctl", f"--endpoints={server}", f"--cacert={made.ca}", *keys)

        def run(*arguments: str) -> str:
            command = [*map(str, etcdctl), *arguments]
            environ = {**os.environ, "PATH": self.site.path}
            return subprocess.run(
                command, capture_output=True, text=True, check=True, timeout=60, env=environ
            ).stdout

        status = json.loads(run("endpoint", "status", "--write-out=json"))
        run("compact", str(status[0]["Status"]["header"]["revision"]), "--physical")

    @contextmanager
    def pause(self, program: str) -> Iterator[None]:
        """Stop a program (SIGSTOP) for the block: it is there, holds its connections and says nothing."""
        self.kill(program, signal.SIGSTOP)
        try:
            yield
        finally:
            self.kill(program, signal.SIGCONT)

    # Nodes of the full ring

    def node(self, i: int) -> Node:
        """Return a node, counted from 1."""
        if i not in self.plan.node_numbers:
            raise KeyError(f"the node must be one of 1 to {self.plan.nodes or 0}, got {i}")
        name = self.plan.node_name(i)
        return Node(
            i,
            self.plan,
            self.folder / name,
            self.credentials,
            self.namespaces(name),
            self.plugins,
            self.flags.kubelet,
        )

    def namespaces(self, name: str) -> Namespaces:
        """Return the namespaces of a node, or of the control plane."""
        return Namespaces(self.site, name)

    def node_kill(self, i: int) -> None:
        """End a node as a power cut would: all of its processes at once."""
        self.node(i).end()

    def node_start(self, i: int, images: Sequence[Image] = ()) -> None:
        """Start a node that was killed, its disk as it was, and wait until it is Ready."""
        node = self.node(i)
        node.start_containerd(pause_program())
        node.load(images)
        node.start_kubelet()
        self.wait_for_node(node.name)

    def wait_for_node(self, name: str) -> None:
        """Return when a node is Ready."""
        eventually(lambda: self._is_node_ready(name), deadline_s=600, what=f"node {name} is Ready")

    def plug(self, where: int | str, *, is_in: bool) -> None:
        """Plug a node's cable (``"cp"``: the control plane's) in or out."""
        address = self.plan.control_plane if where == CONTROL_PLANE else self.plan.node(int(where))
        run("ip", "link", "set", self.plan.link(address), "up" if is_in else "down")

    def _is_node_ready(self, name: str) -> bool:
        try:
            conditions = self.get("node", name)["status"].get("conditions", [])
        except KubectlFailed:
            return False
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def _pid(self, program: str) -> int | None:
        """A program in namespaces is the child of the process that entered them."""
        pid = Remembered(self.folder / "pids" / f"{program}.pid").pid
        return only_child(pid) if pid and self.site.started_as(program)[0] != HERE else pid
