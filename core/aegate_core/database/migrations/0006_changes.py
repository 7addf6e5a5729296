from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise import fields

class Migration(migrations.Migration):
    dependencies = [('models', '0005_whose_it_is')]

    initial = False

    operations = [
        ops.CreateModel(
            name='Change',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('position', fields.BigIntField(null=True)),
                ('at', fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ('kind', fields.CharField(max_length=20)),
                ('action', fields.CharField(max_length=8)),
                ('key', fields.CharField(max_length=317)),
                ('state', fields.CharField(null=True, max_length=12)),
                ('partition', fields.CharField(null=True, max_length=317)),
                ('namespace', fields.CharField(null=True, max_length=63)),
            ],
            options={'table': 'change', 'app': 'models', 'pk_attr': 'id', 'table_description': 'One thing that happened to one object, told by ids alone: no patient data.'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='ChangeFeed',
            fields=[
                ('id', fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('last_position', fields.BigIntField()),
            ],
            options={'table': 'change_feed', 'app': 'models', 'pk_attr': 'id', 'table_description': 'One row: the last position given. Its lock is held by whoever gives the next ones.'},
            bases=['Model'],
        ),
    ]
