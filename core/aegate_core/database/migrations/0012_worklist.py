from tortoise import migrations
from tortoise.migrations import operations as ops
from orjson import loads
from tortoise.fields.base import OnDelete
from tortoise.fields.data import JSON_DUMPS
from tortoise import fields
from tortoise.indexes import Index

class Migration(migrations.Migration):
    dependencies = [('models', '0011_associations')]

    initial = False

    operations = [
        ops.CreateModel(
            name='WorklistItemRow',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('partition', fields.CharField(max_length=317)),
                ('scheduled_procedure_step_id', fields.CharField(max_length=16)),
                ('scheduled_procedure_step_status', fields.CharField(max_length=16)),
                ('scheduled_procedure_step_start_date', fields.CharField(max_length=8)),
                ('scheduled_procedure_step_start_time', fields.CharField(max_length=13)),
                ('modality', fields.CharField(max_length=16)),
                ('scheduled_performing_physician_name', fields.CharField(max_length=194)),
                ('scheduled_procedure_step_description', fields.CharField(max_length=64)),
                ('scheduled_protocol_code_sequence', fields.JSONField(encoder=JSON_DUMPS, decoder=loads)),
                ('scheduled_station_name', fields.JSONField(encoder=JSON_DUMPS, decoder=loads)),
                ('scheduled_procedure_step_location', fields.CharField(max_length=16)),
                ('pre_medication', fields.CharField(max_length=64)),
                ('requested_contrast_agent', fields.CharField(max_length=64)),
                ('comments_on_the_scheduled_procedure_step', fields.TextField(unique=False)),
                ('study_instance_uid', fields.CharField(max_length=64)),
                ('requested_procedure_id', fields.CharField(max_length=16)),
                ('requested_procedure_description', fields.CharField(max_length=64)),
                ('requested_procedure_code_sequence', fields.JSONField(encoder=JSON_DUMPS, decoder=loads)),
                ('requested_procedure_priority', fields.CharField(max_length=16)),
                ('patient_transport_arrangements', fields.CharField(max_length=64)),
                ('accession_number', fields.CharField(max_length=16)),
                ('requesting_physician', fields.CharField(max_length=194)),
                ('referring_physician_name', fields.CharField(max_length=194)),
                ('patient_name', fields.CharField(max_length=194)),
                ('patient_id', fields.CharField(max_length=64)),
                ('issuer_of_patient_id', fields.CharField(max_length=64)),
                ('patient_birth_date', fields.CharField(max_length=8)),
                ('patient_sex', fields.CharField(max_length=16)),
                ('patient_weight', fields.CharField(max_length=16)),
                ('pregnancy_status', fields.IntField(null=True)),
                ('medical_alerts', fields.JSONField(encoder=JSON_DUMPS, decoder=loads)),
                ('allergies', fields.JSONField(encoder=JSON_DUMPS, decoder=loads)),
                ('special_needs', fields.CharField(max_length=64)),
                ('patient_state', fields.CharField(max_length=64)),
                ('confidentiality_constraint_on_patient_data_description', fields.CharField(max_length=64)),
                ('admission_id', fields.CharField(max_length=64)),
                ('current_patient_location', fields.CharField(max_length=64)),
                ('scheduled_start', fields.CharField(max_length=21)),
                ('sort_name', fields.CharField(max_length=128)),
                ('name_text', fields.TextField(unique=False)),
                ('performer_text', fields.TextField(unique=False)),
                ('search_text', fields.TextField(unique=False)),
                ('version', fields.IntField()),
                ('created_at', fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ('updated_at', fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ('created_by', fields.CharField(max_length=256)),
                ('idempotency_key', fields.CharField(null=True, max_length=128)),
                ('fingerprint', fields.CharField(null=True, max_length=64)),
            ],
            options={'table': 'worklist_item', 'app': 'models', 'unique_together': (('partition', 'scheduled_procedure_step_id'),), 'pk_attr': 'id', 'table_description': 'A scheduled procedure step of a patient, columns are keywords of DICOM. Its devices: `WorklistStation`.'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='WorklistStation',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('item', fields.ForeignKeyField('models.WorklistItemRow', source_field='item_id', db_constraint=True, to_field='id', on_delete=OnDelete.CASCADE)),
                ('ae_title', fields.CharField(max_length=16)),
            ],
            options={'table': 'worklist_station', 'app': 'models', 'unique_together': (('item', 'ae_title'),), 'indexes': [Index(fields=['ae_title', 'item_id'])], 'pk_attr': 'id', 'table_description': 'A device that may do a step: one of the values of Scheduled Station AE Title (0040,0001).'},
            bases=['Model'],
        ),
    ]
