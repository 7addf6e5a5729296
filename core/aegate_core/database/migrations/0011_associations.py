from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise import fields

class Migration(migrations.Migration):
    dependencies = [('models', '0010_by_hand')]

    initial = False

    operations = [
        ops.AddField(
            model_name='AuditEvent',
            name='origin',
            field=fields.CharField(null=True, max_length=64),
        ),
    ]
