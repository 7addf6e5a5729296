"""Which API is asked, and with whose token: a named server, or the `aegate up` of a data folder on this machine."""

from __future__ import annotations

import json
import os
import re
import ssl
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from aegate_cli.api.client import API
from aegate_cli.api.errors import APIForbidden, APIUnreachable
from aegate_cli.data_folder import holder_of, open_own_data_folder, storage_error
from aegate_cli.output import Output
from aegate_core.errors import InvalidInput
from aegate_core.settings import DataFolder

Server = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="AEGATE_SERVER",
        help="The API, such as https://aegate.example.org. (default: the `aegate up` of the data folder)",
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="File that holds a token for --server, and nothing else; it goes nowhere without that. It comes before a "
        "token in AEGATE_TOKEN, and that before a file named in AEGATE_TOKEN_FILE.",
    ),
]
CA = Annotated[
    Path | None,
    typer.Option(
        "--ca",
        metavar="FILE",
        envvar="AEGATE_SERVER_CA",
        help="PEM file of the authority behind the server's certificate. (default: the system's)",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(metavar="D", help="The data folder of an `aegate up`. (default: $XDG_DATA_HOME/aegate)"),
]
Shown = Annotated[Output, typer.Option("--output", "-o", help="For people, or JSON for programs.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="Show so many at most.")]

NAME = "command-line"
"""Whose token it is that this command makes for itself, in the audit."""

_FIRST = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)

LASTS = timedelta(days=30)
RENEWED_BEFORE = timedelta(days=3)
"""A token that lies in a file does not live for ever; by feel. Longer than any command that waits."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where `aegate up` has its API, as it wrote that down."""

    url: str
    certificate: str | None = None
    """The file of the certificate that it shows."""

    def write(self, data: DataFolder) -> None:
        """Keep it for the commands of this machine."""
        part = data.run / "api.json.part"
        part.write_text(json.dumps({"url": self.url, "certificate": self.certificate}))
        part.replace(data.run / "api.json")


def open_api(server: str | None, token_file: Path | None, ca: Path | None, data: Path | None) -> API:
    """Return the API that the options mean. Raises AegateError with what is missing."""
    if server is None:
        if token_file is not None or any(
            os.environ.get(name) for name in ("AEGATE_TOKEN", "AEGATE_TOKEN_FILE")
        ):
            raise InvalidInput(
                "--token-file, AEGATE_TOKEN and AEGATE_TOKEN_FILE are for --server or AEGATE_SERVER: name the API, or "
                "leave them out for the `aegate up` of this machine, to which another's token must not go"
            )
        return _local(open_own_data_folder(data))
    parts = _parts(server)
    token = _token(token_file)
    if token is None:
        raise APIForbidden(
            "expected a token for --server, got none: put one into a file and name it with --token-file or "
            "AEGATE_TOKEN_FILE, or put it into AEGATE_TOKEN"
        )
    path = parts.removesuffix("/")
    url = path if path.endswith("/graphql") else f"{path}/graphql"
    return API(url, token, _verifying(ca) if url.startswith("https") else None)


def _parts(server: str) -> str:
    """Return the address. Raises InvalidInput for one where somebody may read the token on its way."""
    from aegate_graphql_api.identity.issuer import is_safe

    try:
        parts = urlsplit(server)
        is_plain = not (parts.query or parts.fragment or parts.username) and parts.port != 0
    except ValueError:
        is_plain = False
    if not is_plain or not is_safe(server):
        raise InvalidInput(
            "--server must be an https URL such as https://aegate.example.org, since a token goes there; http is for "
            "this machine alone, such as http://127.0.0.1:8080 through `kubectl port-forward`"
        )
    return server


def _token(file: Path | None) -> str | None:
    """Return the token of --token-file, else of AEGATE_TOKEN, else of AEGATE_TOKEN_FILE; None: none is given.

    Raises InvalidInput for what is no token, without repeating it. An empty variable is none.
    """
    if file is not None:
        return _token_of(file, "--token-file")
    if given := os.environ.get("AEGATE_TOKEN"):
        return _one_token(given, "AEGATE_TOKEN", "it")
    named = os.environ.get("AEGATE_TOKEN_FILE")
    return _token_of(Path(named), "AEGATE_TOKEN_FILE") if named else None


def _token_of(file: Path, option: str) -> str:
    try:
        text = file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no text of ASCII"
        raise InvalidInput(f"{option} must be a file that can be read, got {file} ({why})") from error
    return _one_token(text, option, str(file))


def _one_token(text: str, option: str, place: str) -> str:
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidInput(f"{option} must hold one token on one line, got something else in {place}")
    return token


def _verifying(ca: Path | None) -> ssl.SSLContext | None:
    if ca is None:
        return None
    try:
        return ssl.create_default_context(cafile=str(ca))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"--ca must be a PEM file of certificates, got another at {ca}") from error


def _local(data: DataFolder) -> API:
    from aegate_core.health import read_state

    said = read_state(data.run / "up.state")
    address = _address(data)
    if address is None or said is None or holder_of(data) != said.pid:
        raise APIUnreachable(
            f"expected an `aegate up` on the data folder {data.root}, got none that runs: start it, name its folder "
            "with --data, or another API with --server"
        )
    advice = f"see what the `aegate up` on {data.root} says (process {said.pid})"
    # From loopback also where it listens on an address: tokens of a data folder are for this machine alone.
    source = "::1" if ":" in (urlsplit(address.url).hostname or "") else "127.0.0.1"
    return API(address.url, own_token(data), _pinned(address), advice, source)


def _address(data: DataFolder) -> Address | None:
    try:
        found = json.loads((data.run / "api.json").read_text())
        return Address(str(found["url"]), found["certificate"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _pinned(address: Address) -> ssl.SSLContext | None:
    """Trust the very certificate that `aegate up` was given, whatever name it has: it is on this machine.

    The first of its file alone: an authority after it has signed others.
    """
    if address.certificate is None:
        return None
    try:
        leaf = _FIRST.findall(Path(address.certificate).read_text())[0]
        context = ssl.create_default_context(cadata=leaf)
    except (OSError, ValueError, IndexError) as error:
        raise InvalidInput(f"the certificate {address.certificate} cannot be read: restore it") from error
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def own_token(data: DataFolder, now: datetime | None = None) -> str:
    """Return the token that commands of the data folder's owner share; made when there is none that stays valid.

    Whoever can read this file can write the file of tokens beside it. Raises StorageError.
    """
    try:
        return _shared(data, now or datetime.now(UTC))
    except OSError as error:
        raise storage_error(error, data.root) from error


def _shared(data: DataFolder, now: datetime) -> str:
    import fcntl

    path = data.run / "command-line.token"
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        token = file.read().strip()
        if token and _stays_valid(token, data.run / "tokens.json", now):
            return token
        token = _made(data.run / "tokens.json", now)
        file.seek(0)
        file.truncate()
        file.write(token)
        return token


def _stays_valid(token: str, tokens: Path, now: datetime) -> bool:
    from aegate_graphql_api.tokens import digest, list_tokens

    return any(
        record.name == NAME
        and record.sha256 == digest(token)
        and record.expires_at is not None
        and record.is_valid(now + RENEWED_BEFORE)
        for record in list_tokens(tokens)
    )


def _made(tokens: Path, now: datetime) -> str:
    from aegate_core.errors import NotFound
    from aegate_graphql_api.tokens import create_token, revoke_token

    with suppress(NotFound):
        revoke_token(tokens, NAME)
    return create_token(tokens, NAME, ["DICOM_QUEUE", "AE_EDITOR"], expires_at=now + LASTS)
