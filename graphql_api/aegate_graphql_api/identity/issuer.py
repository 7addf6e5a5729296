"""Whose tokens count: an OpenID provider by its issuer URL."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Issuer:
    """Whose tokens count, for whom they must be made, and how far clocks may differ."""

    url: str
    audience: str
    leeway_s: int = 30


def is_safe(url: str) -> bool:
    """Whether what comes from there can be believed: TLS, or this machine itself."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    is_local = parts.hostname in ("127.0.0.1", "::1", "localhost")
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and is_local))
