"""Where pods may run: what an ApplicationEntity says over the installation's own.

The Job that empties a spool runs when its AE is gone, and must be let onto the nodes that may have the volume. So what
the AE says is remembered on its claim.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from aegate_core.resources.values import ApplicationEntity
from aegate_core.resources.yaml_tree import members
from aegate_operator.installation import Installation
from aegate_operator.manifests.child import Manifest

PLACEMENT_ANNOTATION = "aegate.dev/placement"
"""On a claim: nodeSelector, tolerations and priorityClassName of its AE, as JSON."""
_FIELDS = ("nodeSelector", "tolerations", "priorityClassName")


def placement(wished: Mapping[str, object], installation: Installation) -> Manifest:
    """Return where a pod may run; ``wished`` is ``listener.pod``, or what was remembered of it."""
    template = installation.listener
    tolerations = wished.get("tolerations")
    nodes = {**template.node_selector, **members(wished.get("nodeSelector"))}
    tolerated = [*template.tolerations, *(tolerations if isinstance(tolerations, list) else ())]
    priority = wished.get("priorityClassName") or template.priority_class_name
    found: Manifest = {}
    if nodes:
        found["nodeSelector"] = nodes
    if tolerated:
        found["tolerations"] = [dict(t) for t in tolerated]
    if priority:
        found["priorityClassName"] = priority
    return found


def remembered(ae: ApplicationEntity) -> dict[str, str]:
    """Return the annotations for the claim of an AE; none where the AE says nothing of where its pods may run."""
    wished = {name: ae.listener.pod[name] for name in _FIELDS if ae.listener.pod.get(name)}
    return {PLACEMENT_ANNOTATION: json.dumps(wished, sort_keys=True)} if wished else {}


def recalled(claim: Mapping[str, object]) -> Mapping[str, object]:
    """Return what was remembered on a claim; nothing of it, where somebody has made something else of it."""
    annotations = members(members(claim.get("metadata")).get("annotations"))
    try:
        wished = members(json.loads(str(annotations.get(PLACEMENT_ANNOTATION, "{}"))))
    except (ValueError, RecursionError):
        return {}
    tolerations = wished.get("tolerations", [])
    is_whole = isinstance(tolerations, list) and all(isinstance(t, dict) for t in tolerations)
    return wished if is_whole else {}
