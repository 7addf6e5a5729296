"""Tables of the worklist. ``scheduled_start``, ``sort_name`` and the texts are made of the other columns."""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model


class WorklistItemRow(Model):
    """A scheduled procedure step of a patient, columns are keywords of DICOM. Its devices: `WorklistStation`."""

    id = fields.BigIntField(primary_key=True)
    partition = fields.CharField(max_length=317)
    scheduled_procedure_step_id = fields.CharField(max_length=16)
    scheduled_procedure_step_status = fields.CharField(max_length=16)
    scheduled_procedure_step_start_date = fields.CharField(max_length=8)
    scheduled_procedure_step_start_time = fields.CharField(max_length=13)
    modality = fields.CharField(max_length=16)
    scheduled_performing_physician_name = fields.CharField(max_length=194)
    scheduled_procedure_step_description = fields.CharField(max_length=64)
    scheduled_protocol_code_sequence: fields.Field[list[dict[str, str]]] = fields.JSONField()
    scheduled_station_name: fields.Field[list[str]] = fields.JSONField()
    scheduled_procedure_step_location = fields.CharField(max_length=16)
    pre_medication = fields.CharField(max_length=64)
    requested_contrast_agent = fields.CharField(max_length=64)
    comments_on_the_scheduled_procedure_step = fields.TextField()
    study_instance_uid = fields.CharField(max_length=64)
    requested_procedure_id = fields.CharField(max_length=16)
    requested_procedure_description = fields.CharField(max_length=64)
    requested_procedure_code_sequence: fields.Field[list[dict[str, str]]] = fields.JSONField()
    requested_procedure_priority = fields.CharField(max_length=16)
    patient_transport_arrangements = fields.CharField(max_length=64)
    accession_number = fields.CharField(max_length=16)
    requesting_physician = fields.CharField(max_length=194)
    referring_physician_name = fields.CharField(max_length=194)
    patient_name = fields.CharField(max_length=194)
    patient_id = fields.CharField(max_length=64)
    issuer_of_patient_id = fields.CharField(max_length=64)
    """'' : the partition's."""
    patient_birth_date = fields.CharField(max_length=8)
    patient_sex = fields.CharField(max_length=16)
    patient_weight = fields.CharField(max_length=16)
    pregnancy_status = fields.IntField(null=True)
    medical_alerts: fields.Field[list[str]] = fields.JSONField()
    allergies: fields.Field[list[str]] = fields.JSONField()
    special_needs = fields.CharField(max_length=64)
    patient_state = fields.CharField(max_length=64)
    confidentiality_constraint_on_patient_data_description = fields.CharField(max_length=64)
    admission_id = fields.CharField(max_length=64)
    current_patient_location = fields.CharField(max_length=64)
    scheduled_start = fields.CharField(max_length=21)
    """Date and time as one text that sorts: YYYYMMDDHHMMSS, with a fraction where one was given."""
    sort_name = fields.CharField(max_length=128)
    name_text = fields.TextField()
    performer_text = fields.TextField()
    """Of the performing physician, as `name_text` is of the patient."""
    search_text = fields.TextField()
    version = fields.IntField()
    created_at = fields.DatetimeField()
    updated_at = fields.DatetimeField()
    created_by = fields.CharField(max_length=256)
    idempotency_key = fields.CharField(max_length=128, null=True)
    fingerprint = fields.CharField(max_length=64, null=True)
    """SHA-256 of what was asked with the key."""

    class Meta:
        table = "worklist_item"
        unique_together = (("partition", "scheduled_procedure_step_id"),)


class WorklistStation(Model):
    """A device that may do a step: one of the values of Scheduled Station AE Title (0040,0001)."""

    id = fields.BigIntField(primary_key=True)
    item: fields.ForeignKeyRelation[WorklistItemRow] = fields.ForeignKeyField(
        "models.WorklistItemRow", on_delete=fields.CASCADE
    )
    ae_title = fields.CharField(max_length=16)

    class Meta:
        table = "worklist_station"
        unique_together = (("item", "ae_title"),)
        indexes = (("ae_title", "item_id"),)
