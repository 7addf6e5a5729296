"""What a pool leaves when it is taken out of the chart's values: emptied by a Job, and only then removed.

Helm removes the pool's pods and keeps its claim. The pool's ConfigMaps stay until the end: by them an operator that
starts later finds that there is something left. What would surprise: the Job runs for a pool without a volume, too. Its
pods spoke to the index under one name, and whoever empties the spool takes that name back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from aegate_core.errors import ClusterNotFound
from aegate_core.events import CHILD_PRUNED, POOL_CLEARED, SPOOL_DRAINING, Log
from aegate_core.resources.yaml_tree import members
from aegate_core.stores.cluster.client import ClusterClient, Manifest, key_of
from aegate_core.stores.cluster.kinds import CONFIG_MAP, DEPLOYMENT, JOB, POD, VOLUME_CLAIM, Kind
from aegate_operator.cache import Cache, is_controlled_by, is_leaving, uid_of
from aegate_operator.closing_off import close_off
from aegate_operator.compare import stamped
from aegate_operator.draining import can_hold_anything, is_complete, stamp_of
from aegate_operator.installation import Installation, Pool
from aegate_operator.manifests.child import POOL_LABEL
from aegate_operator.manifests.drain import pool_claim_key, pool_drain_job, pool_drain_key
from aegate_operator.pods import claims_of, pool_family, read_pod
from aegate_operator.pools import pool_ref, share_in
from aegate_operator.surface import Enqueue

AGAIN_S = 10.0
"""When to look again at a pool whose Deployment is still there: no watch tells of the chart's own."""

log = Log("operator")


class PoolLeftovers:
    """Looks at one pool at a time that is not among the installation's."""

    def __init__(
        self, client: ClusterClient, cache: Cache, installation: Installation, enqueue: Enqueue
    ) -> None:
        self._client = client
        self._cache = cache
        self._installation = installation
        self._enqueue = enqueue
        self._at_work: set[str] = set()
        """Jobs, by uid, that were seen at work: the word of one that had ended before says nothing of what a pool
        has written that came and went since."""

    async def come_back(self, name: str) -> int:
        """Remove the Job of a pool that is there: its word would count for what comes. Return how many went."""
        job = self._cache.get(JOB, pool_drain_key(name, self._installation))
        return await self._remove(JOB, job) if job is not None and not is_leaving(job) else 0

    async def clear(self, name: str) -> int:
        """Do the next step for a pool that is gone; return how many objects were written.

        Raises ClusterError: the same again, later.
        """
        family = pool_family(self._installation.namespace, name)
        maps = [
            manifest
            for kind, manifest in self._cache.children(family)
            if kind == CONFIG_MAP and share_in(key_of(manifest).name, Pool(name, "")) is not None
        ]
        job = self._cache.get(JOB, pool_drain_key(name, self._installation))
        if not maps and job is None:
            return 0
        if self._cache.pods(family) or await self._lives(name):
            return await self.come_back(name)
        claim = await self._claim(name)
        wished = self._wished(name, _held(claim), speaks_for_pool=True)
        step = await self._drain(wished, claim, job)
        if step is None and await self._lives(name):  # asked again: what came meanwhile may have filled it
            return await self.come_back(name)
        return await self._finish(name, claim, maps, job) if step is None else step

    async def clear_claim(self, name: str) -> int:
        """Do the next step for the claim of a pool that is there and lives without one now; return as `clear` does."""
        claim = await self._claim(name)
        job = self._cache.get(JOB, pool_drain_key(name, self._installation))
        if claim is None and job is None:
            return 0
        if await self._lives(name, mounts=True):
            return await self.come_back(name)
        held = _held(claim)
        if held is None and job is None:
            return 0 if claim is None or is_leaving(claim) else await self._finish(name, claim, (), None)
        wished = self._wished(name, held, speaks_for_pool=False)
        step = await self._drain(wished, claim, job)
        if step is None and await self._lives(name, mounts=True):
            return await self.come_back(name)
        return await self._finish(name, claim, (), job) if step is None else step

    async def _lives(self, name: str, *, mounts: bool = False) -> bool:
        """Ask the API server whether anything lives that fills the spool: perhaps the pool is another release's.

        ``mounts``: of what is the pool's that alone which has the claim.
        """
        key, labels = pool_claim_key(name, self._installation), f"{POOL_LABEL}={name}"
        deployments = await self._client.list(DEPLOYMENT, namespace=key.namespace, labels=labels)
        pods = await self._client.list(POD, namespace=key.namespace, labels=labels)
        templates = [members(members(m.get("spec")).get("template")) for m in deployments.items]
        others = [pod for pod in pods.items if not read_pod(pod).is_draining and not read_pod(pod).has_ended]
        filling = [m for m in (*templates, *others) if not mounts or key.name in claims_of(m)]
        if filling:
            self._enqueue(pool_ref(name, self._installation), delay_s=AGAIN_S)
        return bool(filling)

    async def _claim(self, name: str) -> Manifest | None:
        try:
            return await self._client.get(VOLUME_CLAIM, pool_claim_key(name, self._installation))
        except ClusterNotFound:
            return None

    def _wished(self, name: str, claim: Manifest | None, *, speaks_for_pool: bool) -> Manifest:
        return stamped(pool_drain_job(name, claim, self._installation, speaks_for_pool=speaks_for_pool))

    async def _drain(self, wished: Manifest, claim: Manifest | None, job: Manifest | None) -> int | None:
        """See that a Job empties the spool; return how many objects were written, or None when nothing is left."""
        if job is None:
            live = await self._client.apply(JOB, wished)
            if not is_complete(live):
                self._at_work.add(uid_of(live))
            self._cache.put(JOB, live)
            key = key_of(live)
            log(SPOOL_DRAINING, namespace=key.namespace, name=key.name)
            return 1 + await close_off(self._client, self._cache, live)
        if is_leaving(job):
            return 0
        if not self._counts(job, wished, claim):
            return await self._remove(JOB, job)
        if await self._has_emptied(job):
            return None
        return await close_off(self._client, self._cache, job)

    def _counts(self, job: Manifest, wished: Manifest, claim: Manifest | None) -> bool:
        """Whether a Job is of this claim, as it would be made now, and its word counts."""
        if claim is not None and is_leaving(claim) and is_controlled_by(job, uid_of(claim)):
            return True
        if not is_complete(job):
            self._at_work.add(uid_of(job))
        return uid_of(job) in self._at_work and stamp_of(job) == stamp_of(wished)

    async def _has_emptied(self, job: Manifest) -> bool:
        """Ask the API server whether the Job says that nothing is left; it is not merely being removed."""
        if is_leaving(job) or not is_complete(job):
            return False
        try:
            live = await self._client.get(JOB, key_of(job))
        except ClusterNotFound:
            return False
        return uid_of(live) == uid_of(job) and is_complete(live) and not is_leaving(live)

    async def _finish(
        self, name: str, claim: Manifest | None, maps: Sequence[Manifest], job: Manifest | None
    ) -> int:
        """Remove claim, ConfigMaps and Job, in this order: a claim waits for the Job's ended pods."""
        written = 0
        if claim is not None and not is_leaving(claim):
            version = str(members(claim["metadata"]).get("resourceVersion", ""))
            with contextlib.suppress(ClusterNotFound):
                await self._client.delete(
                    VOLUME_CLAIM, key_of(claim), uid=uid_of(claim), resource_version=version
                )
            written += 1
        for config_map in maps:
            written += await self._remove(CONFIG_MAP, config_map)
        if job is not None:
            written += await self._remove(JOB, job)
        log(POOL_CLEARED, namespace=self._installation.namespace, pool=name)
        return written

    async def _remove(self, kind: Kind, manifest: Manifest) -> int:
        key = key_of(manifest)
        with contextlib.suppress(ClusterNotFound):
            await self._client.delete(kind, key, uid=uid_of(manifest))
        self._cache.remove(kind, manifest)
        log(CHILD_PRUNED, kind=kind.name, namespace=key.namespace, name=key.name)
        return 1


def _held(claim: Manifest | None) -> Manifest | None:
    """Return a claim in which something may lie; not one that goes already, or never had a volume."""
    return claim if claim is not None and not is_leaving(claim) and can_hold_anything(claim) else None
