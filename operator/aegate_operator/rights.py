"""Every verb that the operator uses, on every resource: the chart's Role is this list, and no ``*`` is in it.

Secrets are not in it: listeners mount theirs and report what is missing. Nothing is updated or patched that is not
named here; children go by owner reference, which needs ``update`` on the owner's finalizers
(OwnerReferencesPermissionEnforcement).
"""

from __future__ import annotations

from dataclasses import dataclass

from aegate_core.stores.cluster.kinds import (
    APPLICATION_ENTITY,
    CONFIG_MAP,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    EVENT,
    IMAGE_ROUTE,
    JOB,
    NETWORK_POLICY,
    PATIENT_PARTITION,
    POD,
    SERVICE,
    VOLUME_CLAIM,
    Kind,
)

_READ = ("get", "list", "watch")
_WRITE = ("create", "patch")
"""Server-side apply of what is not there yet asks for create, too."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a Role."""

    group: str
    resource: str
    verbs: tuple[str, ...]


def _rule(kind: Kind, *verbs: str, subresource: str = "") -> Rule:
    resource = f"{kind.plural}/{subresource}" if subresource else kind.plural
    return Rule(kind.group, resource, verbs)


RULES: tuple[Rule, ...] = (
    _rule(APPLICATION_ENTITY, *_READ),
    *(_rule(kind, "list", "watch") for kind in (IMAGE_ROUTE, PATIENT_PARTITION)),
    *(
        _rule(kind, "patch", subresource="status")
        for kind in (APPLICATION_ENTITY, IMAGE_ROUTE, PATIENT_PARTITION)
    ),
    _rule(APPLICATION_ENTITY, "update", subresource="finalizers"),
    *(
        _rule(kind, *_READ, *_WRITE, "delete")
        for kind in (DEPLOYMENT, SERVICE, CONFIG_MAP, NETWORK_POLICY, DISRUPTION_BUDGET, VOLUME_CLAIM, JOB)
    ),
    _rule(POD, "list", "watch", "patch"),
    _rule(EVENT, "create"),
)
