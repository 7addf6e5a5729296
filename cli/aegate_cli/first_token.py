"""The token that the first `aegate up` on a data folder makes and shows once."""

from __future__ import annotations

import sys

from rich.console import Console

from aegate_cli.data_folder import data_option
from aegate_cli.installation import Installation
from aegate_graphql_api.tokens import create_token, list_tokens

NAME = "first"


def ensure_token(installation: Installation, console: Console) -> None:
    """Make a token with both permissions unless there is any; show it to the person who started us, this once."""
    if list_tokens(installation.tokens):
        return
    option = data_option(installation.data)
    token = create_token(installation.tokens, NAME, ["DICOM_QUEUE", "AE_EDITOR"])
    if sys.stdout.isatty():
        console.print(
            f"Token   {token}\n        shown this once; `aegate token create NAME{option}` makes others",
            highlight=False,
            soft_wrap=True,
        )
    else:
        # Not a person but a log: a secret does not belong there.
        console.print(
            f"Token   made and not shown, since this is no terminal: `aegate token create NAME{option}` makes another",
            soft_wrap=True,
        )
