"""The custom resources as frozen values: what `resources.parse` makes of a manifest and every decision takes.

Field by field the CRDs in ``crds/`` (their defaults are the CRD's; a test compares them). DICOM's None
becomes Python's enum member ``NONE``. Durations are seconds with the unit in the name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from aegate_core.dicom.ae_title import AETitle
from aegate_core.dicom.identifiers import ResourceKey


class Ability(StrEnum):
    """What the AE does with what we give it."""

    PUSH = "Push"
    PRINT = "Print"


class Level(StrEnum):
    """The unit in which images are routed on."""

    NONE = "None"
    STUDY = "Study"
    SERIES = "Series"
    IMAGE = "Image"


class ListenerMode(StrEnum):
    """How the device reaches us."""

    DEDICATED = "Dedicated"
    SHARED = "Shared"
    NONE = "None"


class OnDuplicate(StrEnum):
    """What a route does with an instance that arrived before, byte for byte."""

    IGNORE = "Ignore"
    REDELIVER = "Redeliver"


class ElementOp(StrEnum):
    """How an element of the header is compared."""

    IN = "In"
    NOT_IN = "NotIn"
    STARTS_WITH = "StartsWith"
    CONTAINS = "Contains"
    MATCHES = "Matches"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class CompressionMode(StrEnum):
    """What happens to pixel data on the way out."""

    NONE = "None"
    LOSSLESS = "Lossless"
    LOSSY = "Lossy"


@dataclass(frozen=True, slots=True)
class Metadata:
    """The part of ObjectMeta that decisions read. ``source``: where it came from, as file:line, locally."""

    key: ResourceKey
    uid: str = ""
    generation: int = 1
    labels: Mapping[str, str] = field(default_factory=dict)
    created_at: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Compression:
    """Pixel data on the way out; quality 1 to 100 with LOSSY alone."""

    mode: CompressionMode = CompressionMode.NONE
    quality: int | None = None


@dataclass(frozen=True, slots=True)
class PushTLS:
    """Push over TLS with the workers' client identity (PS3.15 B.9)."""

    verify_hostname: bool = True
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class Push:
    """How we send to the AE."""

    reconcile_patient_data: str = "None"
    reconcile_accession_number: str = "None"
    priority: int = 50
    storage_commitment: bool = False
    calling_title: AETitle | None = None
    tls: PushTLS | None = None
    compression: Compression = Compression()


@dataclass(frozen=True, slots=True)
class Print:
    """How we print on the AE (PS3.4 H)."""

    display_format: str = "STANDARD\\1,1"
    film_size: str | None = None
    orientation: str = "PORTRAIT"
    medium: str | None = None
    copies: int = 1
    color: bool = False
    calling_title: AETitle | None = None


@dataclass(frozen=True, slots=True)
class StudyTimes:
    """When what this AE sends counts as complete."""

    quiet_period_s: int = 60
    max_age_s: int = 5400


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long we wait for the AE, as receiver and as sender."""

    connect_s: int = 10
    acse_s: int = 30
    dimse_response_s: int = 120
    network_idle_s: int = 600


@dataclass(frozen=True, slots=True)
class ListenerTLS:
    """The listener's identity and whom it admits; secrets are names, locally folders ``secrets/NAME/``."""

    secret_name: str
    client_auth: str = "Require"
    ca_secret_name: str | None = None


@dataclass(frozen=True, slots=True)
class Spool:
    """Where a listener's acknowledged, not yet indexed images lie on a cluster."""

    type: str
    access_mode: str | None = None
    storage_class_name: str | None = None
    size: str | None = None


@dataclass(frozen=True, slots=True)
class Listener:
    """How the device reaches us. ``mode`` None: Dedicated for Push, NONE for Print."""

    mode: ListenerMode | None = None
    pool: str | None = None
    port: int | None = None
    max_associations: int = 25
    verify_called_title: bool = False
    verify_node: bool = True
    called_title: AETitle | None = None
    acknowledge: str = "Spooled"
    longest_association_s: int | None = None
    extra_sop_classes: tuple[str, ...] = ()
    tls: ListenerTLS | None = None
    service_type: str | None = None
    service_annotations: Mapping[str, str] = field(default_factory=dict)
    load_balancer_class: str | None = None
    node_port: int | None = None
    replicas: int | None = None
    spool: Spool | None = None
    pod: Mapping[str, object] = field(default_factory=dict)
    """A bounded merge over the installation's pod template, as the manifest has it, for the operator."""


@dataclass(frozen=True, slots=True)
class ApplicationEntity:
    """A remote DICOM device, PACS or printer, and the listener that serves it."""

    metadata: Metadata
    title: AETitle
    node: str
    port: int
    source_ranges: tuple[str, ...] = ()
    location_code: str | None = None
    patient_partition: str = "default"
    document_type: str | None = None
    route_level: Level = Level.STUDY
    max_connections: int = 4
    comment: str = ""
    ability: Ability = Ability.PUSH
    push: Push = Push()
    print: Print = Print()
    update_database_from_dicom: bool = False
    allow_modality_worklist_query: bool = False
    suspend: bool = False
    enabled: bool = True
    study: StudyTimes = StudyTimes()
    timeouts: Timeouts = Timeouts()
    listener: Listener = Listener()
    network_policy: str = "Enabled"

    @property
    def key(self) -> ResourceKey:
        """namespace/name."""
        return self.metadata.key

    @property
    def partition(self) -> ResourceKey:
        """The patient partition, in the AE's own namespace."""
        return ResourceKey(self.key.namespace, self.patient_partition)

    @property
    def listener_mode(self) -> ListenerMode:
        """The mode in force: Dedicated for Push and None for Print when the spec names none."""
        if self.listener.mode is not None:
            return self.listener.mode
        return ListenerMode.DEDICATED if self.ability is Ability.PUSH else ListenerMode.NONE


@dataclass(frozen=True, slots=True)
class ElementMatch:
    """A condition on one element of an instance's header; values are compared case-folded."""

    keyword: str
    op: ElementOp
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RouteFrom:
    """All parts must match; an absent (empty) part matches everything."""

    aes: tuple[str, ...] = ()
    match_labels: Mapping[str, str] = field(default_factory=dict)
    partitions: tuple[str, ...] = ()
    locations: tuple[str, ...] = ()
    document_types: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    elements: tuple[ElementMatch, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageRoute:
    """What arrives from some AEs goes on to others of the same namespace."""

    metadata: Metadata
    to: tuple[str, ...]
    source: RouteFrom = RouteFrom()
    level: Level | None = None
    priority: int | None = None
    on_duplicate: OnDuplicate = OnDuplicate.IGNORE
    enabled: bool = True
    comment: str = ""

    @property
    def key(self) -> ResourceKey:
        """namespace/name."""
        return self.metadata.key


@dataclass(frozen=True, slots=True)
class Retention:
    """How long things are kept, in days; None keeps."""

    images_days: int | None = None
    images_require_delivered: bool = True
    images_require_committed: bool = False
    finished_deliveries_days: int = 90
    audit_days: int | None = None


@dataclass(frozen=True, slots=True)
class PatientPartition:
    """A namespace of patient identity."""

    metadata: Metadata
    display_name: str | None = None
    issuer_of_patient_id: str | None = None
    retention: Retention = Retention()

    @property
    def key(self) -> ResourceKey:
        """namespace/name."""
        return self.metadata.key


Resource = ApplicationEntity | ImageRoute | PatientPartition
