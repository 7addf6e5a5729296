"""A listener process of its own for a test, and what can be seen of it from outside."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from pynetdicom import AE, build_context
from pynetdicom.association import Association

from aegate_core.decisions.listener_config import ListenerConfig, ListenerEntity
from aegate_core.dicom.ae_title import AETitle
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.health import ProcessState, read_state
from aegate_core.stores.spool import SpooledArrival, scan
from tests import sentinel
from tests.integration.processes import process, rss_bytes
from tests.integration.waiting import eventually


def entity(name: str = "ct1", **values: Any) -> ListenerEntity:
    """Return an AE whose title is its name in upper case, on this machine."""
    defaults: dict[str, Any] = {
        "title": AETitle(name.upper()),
        "node": "127.0.0.1",
        "called_title": AETitle("AEGATE"),
    }
    return ListenerEntity(ResourceKey("default", name), **defaults | values)


@dataclass(frozen=True, slots=True)
class RunningListener:
    """A listener that is ready."""

    child: subprocess.Popen[bytes]
    folder: Path
    config: ListenerConfig

    @property
    def state(self) -> ProcessState:
        """What it says of itself."""
        state = read_state(self.folder / "state.json")
        assert state is not None
        return state

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.state.port

    @property
    def log(self) -> Path:
        """Everything it wrote."""
        return self.folder / "listener.log"

    @property
    def spool(self) -> Path:
        """Its spool."""
        return Path(self.config.spool)

    def arrivals(self) -> list[SpooledArrival]:
        """Return what it acknowledged."""
        return list(scan(self.spool))

    def leftovers(self) -> list[Path]:
        """Return the files of objects that are not whole."""
        return sorted(self.spool.rglob("*.part"))

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log lines of one event."""
        lines = (json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{"))
        return [line for line in lines if line.get("event") == name]

    def get(self, path: str) -> tuple[int, str]:
        """Ask the health port."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.state.health_port}{path}", timeout=5
            ) as answer:
                status, text = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                status, text = error.code, error.read().decode()
        sentinel.assert_absent(text, path)
        return status, text

    def metric(self, name: str, **labels: str) -> float:
        """Return a sample of the metrics; 0 when there is none."""
        for family in text_string_to_metric_families(self.get("/metrics")[1]):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return sample.value
        return 0.0

    def configure(self, **changes: Any) -> ListenerConfig:
        """Write another configuration, one generation later, in one step as the supervisor does."""
        generation = self.state.generation + 1
        config = dataclasses.replace(self.config, **changes, generation=generation)
        write_config(self.folder, config.to_json())
        return config

    def rss_bytes(self) -> int:
        """Return the memory it holds now."""
        return rss_bytes(self.child.pid)

    def open_associations(self, name: str = "ct1") -> float:
        """Return how many associations of an AE hold a slot."""
        return self.metric("aegate_associations_open", ae=f"default/{name}")


def write_config(folder: Path, text: str) -> None:
    part = folder / "listener.json.part"
    part.write_text(text)
    part.replace(folder / "listener.json")


@contextmanager
def running_listener(
    folder: Path,
    *entities: ListenerEntity,
    environ: Mapping[str, str] | None = None,
    run: Sequence[str | Path] = ("aegate_scp",),
    is_open: bool = True,
    **values: Any,
) -> Iterator[RunningListener]:
    """Run a listener for ``entities`` (default: ct1) until the end of the block; ``run`` is what Python runs as it.

    ``is_open``: wait until its port is, too.
    """
    defaults: dict[str, Any] = {
        "name": "shared",
        "host": "127.0.0.1",
        "port": 0,
        "spool": str(folder / "spool"),
        "grace_s": 5,
    }
    config = ListenerConfig(entities=entities or (entity(),), **defaults | values)
    write_config(folder, config.to_json())
    (folder / "state.json").unlink(missing_ok=True)
    settings = {
        "AEGATE_LISTENER_CONFIG": str(folder / "listener.json"),
        "AEGATE_STATE_FILE": str(folder / "state.json"),
        "AEGATE_LOG_FORMAT": "json",
    }
    command = [sys.executable, "-m", *run]
    with process(command, log=folder / "listener.log", environ=settings | dict(environ or {})) as child:
        listener = RunningListener(child, folder, config)
        eventually(lambda: _has_started(folder, is_open), deadline_s=30, what="the listener is ready")
        yield listener


def _has_started(folder: Path, is_open: bool) -> bool:
    state = read_state(folder / "state.json")
    return state is not None and state.state in ("ready", "degraded") and (state.port > 0 or not is_open)


def associate(
    port: int, *contexts: tuple[str, list[str]], calling: str = "CT1", called: str = "AEGATE"
) -> Association:
    """Call with pynetdicom; a context is an abstract syntax with its transfer syntaxes in order."""
    ae = AE(ae_title=calling)
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
    wanted = [build_context(abstract, transfer) for abstract, transfer in contexts]
    return ae.associate("127.0.0.1", port, contexts=wanted, ae_title=called)
