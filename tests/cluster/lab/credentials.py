"""Who is who in a lab: a certificate authority of its own, a certificate and a kubeconfig for each part.

They are good for a month, lie in the lab's folder and go with it.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.lab.plan import Plan

DAYS = "30"
_EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")

ADMIN = "admin"
API_SERVER = "api"
CONTROLLER_MANAGER = "kube-controller-manager"
SCHEDULER = "kube-scheduler"
PROXY = "kube-proxy"
ETCD = "etcd"
DNS = "dns"
LOCAL_NODE = "local-node"


def kubelet(i: int) -> str:
    """Return the name of a node's own identity."""
    return f"kubelet{i}"


@dataclass(frozen=True, slots=True)
class _Identity:
    name: str
    subject: str
    """Kubernetes reads the user from CN and its groups from O."""
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Credentials:
    """Certificates, keys and kubeconfigs below ``folder``."""

    folder: Path

    @property
    def ca(self) -> Path:
        """The certificate of the lab's authority."""
        return self.folder / "ca.crt"

    @property
    def ca_key(self) -> Path:
        """Its key: the controller manager signs with it."""
        return self.folder / "ca.key"

    @property
    def tokens_key(self) -> Path:
        """What tokens of service accounts are signed with."""
        return self.folder / "tokens.key"

    @property
    def tokens_public_key(self) -> Path:
        """What they are checked by."""
        return self.folder / "tokens.pub"

    def certificate(self, name: str) -> Path:
        """Return the certificate of an identity."""
        return self.folder / f"{name}.crt"

    def key(self, name: str) -> Path:
        """Return the key of an identity."""
        return self.folder / f"{name}.key"

    def kubeconfig(self, name: str) -> Path:
        """Return the kubeconfig of an identity."""
        return self.folder / f"{name}.conf"


def make_credentials(folder: Path, plan: Plan) -> Credentials:
    """Make all identities of a lab."""
    folder.mkdir(parents=True)
    made = Credentials(folder)
    authority = ("-x509", *_EC, "-keyout", made.ca_key, "-out", made.ca, "-days", DAYS)
    _openssl("req", *authority, "-subj", "/CN=aegate-lab")
    _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", made.tokens_key)
    _openssl("ec", "-in", made.tokens_key, "-pubout", "-out", made.tokens_public_key)
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(lambda identity: _issue(made, identity, plan), _identities(plan)):
            pass
    return made


def _identities(plan: Plan) -> Iterable[_Identity]:
    service = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")
    address = str(plan.control_plane)
    yield _Identity(API_SERVER, "/CN=kube-apiserver", (address, str(plan.api_service), "localhost", *service))
    yield _Identity(ETCD, "/CN=etcd", (address, "127.0.0.1", "localhost"))
    yield _Identity(ADMIN, "/O=system:masters/CN=admin")
    yield _Identity(CONTROLLER_MANAGER, "/CN=system:kube-controller-manager")
    yield _Identity(SCHEDULER, "/CN=system:kube-scheduler")
    if not plan.is_full:
        yield _Identity(LOCAL_NODE, f"/O=system:masters/CN={LOCAL_NODE}")
        return
    yield _Identity(PROXY, "/CN=system:kube-proxy")
    yield _Identity(DNS, f"/O=system:masters/CN={DNS}")
    for i in plan.node_numbers:
        name = plan.node_name(i)
        yield _Identity(kubelet(i), f"/O=system:nodes/CN=system:node:{name}", (str(plan.node(i)), name))


def _issue(made: Credentials, identity: _Identity, plan: Plan) -> None:
    request, extensions = (made.folder / f"{identity.name}.{kind}" for kind in ("csr", "ext"))
    extensions.write_text(_extensions(identity.hosts))
    key, certificate = made.key(identity.name), made.certificate(identity.name)
    _openssl("req", "-new", *_EC, "-keyout", key, "-out", request, "-subj", identity.subject)
    signed_by = ("-CA", made.ca, "-CAkey", made.ca_key, "-days", DAYS, "-extfile", extensions)
    _openssl("x509", "-req", "-in", request, *signed_by, "-out", certificate)
    request.unlink()
    extensions.unlink()
    made.kubeconfig(identity.name).write_text(_kubeconfig(made, identity.name, plan))


def _extensions(hosts: tuple[str, ...]) -> str:
    lines = ["extendedKeyUsage=clientAuth,serverAuth", "keyUsage=digitalSignature"]
    if hosts:
        names = (f"{'IP' if h.replace('.', '').isdigit() else 'DNS'}:{h}" for h in hosts)
        lines.append(f"subjectAltName={','.join(names)}")
    return "\n".join(lines) + "\n"


def _kubeconfig(made: Credentials, name: str, plan: Plan) -> str:
    user = {"client-certificate": str(made.certificate(name)), "client-key": str(made.key(name))}
    cluster = {"server": plan.api_url, "certificate-authority": str(made.ca)}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "lab",
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": name}}],
            "clusters": [{"name": "lab", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
        },
        indent=2,
    )


def _openssl(*arguments: str | Path) -> None:
    command = ["openssl", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise AssertionError(f"openssl {arguments[0]} must succeed, it said: {done.stderr.strip()}")
