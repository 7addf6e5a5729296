from tortoise import migrations
from tortoise.migrations import operations as ops

from aegate_core.dicom.text import name_text

_OLD = (
    "SELECT id, name_alphabetic, name_ideographic, name_phonetic FROM patient "
    "WHERE name_ideographic <> '' OR name_phonetic <> '' OR name_alphabetic LIKE '%,%'"
)
_NEW = {
    "sqlite": "UPDATE patient SET search_text = ? WHERE id = ?",
    "postgres": "UPDATE patient SET search_text = $1 WHERE id = $2",
}


async def tell_groups_apart(apps, editor):
    """Write the search text of names that have several component groups, or a comma, as name_text makes it now."""
    sql = _NEW[editor.client.capabilities.dialect]
    for row in await editor.client.execute_query_dict(_OLD):
        text = name_text(row["name_alphabetic"], row["name_ideographic"], row["name_phonetic"])
        await editor.client.execute_query(sql, [text, row["id"]])


class Migration(migrations.Migration):
    dependencies = [('models', '0003_indexer_of_one_entity')]

    initial = False

    operations = [ops.RunPython(tell_groups_apart, ops.RunPython.noop)]
