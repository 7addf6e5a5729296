"""How spans leave: by the SDK's own exporter, whose troubles are said once, in our words.

Apart from `tracing.py`, so that nothing of the SDK is loaded where no traces are wanted.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from aegate_core.events import TRACES_AWAY, TRACES_BACK, Log

log = Log("api")


def said_exporter() -> SpanExporter:
    """Return the exporter that the environment asks for."""
    # It would log every batch that it does not get rid of, each time with the answer of whatever stands there.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    return _Said(OTLPSpanExporter())


class _Said(SpanExporter):
    """Says once when the collector takes nothing, and once when it does again."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._dropped = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Hand over a batch; called by one thread alone."""
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            if not self._dropped:
                log(TRACES_AWAY)
            self._dropped += len(spans)
        elif self._dropped:
            log(TRACES_BACK, dropped=self._dropped)
            self._dropped = 0
        return result

    def shutdown(self) -> None:
        """Stop, without another try."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is kept here."""
        return self._exporter.force_flush(timeout_millis)
