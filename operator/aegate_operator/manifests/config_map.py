"""The ConfigMap: the listener's configuration file, which the running listener takes up when it changes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from aegate_core.decisions.listener_config import ListenerDefaults, dedicated_config
from aegate_core.resources.values import ApplicationEntity
from aegate_operator.installation import Installation
from aegate_operator.manifests.child import Child, child
from aegate_operator.manifests.places import CONFIG_FILE, CONTAINER_PORT, SECRETS, SPOOL
from aegate_operator.manifests.wish import grace_s, waits_for_index


def config_map(ae: ApplicationEntity, installation: Installation) -> Child:
    """Return the ConfigMap."""
    template = installation.listener
    defaults = ListenerDefaults(
        spool=SPOOL,
        secrets=SECRETS,
        host=template.host,
        shared_port=CONTAINER_PORT,
        called_title=installation.title,
        grace_s=grace_s(ae, installation),
        index_wait_s=template.index_wait_s,
    )
    if waits_for_index(ae, installation):
        ae = replace(ae, listener=replace(ae.listener, acknowledge="Indexed"))
    config = dedicated_config(ae, defaults, generation=ae.metadata.generation)
    return child(ae, "v1", "ConfigMap", {"data": {CONFIG_FILE: config.to_json()}})


def revision(manifest: Mapping[str, object]) -> str:
    """Return what a listener reports when it has loaded this ConfigMap: the SHA-256 of its configuration file."""
    data = manifest.get("data")
    text = data.get(CONFIG_FILE, "") if isinstance(data, Mapping) else ""
    return hashlib.sha256(str(text).encode()).hexdigest()
