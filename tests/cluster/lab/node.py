"""A real node: containerd with runc, kubelet, kube-proxy, in namespaces of their own.

Most settings here are what a machine with cgroup v1, without the right to lower an OOM score and without a
registry needs; each cost somebody an evening, so each says why.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.lab import credentials as identities
from tests.cluster.lab.cgroups import make_cgroups, remove_cgroups
from tests.cluster.lab.credentials import Credentials
from tests.cluster.lab.errors import LabRefused
from tests.cluster.lab.hosts import Namespaces
from tests.cluster.lab.images import PAUSE, Image
from tests.cluster.lab.plan import Plan
from tests.integration.waiting import eventually

SOCKET = "/run/containerd/containerd.sock"
"""cAdvisor in kubelet looks for containerd there alone, else the figures per pod are 0; each node has a /run of its
own.
"""

UNUSED_PLUGINS = (
    "io.containerd.internal.v1.opt",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.erofs",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.nri.v1.nri",
    "io.containerd.tracing.processor.v1.otlp",
)

CONTAINERD = """\
version = 3
root = "{folder}/containerd"
state = "/run/containerd"
disabled_plugins = {unused}
[grpc]
  address = "{socket}"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "{pause}"
[plugins.'io.containerd.cri.v1.runtime']
  disable_apparmor = true
  # Where root lacks CAP_SYS_RESOURCE no process may lower its OOM score, and every sandbox would fail at that.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["{plugins}"]
    conf_dir = "{folder}/cni"
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = "runc"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


@dataclass(frozen=True, slots=True)
class Node:
    """One node of the full ring, counted from 1."""

    number: int
    plan: Plan
    folder: Path
    """State of the node."""
    credentials: Credentials
    namespaces: Namespaces
    plugins: Path
    """Where the network plugins lie."""
    kubelet_flags: Sequence[str]

    @property
    def name(self) -> str:
        """What Kubernetes calls it."""
        return self.plan.node_name(self.number)

    def start_containerd(self, init_program: Path) -> None:
        """Make the namespaces, the ways to other nodes' pods, and start containerd."""
        self.namespaces.make(self.plan, self.plan.node(self.number), init_program)
        for other in self.plan.node_numbers:
            if other != self.number:
                way = ("ip", "route", "add", str(self.plan.pods(other)), "via", str(self.plan.node(other)))
                self.namespaces.run(*way)
        (self.folder / "cni").mkdir(parents=True, exist_ok=True)
        (self.folder / "cni" / "10-lab.conflist").write_text(json.dumps(self._network()))
        configuration = self.folder / "containerd.toml"
        configuration.write_text(
            CONTAINERD.format(
                folder=self.folder,
                unused=json.dumps(UNUSED_PLUGINS),
                socket=SOCKET,
                pause=PAUSE,
                plugins=self.plugins,
            )
        )
        self.namespaces.start(f"containerd{self.number}", "containerd", "-c", configuration)

    def load(self, images: Sequence[Image]) -> None:
        """Import what containerd does not have yet."""
        eventually(self._containerd_answers, deadline_s=300, what=f"containerd of {self.name} answers")
        known = self._ctr("images", "ls", "-q").split()
        for image in images:
            if image.name not in known:
                self._ctr("images", "import", str(image.archive))

    def start_kubelet(self) -> None:
        """Start kubelet and kube-proxy; the node becomes Ready by itself."""
        make_cgroups(self.name)
        (self.folder / "resolv.conf").write_text(f"nameserver {self.plan.control_plane}\n")
        kubelet, proxy = self.folder / "kubelet.json", self.folder / "kube-proxy.json"
        kubelet.write_text(json.dumps(self._kubelet()))
        proxy.write_text(json.dumps(self._proxy()))
        self.namespaces.start(
            f"kubelet{self.number}",
            "kubelet",
            f"--config={kubelet}",
            f"--kubeconfig={self.credentials.kubeconfig(identities.kubelet(self.number))}",
            f"--hostname-override={self.name}",
            f"--node-ip={self.plan.node(self.number)}",
            f"--root-dir={self.folder / 'kubelet'}",
            "--v=2",
            *self.kubelet_flags,
        )
        self.namespaces.start(f"kube-proxy{self.number}", "kube-proxy", f"--config={proxy}", "--v=2")

    def end(self) -> None:
        """End it as a power cut would, and remove its control groups."""
        self.namespaces.end()
        remove_cgroups(self.name)

    def _ctr(self, *arguments: str) -> str:
        return self.namespaces.run("ctr", "-n", "k8s.io", *arguments)

    def _containerd_answers(self) -> bool:
        try:
            return bool(self._ctr("version"))
        except LabRefused:
            return False

    def _network(self) -> dict[str, Any]:
        addresses = {
            "type": "host-local",
            "ranges": [[{"subnet": str(self.plan.pods(self.number))}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(self.folder / "addresses"),
        }
        bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": False, "hairpinMode": True}
        ports = {"type": "portmap", "capabilities": {"portMappings": True}}
        return {"cniVersion": "1.0.0", "name": "lab", "plugins": [bridge | {"ipam": addresses}, ports]}

    def _kubelet(self) -> dict[str, Any]:
        made, name = self.credentials, identities.kubelet(self.number)
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": str(self.plan.node(self.number)),
            "readOnlyPort": 0,
            "healthzBindAddress": "127.0.0.1",
            "containerRuntimeEndpoint": f"unix://{SOCKET}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.name}",
            "failCgroupV1": False,  # it would end at once on cgroup v1
            "failSwapOn": False,
            "oomScoreAdj": 0,
            "maxOpenFiles": 20000,
            "rotateCertificates": False,
            "tlsCertFile": str(made.certificate(name)),
            "tlsPrivateKeyFile": str(made.key(name)),
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(made.ca)},
            },
            "authorization": {"mode": "Webhook"},
            "clusterDomain": "cluster.local",
            "clusterDNS": [str(self.plan.control_plane)],
            "resolvConf": str(self.folder / "resolv.conf"),
            "imageGCHighThresholdPercent": 100,  # an image that nobody can pull again must not be collected
            "imageGCLowThresholdPercent": 99,
            "evictionHard": {
                "memory.available": "100Mi",
                "nodefs.available": "1%",
                "imagefs.available": "1%",
                "nodefs.inodesFree": "1%",
            },
            "nodeStatusUpdateFrequency": "1s",
            "syncFrequency": "1s",  # a changed ConfigMap is in the pod after 1 to 2 s; by default after a minute
            "volumePluginDir": str(self.folder / "volume-plugins"),
            "podLogsDir": str(self.folder / "pod-logs"),
        }

    def _proxy(self) -> dict[str, Any]:
        address = str(self.plan.node(self.number))
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "bindAddress": address,
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
            "clientConnection": {"kubeconfig": str(self.credentials.kubeconfig(identities.PROXY))},
            "clusterCIDR": str(self.plan.pods(self.number)),
            "hostnameOverride": self.name,
            "mode": "iptables",
            "oomScoreAdj": 0,
            # Those settings belong to the machine; nothing in a namespace may write them.
            "conntrack": {
                "maxPerCore": 0,
                "min": 0,
                "tcpEstablishedTimeout": "0s",
                "tcpCloseWaitTimeout": "0s",
            },
            "iptables": {"minSyncPeriod": "0s", "syncPeriod": "30s"},
            "nodePortAddresses": [f"{address}/32"],
        }
