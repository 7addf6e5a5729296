"""Settings of a listener process: read once from the environment, in ``process``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aegate_core.settings import health_address, log_terminal, required, spool_process


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """What a listener is told by whoever starts it; all else stands in its configuration file."""

    config: Path
    """JSON of `decisions.listener_config.ListenerConfig`; read again when it changes."""
    entities: Path | None
    """Folder of files ``*.json`` with more AEs, of a pool that has too many for one ConfigMap; None: there is none."""
    state_file: Path | None
    """Where the process says how it is; None: nowhere."""
    health_address: tuple[str, int]
    """Health, readiness and metrics; port 0: any, written to the state file."""
    log_terminal: bool | None
    """True: readable lines, False: JSON lines, None: by whether standard error is a terminal."""
    spool_process: str | None = None
    """Name of its folders in the spool, such as the uid of its pod; None: one of its own for each life."""


def read_settings(environ: Mapping[str, str]) -> ListenerSettings:
    """Return the settings. Raises InvalidValue naming the variable."""
    state, entities = environ.get("AEGATE_STATE_FILE", ""), environ.get("AEGATE_LISTENER_ENTITIES", "")
    return ListenerSettings(
        config=Path(required(environ, "AEGATE_LISTENER_CONFIG")),
        entities=Path(entities) if entities else None,
        state_file=Path(state) if state else None,
        health_address=health_address(environ),
        log_terminal=log_terminal(environ),
        spool_process=spool_process(environ),
    )
