"""The PodDisruptionBudget: a node's drain takes one pod at a time."""

from __future__ import annotations

from aegate_core.resources.values import ApplicationEntity
from aegate_operator.manifests.child import Child, child, selector


def disruption_budget(ae: ApplicationEntity) -> Child:
    """Return the budget; only for two replicas and more: with one it would hold up the drain for ever.

    A pod that is not ready anyway may always go: else a listener that waits for its certificate would keep a node.
    """
    spec = {
        "maxUnavailable": 1,
        "selector": {"matchLabels": selector(ae)},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return child(ae, "policy/v1", "PodDisruptionBudget", {"spec": spec})
