from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise import fields
from tortoise.indexes import Index

class Migration(migrations.Migration):
    dependencies = [('models', '0006_changes')]

    initial = False

    operations = [
        ops.CreateModel(
            name='RollupMinute',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('minute', fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ('destination_id', fields.BigIntField()),
                ('source_ae', fields.CharField(max_length=317)),
                ('partition', fields.CharField(max_length=317)),
                ('location_code', fields.CharField(null=True, max_length=64)),
                ('requested_by', fields.CharField(max_length=320)),
                ('state', fields.CharField(max_length=12)),
                ('items', fields.IntField()),
                ('coarse', fields.IntField()),
            ],
            options={'table': 'rollup_minute', 'app': 'models', 'indexes': [Index(fields=['minute']), Index(fields=['coarse', 'minute'])], 'pk_attr': 'id', 'table_description': 'How many items were finished in a minute: rows add up. Triggers write them, `rollup.pack` makes fewer of them.'},
            bases=['Model'],
        ),
    ]
