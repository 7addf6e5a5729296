"""Settings of the API process: the environment, read once."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from aegate_core.errors import InvalidValue
from aegate_core.services.intents import OPEN_AFTER
from aegate_core.services.operations import BATCH
from aegate_core.settings import DataFolder, database_url, health_address, required
from aegate_graphql_api.identity.settings import IdentitySettings, identity_from
from aegate_graphql_api.policy import Policy, policy_from
from aegate_graphql_api.tracing import TracesWanted, traces_wanted


@dataclass(frozen=True, slots=True)
class Settings:
    """What the API needs to know at its start."""

    data: DataFolder
    database_url: str
    host: str
    """Address to listen on; with local tokens loopback alone, beyond it with TLS."""
    port: int
    """0: any free one; the state file tells which."""
    tokens: Path
    """The file of local tokens; absent: nobody is let in until one is made."""
    state_file: Path | None
    """Where to say how it goes; None: nowhere."""
    log_terminal: bool
    """Readable lines instead of JSON."""
    health_address: tuple[str, int] | None = None
    """Where else health and metrics are served, in the clear, and nothing else: for Prometheus, which does not reach
    loopback and has no token; None: nowhere else."""
    resources: str = ""
    """Where resources are changed: ``cluster``, or the folder of manifests; empty: nowhere, changes are refused."""
    open_after: timedelta = OPEN_AFTER
    """How old a change must be whose outcome nobody wrote down, before it is looked at: longer than any takes."""
    identity: IdentitySettings = field(default_factory=IdentitySettings)
    """Who comes in beside the holders of local tokens, and over what."""
    streams: int = 2_500
    """How many WebSockets and event streams there may be; further ones are told to come back later."""
    streams_by_caller: int = 500
    """How many of them one caller may have: as many as pages are open under one name."""
    policy: Policy = field(default_factory=Policy)
    """What callers may do, and how much of it."""
    operation_batch: int = BATCH
    """Items of one transaction of an operation: more hold up workers longer, fewer take longer in all."""
    traces: TracesWanted = field(default_factory=TracesWanted)
    """Whether OpenTelemetry is given traces; where they go and how many the SDK reads from OTEL_* itself."""
    grace_s: int = 10
    """How long running requests may take after SIGTERM; then they are cut."""


def settings_from(environ: Mapping[str, str]) -> Settings:
    """Return the settings of this environment. Raises InvalidValue naming the variable."""
    data = DataFolder(Path(required(environ, "AEGATE_DATA")))
    host, port = _address(environ.get("AEGATE_HTTP_LISTEN") or "127.0.0.1:8080")
    tokens = environ.get("AEGATE_TOKENS")
    state = environ.get("AEGATE_STATE_FILE")
    return Settings(
        data=data,
        database_url=database_url(environ, data),
        host=host,
        port=port,
        tokens=Path(tokens) if tokens else data.run / "tokens.json",
        state_file=Path(state) if state else None,
        log_terminal=_log_terminal(environ),
        health_address=health_address(environ) if environ.get("AEGATE_HEALTH_LISTEN") else None,
        resources=environ.get("AEGATE_RESOURCES", ""),
        open_after=_seconds(environ, "AEGATE_AUDIT_OPEN_S", OPEN_AFTER),
        identity=identity_from(environ),
        streams=_count(environ, "AEGATE_STREAMS", 2_500),
        streams_by_caller=_count(environ, "AEGATE_STREAMS_BY_CALLER", 500),
        policy=policy_from(environ),
        traces=traces_wanted(environ),
        operation_batch=_batch(environ.get("AEGATE_OPERATION_BATCH", "")),
    )


def _batch(text: str) -> int:
    if text and (not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 10_000):
        raise InvalidValue(f"AEGATE_OPERATION_BATCH must be 1 to 10000, got {text!r}: set another or none")
    return int(text) if text else BATCH


def _count(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:7]) <= 100_000:
        raise InvalidValue(f"{name} must be a number of 1 to 100000, got another: leave it out for {default}")
    return int(text)


def _log_terminal(environ: Mapping[str, str]) -> bool:
    wanted = environ.get("AEGATE_LOG_FORMAT", "")
    if wanted not in ("", "terminal", "json"):
        raise InvalidValue(
            f"AEGATE_LOG_FORMAT must be terminal or json, got {wanted!r}: set one of them or none"
        )
    return sys.stderr.isatty() if not wanted else wanted == "terminal"


def _seconds(environ: Mapping[str, str], name: str, default: timedelta) -> timedelta:
    text = environ.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 86400:
        raise InvalidValue(f"{name} must be seconds, 1 to 86400, got {text!r}: correct it or leave it out")
    return timedelta(seconds=int(text))


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise InvalidValue(
            f"AEGATE_HTTP_LISTEN must be address:port such as 127.0.0.1:8080, got {text!r}: correct it"
        )
    return host.strip("[]"), int(port)
