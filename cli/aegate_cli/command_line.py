"""What was typed after `aegate up`, checked: the values of an installation, or one sentence about what is wrong."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from aegate_cli.data_folder import default_data_folder
from aegate_cli.installation import Installation
from aegate_cli.ports import Endpoint, ensure_loopback, parse_endpoint
from aegate_core.dicom.ae_title import AETitle
from aegate_core.errors import InvalidInput, InvalidValue
from aegate_core.settings import data_folder, database_url
from aegate_graphql_api.identity.settings import IdentitySettings, identity_from


@dataclass(frozen=True, slots=True)
class UpOptions:
    """The options of `aegate up` as they were typed."""

    folder: Path
    data: Path | None = None
    dicom_listen: str = "0.0.0.0"
    dicom_port: int = 11112
    http_listen: str = "127.0.0.1:8080"
    title: str = "AEGATE"
    database: str | None = None
    workers: int = 1
    restart_max_s: float = 30.0
    http_tls_cert: Path | None = None
    http_tls_key: Path | None = None


def read_options(options: UpOptions) -> Installation:
    """Return the installation. Raises InvalidInput naming the option, what was expected and what came."""
    if not options.folder.is_dir():
        what = "a file" if options.folder.exists() else "nothing"
        raise InvalidInput(
            f"DIR must be a folder of resources, got {what} at {options.folder}: try `aegate up examples/hospital`"
        )
    http = parse_endpoint(options.http_listen, "--http-listen")
    way_in = _way_in(options)
    _ensure_private(http, identity_from({**os.environ, **way_in}))
    data = data_folder(os.environ, (options.data or default_data_folder()).absolute())
    url = database_url({"AEGATE_DATABASE_URL": options.database or ""}, data)
    if options.workers > 1 and url.startswith("sqlite"):
        raise InvalidInput(
            f"--workers must be 1 on SQLite, which has one writer at a time, got {options.workers}: "
            "leave it out, or give --database postgres://…"
        )
    try:
        title = AETitle(options.title)
    except InvalidValue as error:
        raise InvalidInput(f"--title: {error.message}") from error
    return Installation(
        folder=options.folder.absolute(),
        data=data,
        database_url=url,
        dicom=Endpoint(options.dicom_listen, options.dicom_port),
        http=http,
        title=title,
        workers=options.workers,
        restart_max_s=options.restart_max_s,
        way_in=way_in,
    )


def _way_in(options: UpOptions) -> dict[str, str]:
    """Return the API's environment for TLS."""
    files = {"AEGATE_HTTP_TLS_CERT": options.http_tls_cert, "AEGATE_HTTP_TLS_KEY": options.http_tls_key}
    return {name: str(path.absolute()) for name, path in files.items() if path is not None}


def _ensure_private(http: Endpoint, identity: IdentitySettings) -> None:
    """Refuse an address of the network unless people sign in at a provider and nobody reads along."""
    if identity.oidc is None or not identity.is_private:
        try:
            ensure_loopback(http, "--http-listen")
        except InvalidValue as error:
            raise InvalidInput(
                f"{error.message}; or name an identity provider with AEGATE_OIDC_ISSUER, AEGATE_OIDC_AUDIENCE and "
                "AEGATE_OIDC_MAPPING, and give --http-tls-cert and --http-tls-key"
            ) from error
