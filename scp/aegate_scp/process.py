"""A listener process from its first line of log to its last: configuration file, state file, health, signals."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import os
import resource
import signal
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from aegate_core.decisions.listener_config import ListenerConfig, entities_from_json
from aegate_core.errors import AegateError, InvalidInput
from aegate_core.events import (
    CONFIG_FIELDS_UNKNOWN,
    CONFIG_REFUSED,
    PROCESS_FAILED,
    PROCESS_READY,
    PROCESS_STARTED,
    PROCESS_STOPPED,
    PROCESS_STOPPING,
    Log,
    configure_logging,
)
from aegate_core.health import HealthServer, ProcessState
from aegate_core.stopping import StopRequest
from aegate_core.watchdog import has_memory
from aegate_scp.listener import Listener
from aegate_scp.metrics import ListenerMetrics
from aegate_scp.settings import ListenerSettings, read_settings

_LOOK_EVERY_S = 0.25
"""At the configuration file and the spool: an edit takes effect within a second."""

_STILL_LOOKS = 12
"""Three seconds of looks without memory, or after the half minute that a turn of the entrance may take."""

_DESCRIPTORS = 65_536
"""Wanted; 500 associations of one AE need four each while they receive, and the usual limit is 1,024."""

_Stamp = tuple[tuple[int, int, int], ...]


class ListenerProcess:
    """Run one listener until it is told to stop."""

    def __init__(self, settings: ListenerSettings) -> None:
        self._settings = settings
        self._log = Log("scp")
        self._stop = StopRequest()
        self._signal = ""
        self._listener: Listener | None = None
        self._metrics = ListenerMetrics()
        self._health = HealthServer(
            settings.health_address,
            registry=self._metrics.registry,
            alive=self._alive,
            ready=self._ready,
            note=self._note,
        )
        self._health.answer_state(self._report)
        self._state = ProcessState("listener", os.getpid(), "starting")
        self._refused = ""
        self._unknown: frozenset[str] = frozenset()
        """Fields of the configuration that a newer version wrote; each is said once."""
        self._revisions: dict[str, str] = {}
        """Of the configuration in force: SHA-256 of the bytes of each file; of the first alone where there is one."""
        self._still_looks = 0
        self._identity: tuple[Path, ...] = ()
        """Files of the identity in force, and of the one that is wished for."""
        self._seen: tuple[_Stamp, _Stamp] = ((), ())

    def request_stop(self, number: int) -> None:
        """Begin to drain, from a signal handler."""
        self._signal = signal.Signals(number).name
        self._stop.make()

    def run(self) -> int:
        """Return the exit code: 0 after a drain, 1 when it failed while running, 2 when it could not start."""
        self._log(PROCESS_STARTED, process="listener", pid=os.getpid(), version=version("aegate-scp"))
        self._health.start()
        self._say("starting")
        try:
            listener = self._start()
        except AegateError as error:
            self._log(PROCESS_FAILED, process="listener", error=error.message, code=error.code)
            self._say("failed", error.message)
            return 2
        self._log(
            PROCESS_READY, process=listener.config.name, port=listener.port, health_port=self._health.port
        )
        self._say_how_it_is(listener)
        while not self._stop.wait(_LOOK_EVERY_S) and not self._has_failed(listener):
            self._reload(listener)
            self._say_how_it_is(listener)
        grace_s = listener.config.grace_s
        if not self._stop.is_made():
            fault = listener.trouble() or "no memory is left for it: raise its limit"
            self._log(PROCESS_FAILED, process=listener.config.name, error=fault, code="STANDSTILL")
        self._log(PROCESS_STOPPING, process=listener.config.name, signal=self._signal, grace_s=grace_s)
        self._say("stopping")
        listener.drain(grace_s)
        self._health.stop()
        self._say("stopping", "stopped")
        self._log(PROCESS_STOPPED, process=listener.config.name, reason=self._signal or "failed")
        return 0 if self._stop.is_made() else 1

    def _has_failed(self, listener: Listener) -> bool:
        """Say whether only a new process helps: no memory is left, or the entrance has ended, or stands still.

        A thread that dies of want of memory before its first line leaves whoever starts it waiting for ever. One look
        is not enough: when the whole process was paused, the entrance turns again a moment later.
        """
        is_well = listener.trouble() is None and has_memory()
        self._still_looks = 0 if is_well else self._still_looks + 1
        return listener.has_failed() or self._still_looks >= _STILL_LOOKS

    def _start(self) -> Listener:
        config, revisions = self._read()
        listener = Listener(config, metrics=self._metrics, spool_process=self._settings.spool_process)
        listener.start()
        self._listener, self._revisions = listener, revisions
        return listener

    def _read(self) -> tuple[ListenerConfig, dict[str, str]]:
        """Read the configuration and its revisions, and remember how all files stood before they were read."""
        config_stamp, _ = self._look()
        self._identity = _tls_paths(self._listener.config) if self._listener else ()
        try:
            texts = {path: _read_file(path) for path in self._config_paths()}
            first, *more = texts.values()
            unknown = set[str]()
            config = ListenerConfig.from_json(first, unknown=unknown.add)
            shares = (entities_from_json(text, unknown=unknown.add) for text in more)
            config = replace(config, entities=(*config.entities, *itertools.chain.from_iterable(shares)))
            self._say_unknown(unknown)
            self._identity += _tls_paths(config)
            return config, {path.name: hashlib.sha256(text).hexdigest() for path, text in texts.items()}
        finally:
            self._seen = config_stamp, _stamp(self._identity)

    def _say_unknown(self, fields: set[str]) -> None:
        if new := fields - self._unknown:
            self._unknown |= new
            self._log(CONFIG_FIELDS_UNKNOWN, fields=" ".join(sorted(new)))

    def _reload(self, listener: Listener) -> None:
        """Take up a changed configuration or identity; what cannot be used is said once and changes nothing.

        A configuration whose identity is not there yet is tried again when it comes; one that cannot be used does not
        keep a renewed certificate from being served.
        """
        if self._look() == self._seen:
            self._mind_the_door(listener)
            return
        try:
            config, revisions = self._read()
            listener.apply(config)
            self._refused, self._revisions = "", revisions
        except InvalidInput as error:
            self._refused = error.message
            self._metrics.refused_configs.inc()
            self._log(CONFIG_REFUSED, error=error.message)
            with contextlib.suppress(InvalidInput):
                listener.reload_tls()

    @staticmethod
    def _mind_the_door(listener: Listener) -> None:
        """Time alone may close the port. Who took it meanwhile may give it back: it is tried again at the next look."""
        with contextlib.suppress(InvalidInput):
            listener.mind_the_door()

    def _say_how_it_is(self, listener: Listener) -> None:
        trouble = listener.trouble() or listener.closed() or self._refused or listener.congestion()
        self._say("degraded" if trouble else "ready", trouble or listener.warning() or "")

    def _say(self, state: str, message: str = "") -> None:
        """Write the state file when something has changed."""
        listener = self._listener
        said = ProcessState(
            process=listener.config.name if listener else "listener",
            pid=os.getpid(),
            state=state,
            health_port=self._health.port,
            port=listener.port if listener and not listener.closed() else 0,
            generation=listener.config.generation if listener else 0,
            message=message,
        )
        if said != self._state and self._settings.state_file and not said.write(self._settings.state_file):
            return  # It is written when there is room again.
        self._state = said

    def _look(self) -> tuple[_Stamp, _Stamp]:
        return _stamp(self._config_paths()), _stamp(self._identity)

    def _config_paths(self) -> tuple[Path, ...]:
        """Return the files of the configuration that there are; the first is there, or missed."""
        entities = self._settings.entities
        return (self._settings.config, *(sorted(entities.glob("*.json")) if entities else ()))

    def _alive(self) -> str | None:
        listener = self._listener
        return None if listener is None or self._stop.is_made() else listener.trouble()

    def _ready(self) -> str | None:
        if self._stop.is_made():
            return "stopping"
        return "starting" if self._listener is None else self._listener.trouble() or self._listener.closed()

    def _report(self) -> dict[str, object]:
        """Return what whoever manages listeners wants to know of this one."""
        said, listener = self._state, self._listener
        return {
            "process": said.process,
            "state": said.state,
            "generation": said.generation,
            "revision": self._revisions.get(self._settings.config.name, ""),
            "entities": {
                name: r for name, r in self._revisions.items() if name != self._settings.config.name
            },
            "message": said.message,
            "certificate": listener.certificate() if listener else None,
        }

    def _note(self) -> str | None:
        """Return why images are refused, or soon will be: a device hears that from us, so we stay ready."""
        listener = self._listener
        return None if listener is None else listener.congestion() or listener.warning()


def run(environ: Mapping[str, str]) -> int:
    """Run a listener as ``environ`` says; return the exit code."""
    try:
        settings = read_settings(environ)
    except InvalidInput as error:
        configure_logging()
        Log("scp")(PROCESS_FAILED, process="listener", error=error.message, code=error.code)
        return 2
    configure_logging(terminal=settings.log_terminal)
    # pynetdicom quotes peers and handlers' exceptions in its errors; what matters of them is in our own events.
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
    _raise_descriptor_limit()
    try:
        process = ListenerProcess(settings)
    except OSError as error:
        address = "{}:{}".format(*settings.health_address)
        message = (
            f"AEGATE_HEALTH_LISTEN must be a free address, got {error.strerror} at {address}: choose another"
        )
        Log("scp")(PROCESS_FAILED, process="listener", error=message, code=InvalidInput.code)
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: process.request_stop(number))
    return process.run()


def _raise_descriptor_limit() -> None:
    """Use what the system allows us; nothing here uses select(2), which is why the usual limit is so low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(
            f"listener configuration must be a readable file, got {error.strerror} at {path}"
        ) from error


def _tls_paths(config: ListenerConfig) -> tuple[Path, ...]:
    tls = config.tls
    return (Path(tls.certificate), Path(tls.key), Path(tls.ca)) if tls else ()


def _stamp(paths: tuple[Path, ...]) -> _Stamp:
    """Return what changes when a file is written or replaced; a missing file has a stamp, too."""
    stamps = []
    for path in paths:
        try:
            stat = path.stat()
            stamps.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
        except OSError:
            stamps.append((0, 0, 0))
    return tuple(stamps)
