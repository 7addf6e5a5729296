"""OpenTelemetry traces: a span for each operation, and below it one for each SQL statement.

A span says what was asked by its names: the operation's, its type, cost and error code; a statement's text with
placeholders. Variables, arguments, rows and messages of errors are in none: they may be patient data. Off unless the
environment names a collector; then nothing of OpenTelemetry is even loaded.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphql import DocumentNode, OperationDefinitionNode

from aegate_core.database import Database
from aegate_core.errors import AegateError
from aegate_core.events import TRACES_OFF, Log, fault_text

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
OTLP = frozenset({"otlp", "otlp_proto_http"})
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
LAST_SPANS_S = 2.0
"""How long an ending process waits for the collector to take the last spans."""
LONGEST_NAME = 100

log = Log("api")


@dataclass(frozen=True, slots=True)
class TracesWanted:
    """What the environment asks of traces. OTEL_* are of the whole host: nothing in them keeps an API from starting."""

    is_on: bool = False
    variable: str = ""
    """What asks for traces that we cannot make; empty: nothing does."""
    error: str = ""
    """What it must be, what it is, and what to do."""


def traces_wanted(environ: Mapping[str, str]) -> TracesWanted:
    """Return whether the environment asks for traces, in OpenTelemetry's own words.

    OTEL_EXPORTER_OTLP_ENDPOINT         where the collector takes OTLP over HTTP, such as http://collector:4318
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT  the same for traces alone, with its path: http://collector:4318/v1/traces
    OTEL_SDK_DISABLED=true, OTEL_TRACES_EXPORTER=none   off in spite of these; of several exporters we are otlp alone
    OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS …   as the SDK has them
    """
    is_off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    exporters = [name.strip() for name in (environ.get("OTEL_TRACES_EXPORTER") or "otlp").split(",")]
    if is_off or exporters == ["none"] or not any(environ.get(name) for name in ENDPOINTS):
        return TracesWanted()
    if not OTLP.intersection(exporters):
        told = f"must have otlp or be none, got {','.join(exporters)!r}: add otlp"
        return TracesWanted(False, "OTEL_TRACES_EXPORTER", told)
    named = next((name for name in PROTOCOLS if environ.get(name)), None)
    if named is not None and environ[named] != "http/protobuf":
        told = f"must be http/protobuf, got {environ[named]!r}: set it, with the collector's HTTP port, 4318"
        return TracesWanted(False, named, told)
    return TracesWanted(True)


class OperationSpan:
    """What is told of one operation; this one tells nobody."""

    def asked(self, document: DocumentNode | None, name: str | None, cost: int | None) -> None:
        """Say what was asked for, as far as that is known."""

    def ended(self, code: str | None) -> None:
        """Say how it ended: the code of its first error, None for none."""

    def close(self) -> None:
        """End it; safe to repeat."""


class Traces:
    """Makes spans; this one makes none."""

    def operation(self, traceparent: str | None) -> AbstractContextManager[OperationSpan]:
        """Return a block that is an operation: statements in it are below its span."""
        return nullcontext(_SILENT)

    def beginning(self) -> OperationSpan:
        """Return the span of what a subscription does until its first answer; its statements are not told."""
        return _SILENT


_SILENT = OperationSpan()
OFF = Traces()


class _Recorded(OperationSpan):
    """Tells a span of OpenTelemetry."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def asked(self, document: DocumentNode | None, name: str | None, cost: int | None) -> None:
        found = _operation(document, name)
        if found is not None:
            kind, called = found.operation.value, found.name.value[:LONGEST_NAME] if found.name else ""
            self._span.update_name(f"{kind} {called}".rstrip())
            self._span.set_attribute("graphql.operation.type", kind)
            if called:
                self._span.set_attribute("graphql.operation.name", called)
        if cost is not None:
            self._span.set_attribute("aegate.graphql.cost", cost)

    def ended(self, code: str | None) -> None:
        if code is not None:
            _failed(self._span, code)

    def close(self) -> None:
        self._span.end()


class _Recording(Traces):
    """Makes spans of OpenTelemetry."""

    def __init__(self, tracer: Tracer, dialect: str) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer = tracer
        self._system = {"postgres": "postgresql"}.get(dialect, dialect)
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def operation(self, traceparent: str | None) -> Iterator[OperationSpan]:
        from opentelemetry.trace import SpanKind

        # Without tracestate: that is any text of the caller, and would go on to the collector.
        carrier = {} if traceparent is None else {"traceparent": traceparent}
        with self._tracer.start_as_current_span(
            "operation",
            self._propagator.extract(carrier),
            SpanKind.SERVER,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield _Recorded(span)

    def beginning(self) -> OperationSpan:
        from opentelemetry.trace import SpanKind

        return _Recorded(self._tracer.start_span("operation", kind=SpanKind.SERVER))

    @contextmanager
    def statement(self, sql: str) -> Iterator[None]:
        """Tell of a statement, where it is of an operation that is told of; what the process does by itself is not."""
        from opentelemetry.trace import SpanKind, get_current_span

        if not get_current_span().is_recording():
            yield
            return
        verb = sql.split(None, 1)[0].upper()
        attributes = {"db.system.name": self._system, "db.operation.name": verb, "db.query.text": sql}
        with self._tracer.start_as_current_span(
            verb,
            kind=SpanKind.CLIENT,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except AegateError as error:
                _failed(span, error.code)
                raise


def _failed(span: Span, code: str) -> None:
    from opentelemetry.trace import StatusCode

    span.set_attribute("error.type", code)
    span.set_status(StatusCode.ERROR)


def _operation(document: DocumentNode | None, name: str | None) -> OperationDefinitionNode | None:
    """Return the operation that runs; None where nobody can say which."""
    if document is None:
        return None
    found = [
        definition
        for definition in document.definitions
        if isinstance(definition, OperationDefinitionNode)
        and (name is None or (definition.name is not None and definition.name.value == name))
    ]
    return found[0] if len(found) == 1 else None


@asynccontextmanager
async def tracing(wanted: TracesWanted, db: Database) -> AsyncIterator[Traces]:
    """Trace what is asked of the API, and of ``db`` for it, in this block; say where that cannot be."""
    provider = _provider_or_say(wanted)
    if provider is None:
        yield OFF
        return
    recording = _Recording(provider.get_tracer("aegate"), db.dialect)
    db.observer = recording.statement
    try:
        yield recording
    finally:
        db.observer = None
        # A thread that nobody waits for longer: a collector that is away would hold up the end by half a minute.
        ending = threading.Thread(target=provider.shutdown, name="last spans", daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, LAST_SPANS_S)


def _provider_or_say(wanted: TracesWanted) -> Any:
    if wanted.is_on:
        try:
            return _provider()
        except (
            Exception
        ) as error:  # what these variables name is loaded too, and raises anything: the API goes on
            text = str(error) if isinstance(error, ValueError) else fault_text(error)
            log(TRACES_OFF, variable=_named_by(text), error=text)
    elif wanted.variable:
        log(TRACES_OFF, variable=wanted.variable, error=wanted.error)
    return None


def _named_by(text: str) -> str:
    """Return which variable an error of the SDK means: it may say ``max_queue_size``. If none, all that are set."""
    found = sorted(name for name in os.environ if name.startswith("OTEL_"))
    meant = [name for name in found if name in text or name.removeprefix("OTEL_BSP_").lower() in text]
    return ", ".join(meant or found)


def _provider() -> Any:
    """Return what the SDK makes of its own environment: collector, headers, sampler, resource."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from aegate_graphql_api.trace_export import said_exporter

    resource = Resource.create()
    if str(resource.attributes["service.name"]).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": "aegate-api"}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(said_exporter()))
    return provider
