"""Models and migrations say the same."""

from tortoise.context import TortoiseContext
from tortoise.migrations.autodetector import MigrationAutodetector

from aegate_core.database.connection import tortoise_config


async def test_the_migrations_make_what_the_models_say() -> None:
    config = tortoise_config("sqlite://:memory:")
    async with TortoiseContext() as context:
        await context.init(config=config)
        assert context.apps is not None
        changes = await MigrationAutodetector(context.apps, config["apps"]).changes()
    missing = [type(operation).__name__ for writer in changes for operation in writer.operations]
    assert missing == [], "run `make migration` and commit what it writes"
