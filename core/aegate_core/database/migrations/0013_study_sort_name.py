from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise import fields

class Migration(migrations.Migration):
    dependencies = [('models', '0012_worklist')]

    initial = False

    operations = [
        ops.AddField(
            model_name='Study',
            name='patient_sort_name',
            field=fields.CharField(default='', db_default='', max_length=128),
        ),
    ]
