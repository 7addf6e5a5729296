from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise import fields

class Migration(migrations.Migration):
    dependencies = [('models', '0009_resources')]

    initial = False

    operations = [
        ops.AddField(
            model_name='Installation',
            name='reworded_patient',
            field=fields.BigIntField(null=True),
        ),
        ops.AddField(
            model_name='Installation',
            name='search_rules',
            field=fields.IntField(null=True),
        ),
        ops.AddField(
            model_name='Operation',
            name='error_message',
            field=fields.CharField(null=True, max_length=256),
        ),
        ops.AddField(
            model_name='Operation',
            name='failures',
            field=fields.IntField(null=True),
        ),
        ops.AddField(
            model_name='Operation',
            name='retry_at',
            field=fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
        ),
        ops.AddField(
            model_name='QuarantinedObject',
            name='release_attempts',
            field=fields.IntField(null=True),
        ),
        ops.AddField(
            model_name='QuarantinedObject',
            name='release_tried_at',
            field=fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
        ),
        ops.AddField(
            model_name='QuarantinedObject',
            name='released_at',
            field=fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
        ),
        ops.AddField(
            model_name='QuarantinedObject',
            name='released_by',
            field=fields.CharField(null=True, max_length=256),
        ),
    ]
