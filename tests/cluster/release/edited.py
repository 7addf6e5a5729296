"""An ApplicationEntity that a test edits: when an edit is effective, and how the pods end that have to go for it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.release.hospital import Hospital
from tests.integration.processes import process
from tests.integration.waiting import eventually

FINAL = ("Disabled", "PrintNotAvailable", "Suspended")
"""Reasons of Ready that an edit may lead to, and that say nothing is wrong."""


@dataclass(frozen=True, slots=True)
class Edited:
    """One AE of the hospital."""

    hospital: Hospital
    name: str

    def patch(self, spec: dict[str, Any], *, type: str = "Ready", reason: str = "") -> float:
        """Merge ``spec`` and return how many seconds it took until the status spoke of it.

        Until Ready says that the newest spec is served; with ``reason``: until the condition of that type has it.
        """
        patch = json.dumps({"spec": spec})
        self.hospital.kubectl("patch", "applicationentity", self.name, "--type=merge", f"--patch={patch}")
        patched = time.monotonic()

        def is_there() -> bool:
            return self.says(type, reason) if reason else self.is_effective()

        eventually(is_there, deadline_s=180, what=lambda: f"{spec} is effective: {self.conditions()}")
        # From when kubectl has ended: it takes a second of a busy machine itself.
        return time.monotonic() - patched

    def is_effective(self) -> bool:
        """Whether Ready says that the newest spec is served, or that there is nothing to serve."""
        found = [c for c in self.live_conditions() if c["type"] == "Ready"]
        return any(c["status"] == "True" or c["reason"] in FINAL for c in found)

    def says(self, type: str, reason: str) -> bool:
        """Whether the condition of that type says so of the newest spec."""
        return any((c["type"], c["reason"]) == (type, reason) for c in self.live_conditions())

    def message(self, type: str = "Ready") -> str:
        """Return what the condition says of the newest spec."""
        return " ".join(str(c["message"]) for c in self.live_conditions() if c["type"] == type)

    def conditions(self) -> list[tuple[str, str, str, str]]:
        """Return type, status, reason and message of each condition of the newest spec."""
        return [(c["type"], c["status"], c["reason"], c["message"]) for c in self.live_conditions()]

    def live_pods(self) -> list[dict[str, Any]]:
        """Return the listener's pods as they are."""
        selector = f"labelSelector=aegate.dev/ae%3D{self.name}"
        found = self.hospital.lab.read(f"/api/v1/namespaces/{self.hospital.namespace}/pods?{selector}")
        items: list[dict[str, Any]] = found["items"]
        return items

    def pods(self) -> dict[str, tuple[str, int, bool]]:
        """Return uid, restarts and whether it is to end, of each pod of the listener."""
        return {
            p["metadata"]["name"]: (
                p["metadata"]["uid"],
                sum(c["restartCount"] for c in p["status"].get("containerStatuses", [])),
                "deletionTimestamp" in p["metadata"],
            )
            for p in self.live_pods()
        }

    def live_conditions(self) -> list[dict[str, Any]]:
        """Return the conditions of the newest spec whole, with the times since when they are so."""
        space = f"/apis/aegate.dev/v1alpha1/namespaces/{self.hospital.namespace}"
        live = self.hospital.lab.read(f"{space}/applicationentities/{self.name}")
        generation = live["metadata"]["generation"]
        told: list[dict[str, Any]] = live.get("status", {}).get("conditions", [])
        return [c for c in told if c.get("observedGeneration") == generation]


@contextmanager
def old_pods_end_well(entity: Edited, folder: Path) -> Iterator[None]:
    """See that what the block does ends every pod that was there, and each with code 0; ``folder``: for a log."""
    folder.mkdir(exist_ok=True)
    log, old = folder / "pods.log", entity.pods()
    output = '--output=jsonpath={.metadata.name} {.status}{"\\n"}'
    selector = f"--selector=aegate.dev/ae={entity.name}"
    command = [
        "kubectl",
        "get",
        "pods",
        f"--namespace={entity.hospital.namespace}",
        selector,
        "--watch",
        output,
    ]
    with process(command, log=log, environ=entity.hospital.lab.environ):
        eventually(lambda: old.keys() <= _last_statuses(log).keys(), what="kubectl has begun to watch")
        yield
        eventually(
            lambda: not old.keys() & entity.pods().keys(),
            deadline_s=180,
            what="the pods from before are gone",
        )
        ends = _last_statuses(log)
    codes = {
        pod: {
            c["name"]: c["state"].get("terminated", {}).get("exitCode")
            for c in ends[pod]["containerStatuses"]
        }
        for pod in old
    }
    assert old and codes == {pod: {"receiver": 0} for pod in old}


def _last_statuses(log: Path) -> dict[str, Any]:
    """Return the last status that the watch has told, by pod."""
    found = {}
    for line in log.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            name, _, status = line.partition(" ")
            found[name] = json.loads(status)
    return found
