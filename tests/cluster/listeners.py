"""aegate's listener as a Deployment with its ConfigMap and Service, as plain as can be: what the tests of the rings
run.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from aegate_core.decisions.listener_config import ListenerConfig, ListenerEntity
from aegate_core.dicom.ae_title import AETitle
from aegate_core.dicom.identifiers import ResourceKey
from tests.cluster.lab.lab import Lab
from tests.integration.waiting import eventually

NAME = "listener"
DICOM_PORT, HEALTH_PORT = 11112, 8080
CONFIG_FOLDER, SPOOL = "/etc/aegate", "/var/spool/aegate"

WAIT = "--timeout=120s"


@dataclass(frozen=True, slots=True)
class DeployedListener:
    """A listener for the AE ``ct1`` in a namespace of its own."""

    lab: Lab
    namespace: str

    def deploy(self) -> None:
        """Apply everything and wait until its pod is Ready."""
        self.lab.make_namespace(self.namespace)
        self.lab.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": self._objects()}))
        self.kubectl("rollout", "status", f"deployment/{NAME}", WAIT)

    def configure(self, *titles: str, generation: int) -> None:
        """Change the ConfigMap: these AEs, one generation later."""
        self.lab.apply(json.dumps(self._config_map(titles, generation)))

    def pod(self) -> dict[str, Any]:
        """Return its only pod."""
        pods = self.lab.get("pods", f"--namespace={self.namespace}")["items"]
        assert len(pods) == 1, [p["metadata"]["name"] for p in pods]
        found: dict[str, Any] = pods[0]
        return found

    def service_address(self) -> str:
        """Return the address of its Service."""
        service = self.lab.get("service", NAME, f"--namespace={self.namespace}")
        return str(service["spec"]["clusterIP"])

    def endpoints(self) -> list[tuple[str, bool]]:
        """Return address and readiness of each endpoint of its Service."""
        slices = self.lab.get("endpointslices", f"--namespace={self.namespace}")["items"]
        return [
            (address, endpoint["conditions"]["ready"])
            for one in slices
            for endpoint in one.get("endpoints") or []
            for address in endpoint["addresses"]
        ]

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl in its namespace."""
        return self.lab.kubectl(f"--namespace={self.namespace}", *arguments)

    def delete(self) -> None:
        """Delete all of it; that it is gone takes ten seconds and is nobody's concern."""
        self.lab.kubectl("delete", "namespace", self.namespace, "--wait=false")

    def _objects(self) -> list[dict[str, Any]]:
        labels = {"app": NAME}
        ports = [{"name": "dicom", "port": DICOM_PORT, "targetPort": "dicom"}]
        return [
            self._config_map(["CT1"], generation=1),
            self._object("v1", "Service") | {"spec": {"selector": labels, "ports": ports}},
            self._object("apps/v1", "Deployment")
            | {
                "spec": {
                    "replicas": 1,
                    "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": self._pod_spec()},
                }
            },
        ]

    def _pod_spec(self) -> dict[str, Any]:
        environ = {
            "AEGATE_LISTENER_CONFIG": f"{CONFIG_FOLDER}/listener.json",
            "AEGATE_HEALTH_LISTEN": f"0.0.0.0:{HEALTH_PORT}",
            "AEGATE_LOG_FORMAT": "json",
        }
        container = {
            "name": NAME,
            "image": self.lab.image("scp"),
            "imagePullPolicy": "Never",
            "command": ["python3", "-m", "aegate_scp"],
            "env": [{"name": name, "value": value} for name, value in environ.items()],
            "ports": [{"name": "dicom", "containerPort": DICOM_PORT}],
            "readinessProbe": {"httpGet": {"path": "/readyz", "port": HEALTH_PORT}, "periodSeconds": 1},
            "volumeMounts": [
                {"name": "config", "mountPath": CONFIG_FOLDER},
                {"name": "spool", "mountPath": SPOOL},
            ],
        }
        volumes = [{"name": "config", "configMap": {"name": NAME}}, {"name": "spool", "emptyDir": {}}]
        return {
            "automountServiceAccountToken": False,
            "securityContext": {"runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001},
            "containers": [container],
            "volumes": volumes,
        }

    def _config_map(self, titles: list[str] | tuple[str, ...], generation: int) -> dict[str, Any]:
        entities = tuple(
            ListenerEntity(
                ResourceKey(self.namespace, title.lower()),
                title=AETitle(title),
                node="127.0.0.1",
                called_title=AETitle("AEGATE"),
                verify_node=False,
            )
            for title in titles
        )
        config = ListenerConfig("shared", "0.0.0.0", DICOM_PORT, SPOOL, entities, generation=generation)
        return self._object("v1", "ConfigMap") | {"data": {"listener.json": config.to_json()}}

    def _object(self, api_version: str, kind: str) -> dict[str, Any]:
        metadata = {"name": NAME, "namespace": self.namespace}
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata}


def answers_echo(host: str, calling: str) -> bool:
    """Tell whether a listener answers a C-ECHO of ``calling`` with success."""
    command = [sys.executable, "-m", "aegate_cli", "echo", host, str(DICOM_PORT), "--calling", calling]
    done = subprocess.run([*command, "--called", "AEGATE"], capture_output=True, text=True, timeout=60)
    return done.returncode == 0


def wait_for_echo(host: str, calling: str) -> None:
    """Return when a listener answers: a Service may refuse for a moment after its pod is Ready."""
    eventually(lambda: answers_echo(host, calling), deadline_s=60, what=f"{calling} is answered by {host}")
