"""All children of an ApplicationEntity."""

from __future__ import annotations

from collections.abc import Iterator

from aegate_core.resources.values import ApplicationEntity
from aegate_operator.installation import Installation
from aegate_operator.manifests import wish
from aegate_operator.manifests.child import Child
from aegate_operator.manifests.config_map import config_map
from aegate_operator.manifests.deployment import deployment
from aegate_operator.manifests.disruption_budget import disruption_budget
from aegate_operator.manifests.network_policy import network_policy
from aegate_operator.manifests.service import service
from aegate_operator.manifests.spool import spool_claim


def children(ae: ApplicationEntity, installation: Installation) -> tuple[Child, ...]:
    """Return what there should be, in the order in which it is applied: what a pod needs comes before it.

    A disabled AE keeps its address and what its spool holds: Service and claim. An AE without a listener of its own
    has no children; a claim that it once had is drained, never just deleted.
    """
    if wish.has_listener(ae):
        return tuple(_children(ae, installation))
    return tuple(_kept(ae, installation)) if wish.is_disabled(ae) else ()


def _kept(ae: ApplicationEntity, installation: Installation) -> Iterator[Child]:
    if claim := spool_claim(ae, installation):
        yield claim
    yield service(ae, installation)


def _children(ae: ApplicationEntity, installation: Installation) -> Iterator[Child]:
    if claim := spool_claim(ae, installation):
        yield claim
    yield config_map(ae, installation)
    if ae.network_policy != "Disabled":
        yield network_policy(ae, installation)
    yield service(ae, installation)
    yield deployment(ae, installation)
    if wish.replicas(ae, installation) > 1:
        yield disruption_budget(ae)


def remarks(ae: ApplicationEntity, installation: Installation) -> tuple[str, ...]:
    """Return sentences for people about what the listener is; for the message of a condition."""
    return tuple(wish.remarks(ae, installation)) if wish.has_listener(ae) else ()
