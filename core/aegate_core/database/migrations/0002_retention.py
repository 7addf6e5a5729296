from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise.fields.base import OnDelete
from tortoise import fields

class Migration(migrations.Migration):
    dependencies = [('models', '0001_initial')]

    initial = False

    operations = [
        ops.CreateModel(
            name='Delivered',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('destination', fields.ForeignKeyField('models.Destination', source_field='destination_id', db_constraint=True, to_field='id', on_delete=OnDelete.RESTRICT)),
                ('arrival_id', fields.CharField(db_index=True, max_length=32)),
                ('delivered_sha256', fields.CharField(null=True, max_length=64)),
            ],
            options={'table': 'delivered', 'app': 'models', 'pk_attr': 'id', 'table_description': 'What a receiver acknowledged, in a queue item that retention has removed: nothing is sent twice for that.'},
            bases=['Model'],
        ),
        ops.AddField(
            model_name='Arrival',
            name='removed_at',
            field=fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
        ),
    ]
