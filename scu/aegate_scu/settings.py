"""Settings of a worker: read once from the environment, in ``process``."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from aegate_core.decisions.audit_message import AuditSource
from aegate_core.dicom.ae_title import AETitle
from aegate_core.errors import InvalidValue
from aegate_core.settings import DataFolder, data_folder, database_url, health_address, log_terminal, required
from aegate_scu.collector import CollectorAddress, parse_collector


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a worker is told by whoever starts it."""

    data: DataFolder
    database_url: str
    worker: str
    """Its name in leases, history and metrics; two workers of one name would renew each other's sign of life."""
    calling_title: AETitle = field(default_factory=lambda: AETitle("AEGATE"))
    """The title we call with where the AE's ``push.callingTitle`` names none."""
    secrets: Path | None = None
    """Folder with ``aegate-client/`` (tls.crt, tls.key, ca.crt); None: no AE with ``push.tls`` can be reached."""
    pushes: int = 8
    """Associations at work at once in this process, those whose peer does not answer left out (see `worker.STALLED`).
    By feel: each has three threads; measure CPU before raising it."""
    lease: timedelta = timedelta(seconds=30)
    """How long a slot stays ours without renewal: what a lost worker held waits so long."""
    heartbeat: timedelta = timedelta(seconds=10)
    """How often the slots are renewed; must be well below the lease."""
    settle: timedelta = timedelta(seconds=20)
    """How long, once told to stop, it tries to write what was answered; below the grace period of who started it. What
    is not written then is sent again when the lease has run out."""
    retains: bool = True
    """Whether it removes once an hour what may go by age; False where its role of the database may not."""
    collector: CollectorAddress | None = None
    """Where the audit is exported to as DICOM Audit Messages; None: nowhere."""
    audit_source: AuditSource = field(default_factory=lambda: AuditSource("aegate"))
    """Who we are in these."""
    state_file: Path | None = None
    health_address: tuple[str, int] = ("127.0.0.1", 0)
    log_terminal: bool | None = None


def read_settings(environ: Mapping[str, str]) -> WorkerSettings:
    """Return the settings. Raises InvalidValue naming the variable."""
    data = data_folder(environ, Path(required(environ, "AEGATE_DATA")))
    secrets = environ.get("AEGATE_SECRETS", "")
    state = environ.get("AEGATE_STATE_FILE", "")
    lease_s = _seconds(environ, "AEGATE_LEASE_SECONDS", 30.0)
    return WorkerSettings(
        data=data,
        database_url=database_url(environ, data),
        worker=environ.get("AEGATE_WORKER") or f"{socket.gethostname()}-{os.getpid()}",
        calling_title=AETitle(environ.get("AEGATE_CALLING_TITLE") or "AEGATE"),
        secrets=Path(secrets) if secrets else None,
        pushes=int(_seconds(environ, "AEGATE_WORKER_PUSHES", 8)),
        lease=timedelta(seconds=lease_s),
        heartbeat=timedelta(seconds=lease_s / 3),
        settle=timedelta(seconds=_seconds(environ, "AEGATE_SETTLE_SECONDS", 20.0)),
        retains=_yes(environ, "AEGATE_RETENTION", default=True),
        collector=_collector(environ),
        audit_source=AuditSource(
            environ.get("AEGATE_AUDIT_SOURCE") or "aegate", environ.get("AEGATE_AUDIT_SITE", "")
        ),
        state_file=Path(state) if state else None,
        health_address=health_address(environ),
        log_terminal=log_terminal(environ),
    )


def _collector(environ: Mapping[str, str]) -> CollectorAddress | None:
    text = environ.get("AEGATE_AUDIT_COLLECTOR", "")
    if not text:
        return None
    host, port = parse_collector(text)
    ca, certificate, key = (environ.get(f"AEGATE_AUDIT_{part}", "") for part in ("CA", "CERTIFICATE", "KEY"))
    if bool(certificate) != bool(key):
        raise InvalidValue(
            "AEGATE_AUDIT_CERTIFICATE and AEGATE_AUDIT_KEY must both be given, got one: give the other, or neither"
        )
    files = [Path(file) if file else None for file in (ca, certificate, key)]
    return CollectorAddress(host, port, *files)


def _seconds(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError as error:
        raise InvalidValue(f"{name} must be a number, got {text!r}: mend it") from error
    if value <= 0:
        raise InvalidValue(f"{name} must be above 0, got {text!r}: mend it")
    return value


def _yes(environ: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = environ.get(name, "")
    if text not in ("", "yes", "no"):
        raise InvalidValue(f"{name} must be yes or no, got {text!r}: mend it")
    return {"yes": True, "no": False}.get(text, default)
