"""The one catalogue of log events, and the two ways they are written: JSON lines, or readable on a terminal.

An event names its fields; logging another field is an error at once. So nothing that the catalogue does not know can
reach a log, and no field of it holds patient data: keys, titles, addresses, counts and codes only.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

Field = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Event:
    """One kind of thing worth a line: a stable dotted name, a level of ``logging``, a text, the fields it carries."""

    name: str
    level: int
    text: str
    fields: frozenset[str]


def _event(name: str, level: int, text: str, fields: str = "") -> Event:
    return Event(name, level, text, frozenset(fields.split()))


D, I, W, E = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR  # noqa: E741

# Processes, whatever they do.
PROCESS_STARTED = _event("process.started", I, "started", "process pid version")
PROCESS_READY = _event("process.ready", I, "ready", "process port health_port")
PROCESS_STOPPING = _event("process.stopping", I, "stopping", "process signal grace_s")
PROCESS_STOPPED = _event("process.stopped", I, "stopped", "process reason")
PROCESS_FAILED = _event("process.failed", E, "failed", "process error code")
DATABASE_AWAY = _event("database.away", W, "database does not answer; going on when it does", "error retry_s")
TRACES_AWAY = _event("traces.away", W, "the collector takes no traces; they are dropped until it does", "")
TRACES_OFF = _event(
    "traces.off", W, "no traces are made: the environment asks for what cannot be", "variable error"
)
TRACES_BACK = _event("traces.back", I, "the collector takes traces again", "dropped")
BUCKET_AWAY = _event(
    "bucket.away", E, "the bucket of the blobs cannot be used; going on when it can", "error"
)
BUCKET_BACK = _event("bucket.back", I, "the bucket of the blobs can be used again", "")
AUDIT_COLLECTOR_AWAY = _event(
    "audit.collector.away",
    E,
    "the audit collector does not take the audit; it waits in the database",
    "error",
)
AUDIT_COLLECTOR_BACK = _event("audit.collector.back", I, "the audit collector takes the audit again", "")
AUDIT_COLLECTOR_GONE = _event(
    "audit.collector.gone",
    W,
    "the audit collector was struck out of the database; it is declared again, rows of the meantime do not go to it",
    "collector",
)
DATABASE_BACK = _event("database.back", I, "database answers again", "away_s")

# The schema of the database.
SCHEMA_AWAITED = _event("schema.awaited", I, "waiting for the database", "schema reason retry_s")
SCHEMA_READY = _event("schema.ready", I, "the database has the schema", "schema")
SCHEMA_MIGRATED = _event(
    "schema.migrated", I, "the database has the schema, and the roles their rights", "schema applied roles"
)

# Listener.
LISTENER_BOUND = _event("listener.bound", I, "listening", "host port tls entities")
LISTENER_CLOSED = _event(
    "listener.closed",
    W,
    "the port is closed until the identity can be served; open associations go on",
    "port reason",
)
CONFIG_LOADED = _event("listener.config_loaded", I, "configuration loaded", "generation entities")
CONFIG_REFUSED = _event(
    "listener.config_refused", E, "configuration cannot be used; the last good one stays", "error"
)
CONFIG_FIELDS_UNKNOWN = _event(
    "listener.config_fields_unknown", W, "configuration of a newer version; fields are passed over", "fields"
)
ASSOCIATION_ACCEPTED = _event(
    "association.accepted", I, "association accepted", "association ae calling called peer contexts"
)
ASSOCIATION_REJECTED = _event(
    "association.rejected", W, "association rejected", "reason calling called peer result source diagnostic"
)
AUDIT_LINE_UNREADABLE = _event(
    "audit.line.unreadable", W, "a line of a listener's journal is no record of an association", "file error"
)
AUDIT_RECORDS_MISSED = _event(
    "audit.records.missed", W, "what happened to associations could not be kept for the audit", "count"
)
ASSOCIATION_ENDED = _event(
    "association.ended", I, "association ended", "association ae peer how instances size_bytes seconds"
)
CONNECTION_REFUSED = _event("connection.refused", W, "connection closed before an association", "peer reason")
INSTANCE_SPOOLED = _event(
    "instance.spooled", D, "instance durable in the spool", "association ae arrival size_bytes seconds"
)
INSTANCE_REFUSED = _event("instance.refused", E, "instance not taken", "association ae status reason")
SPOOL_CONGESTED = _event(
    "spool.congested", W, "no room: new associations are refused", "path free_bytes used_percent reason"
)
SPOOL_NEARLY_FULL = _event(
    "spool.nearly_full",
    W,
    "nearly full: make room, or new associations will be refused",
    "path free_bytes used_percent",
)
SPOOL_EASED = _event("spool.eased", I, "far from full again", "path free_bytes")
SPOOL_ROOM = _event("spool.room", I, "room again: associations are accepted", "path free_bytes")

# Indexer.
BATCH_INDEXED = _event(
    "batch.indexed", I, "arrivals indexed", "arrivals new duplicates conflicts quarantined seconds"
)
INSTANCE_QUARANTINED = _event(
    "instance.quarantined", W, "instance cannot be indexed; kept in quarantine", "arrival ae reason"
)
QUARANTINE_INDEXED = _event("quarantine.indexed", I, "released object is indexed", "arrival ae")
QUARANTINE_FAILED = _event(
    "quarantine.failed", E, "a fault over a released object; it is tried again, three times", "error"
)
SPOOL_SWEPT = _event("spool.swept", I, "left-overs of an earlier listener taken over", "spool arrivals parts")
INDEX_FAILED = _event(
    "index.failed", E, "batch cannot be indexed now; trying again", "error retry_s arrivals"
)
ARRIVAL_LEFT = _event(
    "arrival.left", E, "cannot be indexed now; it stays in the spool, trying again later", "arrival error"
)

# Workers.
UNIT_CLOSED = _event("unit.closed", I, "closed and routed", "unit ae outcome deliveries instances")
DELIVERY_CLAIMED = _event(
    "delivery.claimed", I, "delivery taken up", "delivery destination slot token instances"
)
DELIVERY_FINISHED = _event(
    "delivery.finished", I, "delivery finished", "delivery destination state stored failed seconds"
)
DELIVERY_RETRY = _event(
    "delivery.retry", W, "delivery will be tried again", "delivery destination reason until"
)
INSTANCE_DEAD = _event(
    "instance.dead_lettered", W, "instance refused by the peer", "delivery destination arrival status"
)
BLOB_NOT_SENT = _event(
    "blob.not_sent",
    E,
    "not sent by a fault of ours; tried again",
    "delivery destination arrival error",
)
BREAKER_OPENED = _event(
    "breaker.opened", W, "destination in trouble: its items wait", "destination reason next_probe"
)
BREAKER_CLOSED = _event("breaker.closed", I, "destination takes images again", "destination")
PROBE_FAILED = _event(
    "breaker.probe_failed", I, "destination does not answer yet", "destination reason next_probe"
)
VERIFICATION_FAILED = _event(
    "verification.failed", E, "a device could not be asked by a fault of ours", "destination error"
)
SLOT_LOST = _event("slot.lost", W, "lease lost; the association is closed", "delivery destination slot token")
WORK_RETURNED = _event(
    "work.returned", W, "lease of another worker ran out; its work is taken up again", "slots deliveries"
)
CLOCK_SET_BACK = _event(
    "clock.set_back", W, "the database's clock was ahead; nothing waits for it to come round", "times"
)
RETENTION_DONE = _event(
    "retention.done",
    I,
    "removed by age; what is known of the images stays",
    "partition studies images size_bytes deliveries kept",
)
RETENTION_FAILED = _event(
    "retention.failed", E, "not all that may go could be removed; trying again in an hour", "error"
)

# Resources and the supervisor.
RESOURCE_APPLIED = _event("resource.applied", I, "applied", "kind namespace name generation change")
RESOURCE_REFUSED = _event(
    "resource.refused", E, "not applied; the last good version stays", "file line field error"
)
CONDITION_CHANGED = _event(
    "condition.changed", I, "condition changed", "kind namespace name type status reason message"
)
CHILD_EXITED = _event("child.exited", W, "process ended; starting it again", "process code retry_s")
CHILD_STARTED = _event("child.started", I, "process started", "process pid")
CHILD_STOPPED = _event("child.stopped", I, "process stopped", "process code")
CHILD_KILLED = _event("child.killed", W, "process did not stop in time; killed", "process pid")
LISTENER_BLOCKED = _event("listener.blocked", E, "listener cannot start; trying again", "port reason")
FOLDER_WAITS = _event(
    "folder.waits", E, "what the folder says cannot be put in force; trying again", "error code retry_s"
)
FOLDER_KEPT = _event(
    "folder.kept", E, "nothing usable in the folder; everything stays as it was", "path resources"
)

# Operator.
CLUSTER_AWAY = _event(
    "cluster.away", W, "not everything can be listed; going on when it can", "error retry_s"
)
CLUSTER_BACK = _event("cluster.back", I, "everything can be listed again", "away_s")
LISTED = _event("cluster.listed", I, "all objects listed", "objects seconds")
GHOSTS_FOUND = _event(
    "cluster.ghosts", W, "gone without a word of the watch; taken note of now", "kind count"
)
CHILD_APPLIED = _event("child.applied", I, "child applied", "kind namespace name change")
CHILD_PRUNED = _event("child.pruned", I, "child removed: no longer wished", "kind namespace name")
SPOOL_DRAINING = _event(
    "spool.draining", I, "nobody fills this spool any more; a Job indexes what is left", "namespace name"
)
SPOOL_DRAINED = _event("spool.drained", I, "nothing is left in this spool; its claim goes", "namespace name")
POOL_CLEARED = _event(
    "pool.cleared", I, "nothing is left of a pool that is not wished any more", "namespace pool"
)
RECONCILE_FAILED = _event(
    "reconcile.failed", W, "cannot be made so now; trying again", "kind namespace name error code retry_s"
)
EVENT_LOST = _event("event.lost", W, "a Kubernetes event could not be posted", "kind namespace name error")

# API.
REQUEST_FAILED = _event(
    "request.failed", E, "request failed inside; the caller got the correlation id", "correlation error"
)
REQUEST_REFUSED = _event("request.refused", I, "request refused", "reason caller")
TOKENS_REFUSED = _event(
    "tokens.refused", E, "the token file cannot be used: nobody is let in until it can", "error"
)
TOKEN_REFUSED = _event("token.refused", I, "token refused", "by reason address")
IDENTITY_AWAY = _event(
    "identity.away", W, "the identity provider does not answer; the keys known of it go on", "issuer error"
)
IDENTITY_KEYS = _event("identity.keys", I, "keys of the identity provider fetched", "issuer count")
CLUSTER_REFUSED_REVIEW = _event(
    "cluster.review_failed", W, "the API server does not review tokens; what it said last goes on", "error"
)
CERTIFICATE_REFUSED = _event(
    "certificate.refused", E, "the renewed certificate cannot be used; the one before goes on", "error"
)
DOCUMENTS_READ = _event("documents.read", I, "trusted documents read", "count")
DOCUMENTS_REFUSED = _event(
    "documents.refused", E, "the trusted documents cannot be used: those of before go on", "error"
)
MUTATION_DONE = _event("mutation.done", I, "changed", "mutation caller outcome")
AUDIT_OPEN = _event(
    "audit.open",
    W,
    "what came of a change is not in the audit yet: the sweeper will say",
    "action target error",
)
AUDIT_SETTLED = _event("audit.settled", I, "said what came of changes that were cut off", "count")
AUDIT_WAITS = _event("audit.waits", W, "cut off changes cannot be looked at now", "error retry_s")
OPERATION_ENDED = _event("operation.ended", I, "operation ended", "operation mutation state processed total")
OPERATION_FAILED = _event("operation.failed", E, "operation cannot go on", "operation error")
OPERATION_WAITS = _event(
    "operation.waits",
    W,
    "the database does not take an operation's batch: others go first, and it is tried again",
    "operation error",
)
TASK_FAILED = _event(
    "task.failed", E, "a task of the process ended by a fault; begun again", "task error retry_s"
)

CATALOGUE: Mapping[str, Event] = {e.name: e for e in list(globals().values()) if isinstance(e, Event)}


class Log:
    """Write events of the catalogue under one component's name."""

    def __init__(self, component: str) -> None:
        self._logger = logging.getLogger(f"aegate.{component}")

    def __call__(self, event: Event, **fields: Field) -> None:
        """Log ``event``. Raises ValueError for a field that the catalogue does not list."""
        unknown = fields.keys() - event.fields
        if unknown:
            raise ValueError(
                f"event {event.name} has no field {', '.join(sorted(unknown))}: add it to the catalogue"
            )
        self._logger.log(event.level, event.text, extra={"event": event, "event_fields": fields})


def fault_text(error: BaseException) -> str:
    """Say an exception nobody caught by kind and place, such as ``ValueError at intake.py:12 in index_batch``.

    Never by its text: asyncpg's quotes the row (``Key (patient_id)=(...)``), pydicom's the value.
    """
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    place = f" at {Path(frames[0].filename).name}:{frames[0].lineno} in {frames[0].name}" if frames else ""
    return type(error).__name__ + place


def _text(record: logging.LogRecord) -> str:
    """Return a record's text, or kind and place of the exception it tells of: the text of a library may quote that."""
    error = record.exc_info[1] if record.exc_info else None
    return fault_text(error) if error else record.getMessage()


class JSONFormatter(logging.Formatter):
    """One JSON object a line: time, level, component, event, text, fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Render ``record``, an exception by kind and place."""
        event = getattr(record, "event", None)
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "component": record.name.removeprefix("aegate."),
            "event": event.name if event else "library",
            "text": _text(record),
        }
        line.update(getattr(record, "event_fields", {}))
        return json.dumps(line, separators=(",", ":"), default=str)


class TerminalFormatter(logging.Formatter):
    """One readable line: time, component, text, then the fields as key=value."""

    def format(self, record: logging.LogRecord) -> str:
        """Render ``record`` for a person."""
        fields: Mapping[str, Field] = getattr(record, "event_fields", {})
        pairs = " ".join(f"{k}={v}" for k, v in fields.items() if v is not None)
        clock = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        mark = {W: "! ", E: "!! "}.get(record.levelno, "")
        return f"{clock} {record.name.removeprefix('aegate.'):<10} {mark}{_text(record)} {pairs}".rstrip()


def configure_logging(*, terminal: bool | None = None, level: int = logging.INFO) -> None:
    """Send all logs to standard error: readable on a terminal, JSON lines otherwise.

    pynetdicom and pydicom are held at ERROR: below it they log identifiers and values of data sets. Python's warnings
    are not shown: pydicom's quote values, too. Exceptions that nobody caught, in the process, in a thread or in a task,
    are logged by kind and place instead of a traceback.
    """
    readable = sys.stderr.isatty() if terminal is None else terminal
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TerminalFormatter() if readable else JSONFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("aegate").setLevel(level)
    for library in ("pynetdicom", "pydicom", "tortoise", "asyncio"):
        logging.getLogger(library).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    sys.excepthook = _log_fault
    threading.excepthook = _log_thread_fault


def _log_fault(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        Log("process")(PROCESS_FAILED, error=fault_text(error), code="FAULT")


def _log_thread_fault(fault: threading.ExceptHookArgs) -> None:
    if fault.exc_value is not None:
        _log_fault(fault.exc_type, fault.exc_value, fault.exc_traceback)
