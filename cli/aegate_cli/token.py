"""`aegate token`: who may ask the API of this machine, and what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from aegate_cli.data_options import Data

TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--file",
        help="A file of its own instead of the data folder's: tokens.json for the Secret of a cluster's API.",
    ),
]

Partitions = Annotated[
    list[str] | None,
    typer.Option(
        "--partition",
        metavar="NAMESPACE/NAME",
        help="Sees the patients, studies and queue items of this patient partition alone; repeat. (default: all)",
    ),
]
Namespaces = Annotated[
    list[str] | None,
    typer.Option(
        "--namespace",
        metavar="NAMESPACE",
        help="AE_EDITOR holds for the Application Entities of this namespace alone; repeat. (default: all)",
    ),
]

token_app = typer.Typer(no_args_is_help=True, help="Tokens of the local API: make, list, revoke.")


@token_app.command("create")
def create(  # noqa: PLR0913 - a command has the options that people need
    name: Annotated[str, typer.Argument(help="Whose it is: shown in the audit.")],
    permission: Annotated[
        list[str] | None,
        typer.Option(metavar="P", help="DICOM_QUEUE or AE_EDITOR; repeat for both. (default: both)"),
    ] = None,
    days: Annotated[
        int | None, typer.Option(min=1, max=3650, help="Valid so long; for ever when not given.")
    ] = None,
    partition: Partitions = None,
    namespace: Namespaces = None,
    data: Data = None,
    file: TokenFile = None,
) -> None:
    """Make a token and print it, this once.

    Example: [bold]aegate token create reporting --permission DICOM_QUEUE --partition default/default --days 30[/bold]
    """
    from aegate_graphql_api.reach import reach_of
    from aegate_graphql_api.tokens import create_token

    reach = reach_of(partition or None, namespace or None)
    expires_at = datetime.now(UTC) + timedelta(days=days) if days else None
    typer.echo(
        create_token(
            tokens_to_change(data, file),
            name,
            permission or ["DICOM_QUEUE", "AE_EDITOR"],
            expires_at=expires_at,
            reach=reach,
        )
    )


@token_app.command("list")
def list_(data: Data = None, file: TokenFile = None) -> None:
    """Show names, permissions and expiry; the tokens themselves are kept nowhere.

    Example: [bold]aegate token list[/bold]
    """
    from aegate_graphql_api.tokens import list_tokens

    for record in list_tokens(tokens_file(data, file)):
        expiry = f"until {record.expires_at}" if record.expires_at else "for ever"
        limits = "".join(
            f"\t{word} {' '.join(names) or 'none'}"
            for word, names in (("partitions", record.partitions), ("namespaces", record.namespaces))
            if names is not None
        )
        typer.echo(f"{record.name}\t{' '.join(record.permissions)}\t{expiry}{limits}")


@token_app.command("revoke")
def revoke(
    name: Annotated[str, typer.Argument(help="As `aegate token list` shows it.")],
    data: Data = None,
    file: TokenFile = None,
) -> None:
    """Take a token back; a running API refuses it at once.

    Example: [bold]aegate token revoke reporting[/bold]
    """
    from aegate_graphql_api.tokens import revoke_token

    revoke_token(tokens_to_change(data, file), name)
    typer.echo(f"revoked {name}")


def tokens_file(data: Path | None, file: Path | None) -> Path:
    """Return the file named, else that of the data folder. Raises NotFound when no aegate has ever run there."""
    if file is not None:
        return file
    from aegate_cli.data_folder import open_data_folder

    return open_data_folder(data).run / "tokens.json"


def tokens_to_change(data: Path | None, file: Path | None) -> Path:
    """Return the same for its owner alone. Raises StorageError for another user."""
    if file is not None:
        return file
    from aegate_cli.data_folder import open_own_data_folder

    return open_own_data_folder(data).run / "tokens.json"
