"""Options of the commands that look into an installation: which data folder, which database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    Path | None,
    typer.Option(metavar="D", readable=False, help="The data folder. (default: $XDG_DATA_HOME/aegate)"),
]
DatabaseURL = Annotated[
    str | None,
    typer.Option(metavar="URL", help="As given to `aegate up`. (default: SQLite in the folder)"),
]
