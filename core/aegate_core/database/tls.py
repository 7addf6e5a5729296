"""TLS to PostgreSQL, as the parameters of a database URL ask for it: libpq's words, read as libpq reads them."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path

from aegate_core.errors import InvalidValue

MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_UNVERIFIED = ("disable", "allow", "prefer")
SYSTEM = "system"
"""As ``sslrootcert``: the authorities that this machine trusts."""


def tls_of(query: Mapping[str, str]) -> ssl.SSLContext | str | None:
    """Return what the driver takes: a context, or the mode where nothing is verified; None: nothing was said.

    ``sslmode``, ``sslrootcert``, ``sslcert``, ``sslkey``; with an authority, ``require`` verifies it
    (https://www.postgresql.org/docs/current/libpq-ssl.html). Where the URL names none, that of ``AEGATE_DATABASE_CA``
    counts if its file is there. Raises InvalidValue for a mode that there is not, and for a file that cannot be used:
    never is less verified than was asked for.
    """
    mode, authority = query.get("sslmode"), query.get("sslrootcert") or _installed_authority()
    certificate, key = query.get("sslcert"), query.get("sslkey")
    if mode is None and not query.get("sslrootcert") and not certificate:
        return None
    is_system = authority == SYSTEM
    mode = mode or ("verify-full" if is_system else "prefer")
    if mode not in MODES:
        raise InvalidValue(f"sslmode in the database URL must be one of {', '.join(MODES)}, got another")
    if is_system and mode != "verify-full":
        raise InvalidValue(
            "sslmode in the database URL must be verify-full with sslrootcert=system, where anybody may have a "
            f"certificate, got {mode}"
        )
    if query.get("sslrootcert") and mode in _UNVERIFIED:
        raise InvalidValue(
            "sslmode in the database URL must be require, verify-ca or verify-full with sslrootcert, "
            f"got {query.get('sslmode') or 'none'}"
        )
    if mode == "verify-ca" and not authority:
        raise InvalidValue(
            "sslrootcert in the database URL must name the authority that verify-ca verifies, got none: name it, or "
            "put it as ca.crt beside the DSN"
        )
    verifies = mode.startswith("verify-") or (mode == "require" and bool(authority))
    if not verifies and not certificate:
        return mode
    if mode in _UNVERIFIED:
        raise InvalidValue(
            f"sslcert in the database URL must come with sslmode=require or verify-full, got {mode}"
        )
    return _context(mode, authority if verifies else None, certificate, key, verifies=verifies)


def tls_environment(query: Mapping[str, str]) -> dict[str, str]:
    """Return the same for PostgreSQL's own programs, as libpq's environment variables."""
    told = {
        f"PG{name.upper()}": query.get(name, "") for name in ("sslmode", "sslrootcert", "sslcert", "sslkey")
    }
    told["PGSSLROOTCERT"] = told["PGSSLROOTCERT"] or _installed_authority() or ""
    return {name: value for name, value in told.items() if value}


def _installed_authority() -> str | None:
    file = os.environ.get("AEGATE_DATABASE_CA", "")
    return file if file and Path(file).exists() else None


def _context(
    mode: str, authority: str | None, certificate: str | None, key: str | None, *, verifies: bool
) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=None if authority in (None, SYSTEM) else authority)
    except (OSError, ssl.SSLError) as error:
        raise _unusable("sslrootcert", "certificates of authorities", error) from error
    context.check_hostname = mode == "verify-full"
    if not verifies:
        context.verify_mode = ssl.CERT_NONE
    if certificate:
        try:
            context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            raise _unusable("sslcert and sslkey", "a certificate and its key", error) from error
    return context


def _unusable(parameter: str, what: str, error: Exception) -> InvalidValue:
    return InvalidValue(
        f"{parameter} in the database URL must name a readable PEM file of {what}, got {type(error).__name__}: "
        "mount it, or mend its path"
    )
