"""Settings of an indexer process: read once from the environment, in ``__main__``."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aegate_core.settings import DataFolder, database_url, health_address, log_terminal, required


@dataclass(frozen=True, slots=True)
class IndexerSettings:
    """What an indexer is told by whoever starts it."""

    data: DataFolder
    database_url: str
    process: str
    """Its name in the index; the same after a restart, or units wait 15 minutes for the one that is gone."""
    state_file: Path | None = None
    """Where the process says how it is; None: nowhere."""
    health_address: tuple[str, int] = ("127.0.0.1", 0)
    """Health, readiness and metrics; port 0: any, written to the state file."""
    log_terminal: bool | None = None
    """True: readable lines, False: JSON lines, None: by whether standard error is a terminal."""


def read_settings(environ: Mapping[str, str]) -> IndexerSettings:
    """Return the settings. Raises InvalidValue naming the variable."""
    data = DataFolder(Path(required(environ, "AEGATE_DATA")))
    state = environ.get("AEGATE_STATE_FILE", "")
    return IndexerSettings(
        data=data,
        database_url=database_url(environ, data),
        process=environ.get("AEGATE_INDEXER") or socket.gethostname(),
        state_file=Path(state) if state else None,
        health_address=health_address(environ),
        log_terminal=log_terminal(environ),
    )
