"""The forms of names that an API server knows (k8s.io/apimachinery validation): DNS names, labels, keys."""

from __future__ import annotations

import re

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_DNS_LABEL = re.compile(_LABEL)
_DNS_SUBDOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")

SUBDOMAIN = "at most 253 lower-case letters, digits, - and ., beginning and ending with a letter or digit"
LABEL = "at most 63 lower-case letters, digits and -, beginning and ending with a letter or digit"
LABEL_1035 = (
    "at most 63 lower-case letters, digits and -, beginning with a letter, ending with a letter or digit"
)
LABEL_VALUE = (
    "at most 63 letters, digits, -, _ and ., beginning and ending with a letter or digit, or nothing"
)
QUALIFIED = "a name of at most 63 letters, digits, -, _ and ., after an optional DNS name and /"


def dns1123_subdomain(text: str) -> list[str]:
    """Return what is wrong with a DNS-1123 subdomain; nothing when it is one."""
    return [] if len(text) <= 253 and _DNS_SUBDOMAIN.fullmatch(text) else [f"must be {SUBDOMAIN}"]


def dns1123_label(text: str) -> list[str]:
    """Return what is wrong with a DNS-1123 label."""
    return [] if len(text) <= 63 and _DNS_LABEL.fullmatch(text) else [f"must be {LABEL}"]


def dns1035_label(text: str) -> list[str]:
    """Return what is wrong with a DNS-1035 label."""
    return [] if len(text) <= 63 and _DNS_1035.fullmatch(text) else [f"must be {LABEL_1035}"]


def label_value(text: str) -> list[str]:
    """Return what is wrong with the value of a label."""
    return (
        [] if text == "" or (len(text) <= 63 and _QUALIFIED.fullmatch(text)) else [f"must be {LABEL_VALUE}"]
    )


def qualified_name(text: str) -> list[str]:
    """Return what is wrong with a key of a label or an annotation."""
    prefix, slash, name = text.rpartition("/")
    good = len(name) <= 63 and _QUALIFIED.fullmatch(name) and (not slash or not dns1123_subdomain(prefix))
    return [] if good else [f"must be {QUALIFIED}"]
