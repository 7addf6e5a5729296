"""The workers' TLS context for pushing (PS3.15 B.9, BCP 195): TLS 1.2 or 1.3, forward secrecy and AEAD ciphers only.

Read anew for each association: a certificate that was replaced is in force at once.
"""

from __future__ import annotations

import ssl
from datetime import datetime
from pathlib import Path

from aegate_core.certificates import first_expiry
from aegate_core.errors import InvalidInput
from aegate_core.resources.values import PushTLS

IDENTITY = "aegate-client"
_TLS_1_2_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""RFC 9325 4.2; the suites of TLS 1.3 are all fit."""


def client_context(secrets: Path | None, tls: PushTLS) -> ssl.SSLContext:
    """Return a context with our client identity. The peer's certificate is always verified, its name by ``tls``.

    Raises InvalidInput naming the file that cannot be used.
    """
    if secrets is None:
        raise InvalidInput(
            f"push.tls needs the secret {IDENTITY}, got no folder of secrets: set AEGATE_SECRETS"
        )
    folder = secrets / IDENTITY
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_TLS_1_2_CIPHERS)
    context.check_hostname = tls.verify_hostname
    try:
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        context.load_verify_locations(folder / "ca.crt")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        raise InvalidInput(
            f"secret {IDENTITY} must hold readable tls.crt, tls.key and ca.crt, got {reason}: mend it"
        ) from error
    return context


def identity_expires_at(secrets: Path | None) -> datetime | None:
    """Return when our client identity expires; None where it is not there, or cannot be read."""
    if secrets is None:
        return None
    try:
        return first_expiry((secrets / IDENTITY / "tls.crt").read_text("ascii"))
    except (OSError, ValueError, IndexError):  # a push says what is wrong with it
        return None
