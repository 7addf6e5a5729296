"""What a pod's manifest says of a container, for a process of this machine: its command, environment and paths.

A process here sees this machine's files. Where its arguments, its environment or a ConfigMap's file name a path
below one of its mounts, they get the folder that the mount is here instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Manifest = Mapping[str, Any]

_VARIABLE = re.compile(r"\$(\$|\(([A-Za-z_.-][\w.-]*)\))")


class NotYet(Exception):
    """A pod cannot start a container now: the reason and message of its waiting state, as kubelet has them."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Sources:
    """What an environment may refer to: data of the namespace, or None when there is no such object."""

    config_map: Callable[[str], Mapping[str, str] | None]
    secret: Callable[[str], Mapping[str, str] | None]
    pod: Manifest
    """With ``status.podIP`` and ``status.hostIP`` as they are to be."""


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """Return ``text`` with ``$(NAME)`` replaced, as Kubernetes does: ``$$`` is ``$``, the unknown stays."""

    def value(found: re.Match[str]) -> str:
        return "$" if found[1] == "$" else variables.get(found[2], found[0])

    return _VARIABLE.sub(value, text)


def localized(text: str, mounts: Mapping[str, Path]) -> str:
    """Return ``text`` with each path of a mount replaced by its folder here."""
    for path in sorted(mounts, key=len, reverse=True):
        pattern = rf"(?:(?<=//)|(?<![\w./-])){re.escape(path)}(?![\w.-])"
        text = re.sub(pattern, str(mounts[path]).replace("\\", r"\\"), text)
    return text


def environment(container: Manifest, sources: Sources, base: Mapping[str, str]) -> dict[str, str]:
    """Return a container's environment over ``base``. Raises NotYet when what it refers to is missing."""
    found = dict(base)
    for source in container.get("envFrom", []):
        prefix = source.get("prefix", "")
        for kind in ("configMap", "secret"):
            if reference := source.get(f"{kind}Ref"):
                data = _data(kind, reference, sources)
                found |= {f"{prefix}{key}": value for key, value in data.items()}
    for variable in container.get("env", []):
        if "valueFrom" in variable:
            value = _value_from(variable["valueFrom"], sources)
        else:
            value = expanded(variable.get("value", ""), found)
        if value is not None:
            found[variable["name"]] = value
    return found


def command(container: Manifest, variables: Mapping[str, str], mounts: Mapping[str, Path]) -> list[str]:
    """Return what is run. Raises NotYet when the manifest leaves that to the image: there is none here."""
    words = [*container.get("command", []), *container.get("args", [])]
    if not container.get("command"):
        raise NotYet("RunContainerError", "spec.containers[].command must be given: here an image has none")
    return [localized(expanded(word, variables), mounts) for word in words]


def port_number(container: Manifest, port: int | str) -> int:
    """Return a port by number or name."""
    if isinstance(port, int) or port.isdecimal():
        return int(port)
    named = {p.get("name"): int(p["containerPort"]) for p in container.get("ports", [])}
    return named[port]


def field_value(pod: Manifest, path: str) -> str:
    """Return a field of the downward API: ``metadata.name``, ``status.podIP``, ``metadata.labels['x']``, …"""
    part, key = re.fullmatch(r"([\w.]+)(?:\['(.+)'\])?", path).groups()  # type: ignore[union-attr] # validated
    value: Any = pod
    for name in part.split("."):
        value = (value or {}).get(name)
    if key is not None:
        return str((value or {}).get(key, ""))
    if isinstance(value, Mapping):
        return "\n".join(f'{k}="{v}"' for k, v in sorted(value.items()))
    return "" if value is None else str(value)


def _value_from(reference: Manifest, sources: Sources) -> str | None:
    if field := reference.get("fieldRef"):
        return field_value(sources.pod, field["fieldPath"])
    for kind in ("configMap", "secret"):
        if key := reference.get(f"{kind}KeyRef"):
            data = _data(kind, key, sources)
            if key["key"] not in data and not key.get("optional"):
                where = f"{kind[0].upper()}{kind[1:]} {sources.pod['metadata']['namespace']}/{key['name']}"
                message = f"couldn't find key {key['key']} in {where}"
                raise NotYet("CreateContainerConfigError", message)
            return data.get(key["key"])
    raise NotYet("CreateContainerConfigError", f"not known here: env.valueFrom with {sorted(reference)}")


def _data(kind: str, reference: Manifest, sources: Sources) -> Mapping[str, str]:
    find = sources.config_map if kind == "configMap" else sources.secret
    data = find(reference["name"])
    if data is None and not reference.get("optional"):
        raise NotYet("CreateContainerConfigError", f'{kind.lower()} "{reference["name"]}" not found')
    return data or {}
