"""The listener's TLS context (PS3.15 B.9, BCP 195): TLS 1.2 or 1.3, forward secrecy and AEAD ciphers only."""

from __future__ import annotations

import ssl

from aegate_core.decisions.listener_config import TLSFiles
from aegate_core.errors import InvalidInput

_TLS_1_2_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""RFC 9325 4.2; the suites of TLS 1.3 are all fit."""

_VERIFY = {"None": ssl.CERT_NONE, "Request": ssl.CERT_OPTIONAL, "Require": ssl.CERT_REQUIRED}


def server_context(files: TLSFiles) -> ssl.SSLContext:
    """Return a context from the files as they are now. Raises InvalidInput naming the file that cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_TLS_1_2_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    try:
        context.load_cert_chain(files.certificate, files.key)
    except (OSError, ValueError) as error:
        raise InvalidInput(_message("tls.crt and tls.key", files.certificate, error)) from error
    context.verify_mode = _VERIFY[files.client_auth]
    if context.verify_mode is not ssl.CERT_NONE:
        try:
            context.load_verify_locations(files.ca)
        except (OSError, ValueError) as error:
            raise InvalidInput(_message("ca.crt", files.ca, error)) from error
    return context


def _message(what: str, path: str, error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
    return f"{what} must be readable PEM of one identity, got {reason} at {path}: mend the secret"
