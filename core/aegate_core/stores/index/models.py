"""Tables of what was received and of what is configured. Raw SQL beside them: lists, counts, search.

What is received is never changed; what is known (patients) is; what is wished (configuration) is a projection of custom
resources, written by the operator or the local supervisor alone. Resource keys stand in one column, ``namespace/name``.
"""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model


class Projection(Model):
    """What the projections of all kinds of resources share. Deleted ones stay as tombstones: history can name them."""

    id = fields.BigIntField(primary_key=True)
    namespace = fields.CharField(max_length=63)
    name = fields.CharField(max_length=253)
    uid = fields.CharField(max_length=64)
    generation = fields.BigIntField()
    labels: fields.Field[dict[str, str]] = fields.JSONField()
    spec: fields.Field[dict[str, object]] = fields.JSONField()
    conditions: fields.Field[list[dict[str, object]]] = fields.JSONField()
    source = fields.CharField(max_length=1024, default="")
    search_text = fields.TextField(default="")
    created_at = fields.DatetimeField()
    updated_at = fields.DatetimeField()
    deleted_at = fields.DatetimeField(null=True)
    projected_by = fields.CharField(max_length=127, null=True)
    """The release whose operator wrote it, namespace/name; null where there is none, or an older one wrote it."""

    class Meta:
        abstract = True


class ApplicationEntityRow(Projection):
    """Projection of an ApplicationEntity, with the columns that are searched."""

    title = fields.CharField(max_length=16)
    node = fields.CharField(max_length=253)
    port = fields.IntField()
    ability = fields.CharField(max_length=8)
    location_code = fields.CharField(max_length=64, null=True)
    partition = fields.CharField(max_length=317)
    enabled = fields.BooleanField()
    endpoint = fields.CharField(max_length=300, null=True)

    class Meta:
        table = "application_entity"
        unique_together = (("namespace", "name"),)


class ImageRouteRow(Projection):
    """Projection of an ImageRoute."""

    enabled = fields.BooleanField()

    class Meta:
        table = "image_route"
        unique_together = (("namespace", "name"),)


class PatientPartitionRow(Projection):
    """Projection of a PatientPartition, ``<namespace>/default`` exists without one."""

    issuer = fields.CharField(max_length=64, null=True)

    class Meta:
        table = "patient_partition"
        unique_together = (("namespace", "name"),)


class Installation(Model):
    """Which installation this index is of: one row, ``mark`` also stands in its blob store."""

    id = fields.IntField(primary_key=True)
    mark = fields.CharField(max_length=32)
    search_rules = fields.IntField(null=True)
    """By which rules all search texts are made, see `rewording.RULES`; null: some by older ones."""
    reworded_patient = fields.BigIntField(null=True)
    """Up to which patient (row id) they are made anew by the next rules."""

    class Meta:
        table = "installation"


class Location(Model):
    """A place, master data of the clinical staff."""

    code = fields.CharField(max_length=64, primary_key=True)
    display_name = fields.CharField(max_length=128)

    class Meta:
        table = "location"


class Patient(Model):
    """A person in a partition. An unidentified one (no PatientID) belongs to one study: ``unidentified_study_uid``."""

    id = fields.BigIntField(primary_key=True)
    partition = fields.CharField(max_length=317)
    issuer = fields.CharField(max_length=64)
    patient_id = fields.CharField(max_length=64)
    unidentified_study_uid = fields.CharField(max_length=64, default="")
    name_alphabetic = fields.CharField(max_length=324, default="")
    name_ideographic = fields.CharField(max_length=324, default="")
    name_phonetic = fields.CharField(max_length=324, default="")
    birth_date = fields.CharField(max_length=8, default="")
    sex = fields.CharField(max_length=16, default="")
    search_text = fields.TextField(default="")
    source = fields.CharField(max_length=32, default="DICOM")
    created_at = fields.DatetimeField()
    updated_at = fields.DatetimeField()

    class Meta:
        table = "patient"
        unique_together = (("partition", "issuer", "patient_id", "unidentified_study_uid"),)


class Study(Model):
    """A study in a partition, counts and bytes are kept by the indexing transaction."""

    id = fields.BigIntField(primary_key=True)
    partition = fields.CharField(max_length=317)
    study_instance_uid = fields.CharField(max_length=64)
    patient: fields.ForeignKeyRelation[Patient] = fields.ForeignKeyField(
        "models.Patient", on_delete=fields.RESTRICT
    )
    accession_number = fields.CharField(max_length=64, default="")
    study_id = fields.CharField(max_length=64, default="")
    study_date = fields.CharField(max_length=8, default="")
    study_time = fields.CharField(max_length=16, default="")
    description = fields.CharField(max_length=255, default="")
    referring_physician = fields.CharField(max_length=324, default="")
    modalities: fields.Field[list[str]] = fields.JSONField(default=list)
    document_type = fields.CharField(max_length=64, default="")
    location_code = fields.CharField(max_length=64, null=True)
    source_ae = fields.CharField(max_length=317)
    first_arrival_at = fields.DatetimeField()
    last_arrival_at = fields.DatetimeField(db_index=True)
    series_count = fields.IntField(default=0)
    instance_count = fields.IntField(default=0)
    size_bytes = fields.BigIntField(default=0)
    search_text = fields.TextField(default="")
    patient_sort_name = fields.CharField(max_length=128, default="", db_default="")
    """How the patient's search text begins; triggers keep it, so that an index has studies by the patient's name."""

    class Meta:
        table = "study"
        unique_together = (("partition", "study_instance_uid"),)
        indexes = (("last_arrival_at", "id"), ("accession_number",), ("study_date", "id"))


class Series(Model):
    """A series of a study."""

    id = fields.BigIntField(primary_key=True)
    study: fields.ForeignKeyRelation[Study] = fields.ForeignKeyField(
        "models.Study", on_delete=fields.RESTRICT
    )
    series_instance_uid = fields.CharField(max_length=64)
    modality = fields.CharField(max_length=16, default="")
    series_number = fields.CharField(max_length=16, default="")
    description = fields.CharField(max_length=255, default="")
    body_part = fields.CharField(max_length=64, default="")
    station_name = fields.CharField(max_length=64, default="")
    instance_count = fields.IntField(default=0)
    size_bytes = fields.BigIntField(default=0)

    class Meta:
        table = "series"
        unique_together = (("study", "series_instance_uid"),)


class Instance(Model):
    """A SOP instance, it points at its current arrival (the newest NEW or CONFLICT one)."""

    id = fields.BigIntField(primary_key=True)
    series: fields.ForeignKeyRelation[Series] = fields.ForeignKeyField(
        "models.Series", on_delete=fields.RESTRICT
    )
    sop_instance_uid = fields.CharField(max_length=64, db_index=True)
    sop_class_uid = fields.CharField(max_length=64)
    instance_number = fields.CharField(max_length=16, default="")
    number_of_frames = fields.IntField(default=1)
    current_arrival_id = fields.CharField(max_length=32)

    class Meta:
        table = "instance"
        unique_together = (("series", "sop_instance_uid"),)


class Arrival(Model):
    """One acknowledged C-STORE. ``header`` is the DICOM JSON model (PS3.18 F) without bulk data: patient data."""

    id = fields.CharField(max_length=32, primary_key=True)
    instance: fields.ForeignKeyNullableRelation[Instance] = fields.ForeignKeyField(
        "models.Instance", null=True, on_delete=fields.RESTRICT
    )
    study: fields.ForeignKeyNullableRelation[Study] = fields.ForeignKeyField(
        "models.Study", null=True, on_delete=fields.RESTRICT
    )
    ae = fields.CharField(max_length=317)
    calling_title = fields.CharField(max_length=16)
    called_title = fields.CharField(max_length=16)
    peer_address = fields.CharField(max_length=64)
    received_at = fields.DatetimeField()
    indexed_at = fields.DatetimeField()
    transfer_syntax_uid = fields.CharField(max_length=64)
    sop_class_uid = fields.CharField(max_length=64, default="")
    sop_instance_uid = fields.CharField(max_length=64, default="")
    size_bytes = fields.BigIntField()
    sha256 = fields.CharField(max_length=64)
    blob_key = fields.CharField(max_length=64)
    header: fields.Field[dict[str, object]] = fields.JSONField(default=dict)
    outcome = fields.CharField(max_length=12)
    routable = fields.BooleanField(default=True)
    """False for what came back to us after we pushed it: stored, never routed."""
    removed_at = fields.DatetimeField(null=True)
    """When retention removed the image: the row stays, its blob goes, ``blob_key`` is '' once that is gone."""

    class Meta:
        table = "arrival"
        indexes = (("study_id", "ae"), ("sop_instance_uid", "sha256"), ("sha256",))


class CloseUnit(Model):
    """What closes together: a study or a series (``series_uid`` '' for a study), of one AE. Open: ``due_at`` is set."""

    id = fields.BigIntField(primary_key=True)
    study: fields.ForeignKeyRelation[Study] = fields.ForeignKeyField(
        "models.Study", on_delete=fields.RESTRICT
    )
    series_uid = fields.CharField(max_length=64, default="")
    ae = fields.CharField(max_length=317)
    first_uncovered_at = fields.DatetimeField(null=True)
    last_arrival_at = fields.DatetimeField()
    due_at = fields.DatetimeField(null=True)
    """When it closes, null when nothing uncovered is left."""
    closed_at = fields.DatetimeField(null=True)
    """The last close."""
    outcome = fields.CharField(max_length=12, null=True)
    """ROUTED, NO_ROUTE or STORED (route level None), of the last close."""
    closes = fields.IntField(default=0)

    class Meta:
        table = "close_unit"
        unique_together = (("study", "series_uid", "ae"),)
        indexes = (("due_at",),)


class IndexerState(Model):
    """How far each indexer got: a unit closes only when every indexer of its AE has seen the spool after it was due."""

    process = fields.CharField(max_length=128, primary_key=True)
    scanned_at = fields.DatetimeField()
    ae = fields.CharField(max_length=317, null=True)
    """The only AE whose images come into its spool; None: any."""

    class Meta:
        table = "indexer_state"


class SpoolBacklog(Model):
    """What an indexer has seen in the spool and not yet indexed, by AE, no row when there is nothing."""

    id = fields.BigIntField(primary_key=True)
    process = fields.CharField(max_length=128)
    ae = fields.CharField(max_length=317)
    oldest_received_at = fields.DatetimeField()
    arrivals = fields.IntField()

    class Meta:
        table = "spool_backlog"
        unique_together = (("process", "ae"),)


class ConflictRow(Model):
    """Something about received objects that a person may have to look at."""

    id = fields.BigIntField(primary_key=True)
    kind = fields.CharField(max_length=32)
    """SAME_UID_OTHER_CONTENT, SAME_UID_OTHER_STUDY, PATIENT_MISMATCH."""
    arrival_id = fields.CharField(max_length=32)
    other_arrival_id = fields.CharField(max_length=32, default="")
    study: fields.ForeignKeyNullableRelation[Study] = fields.ForeignKeyField(
        "models.Study", null=True, on_delete=fields.RESTRICT
    )
    created_at = fields.DatetimeField()
    resolved_at = fields.DatetimeField(null=True)
    resolved_by = fields.CharField(max_length=256, null=True)
    resolution = fields.CharField(max_length=256, null=True)

    class Meta:
        table = "conflict"
        unique_together = (("kind", "arrival_id"),)


class QuarantinedObject(Model):
    """An acknowledged object that could not be parsed: kept, visible, never dropped.

    Released by a person, it waits for a worker to index it: ``released_at`` is set, and ``resolved_at`` is not.
    """

    arrival_id = fields.CharField(max_length=32, primary_key=True)
    ae = fields.CharField(max_length=317)
    reason = fields.CharField(max_length=256)
    size_bytes = fields.BigIntField()
    received_at = fields.DatetimeField()
    created_at = fields.DatetimeField()
    resolved_at = fields.DatetimeField(null=True)
    resolved_by = fields.CharField(max_length=256, null=True)
    resolution = fields.CharField(max_length=256, null=True)
    released_at = fields.DatetimeField(null=True)
    released_by = fields.CharField(max_length=256, null=True)
    release_tried_at = fields.DatetimeField(null=True)
    """When a worker last began to index it."""
    release_attempts = fields.IntField(null=True)

    class Meta:
        table = "quarantined_object"


class AuditEvent(Model):
    """One fact of who did what. Append-only: a trigger refuses UPDATE and DELETE."""

    id = fields.BigIntField(primary_key=True)
    at = fields.DatetimeField(db_index=True)
    actor = fields.CharField(max_length=256)
    address = fields.CharField(max_length=64, default="")
    action = fields.CharField(max_length=64)
    target = fields.CharField(max_length=512)
    outcome = fields.CharField(max_length=16)
    detail: fields.Field[dict[str, object]] = fields.JSONField(default=dict)
    area = fields.CharField(max_length=16, null=True)
    """Who may read it: see `aegate_core.services.audit.Area`. None: written by a version that knew none."""
    partition = fields.CharField(max_length=317, null=True)
    """The one patient partition (namespace/name) that it is about; None: none, or several."""
    intent_id = fields.BigIntField(null=True)
    """The row that said what was to be changed, of one that says what came of it."""
    origin = fields.CharField(max_length=64, null=True)
    """The line of a listener's journal that it was made of: none becomes two rows."""

    class Meta:
        table = "audit_event"
        indexes = (("partition", "id"), ("actor", "id"), ("target", "id"))


class AuditCollector(Model):
    """Whoever the audit is exported to. While there is one, every new audit row waits for it in the outbox."""

    name = fields.CharField(max_length=320, primary_key=True)
    """host:port"""
    worker = fields.CharField(max_length=128, null=True)
    """Who exports now, until ``leased_until``."""
    leased_until = fields.DatetimeField(null=True)
    last_sent_at = fields.DatetimeField(null=True)
    last_error = fields.CharField(max_length=256, null=True)

    class Meta:
        table = "audit_collector"


class AuditOutbox(Model):
    """An audit row that no collector took yet. A trigger writes it with the row: no order of commits hides one."""

    id = fields.BigIntField(primary_key=True, generated=False)
    """Of the audit row."""

    class Meta:
        table = "audit_outbox"


class ProjectionState(Model):
    """How current the projections of a scope are: ``namespaces`` with commas between them, or nothing for all."""

    scope = fields.CharField(max_length=1024, primary_key=True)
    seen_at = fields.DatetimeField()
    resync_s = fields.IntField()

    class Meta:
        table = "projection_state"
