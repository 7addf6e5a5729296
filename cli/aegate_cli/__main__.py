"""Entrance of the ``aegate`` command: one file a command, all errors of ours in one sentence with exit code 2.

Commands import what they need when they run: `aegate version` and shell completion do not pay for a DICOM toolkit.
"""

from __future__ import annotations

import sys

import typer

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
app.add_typer(token_app, name="token")


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 done in part or not at all, 2 what was given cannot be used."""
    forbid_core_dumps()
    try:
        app()
    except AegateError as error:
        print(f"aegate: {error.message}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        # The reader of our output has gone (`aegate send … | head`): no traceback for that.
        sys.stderr.close()
        sys.exit(1)


if __name__ == "__main__":
    main()
