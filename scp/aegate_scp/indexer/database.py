"""Where the database's URL comes from: the environment, or a file that may come late and change, as a Secret's does."""

from __future__ import annotations

import asyncio

from aegate_core.errors import InvalidInput, InvalidValue
from aegate_core.settings import checked_database_url
from aegate_scp.indexer.settings import IndexerSettings

LOOK_EVERY_S = 2.0


def current_url(settings: IndexerSettings) -> str:
    """Return the URL as it is now. Raises InvalidInput saying what is missing or wrong, never what stands there."""
    file = settings.database_url_file
    if file is None:
        return settings.database_url
    try:
        text = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise InvalidValue(
            f"the database's URL must stand in {file}, got {reason}: make the secret with the key {file.name}"
        ) from error
    if not text:
        raise InvalidValue(f"the database's URL must stand in {file}, got nothing: write it into the secret")
    if not text.startswith(("sqlite://", "postgres://", "postgresql://")):
        raise InvalidValue(
            f"the database's URL in {file} must start with postgres://, got another: mend the secret"
        )
    return checked_database_url(text)


async def until_other_url(settings: IndexerSettings, url: str) -> None:
    """Return when another URL stands in the file. One that cannot be used is passed over: the last one goes on."""
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        try:
            if await asyncio.to_thread(current_url, settings) != url:
                return
        except InvalidInput:
            continue
