from tortoise import migrations
from tortoise.migrations import operations as ops
from orjson import loads
from tortoise.fields.base import OnDelete
from tortoise.fields.data import JSON_DUMPS
from tortoise import fields
from tortoise.indexes import Index

class Migration(migrations.Migration):
    dependencies = [('models', '0007_rollup')]

    initial = False

    operations = [
        ops.CreateModel(
            name='Operation',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('action', fields.CharField(max_length=64)),
                ('target_kind', fields.CharField(max_length=32)),
                ('actor', fields.CharField(max_length=256)),
                ('address', fields.CharField(default='', max_length=64)),
                ('idempotency_key', fields.CharField(null=True, max_length=128)),
                ('fingerprint', fields.CharField(max_length=64)),
                ('arguments', fields.JSONField(default=dict, encoder=JSON_DUMPS, decoder=loads)),
                ('state', fields.CharField(max_length=12)),
                ('total', fields.IntField(default=0)),
                ('processed', fields.IntField(default=0)),
                ('changed', fields.IntField(default=0)),
                ('asked', fields.IntField(default=0)),
                ('refused', fields.IntField(default=0)),
                ('canceled_by', fields.CharField(null=True, max_length=256)),
                ('error_code', fields.CharField(null=True, max_length=32)),
                ('created_at', fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ('started_at', fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ('stepped_at', fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ('finished_at', fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={'table': 'operation', 'app': 'models', 'unique_together': (('actor', 'idempotency_key'),), 'indexes': [Index(fields=['created_at', 'id']), Index(fields=['finished_at', 'id'])], 'pk_attr': 'id', 'table_description': 'A change of many, asked for once and done in batches of one transaction each, so a crash ends none.'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='OperationItem',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('operation', fields.ForeignKeyField('models.Operation', source_field='operation_id', db_constraint=True, to_field='id', on_delete=OnDelete.CASCADE)),
                ('n', fields.IntField()),
                ('target', fields.BigIntField()),
                ('outcome', fields.CharField(null=True, max_length=8)),
                ('because', fields.CharField(null=True, max_length=32)),
            ],
            options={'table': 'operation_item', 'app': 'models', 'unique_together': (('operation', 'n'),), 'pk_attr': 'id', 'table_description': 'One of the things that an operation is about, fixed when it was asked for, and what became of it.'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='OperationPartition',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('operation', fields.ForeignKeyField('models.Operation', source_field='operation_id', db_constraint=True, to_field='id', on_delete=OnDelete.CASCADE)),
                ('partition', fields.CharField(max_length=317)),
            ],
            options={'table': 'operation_partition', 'app': 'models', 'unique_together': (('operation', 'partition'),), 'pk_attr': 'id', 'table_description': 'A patient partition of something that an operation is about: seen by whoever sees all of them.'},
            bases=['Model'],
        ),
    ]
