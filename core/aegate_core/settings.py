"""Settings that every process shares: where the data lies, which database, how long things may take.

Each process has one frozen dataclass of its own built on these; the environment is read once, in its ``__main__``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aegate_core.errors import InvalidValue

SCRATCH_BYTES = 4 << 30
LEAST_SCRATCH_BYTES = 64 << 20
"""By feel, four parts of an upload: with less, copies of ordinary images wait for one another, and deliveries fail."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket of S3, or of a server that speaks it, which holds the blobs instead of a folder."""

    name: str
    secret: Path
    """Folder of the credentials, such as a mounted Secret: ``access-key-id``, ``secret-access-key``, and ``ca.crt``
    where the server's certificate is by a CA of one's own. Read again for each connection that is made anew."""
    endpoint: str = ""
    """https://host:port, its buckets addressed by path; '' is AWS itself in ``region``."""
    region: str = "us-east-1"
    """What requests are signed for; a server that knows no regions takes this one."""
    prefix: str = ""
    """In front of every key, with a slash at its end; '' where the bucket holds nothing else."""
    scratch_bytes: int = SCRATCH_BYTES
    """How much of this machine's disk copies of what is being sent may take; a larger object is copied alone."""


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Where the data of an installation lie: folders below one root, and perhaps a bucket.

    Spool and blobs on one file system: an arrival then moves by hard link.
    """

    root: Path
    bucket: Bucket | None = None
    """Where blobs lie instead of in `blobs`."""

    @property
    def where(self) -> str:
        """What people are told of where images lie."""
        return f"bucket {self.bucket.name}" if self.bucket else str(self.root)

    @property
    def spool(self) -> Path:
        """``spool/<namespace>/<name>/<process>/<arrival id>.dcm``: acknowledged, not yet indexed."""
        return self.root / "spool"

    @property
    def blobs(self) -> Path:
        """``blobs/ab/cd/<arrival id>.dcm``: indexed. With a bucket: copies of what is being sent."""
        return self.root / "blobs"

    @property
    def run(self) -> Path:
        """Files of the running processes: listener configurations, states, tokens. Mode 0700."""
        return self.root / "run"

    @property
    def database(self) -> Path:
        """The SQLite file, when no ``--database`` is given."""
        return self.root / "aegate.sqlite3"


def data_folder(environ: Mapping[str, str], root: Path) -> DataFolder:
    """Return the data folder at ``root``, with the bucket that ``AEGATE_S3_*`` name. Raises InvalidValue."""
    return DataFolder(root, bucket(environ))


_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"([A-Za-z0-9_-][A-Za-z0-9._-]*/)*")


def bucket(environ: Mapping[str, str]) -> Bucket | None:
    """Return what ``AEGATE_S3_BUCKET`` and its neighbours say; None where there is no such variable.

    Raises InvalidValue.
    """
    name = environ.get("AEGATE_S3_BUCKET", "")
    if not name:
        return None
    prefix = environ.get("AEGATE_S3_PREFIX", "")
    prefix += "/" if prefix and not prefix.endswith("/") else ""
    endpoint, scratch = environ.get("AEGATE_S3_ENDPOINT", ""), environ.get("AEGATE_S3_SCRATCH_BYTES", "")
    wrong = [
        ("AEGATE_S3_BUCKET must be a bucket's name", name, _BUCKET.fullmatch(name)),
        ("AEGATE_S3_ENDPOINT must be https://host:port", endpoint.rpartition("@")[2], _is_endpoint(endpoint)),
        (
            "AEGATE_S3_PREFIX must be such as images/",
            prefix,
            len(prefix) <= 200 and _PREFIX.fullmatch(prefix),
        ),
        (
            f"AEGATE_S3_SCRATCH_BYTES must be a number of bytes, at least {LEAST_SCRATCH_BYTES}",
            scratch,
            not scratch or (scratch.isdecimal() and int(scratch) >= LEAST_SCRATCH_BYTES),
        ),
    ]
    for expected, came, is_right in wrong:
        if not is_right:
            raise InvalidValue(f"{expected}, got {came!r}: mend it")
    return Bucket(
        name=name,
        secret=Path(required(environ, "AEGATE_S3_SECRET")),
        endpoint=endpoint.rstrip("/"),
        region=environ.get("AEGATE_S3_REGION") or "us-east-1",
        prefix=prefix,
        scratch_bytes=int(scratch or SCRATCH_BYTES),
    )


def _is_endpoint(text: str) -> bool:
    """Say whether it is a server's address, without path, user or password; '' is none."""
    return not text or re.fullmatch(r"https?://[A-Za-z0-9.\-\[\]:]+/?", text) is not None


def database_url(environ: Mapping[str, str], data: DataFolder) -> str:
    """Return ``AEGATE_DATABASE_URL``, or the SQLite file of the data folder.

    Raises InvalidValue for another scheme than sqlite:// or postgres://, and for an SQLite file without its whole path.
    """
    url = environ.get("AEGATE_DATABASE_URL")
    return checked_database_url(url) if url else f"sqlite://{data.database}"


def checked_database_url(url: str) -> str:
    """Return ``url`` as the rest knows it.

    Raises InvalidValue for another scheme than sqlite:// or postgres://, and for an SQLite file without its whole path.
    """
    if not url.startswith(("sqlite://", "postgres://", "postgresql://")):
        scheme = url.split(":", 1)[0]
        raise InvalidValue(
            f"database URL must start with sqlite:// or postgres://, got scheme {scheme!r}: "
            "use --database postgres://user@host/name or leave it out for SQLite in the data folder"
        )
    if url.startswith("sqlite://") and not url.startswith("sqlite:///"):
        raise InvalidValue(
            "database URL of SQLite must name a file by its whole path, such as sqlite:///var/lib/aegate.sqlite3, "
            f"got {url!r}: mend it, or leave it out for SQLite in the data folder"
        )
    return url.replace("postgresql://", "postgres://", 1)


def required(environ: Mapping[str, str], name: str) -> str:
    """Return a variable of the environment that must be there. Raises InvalidValue naming it."""
    value = environ.get(name, "")
    if not value:
        raise InvalidValue(
            f"environment variable {name} must be set, got nothing: set it or start through `aegate up`"
        )
    return value


_PROCESS = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def spool_process(environ: Mapping[str, str]) -> str | None:
    """Return ``AEGATE_SPOOL_PROCESS``, the name of a folder in the spool; None where there is none.

    Raises InvalidValue.
    """
    text = environ.get("AEGATE_SPOOL_PROCESS", "")
    if text and not _PROCESS.fullmatch(text):
        raise InvalidValue(
            "AEGATE_SPOOL_PROCESS must be at most 63 lower-case letters, digits and -, such as a pod's uid, "
            f"got {text!r}: mend it or leave it out"
        )
    return text or None


def health_address(environ: Mapping[str, str]) -> tuple[str, int]:
    """Return ``AEGATE_HEALTH_LISTEN`` (default 127.0.0.1, any port). Raises InvalidValue."""
    text = environ.get("AEGATE_HEALTH_LISTEN") or "127.0.0.1:0"
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise InvalidValue(
            f"AEGATE_HEALTH_LISTEN must be host:port such as 127.0.0.1:0, got {text!r}: mend it"
        )
    return host.strip("[]"), int(port)


def log_terminal(environ: Mapping[str, str]) -> bool | None:
    """Return ``AEGATE_LOG_FORMAT``: True terminal, False json, None by whether standard error is a terminal.

    Raises InvalidValue.
    """
    text = environ.get("AEGATE_LOG_FORMAT", "")
    if text not in ("", "terminal", "json"):
        raise InvalidValue(
            f"AEGATE_LOG_FORMAT must be terminal or json, got {text!r}: mend it or leave it out"
        )
    return {"terminal": True, "json": False}.get(text)
