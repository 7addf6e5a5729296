"""etcd, API server, controller manager, scheduler: their flags, and why they differ from a production cluster's.

The same on both rings; they listen on one address of the lab alone, and etcd answers only to its certificate, so
nobody's other etcd or API server is ever mistaken for ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.cluster.lab import credentials as identities
from tests.cluster.lab.credentials import Credentials
from tests.cluster.lab.plan import Plan

AUDIT_POLICY = Path(__file__).with_name("audit.yaml")
AUDIT_LOG = "audit.jsonl"

ETCD, API_SERVER, CONTROLLER_MANAGER = "etcd", "kube-apiserver", "kube-controller-manager"
SCHEDULER, DNS = "kube-scheduler", "coredns"


class Host(Protocol):
    """Where programs are started."""

    def start(self, name: str, *command: str | Path) -> None:
        """Start a program, to be found by name."""


@dataclass(frozen=True, slots=True)
class Flags:
    """Further flags of a test's own, such as a shorter time until a lost node's pods are replaced."""

    api_server: Sequence[str] = ()
    controller_manager: Sequence[str] = ()
    kubelet: Sequence[str] = ()


LOST_NODE_FLAGS = Flags(
    api_server=[
        "--default-not-ready-toleration-seconds=5",
        "--default-unreachable-toleration-seconds=5",
    ],
    controller_manager=["--node-monitor-grace-period=8s", "--node-monitor-period=1s"],
)
"""A lost node is NotReady after 8 s and its pods are replaced 5 s later, instead of after minutes."""


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """The programs that make a cluster of nothing."""

    plan: Plan
    folder: Path
    credentials: Credentials
    host: Host
    flags: Flags

    def start_storage(self) -> None:
        """Start etcd. Nothing is fsynced: a lab outlives no power cut."""
        client, peer = (f"https://{self.plan.control_plane}:{port}" for port in (2379, 2380))
        self.host.start(
            ETCD,
            "etcd",
            "--name=lab",
            f"--data-dir={self.folder / 'etcd'}",
            "--unsafe-no-fsync",
            "--log-level=warn",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=lab={peer}",
            *self._etcd_tls(""),
            *self._etcd_tls("peer-"),
        )

    def start_api_server(self) -> None:
        """Start the API server."""
        made = self.credentials
        self.host.start(
            API_SERVER,
            "kube-apiserver",
            f"--etcd-servers=https://{self.plan.control_plane}:2379",
            f"--etcd-cafile={made.ca}",
            f"--etcd-certfile={made.certificate(identities.ETCD)}",
            f"--etcd-keyfile={made.key(identities.ETCD)}",
            f"--service-cluster-ip-range={self.plan.services}",
            f"--bind-address={self.plan.control_plane}",
            f"--advertise-address={self.plan.control_plane}",
            "--secure-port=6443",
            f"--tls-cert-file={made.certificate(identities.API_SERVER)}",
            f"--tls-private-key-file={made.key(identities.API_SERVER)}",
            f"--client-ca-file={made.ca}",
            f"--cert-dir={self.folder / 'api-server'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={made.tokens_public_key}",
            f"--service-account-signing-key-file={made.tokens_key}",
            f"--kubelet-client-certificate={made.certificate(identities.ADMIN)}",
            f"--kubelet-client-key={made.key(identities.ADMIN)}",
            f"--kubelet-certificate-authority={made.ca}",
            "--kubelet-preferred-address-types=InternalIP",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement",
            "--allow-privileged=true",
            "--enable-aggregator-routing=true",
            f"--audit-policy-file={AUDIT_POLICY}",
            f"--audit-log-path={self.folder / 'log' / AUDIT_LOG}",
            "--v=1",
            *self.flags.api_server,
        )

    def start_controllers(self) -> None:
        """Start controller manager and scheduler, once the API server answers: they would wait and try seldom."""
        made = self.credentials
        self.host.start(
            CONTROLLER_MANAGER,
            "kube-controller-manager",
            f"--kubeconfig={made.kubeconfig(identities.CONTROLLER_MANAGER)}",
            f"--service-account-private-key-file={made.tokens_key}",
            f"--root-ca-file={made.ca}",
            f"--cluster-signing-cert-file={made.ca}",
            f"--cluster-signing-key-file={made.ca_key}",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            "--secure-port=0",
            # Its own limit of 20 requests a second makes the default service account come after 9.5 s.
            "--kube-api-qps=500",
            "--kube-api-burst=500",
            # A claim is bound to a volume made by hand after 15 s otherwise.
            "--pvclaimbinder-sync-period=1s",
            "--v=1",
            *self.flags.controller_manager,
        )
        self.host.start(
            SCHEDULER,
            "kube-scheduler",
            f"--kubeconfig={made.kubeconfig(identities.SCHEDULER)}",
            "--leader-elect=false",
            "--secure-port=0",
            "--v=1",
        )

    def start_dns(self) -> None:
        """Start CoreDNS as a process: pods ask it, and it needs no pod of its own."""
        zone = [f"bind {self.plan.control_plane}", "errors", "kubernetes cluster.local {"]
        zone += [f"  kubeconfig {self.credentials.kubeconfig(identities.DNS)} lab", "  ttl 1", "}"]
        corefile = self.folder / "Corefile"
        corefile.write_text("\n".join(["cluster.local:53 {", *zone, "}", ""]))
        self.host.start(DNS, "coredns", "-conf", corefile)

    def _etcd_tls(self, side: str) -> list[str]:
        made, prefix = self.credentials, f"--{side}" if side else "--"
        return [
            f"{prefix}client-cert-auth",
            f"{prefix}trusted-ca-file={made.ca}",
            f"{prefix}cert-file={made.certificate(identities.ETCD)}",
            f"{prefix}key-file={made.key(identities.ETCD)}",
        ]
