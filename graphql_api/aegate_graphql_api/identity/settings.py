"""Settings of who may come in and how: the identity provider, Kubernetes tokens, TLS of the API's port.

AEGATE_OIDC_ISSUER      https://login.example/realms/hospital, as tokens and the provider's discovery name it
AEGATE_OIDC_AUDIENCE    what tokens must be made for: the API's name, or a client's id, at the provider
AEGATE_OIDC_MAPPING     the file of rules from claims to permissions (`mapping.py`)
AEGATE_OIDC_CA          PEM file of the authority behind the provider's certificate; the system's without it
AEGATE_OIDC_CLIENT_ID   the public client as which web pages sign people in; `/config.json` tells it, and
AEGATE_OIDC_SCOPES      what they ask for; openid
AEGATE_OIDC_LEEWAY_S    how far the provider's clock and ours may differ; 30
AEGATE_KUBERNETES_TOKENS  true: tokens of the cluster that we run in count, by its RBAC
AEGATE_KUBERNETES_AUDIENCE  what those tokens must be made for; aegate.dev
AEGATE_HTTP_TLS_CERT, AEGATE_HTTP_TLS_KEY   PEM files; read again when they change
AEGATE_HTTP_BEHIND_PROXY  true: TLS ends before us; plain HTTP may then listen beyond loopback
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aegate_core.errors import InvalidValue
from aegate_graphql_api.identity.issuer import Issuer, is_safe
from aegate_graphql_api.identity.mapping import ClaimMapping, read_mapping
from aegate_graphql_api.identity.tls_files import TLSFiles

_OIDC = ("AEGATE_OIDC_ISSUER", "AEGATE_OIDC_AUDIENCE", "AEGATE_OIDC_MAPPING")


@dataclass(frozen=True, slots=True)
class OIDCSettings:
    """An identity provider."""

    issuer: Issuer
    mapping: ClaimMapping
    tls: ssl.SSLContext | None = None
    """What its certificate is verified by; None: the system's authorities."""
    client_id: str = ""
    """As which client web pages sign people in; empty: they know by themselves, or there are none."""
    scopes: str = "openid"
    """What web pages ask for, with blanks between."""


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """Who may come in beside local tokens, and whether the way in is private."""

    oidc: OIDCSettings | None = None
    kubernetes: str | None = None
    """The audience of tokens of the cluster that we run in; None: they do not count."""
    tls: TLSFiles | None = None
    behind_proxy: bool = False

    @property
    def is_private(self) -> bool:
        """Whether nobody between reads along."""
        return self.tls is not None or self.behind_proxy


def identity_from(environ: Mapping[str, str]) -> IdentitySettings:
    """Return these settings of the environment. Raises InvalidInput naming the variable, the file or the rule."""
    return IdentitySettings(
        oidc=_oidc(environ),
        kubernetes=_audience(environ) if flag(environ, "AEGATE_KUBERNETES_TOKENS") else None,
        tls=_tls(environ),
        behind_proxy=flag(environ, "AEGATE_HTTP_BEHIND_PROXY"),
    )


def flag(environ: Mapping[str, str], name: str) -> bool:
    """Return a variable that is true or false, false without it. Raises InvalidValue."""
    value = environ.get(name) or "false"
    if value not in ("true", "false"):
        raise InvalidValue(f"{name} must be true or false, got {value!r}: correct it")
    return value == "true"


def _audience(environ: Mapping[str, str]) -> str:
    return environ.get("AEGATE_KUBERNETES_AUDIENCE") or "aegate.dev"


def _oidc(environ: Mapping[str, str]) -> OIDCSettings | None:
    given = {name: environ.get(name, "") for name in _OIDC}
    client_id, scopes = (
        environ.get("AEGATE_OIDC_CLIENT_ID", ""),
        environ.get("AEGATE_OIDC_SCOPES") or "openid",
    )
    if not any((*given.values(), client_id)):
        return None
    if missing := [name for name, value in given.items() if not value]:
        raise InvalidValue(
            f"{', '.join(_OIDC)} go together, got no {', '.join(missing)}: set all or none of them"
        )
    issuer, audience, mapping = given.values()
    if not is_safe(issuer):
        raise InvalidValue(
            f"AEGATE_OIDC_ISSUER must be an https URL, got {issuer!r}: plain http is for this machine alone"
        )
    leeway = environ.get("AEGATE_OIDC_LEEWAY_S") or "30"
    if not leeway.isdecimal() or int(leeway) > 300:
        raise InvalidValue(
            f"AEGATE_OIDC_LEEWAY_S must be 0 to 300 seconds, got {leeway!r}: set both clocks by NTP"
        )
    authority = environ.get("AEGATE_OIDC_CA")
    return OIDCSettings(
        Issuer(issuer, audience, int(leeway)),
        read_mapping(Path(mapping)),
        _verifying(Path(authority)) if authority else None,
        client_id,
        " ".join(dict.fromkeys(["openid", *scopes.split()])),
    )


def _verifying(authority: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(authority))
    except (OSError, ValueError) as error:
        raise InvalidValue(
            f"AEGATE_OIDC_CA must be a PEM file, got {type(error).__name__} at {authority}: name another"
        ) from error


def _tls(environ: Mapping[str, str]) -> TLSFiles | None:
    certificate, key = (environ.get(f"AEGATE_HTTP_TLS_{part}", "") for part in ("CERT", "KEY"))
    if bool(certificate) != bool(key):
        raise InvalidValue(
            "AEGATE_HTTP_TLS_CERT and AEGATE_HTTP_TLS_KEY go together, got one: set both or none"
        )
    if not certificate:
        return None
    return TLSFiles(Path(certificate), Path(key))
