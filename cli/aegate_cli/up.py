"""`aegate up`: all of aegate on this machine, from a folder of YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Listen = Annotated[
    str,
    typer.Option(
        metavar="ADDR:PORT",
        help="Where the API listens; beyond loopback with TLS and an identity provider (AEGATE_OIDC_ISSUER).",
    ),
]
Certificate = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="The API's certificate chain (PEM); read again when it changes.",
        envvar="AEGATE_HTTP_TLS_CERT",
    ),
]
Key = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Its key (PEM).", envvar="AEGATE_HTTP_TLS_KEY")
]


def up(  # noqa: PLR0913 - a command has the options that people need
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of resources (YAML or JSON), watched for changes.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder for images, index and state. (default: $XDG_DATA_HOME/aegate)", metavar="D"
        ),
    ] = None,
    dicom_listen: Annotated[
        str, typer.Option(metavar="ADDR", help="Address of all DICOM listeners.")
    ] = "0.0.0.0",
    dicom_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port shared by all AEs without a listener.port.")
    ] = 11112,
    http_listen: Listen = "127.0.0.1:8080",
    http_tls_cert: Certificate = None,
    http_tls_key: Key = None,
    title: Annotated[
        str, typer.Option(metavar="AET", help="Our AE title: what devices call, and what we call with.")
    ] = "AEGATE",
    database: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="postgres://user@host/name; with a password better in the environment, where no process list "
            "shows it. (default: SQLite in the data folder)",
            envvar="AEGATE_DATABASE_URL",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, max=32, help="Push workers; more than one needs PostgreSQL.")
    ] = 1,
    restart_max_s: Annotated[
        float,
        typer.Option(
            "--restart-max",
            min=0.5,
            metavar="S",
            help="Longest pause before a process that keeps ending is started again.",
            envvar="AEGATE_RESTART_MAX_S",
        ),
    ] = 30.0,
) -> None:
    """Receive, index, route and push images: all processes of aegate on this machine, until Ctrl-C.

    DIR is watched: changes take effect within two seconds and cut no association; what is wrong is logged with
    file and line, and the last good version stays. Ctrl-C or SIGTERM lets open associations finish; a second one
    does not.

    Example: [bold]aegate up examples/hospital --data /var/lib/aegate[/bold]

    Example: [bold]aegate up hospital --dicom-port 104 --database postgres://aegate@db/aegate --workers 4[/bold]
    """
    # pydicom, Tortoise and the CRDs take half a second to load: not for --help and completion.
    from aegate_core.dicom.without_pixels import leave_pixel_libraries_out
    from aegate_core.starting import importing

    leave_pixel_libraries_out()
    with importing():
        from aegate_cli.command_line import UpOptions, read_options
        from aegate_cli.running import run_installation

    options = UpOptions(
        folder=folder,
        data=data,
        dicom_listen=dicom_listen,
        dicom_port=dicom_port,
        http_listen=http_listen,
        http_tls_cert=http_tls_cert,
        http_tls_key=http_tls_key,
        title=title,
        database=database,
        workers=workers,
        restart_max_s=restart_max_s,
    )
    raise typer.Exit(run_installation(read_options(options)))
