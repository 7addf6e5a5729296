"""The listener's identity (PS3.15 B.9, BCP 195): TLS 1.2 or 1.3, forward secrecy and AEAD ciphers only.

Files that cannot be used are no reason to end: the port stays closed, never plain, and opens when good ones come.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from aegate_core.certificates import first_expiry
from aegate_core.decisions.listener_config import TLSFiles
from aegate_core.resources.conditions import Reason

EXPIRES_SOON = timedelta(days=21)
"""From then on people are told; by feel: a renewal that fails for so long is nobody's intention."""

_TLS_1_2_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""RFC 9325 4.2; the suites of TLS 1.3 are all fit."""

_VERIFY = {"None": ssl.CERT_NONE, "Request": ssl.CERT_OPTIONAL, "Require": ssl.CERT_REQUIRED}


@dataclass(frozen=True, slots=True)
class Identity:
    """What the files were when they were read. ``context`` is None when they cannot be used: then nobody comes in."""

    context: ssl.SSLContext | None = None
    reason: Reason | None = None
    """SECRET_NOT_FOUND, CERTIFICATE_INVALID; an expiry comes with time, see `problem`."""
    message: str = ""
    not_after: datetime | None = None
    """When the first certificate of tls.crt expires."""

    def problem(self, now: datetime) -> tuple[Reason, str] | None:
        """Return why it must not be served now, with the next step, or None."""
        if self.reason is not None:
            return self.reason, self.message
        if self.not_after is not None and self.not_after <= now:
            at = self.not_after.isoformat(timespec="seconds")
            return Reason.CERTIFICATE_EXPIRED, f"tls.crt expired at {at}: renew the certificate in the secret"
        return None

    def warning(self, now: datetime) -> str | None:
        """Return what will soon keep it from being served, or None."""
        if self.not_after is None or self.not_after - now > EXPIRES_SOON:
            return None
        at = self.not_after.isoformat(timespec="seconds")
        return f"tls.crt expires at {at}, the port closes then: renew the certificate in the secret"


def read_identity(files: TLSFiles) -> Identity:
    """Return the identity of the files as they are now."""
    peers = () if files.client_auth == "None" else (files.ca,)
    missing = [path for path in (files.certificate, files.key, *peers) if not Path(path).is_file()]
    if missing:
        names = ", ".join(Path(path).name for path in missing)
        folder = Path(missing[0]).parent
        return Identity(
            reason=Reason.SECRET_NOT_FOUND,
            message=f"{names} must be in the secret, got nothing at {folder}: put it there",
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_TLS_1_2_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    try:
        # Without a password of its own OpenSSL would ask for an encrypted key's on a terminal, and wait.
        context.load_cert_chain(files.certificate, files.key, password="")
        not_after = first_expiry(Path(files.certificate).read_text("ascii"))
    except (OSError, ValueError, IndexError) as error:
        return _invalid("tls.crt and tls.key", files.certificate, error)
    context.verify_mode = _VERIFY[files.client_auth]
    if context.verify_mode is not ssl.CERT_NONE:
        try:
            context.load_verify_locations(files.ca)
        except (OSError, ValueError) as error:
            return _invalid("ca.crt", files.ca, error)
    return Identity(context, not_after=not_after)


def _invalid(what: str, path: str, error: Exception) -> Identity:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
    message = f"{what} must be readable PEM of one identity, got {reason} at {path}: mend the secret"
    return Identity(reason=Reason.CERTIFICATE_INVALID, message=message)
