"""Spools that nobody fills any more: a Job takes what is left into the index, and only then the claim goes.

Whoever deletes an ApplicationEntity deletes no image. The claim has no owner for that reason; what was acknowledged and
is not in the index yet lies in it, perhaps because the database is away.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import ClusterConflict, ClusterNotFound
from aegate_core.events import SPOOL_DRAINED, SPOOL_DRAINING, Log
from aegate_core.resources.yaml_tree import members
from aegate_core.stores.cluster.client import ClusterClient, Manifest, key_of
from aegate_core.stores.cluster.kinds import JOB, VOLUME_CLAIM
from aegate_operator.cache import Cache, Family, is_controlled_by
from aegate_operator.installation import Installation
from aegate_operator.manifests import drain_job, entity_of

log = Log("operator")


class Drainer:
    """Looks at the claims of one AE, or of one that is gone."""

    def __init__(self, client: ClusterClient, cache: Cache, installation: Installation) -> None:
        self._client = client
        self._cache = cache
        self._installation = installation

    async def look(self, family: Family, entity: str, *, is_filled: bool, is_kept: bool) -> int:
        """Do the next step for each claim; return how many objects were written.

        ``is_filled``: pods of a listener write into it, or will. ``is_kept``: it stays when it is empty. Raises
        ClusterError: the same again, later.
        """
        written = 0
        for claim in self._claims(family, entity):
            job = self._job(claim)
            if is_filled or _is_leaving(claim):
                written += await self._end(job)
            else:
                written += await self._empty(claim, job, is_kept=is_kept)
        return written

    def _claims(self, family: Family, entity: str) -> list[Manifest]:
        children = self._cache.children(family)
        return [m for kind, m in children if kind == VOLUME_CLAIM and entity_of(m) == entity]

    def _job(self, claim: Manifest) -> Manifest | None:
        wished = drain_job(claim, self._installation)
        return self._cache.get(JOB, ResourceKey(key_of(claim).namespace, wished.name))

    async def _empty(self, claim: Manifest, job: Manifest | None, *, is_kept: bool) -> int:
        key = key_of(claim)
        if not _was_ever_bound(claim) or (job is not None and _is_complete(job)):
            if is_kept:
                return 0
            with contextlib.suppress(ClusterNotFound):
                await self._client.delete(VOLUME_CLAIM, key, uid=_uid(claim))
            log(SPOOL_DRAINED, namespace=key.namespace, name=entity_of(claim))
            return 1
        if job is not None:
            if not is_controlled_by(job, _uid(claim)):
                raise ClusterConflict(
                    f"Job {key_of(job)} is not this claim's: delete or rename it, or what {key} holds stays out "
                    "of the index"
                )
            return 0
        wished = drain_job(claim, self._installation)
        self._cache.put(JOB, await self._client.apply(JOB, dict(wished.manifest)))
        log(SPOOL_DRAINING, namespace=key.namespace, name=entity_of(claim))
        return 1

    async def _end(self, job: Manifest | None) -> int:
        """Remove the Job of a spool that is filled again, or of a claim that goes, which waits for ended pods."""
        if job is None or _is_leaving(job):
            return 0
        with contextlib.suppress(ClusterNotFound):
            await self._client.delete(JOB, key_of(job), uid=_uid(job))
        return 1


def _was_ever_bound(claim: Mapping[str, object]) -> bool:
    """Whether there can be anything in it."""
    return members(claim.get("status")).get("phase") != "Pending"


def _is_complete(job: Mapping[str, object]) -> bool:
    conditions = members(job.get("status")).get("conditions")
    return any(
        members(c).get("type") == "Complete" and members(c).get("status") == "True"
        for c in (conditions if isinstance(conditions, list) else [])
    )


def _is_leaving(manifest: Mapping[str, object]) -> bool:
    return bool(members(manifest["metadata"]).get("deletionTimestamp"))


def _uid(manifest: Mapping[str, object]) -> str:
    return str(members(manifest["metadata"]).get("uid", ""))
