from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise import fields

class Migration(migrations.Migration):
    dependencies = [('models', '0004_audit')]

    initial = False

    operations = [
        ops.CreateModel(
            name='Installation',
            fields=[
                ('id', fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('mark', fields.CharField(max_length=32)),
            ],
            options={'table': 'installation', 'app': 'models', 'pk_attr': 'id', 'table_description': 'Which installation this index is of: one row, ``mark`` also stands in its blob store.'},
            bases=['Model'],
        ),
        ops.AddField(
            model_name='ApplicationEntityRow',
            name='projected_by',
            field=fields.CharField(null=True, max_length=127),
        ),
        ops.AddField(
            model_name='ImageRouteRow',
            name='projected_by',
            field=fields.CharField(null=True, max_length=127),
        ),
        ops.AddField(
            model_name='PatientPartitionRow',
            name='projected_by',
            field=fields.CharField(null=True, max_length=127),
        ),
    ]
