"""Settings of the operator's process: read once from the environment, in ``process``."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from aegate_core.settings import health_address, log_terminal, required
from aegate_operator.installation import Installation, read_installation


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """What the operator is told by whoever starts it."""

    installation: Installation
    database_url: str
    instance: str
    """The pod's name, as events name who reports."""
    workers: int = 8
    """AEs looked at at once. By feel: more of them only queue at the API server."""
    health_address: tuple[str, int] = ("127.0.0.1", 0)
    log_terminal: bool | None = None


def read_settings(environ: Mapping[str, str]) -> OperatorSettings:
    """Return the settings. Raises InvalidInput naming the variable."""
    url = required(environ, "AEGATE_DATABASE_URL")
    return OperatorSettings(
        installation=read_installation(environ),
        database_url=url.replace("postgresql://", "postgres://", 1),
        instance=environ.get("AEGATE_POD_NAME") or socket.gethostname(),
        health_address=health_address(environ),
        log_terminal=log_terminal(environ),
    )
