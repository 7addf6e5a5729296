"""The pods of a Job that empties a spool are called by nobody: its NetworkPolicy is made with it, and mended.

It comes after the Job, which owns it. A policy that cannot be written keeps no image out of the index.
"""

from __future__ import annotations

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import ClusterConflict, ClusterNotFound
from aegate_core.stores.cluster.client import ClusterClient, Manifest, key_of
from aegate_core.stores.cluster.kinds import JOB, NETWORK_POLICY
from aegate_operator.cache import Cache, controller_of
from aegate_operator.compare import differences, stamped
from aegate_operator.manifests import drain_policy


async def close_off(client: ClusterClient, cache: Cache, job: Manifest) -> int:
    """See that a Job as it is in the cluster has its NetworkPolicy; return how many objects were written.

    Raises ClusterError: the same again, later.
    """
    child = drain_policy(job)
    wished, key = stamped(child.manifest), ResourceKey(key_of(job).namespace, child.name)
    live = cache.get(NETWORK_POLICY, key)
    if live is not None and not any(differences(wished, live)):
        return 0
    await _refuse_stranger(client, key, whose=f"{JOB.name}/{key_of(job).name}")
    cache.put(NETWORK_POLICY, await client.apply(NETWORK_POLICY, wished))
    return 1


async def _refuse_stranger(client: ClusterClient, key: ResourceKey, *, whose: str) -> None:
    """Raise ClusterConflict when the policy is not that Job's, or of an earlier one of its name."""
    try:
        live = await client.get(NETWORK_POLICY, key)
    except ClusterNotFound:
        return
    if controller_of(live) == whose:
        return
    raise ClusterConflict(f"NetworkPolicy {key} is not of {whose} and is left alone: delete or rename it")
