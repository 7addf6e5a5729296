"""Settings of an indexer process: read once from the environment, in ``__main__``."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aegate_core.dicom.identifiers import parse_resource_key
from aegate_core.settings import (
    DataFolder,
    data_folder,
    database_url,
    health_address,
    log_terminal,
    required,
    spool_process,
)
from aegate_scp.indexer.duty import Duty


@dataclass(frozen=True, slots=True)
class IndexerSettings:
    """What an indexer is told by whoever starts it."""

    data: DataFolder
    database_url: str
    """Of no meaning with a ``database_url_file``."""
    duty: Duty
    """Its name in the index must be the same after a restart, or units wait 15 minutes for the one that is gone."""
    database_url_file: Path | None = None
    """Where the URL stands instead, read again when it changes; while it is not there the indexer waits for it."""
    state_file: Path | None = None
    """Where the process says how it is; None: nowhere."""
    health_address: tuple[str, int] = ("127.0.0.1", 0)
    """Health, readiness and metrics; port 0: any, written to the state file."""
    log_terminal: bool | None = None
    """True: readable lines, False: JSON lines, None: by whether standard error is a terminal."""


def read_settings(environ: Mapping[str, str], *, is_until_empty: bool = False) -> IndexerSettings:
    """Return the settings. Raises InvalidValue naming the variable."""
    data = data_folder(environ, Path(required(environ, "AEGATE_DATA")))
    state, url_file = environ.get("AEGATE_STATE_FILE", ""), environ.get("AEGATE_DATABASE_URL_FILE", "")
    ae = environ.get("AEGATE_AE", "")
    duty = Duty(
        process=environ.get("AEGATE_INDEXER") or socket.gethostname(),
        ae=parse_resource_key(ae) if ae else None,
        spool_process=spool_process(environ),
        is_until_empty=is_until_empty,
    )
    return IndexerSettings(
        data=data,
        database_url=database_url(environ, data),
        duty=duty,
        database_url_file=Path(url_file) if url_file else None,
        state_file=Path(state) if state else None,
        health_address=health_address(environ),
        log_terminal=log_terminal(environ),
    )
