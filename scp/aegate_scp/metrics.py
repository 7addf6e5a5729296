"""What a listener counts, for Prometheus.

Labels are AE keys (empty when the caller is not known) and fixed words: never a title off the wire, never a patient.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class ListenerMetrics:
    """One registry a process (a test makes its own)."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.open_associations = Gauge(
            "aegate_associations_open", "Associations that hold a slot now.", ["ae"], registry=registry
        )
        self.ended_associations = Counter(
            "aegate_associations", "Associations that ended, by how.", ["ae", "how"], registry=registry
        )
        self.rejected_associations = Counter(
            "aegate_associations_rejected",
            "A-ASSOCIATE-RJ sent, by reason.",
            ["ae", "reason"],
            registry=registry,
        )
        self.refused_connections = Counter(
            "aegate_connections_refused",
            "Closed before an A-ASSOCIATE-RQ was whole.",
            ["reason"],
            registry=registry,
        )
        self.missed_records = Counter(
            "aegate_association_records_missed",
            "Beginnings and ends of associations that could not be kept for the audit.",
            registry=registry,
        )
        self.pending_connections = Gauge(
            "aegate_connections_pending", "Connections without a whole A-ASSOCIATE-RQ.", registry=registry
        )
        self.instances = Counter(
            "aegate_instances_received", "C-STORE answers, by status.", ["ae", "status"], registry=registry
        )
        self.instance_bytes = Counter(
            "aegate_instance_bytes", "Bytes of acknowledged instances.", ["ae"], registry=registry
        )
        self.receive_seconds = Histogram(
            "aegate_receive_seconds",
            "From C-STORE-RQ to answer of acknowledged instances.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.spool_free_bytes = Gauge("aegate_spool_free_bytes", "Room in the spool.", registry=registry)
        self.is_congested = Gauge("aegate_spool_congested", "1: nothing more is taken in.", registry=registry)
        self.is_nearly_full = Gauge(
            "aegate_spool_nearly_full",
            "1: a tenth of the disk or less is left until nothing more is taken in.",
            registry=registry,
        )
        self.generation = Gauge("aegate_config_generation", "Configuration in force.", registry=registry)
        self.certificate_not_after = Gauge(
            "aegate_certificate_not_after_seconds",
            "When the certificate that is served expires, as Unix time; none without TLS.",
            ["file"],
            registry=registry,
        )
        self.refused_configs = Counter(
            "aegate_configs_refused", "Configurations that could not be used.", registry=registry
        )
