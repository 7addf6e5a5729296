"""``python -m aegate_scu.sample``: is the installation well? The pod of ``helm test`` finds out as a device would.

It applies an ApplicationEntity of its own whose device is this very pod, waits until the operator calls it Ready, calls
its listener with C-ECHO, and deletes it. Whatever happens it deletes what it made; its spool is no volume, so nothing
stays behind.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import ssl
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aegate_core.dicom.ae_title import AETitle
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import AegateError, InvalidValue, NotFound, PeerError
from aegate_core.resources.values import ApplicationEntity, Metadata
from aegate_core.settings import required
from aegate_scu.peer import PeerAddress
from aegate_scu.probe import probe

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
GROUP = "/apis/aegate.dev/v1alpha1"
LOOK_EVERY_S = 1.0
ECHOES = 5
"""Tries: a Service may refuse for a moment after its first pod is ready."""


@dataclass(frozen=True, slots=True)
class SampleSettings:
    """What the chart tells the pod."""

    api: str
    """host:port of the API server."""
    namespace: str
    node: str
    """This pod's own address: the sample device is here."""
    called_title: AETitle
    within_s: float
    account: Path = ACCOUNT


def read_settings(environ: Mapping[str, str]) -> SampleSettings:
    """Return the settings. Raises InvalidValue naming the variable."""
    host, port = (required(environ, f"KUBERNETES_SERVICE_{part}") for part in ("HOST", "PORT"))
    within = environ.get("AEGATE_WITHIN_SECONDS") or "180"
    if not within.isdecimal():
        raise InvalidValue(f"AEGATE_WITHIN_SECONDS must be whole seconds, got {within!r}: mend it")
    return SampleSettings(
        api=f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        namespace=required(environ, "AEGATE_NAMESPACE"),
        node=required(environ, "AEGATE_NODE"),
        called_title=AETitle(environ.get("AEGATE_CALLING_TITLE") or "AEGATE"),
        within_s=float(within),
        account=Path(environ.get("AEGATE_ACCOUNT") or ACCOUNT),
    )


class Cluster:
    """The API server, as this pod's service account."""

    def __init__(self, settings: SampleSettings) -> None:
        self._settings = settings
        self._tls = ssl.create_default_context(cafile=str(settings.account / "ca.crt"))

    def ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Return the answer's object. Raises NotFound, and PeerError with the server's own words."""
        connection = http.client.HTTPSConnection(self._settings.api, timeout=30, context=self._tls)
        headers = {
            "Authorization": f"Bearer {(self._settings.account / 'token').read_text()}",
            "Content-Type": "application/json",
        }
        try:
            connection.request(method, path, json.dumps(body) if body else None, headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise PeerError(f"the API server does not answer ({type(error).__name__})") from error
        finally:
            connection.close()
        if response.status == 404:
            raise NotFound(answer.get("message", "not found"))
        if response.status >= 300:
            raise PeerError(f"the API server answered {response.status}: {answer.get('message')}")
        return dict(answer)


def manifest(name: str, title: AETitle, node: str) -> dict[str, object]:
    """Return the sample: a device that is this pod, and sends nothing on."""
    return {
        "apiVersion": "aegate.dev/v1alpha1",
        "kind": "ApplicationEntity",
        "metadata": {"name": name},
        "spec": {
            "title": title.value,
            "node": node,
            "port": 104,
            "routeLevel": "None",
            "comment": "Made by helm test, which deletes it again.",
            # ClusterIP whatever the installation's own is: this pod calls from inside.
            "listener": {
                "acknowledge": "Indexed",
                "spool": {"type": "EmptyDir"},
                "serviceType": "ClusterIP",
            },
        },
    }


@contextmanager
def sample(cluster: Cluster, settings: SampleSettings) -> Iterator[tuple[str, AETitle]]:
    """Make an ApplicationEntity under a name of its own, and delete it at the end."""
    title = AETitle(f"TEST{secrets.token_hex(4).upper()}")
    path = f"{GROUP}/namespaces/{settings.namespace}/applicationentities"
    name = title.value.lower()
    cluster.ask("POST", f"{path}?fieldValidation=Strict", manifest(name, title, settings.node))
    try:
        yield f"{path}/{name}", title
    finally:
        cluster.ask("DELETE", f"{path}/{name}")


def endpoint_of(cluster: Cluster, path: str, within_s: float) -> str:
    """Return host:port of the listener once the ApplicationEntity is Ready. Raises PeerError with its condition."""
    end = time.monotonic() + within_s
    said = ""
    while True:
        status = cluster.ask("GET", path).get("status", {})
        ready = next((c for c in status.get("conditions", ()) if c["type"] == "Ready"), None)
        endpoint = status.get("listener", {}).get("endpoint")
        if ready is not None and ready["status"] == "True" and endpoint:
            return str(endpoint)
        words = f"{ready['reason']}: {ready['message']}" if ready else "the operator has said nothing of it"
        if words != said:
            say(f"not ready yet: {words}")
            said = words
        if time.monotonic() > end:
            raise PeerError(f"not Ready within {within_s:.0f} s: {words}")
        time.sleep(LOOK_EVERY_S)


def echo(endpoint: str, title: AETitle, called: AETitle) -> None:
    """Call the listener as the sample device. Raises PeerError."""
    host, _, port = endpoint.rpartition(":")
    listener = ApplicationEntity(
        Metadata(ResourceKey("default", "listener")), called, host.strip("[]"), int(port)
    )
    for left in reversed(range(ECHOES)):
        answer = probe(PeerAddress(listener, title.value, None))
        if answer.error is None:
            return
        if not left:
            raise PeerError(f"{endpoint} did not answer C-ECHO: {answer.error}")
        time.sleep(LOOK_EVERY_S)


def say(words: str) -> None:
    """Tell whoever reads the pod's log."""
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def main(environ: Mapping[str, str]) -> int:
    """Run the test and return the exit code."""
    signal.signal(
        signal.SIGTERM, lambda number, frame: sys.exit(128 + number)
    )  # the sample is deleted then, too
    try:
        settings = read_settings(environ)
        cluster = Cluster(settings)
        with sample(cluster, settings) as (path, title):
            say(f"made the ApplicationEntity {settings.namespace}/{title.value.lower()}")
            endpoint = endpoint_of(cluster, path, settings.within_s)
            echo(endpoint, title, settings.called_title)
            say(f"its listener at {endpoint} answers C-ECHO")
    except AegateError as error:
        say(f"failed: {error.message}")
        return 1
    say("deleted it; all is well")
    return 0


if __name__ == "__main__":
    sys.exit(main(os.environ))
