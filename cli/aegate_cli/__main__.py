"""Entrance of the ``aegate`` command: one file a command, all errors of ours in one sentence with exit code 2.

Commands import what they need when they run: `aegate version` and shell completion do not pay for a DICOM toolkit.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from aegate_cli.api.ae import ae_app
from aegate_cli.api.errors import APIError
from aegate_cli.api.queue import queue_app
from aegate_cli.api.study import study_app
from aegate_cli.backup import backup, restore
from aegate_cli.demo.command import demo
from aegate_cli.echo import echo
from aegate_cli.fsck import fsck
from aegate_cli.retention import retention
from aegate_cli.send import send
from aegate_cli.sink import sink
from aegate_cli.token import token_app
from aegate_cli.up import up
from aegate_cli.validate import validate_command
from aegate_cli.version import version
from aegate_core.core_dumps import forbid_core_dumps
from aegate_core.errors import AegateError

app = typer.Typer(
    name="aegate",
    help="DICOM Application Entities as resources: receive, index, route and push images.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (up, echo, send, sink, fsck, retention, backup, restore, demo, version):
    app.command()(command)
app.command("validate")(validate_command)
for group, name in ((ae_app, "ae"), (queue_app, "queue"), (study_app, "study"), (token_app, "token")):
    app.add_typer(group, name=name)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, or these arguments.

    Exit codes: 0 done, 1 done in part or not at all, 2 what was given cannot be used.

    Commands that ask the API: 3 it does not answer now, 4 the token does not let them.
    """
    forbid_core_dumps()
    try:
        app(arguments)
    except APIError as error:
        print(f"aegate: {error.message}", file=sys.stderr)
        sys.exit(error.exit_code)
    except AegateError as error:
        print(f"aegate: {error.message}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        # The reader of our output has gone (`aegate send … | head`): no traceback for that.
        sys.stderr.close()
        sys.exit(1)


if __name__ == "__main__":
    main()
