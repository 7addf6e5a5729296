"""Spools that nobody fills any more: a Job takes what is left into the index, and only then the claim goes.

Whoever deletes an ApplicationEntity deletes no image. The claim has no owner for that reason; what was acknowledged and
is not in the index yet lies in it, perhaps because the database is away. Deleting a claim cannot be taken back, so
before that the API server itself is asked, not what the watches have told.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import ClusterConflict, ClusterNotFound
from aegate_core.events import SPOOL_DRAINED, SPOOL_DRAINING, Log
from aegate_core.resources.yaml_tree import members
from aegate_core.stores.cluster.client import ClusterClient, Manifest, key_of
from aegate_core.stores.cluster.kinds import APPLICATION_ENTITY, DEPLOYMENT, JOB, POD, VOLUME_CLAIM
from aegate_operator.cache import Cache, Family, is_controlled_by, is_leaving, uid_of
from aegate_operator.closing_off import close_off
from aegate_operator.compare import WISHED, stamped
from aegate_operator.installation import Installation
from aegate_operator.manifests import Child, drain_job, entity_of
from aegate_operator.manifests.child import AE_LABEL, base_name
from aegate_operator.pods import claims_of, read_pod

log = Log("operator")


class Drainer:
    """Looks at the claims of one AE, or of one that is gone."""

    def __init__(self, client: ClusterClient, cache: Cache, installation: Installation) -> None:
        self._client = client
        self._cache = cache
        self._installation = installation

    async def stop(self, family: Family, entity: str, wished: Sequence[Child]) -> int:
        """Remove the Jobs of claims that are to be filled again, before anybody does; return how many.

        Raises ClusterError: then nobody may fill them yet, or the Job's word from before would count for what comes.
        """
        filled = _mounted_by(wished)
        claims = [c for c in self._claims(family, entity) if key_of(c).name in filled]
        return sum([await self._end(self._job(claim)) for claim in claims])

    async def look(self, family: Family, entity: str, wished: Sequence[Child]) -> int:
        """Do the next step for each claim; return how many objects were written.

        Raises ClusterError: the same again, later.
        """
        kept = {child.name for child in wished if child.kind == VOLUME_CLAIM.name}
        filled = self._filled(family) | _mounted_by(wished)
        written = 0
        for claim in self._claims(family, entity):
            name, job = key_of(claim).name, self._job(claim)
            if name in filled or is_leaving(claim):
                written += await self._end(job)
            else:
                written += await self._empty(claim, job, family, is_kept=name in kept)
        return written

    def _filled(self, family: Family) -> set[str]:
        """Return the claims that pods of a listener mount, or will."""
        deployments = [m for _, m in self._cache.children(family, DEPLOYMENT)]
        templates = [members(members(m.get("spec")).get("template")) for m in deployments]
        mounted = [*map(claims_of, templates), *(pod.claims for pod in self._cache.pods(family).values())]
        return set().union(*mounted)

    def _claims(self, family: Family, entity: str) -> list[Manifest]:
        name = f"{base_name(entity)}-spool"
        claims = (m for _, m in self._cache.children(family, VOLUME_CLAIM))
        return [m for m in claims if (entity_of(m), key_of(m).name) == (entity, name)]

    def _job(self, claim: Manifest) -> Manifest | None:
        wished = drain_job(claim, self._installation)
        return self._cache.get(JOB, ResourceKey(key_of(claim).namespace, wished.name))

    async def _empty(self, claim: Manifest, job: Manifest | None, family: Family, *, is_kept: bool) -> int:
        key = key_of(claim)
        if job is not None and not is_controlled_by(job, uid_of(claim)):
            if is_leaving(job):
                return 0
            raise ClusterConflict(
                f"Job {key_of(job)} is not this claim's: delete it, or what {key} holds stays out of the index"
            )
        if not can_hold_anything(claim):
            return 0 if is_kept else await self._remove(claim, family)
        wished = stamped(drain_job(claim, self._installation).manifest)
        if job is None:
            made = await self._client.apply(JOB, wished)
            self._cache.put(JOB, made)
            log(SPOOL_DRAINING, namespace=key.namespace, name=entity_of(claim))
            return 1 + await close_off(self._client, self._cache, made)
        if not is_complete(job):  # a Job cannot be changed: one of another image or Secret is another Job
            if stamp_of(job) != stamp_of(wished):
                return await self._end(job)
            return 0 if is_leaving(job) else await close_off(self._client, self._cache, job)
        if is_kept or is_leaving(job):
            return 0
        live = await self._client.get(JOB, key_of(job))
        if not is_complete(live) or is_leaving(live) or not is_controlled_by(live, uid_of(claim)):
            return 0
        return await self._remove(claim, family)

    async def _remove(self, claim: Manifest, family: Family) -> int:
        """Delete a claim that holds nothing, as it is known: a change in between is another look."""
        key = key_of(claim)
        if await self._is_in_use(claim, family):
            return 0
        version = str(members(claim["metadata"]).get("resourceVersion", ""))
        with contextlib.suppress(ClusterNotFound):
            await self._client.delete(VOLUME_CLAIM, key, uid=uid_of(claim), resource_version=version)
        log(SPOOL_DRAINED, namespace=key.namespace, name=entity_of(claim))
        return 1

    async def _is_in_use(self, claim: Manifest, family: Family) -> bool:
        """Ask the API server whether the AE is there again, or a pod of it still runs: the watches may be behind."""
        key, entity = key_of(claim), ResourceKey(family.namespace, entity_of(claim))
        known = self._cache.get(APPLICATION_ENTITY, entity)
        try:
            live: Manifest | None = await self._client.get(APPLICATION_ENTITY, entity)
        except ClusterNotFound:
            live = None
        if (live and uid_of(live)) != (known and uid_of(known)):
            return True
        pods = await self._client.list(POD, namespace=key.namespace, labels=f"{AE_LABEL}={family.name}")
        return any(key.name in pod.claims for pod in map(read_pod, pods.items) if not pod.is_draining)

    async def _end(self, job: Manifest | None) -> int:
        """Remove the Job of a spool that is filled again, or of a claim that goes, which waits for ended pods."""
        if job is None or is_leaving(job):
            return 0
        with contextlib.suppress(ClusterNotFound):
            await self._client.delete(JOB, key_of(job), uid=uid_of(job))
        self._cache.remove(JOB, job)
        return 1


def _mounted_by(wished: Sequence[Child]) -> set[str]:
    """Return the claims that a wished Deployment's pods mount."""
    found: set[str] = set()
    for child in wished:
        if child.kind == DEPLOYMENT.name:
            found |= claims_of(members(members(child.manifest["spec"]).get("template")))
    return found


def can_hold_anything(claim: Mapping[str, object]) -> bool:
    """Whether it has, or had, a volume; one that was restored names it before it is bound."""
    spec = members(claim.get("spec"))
    is_bound = members(claim.get("status")).get("phase") != "Pending"
    return is_bound or any(spec.get(name) for name in ("volumeName", "dataSource", "dataSourceRef"))


def stamp_of(manifest: Mapping[str, object]) -> object:
    """Return the digest of what was wished when an object was applied last."""
    return members(members(manifest.get("metadata")).get("annotations")).get(WISHED)


def is_complete(job: Mapping[str, object]) -> bool:
    """Whether a Job says that nothing is left."""
    conditions = members(job.get("status")).get("conditions")
    return any(
        members(c).get("type") == "Complete" and members(c).get("status") == "True"
        for c in (conditions if isinstance(conditions, list) else [])
    )
