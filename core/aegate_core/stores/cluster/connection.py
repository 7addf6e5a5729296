"""Where the API server is and who we are to it: the pod's service account, or a kubeconfig.

A service account's token lives an hour and kubelet renews its file: it is read again, never kept. Of a kubeconfig
we take tokens and client certificates; what runs a program to log in is refused in words.
"""

from __future__ import annotations

import base64
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from aegate_core.errors import InvalidInput
from aegate_core.resources.fields import Fields

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_LIFE_S = 60.0
"""How long a token is used before its file is read again; kubelet renews it minutes before it expires."""


class Token:
    """A bearer token, fixed or in a file that somebody else renews."""

    def __init__(
        self, *, text: str = "", file: Path | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._text = text
        self._file = file
        self._clock = clock
        self._read_at: float | None = None

    def get(self, *, anew: bool = False) -> str:
        """Return the token; ``anew``: read its file now. The last one stays while the file cannot be read."""
        if self._file is None:
            return self._text
        is_due = self._read_at is None or self._clock() - self._read_at >= TOKEN_LIFE_S
        if anew or is_due:
            try:
                self._text = self._file.read_text("ascii").strip()
            except (OSError, UnicodeDecodeError) as error:
                if not self._text:
                    raise InvalidInput(
                        f"the service account's token must be readable at {self._file}, got "
                        f"{type(error).__name__}: mount it into the pod"
                    ) from error
            self._read_at = self._clock()
        return self._text


@dataclass(frozen=True)
class ClusterConnection:
    """One API server and one identity."""

    server: str
    """``https://host:port``."""
    namespace: str = "default"
    """Our own."""
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context, repr=False)
    token: Token | None = field(default=None, repr=False)

    def headers(self, *, anew: bool = False) -> dict[str, str]:
        """Return the headers that say who we are; ``anew``: with a token read now."""
        token = self.token.get(anew=anew) if self.token else ""
        return {"Authorization": f"Bearer {token}"} if token else {}


def read_connection(environ: Mapping[str, str]) -> ClusterConnection:
    """Return the connection of the kubeconfig that ``KUBECONFIG`` names, else that of the pod. Raises InvalidInput."""
    if environ.get("KUBECONFIG"):
        return from_kubeconfig(Path(environ["KUBECONFIG"]))
    return in_cluster(environ)


def in_cluster(environ: Mapping[str, str], *, folder: Path = SERVICE_ACCOUNT) -> ClusterConnection:
    """Return the connection of a pod: its service account's. Raises InvalidInput outside of a pod."""
    host = environ.get("KUBERNETES_SERVICE_HOST", "")
    port = environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise InvalidInput(
            "KUBERNETES_SERVICE_HOST must be set, as it is in every pod, got nothing: "
            "run in a cluster, or set KUBECONFIG to a file"
        )
    try:
        tls = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        namespace = (folder / "namespace").read_text("ascii").strip()
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(
            f"the service account must be mounted at {folder}, got {type(error).__name__}: "
            "set automountServiceAccountToken"
        ) from error
    address = f"[{host}]" if ":" in host else host
    return ClusterConnection(f"https://{address}:{port}", namespace, tls, Token(file=folder / "token"))


def from_kubeconfig(file: Path) -> ClusterConnection:
    """Return the connection of the file's current context. Raises InvalidInput that names what is missing."""
    try:
        config = Fields(YAML(typ="safe", pure=True).load(file.read_text("utf-8")), str(file))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise InvalidInput(
            f"KUBECONFIG must be a readable kubeconfig, got {type(error).__name__} at {file}: name another"
        ) from error
    context = _named(config, "contexts", config.required_text("current-context"), "context")
    cluster = _named(config, "clusters", context.required_text("cluster"), "cluster")
    user = _named(config, "users", context.required_text("user"), "user")
    for program in ("exec", "auth-provider"):
        if program in user:
            raise InvalidInput(
                f"{user.path} must hold a token or a client certificate, got {program}: "
                "make a kubeconfig with a service account's token"
            )
    return ClusterConnection(
        server=cluster.required_text("server").rstrip("/"),
        namespace=context.text("namespace", "default"),
        tls=_tls(cluster, user, file.parent),
        token=_token(user, file.parent),
    )


def _named(config: Fields, list_name: str, name: str, member: str) -> Fields:
    for entry in config.items(list_name):
        fields = Fields(entry, f"{config.path}: {list_name}[{name}]")
        if fields.text("name", "") == name:
            return fields.child(member)
    raise InvalidInput(f"{config.path} must hold {name!r} among its {list_name}, got none: mend the file")


def _token(user: Fields, folder: Path) -> Token | None:
    if "tokenFile" in user:
        return Token(file=folder / user.required_text("tokenFile"))
    return Token(text=user.required_text("token")) if "token" in user else None


def _tls(cluster: Fields, user: Fields, folder: Path) -> ssl.SSLContext:
    try:
        with _file(cluster, "certificate-authority", folder) as ca:
            context = ssl.create_default_context(cafile=str(ca) if ca else None)
        with (
            _file(user, "client-certificate", folder) as certificate,
            _file(user, "client-key", folder) as key,
        ):
            if certificate and key:
                context.load_cert_chain(certificate, key)
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"certificates of {cluster.path} must be PEM, got {type(error).__name__}: mend the kubeconfig"
        ) from error
    if cluster.flag("insecure-skip-tls-verify", False):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@contextmanager
def _file(fields: Fields, name: str, folder: Path) -> Iterator[Path | None]:
    """Give the file that ``name`` names, or one that holds ``name``-data: Python loads keys from files alone."""
    data = fields.optional_text(f"{name}-data")
    if data is None:
        path = fields.optional_text(name)
        yield folder / path if path else None
        return
    with tempfile.NamedTemporaryFile(prefix="aegate-") as file:  # mode 0600
        file.write(base64.b64decode(data))
        file.flush()
        yield Path(file.name)
