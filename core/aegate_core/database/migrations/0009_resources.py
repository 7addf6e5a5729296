from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise import fields

class Migration(migrations.Migration):
    dependencies = [('models', '0008_operations')]

    initial = False

    operations = [
        ops.AddField(
            model_name='AuditEvent',
            name='intent_id',
            field=fields.BigIntField(null=True),
        ),
        ops.CreateModel(
            name='ProjectionState',
            fields=[
                ('scope', fields.CharField(primary_key=True, unique=True, db_index=True, max_length=1024)),
                ('seen_at', fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ('resync_s', fields.IntField()),
            ],
            options={'table': 'projection_state', 'app': 'models', 'pk_attr': 'scope', 'table_description': 'How current the projections of a scope are: ``namespaces`` with commas between them, or nothing for all.'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='VerificationRow',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('ae', fields.CharField(max_length=317)),
                ('asked_at', fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ('taken_by', fields.CharField(null=True, max_length=128)),
                ('answer', fields.JSONField(null=True)),
            ],
            options={'table': 'verification', 'app': 'models', 'pk_attr': 'id', 'table_description': 'Somebody waits for a worker to ask a receiver whether it answers.'},
            bases=['Model'],
        ),
    ]
