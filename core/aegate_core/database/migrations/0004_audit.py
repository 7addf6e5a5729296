from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise import fields
from tortoise.indexes import Index

class Migration(migrations.Migration):
    dependencies = [('models', '0003_indexer_of_one_entity')]

    initial = False

    operations = [
        ops.CreateModel(
            name='AuditCollector',
            fields=[
                ('name', fields.CharField(primary_key=True, unique=True, db_index=True, max_length=320)),
                ('worker', fields.CharField(null=True, max_length=128)),
                ('leased_until', fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ('last_sent_at', fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ('last_error', fields.CharField(null=True, max_length=256)),
            ],
            options={'table': 'audit_collector', 'app': 'models', 'pk_attr': 'name', 'table_description': 'Whoever the audit is exported to. While there is one, every new audit row waits for it in the outbox.'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='AuditOutbox',
            fields=[
                ('id', fields.BigIntField(generated=False, primary_key=True, unique=True, db_index=True)),
            ],
            options={'table': 'audit_outbox', 'app': 'models', 'pk_attr': 'id', 'table_description': 'An audit row that no collector took yet. A trigger writes it with the row: no order of commits hides one.'},
            bases=['Model'],
        ),
        ops.AddField(
            model_name='AuditEvent',
            name='area',
            field=fields.CharField(null=True, max_length=16),
        ),
        ops.AddField(
            model_name='AuditEvent',
            name='partition',
            field=fields.CharField(null=True, max_length=317),
        ),
        ops.AddIndex(
            model_name='AuditEvent',
            index=Index(fields=['partition', 'id']),
        ),
        ops.AddIndex(
            model_name='AuditEvent',
            index=Index(fields=['actor', 'id']),
        ),
        ops.AddIndex(
            model_name='AuditEvent',
            index=Index(fields=['target', 'id']),
        ),
    ]
