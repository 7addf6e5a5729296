"""Settings of a listener process: read once from the environment, in ``__main__``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aegate_core.errors import InvalidValue
from aegate_core.settings import required


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """What a listener is told by whoever starts it; all else stands in its configuration file."""

    config: Path
    """JSON of `decisions.listener_config.ListenerConfig`; read again when it changes."""
    state_file: Path | None
    """Where the process says how it is; None: nowhere."""
    health_address: tuple[str, int]
    """Health, readiness and metrics; port 0: any, written to the state file."""
    log_terminal: bool | None
    """True: readable lines, False: JSON lines, None: by whether standard error is a terminal."""


def read_settings(environ: Mapping[str, str]) -> ListenerSettings:
    """Return the settings. Raises InvalidValue naming the variable."""
    state = environ.get("AEGATE_STATE_FILE", "")
    return ListenerSettings(
        config=Path(required(environ, "AEGATE_LISTENER_CONFIG")),
        state_file=Path(state) if state else None,
        health_address=_address(environ.get("AEGATE_HEALTH_LISTEN") or "127.0.0.1:0"),
        log_terminal=_log_terminal(environ.get("AEGATE_LOG_FORMAT", "")),
    )


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise InvalidValue(
            f"AEGATE_HEALTH_LISTEN must be host:port such as 127.0.0.1:0, got {text!r}: mend it"
        )
    return host.strip("[]"), int(port)


def _log_terminal(text: str) -> bool | None:
    if text not in ("", "terminal", "json"):
        raise InvalidValue(
            f"AEGATE_LOG_FORMAT must be terminal or json, got {text!r}: mend it or leave it out"
        )
    return {"terminal": True, "json": False}.get(text)
