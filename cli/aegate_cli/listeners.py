"""The listener processes, kept to what the ApplicationEntities say.

An edit that needs no other port only rewrites the configuration file, which the running listener takes up: no
association is cut. A listener that nothing needs any more drains; its port is closed at once.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from aegate_cli.data_folder import storage_error
from aegate_cli.installation import Installation
from aegate_cli.ports import Endpoint, PortUnavailable, ensure_bindable, reachable_host
from aegate_cli.supervisor import ProcessView, Supervisor
from aegate_core.decisions.listener_config import ListenerConfig, is_admitted, listener_configs
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.events import LISTENER_BLOCKED, Log
from aegate_core.resources.values import ApplicationEntity

CATCH_UP_S = 2.0
"""How long a listener may take to load a new configuration before its AEs stop being Ready."""

log = Log("up")


@dataclass(slots=True)
class _Rendered:
    """A configuration as it was written last, and when."""

    config: ListenerConfig
    written_at: float


class Listeners:
    """Starts, reconfigures and stops listener processes. One task uses it at a time."""

    def __init__(self, installation: Installation, supervisor: Supervisor) -> None:
        self._installation = installation
        self._supervisor = supervisor
        self._rendered: dict[str, _Rendered] = {}
        self._blocked: dict[str, str] = {}
        self._starts = itertools.count(1)
        self._drains: set[asyncio.Task[None]] = set()

    def apply(self, entities: Iterable[ApplicationEntity]) -> None:
        """Make the listeners what ``entities`` say. Repeating it changes nothing, and tries again what was blocked.

        Raises StorageError when a configuration cannot be written.
        """
        wished = {c.name: c for c in listener_configs(entities, self._installation.listener_defaults)}
        for name in self._rendered.keys() - wished.keys():
            self._remove(name)
        for name, config in wished.items():
            self._render(config)
            if process_name(name) not in self._supervisor.names:
                self._start(config)

    @property
    def is_blocked(self) -> bool:
        """Whether a listener waits for its port or its certificate."""
        return bool(self._blocked)

    def troubles(self, entities: Iterable[ApplicationEntity]) -> dict[ResourceKey, str]:
        """Return the AEs that should have a listener and cannot be reached on it now, and why."""
        views = {view.name: view for view in self._supervisor.views()}
        served = {e.ae: name for name, r in self._rendered.items() for e in r.config.entities}
        found: dict[ResourceKey, str] = {}
        for ae in entities:
            if is_admitted(ae) and (trouble := self._trouble(served.get(ae.key), views)):
                found[ae.key] = trouble
        return found

    def endpoints(self) -> dict[ResourceKey, str]:
        """Return host:port where each device calls us; AEs whose listener has no port (yet) are not in it."""
        return {
            entity.ae: str(Endpoint(reachable_host(r.config.host, entity.node), r.config.port))
            for name, r in self._rendered.items()
            if name not in self._blocked
            for entity in r.config.entities
        }

    def _trouble(self, name: str | None, views: Mapping[str, ProcessView]) -> str | None:
        if name is None:
            return "Its listener is being started."
        if name in self._blocked:
            return self._blocked[name]
        rendered, view = self._rendered[name], views.get(process_name(name))
        if view is None or view.state not in ("ready", "degraded"):
            said = f" ({view.message})" if view and view.message else ""
            return (
                f"The listener on port {rendered.config.port} is {view.state if view else 'not there'}{said}."
            )
        if view.state == "degraded" and view.message:
            return f"The listener on port {rendered.config.port} is degraded: {view.message}."
        is_late = time.monotonic() - rendered.written_at > CATCH_UP_S
        if view.generation < rendered.config.generation and is_late:
            return f"The listener on port {rendered.config.port} has not taken up its configuration yet."
        return None

    def _render(self, config: ListenerConfig) -> None:
        before = self._rendered.get(config.name)
        if before and replace(before.config, generation=1) == replace(config, generation=1):
            return
        generation = before.config.generation + 1 if before else 1
        numbered = replace(config, generation=generation)
        try:
            write_atomically(self._path(config.name), numbered.to_json())
        except OSError as error:
            raise storage_error(error, self._installation.data.root) from error
        self._rendered[config.name] = _Rendered(numbered, time.monotonic())

    def _start(self, config: ListenerConfig) -> None:
        trouble = self._obstacle(config)
        if trouble:
            if self._blocked.get(config.name) != trouble:
                log(LISTENER_BLOCKED, port=config.port, reason=trouble)
            self._blocked[config.name] = trouble
            return
        self._blocked.pop(config.name, None)
        name = process_name(config.name)
        spec = self._installation.process_spec(
            name,
            "aegate_scp",
            # A name of its own for each start: one that still drains must not overwrite the state of the next.
            state_name=f"{name}-{next(self._starts)}",
            AEGATE_LISTENER_CONFIG=str(self._path(config.name)),
        )
        self._supervisor.start(spec, grace_s=config.grace_s)

    @staticmethod
    def _obstacle(config: ListenerConfig) -> str | None:
        if config.tls:
            peers = () if config.tls.client_auth == "None" else (config.tls.ca,)
            for path in (config.tls.certificate, config.tls.key, *peers):
                if not Path(path).is_file():
                    return f"The listener on port {config.port} waits for {path}: put the certificate there."
        try:
            ensure_bindable(
                Endpoint(config.host, config.port),
                purpose=f"the listener of {', '.join(str(e.ae) for e in config.entities) or 'all AEs'}",
                remedy="Set another spec.listener.port",
            )
        except PortUnavailable as error:
            return f"{error.message}."
        return None

    def _remove(self, name: str) -> None:
        del self._rendered[name]
        self._blocked.pop(name, None)
        drain = asyncio.create_task(self._supervisor.stop(process_name(name)), name=f"drain {name}")
        self._drains.add(drain)
        drain.add_done_callback(self._drains.discard)
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._installation.data.run / f"listener-{name}.json"


def process_name(config_name: str) -> str:
    """Return what the process of a listener configuration is called."""
    return "listener" if config_name == "shared" else f"listener-{config_name}"


def write_atomically(path: Path, text: str) -> None:
    """Replace ``path`` in one step: whoever reads it sees the old or the new text."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    part.replace(path)
