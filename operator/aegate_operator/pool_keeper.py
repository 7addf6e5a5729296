"""Keeps the ConfigMaps of the pools as the AEs are, and knows of each AE in a pool whether it is served."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import ClusterError, ClusterNotFound, ClusterRefused, ClusterUnavailable
from aegate_core.events import CHILD_APPLIED, CHILD_PRUNED, Log
from aegate_core.resources.reference import ResourceRef
from aegate_core.resources.values import ApplicationEntity
from aegate_core.stores.cluster.client import Manifest, key_of
from aegate_core.stores.cluster.kinds import APPLICATION_ENTITY, CONFIG_MAP, SERVICE
from aegate_operator.cache import is_leaving, uid_of
from aegate_operator.children import ChildWriter
from aegate_operator.compare import differences, stamped
from aegate_operator.endpoint import endpoint_of
from aegate_operator.installation import Pool
from aegate_operator.observe import Facts
from aegate_operator.pool_leftovers import PoolLeftovers
from aegate_operator.pools import (
    ADDRESS_S,
    SOON_S,
    Lines,
    PoolView,
    Told,
    checked,
    config_map,
    config_map_key,
    family_of_pool,
    file_of,
    is_shared,
    line_of,
    missing_pool,
    placed,
    pool_of,
    pool_ref,
    share_in,
    share_of,
    told_by,
)
from aegate_operator.reports import stand
from aegate_operator.surface import Surface

log = Log("operator")


class PoolKeeper:
    """One view a pool; every pool is looked at by itself, like a resource."""

    def __init__(
        self, surface: Surface, children: ChildWriter, facts_of: Callable[[ResourceKey], Facts | None]
    ) -> None:
        self._client = surface.client
        self._cache = surface.cache
        self._declared = surface.declared
        self._reports = surface.reports
        self._enqueue = surface.enqueue
        self._installation = installation = surface.installation
        self._children = children
        self._leftovers = PoolLeftovers(surface.client, surface.cache, surface.installation, surface.enqueue)
        self._facts_of = facts_of
        self._wrong: Mapping[ResourceRef, str] = {}
        self._views = {
            pool.name: PoolView(pool, endpoint="" if pool.service else pool.endpoint)
            for pool in installation.pools.values()
        }

    def look(self, ae: ApplicationEntity) -> Facts | None:
        """Return how the listener of an AE is that has a place in a pool, None for another; have its pool told."""
        pool = pool_of(ae, self._installation) if is_shared(ae) else None
        self.left(ae.key, but=pool)
        if pool is None:
            return missing_pool(ae, self._installation) if is_shared(ae) else None
        view, line = self._views[pool.name], line_of(ae, pool, self._installation)
        if not view.is_told(ae.key, line):
            self._soon(pool)
        return view.facts(ae, line)

    def endpoint(self, ae: ApplicationEntity) -> str:
        """Return where the device reaches its pool; empty when it has none."""
        pool = pool_of(ae, self._installation) if is_shared(ae) else None
        return self._views[pool.name].endpoint if pool else ""

    def left(self, key: ResourceKey, *, but: Pool | None = None) -> None:
        """Have the pools told that an AE has no place there any more."""
        for view in self._views.values():
            if view.pool != but and view.is_told_of(key):
                self._soon(view.pool)

    async def reconcile(self, name: str) -> bool:
        """Write what differs, ask the pods, and have those AEs looked at of which something else is true now.

        Raises ClusterUnavailable, and ClusterRefused when not all could be written: the same again, later.
        """
        pool = self._installation.pools.get(name)
        if pool is None:
            return await self._leftovers.clear(name) > 0
        view, family = self._views[name], family_of_pool(pool, self._installation)
        if not all(self._declared.has_judged(_ref(ae.key)) for ae in self._members(pool)):
            self._soon(pool)  # right after a start: what may not be put in force is not known yet
            return False
        self._wrong = self._declared.wrong()
        has_moved = await self._find(view)
        told = self._see(view)
        live = {share: this.lines for share, this in told.items()}
        lines = placed(dict(self._lines(pool, live)), live, pool, view.has_moved)
        written, troubles = 0, dict[int, str]()
        for share in sorted(lines.keys() | live.keys()):
            try:
                written += await self._write(pool, share, lines.get(share))
            except ClusterUnavailable:
                raise
            except ClusterError as error:
                troubles[share] = error.message
        view.troubles = troubles
        if written:
            told = self._see(view)
        pods = self._cache.pods(family)
        wished = stand("", {file_of(share): this.revision for share, this in told.items() if this.revision})
        self._reports.watch(family, pods, wished)
        written += await self._children.hurry(pods, self._reports.of(pods), wished)
        for ae in self._members(pool):
            facts = None if has_moved or ae.suspend else view.facts(ae, line_of(ae, pool, self._installation))
            if has_moved or (facts is not None and facts != self._facts_of(ae.key)):
                self._enqueue(_ref(ae.key))
        # After all that AEs wait for: what is refused here keeps none of them out.
        written += await self._clear_claim(pool)
        if troubles:
            raise ClusterRefused(" ".join(troubles.values()))
        return written > 0

    async def _clear_claim(self, pool: Pool) -> int:
        """Empty the claim that a pool had before it lived without one; whose claim is filled needs no such Job."""
        if not pool.waits_for_index:
            return await self._leftovers.come_back(pool.name)
        return await self._leftovers.clear_claim(pool.name)

    async def _find(self, view: PoolView) -> bool:
        """Learn where devices reach a pool whose Service alone knows; return whether that is another place now."""
        pool, before = view.pool, view.endpoint
        if not pool.service:
            return False
        try:
            live = await self._client.get(SERVICE, ResourceKey(self._installation.namespace, pool.service))
            view.endpoint = endpoint_of(live)
        except ClusterNotFound:
            view.endpoint = ""
        if not view.endpoint:
            self._enqueue(pool_ref(pool.name, self._installation), delay_s=ADDRESS_S)
        return view.endpoint != before

    def _see(self, view: PoolView) -> dict[int, Told]:
        """Take note of what the pool is told and how its pods are; return what it is told, by ConfigMap."""
        family, told = family_of_pool(view.pool, self._installation), dict[int, Told]()
        for _, manifest in self._cache.children(family, CONFIG_MAP):
            share = share_in(key_of(manifest).name, view.pool)
            if share is not None and not is_leaving(manifest):
                told[share] = told_by(manifest, share, view.shares[share].known)
        pods = self._cache.pods(family)
        view.see(pods.values(), self._reports.of(pods), told)
        return told

    def _lines(self, pool: Pool, live: Mapping[int, Lines]) -> Iterator[tuple[ResourceKey, str]]:
        """Give what is wished of each AE; one that is suspended, or cannot be put in force, stays as it is told now."""
        kept = dict(self._kept(pool, live))
        yield from kept.items()
        for ae in self._members(pool):
            owner = self._declared.neighbours.owner(ae.title)
            if ae.key not in kept and not self._is_frozen(ae.key) and (owner is None or owner.key == ae.key):
                yield ae.key, line_of(ae, pool, self._installation)

    def _kept(self, pool: Pool, live: Mapping[int, Lines]) -> Iterator[tuple[ResourceKey, str]]:
        """Give what is told now of AEs that are there and are left as they are; last, where they belong."""
        for is_home in (False, True):
            for share, lines in live.items():
                for key, line in lines.items():
                    is_there = self._cache.has(APPLICATION_ENTITY, key)
                    if is_there and self._is_frozen(key) and (share == share_of(key, pool)) == is_home:
                        yield key, line

    def _is_frozen(self, key: ResourceKey) -> bool:
        """Whether an AE is suspended, cannot be read, or is refused by a rule."""
        ae = self._declared.get(_ref(key))
        return not isinstance(ae, ApplicationEntity) or ae.suspend or _ref(key) in self._wrong

    def _members(self, pool: Pool) -> Iterator[ApplicationEntity]:
        for ae in self._declared.entities():
            if is_shared(ae) and pool_of(ae, self._installation) == pool:
                yield ae

    async def _write(self, pool: Pool, share: int, lines: Mapping[ResourceKey, str] | None) -> int:
        """Make a ConfigMap hold these lines; None: it is to go. Return how many objects were written."""
        key = config_map_key(pool, share, self._installation)
        live = self._cache.get(CONFIG_MAP, key)
        if lines is None:
            return await self._remove(live) if live is not None else 0
        wished = checked(pool, share, config_map(pool, share, lines, self._installation))
        if live is not None and not any(differences(stamped(wished), live)):
            return 0
        self._cache.put(CONFIG_MAP, await self._client.apply(CONFIG_MAP, stamped(wished)))
        change = "created" if live is None else "updated"
        log(CHILD_APPLIED, kind="ConfigMap", namespace=key.namespace, name=key.name, change=change)
        return 1

    async def _remove(self, live: Manifest) -> int:
        key = key_of(live)
        with contextlib.suppress(ClusterNotFound):
            await self._client.delete(CONFIG_MAP, key, uid=uid_of(live))
        self._cache.remove(CONFIG_MAP, live)
        log(CHILD_PRUNED, kind="ConfigMap", namespace=key.namespace, name=key.name)
        return 1

    def _soon(self, pool: Pool) -> None:
        self._enqueue(pool_ref(pool.name, self._installation), delay_s=SOON_S)


def _ref(key: ResourceKey) -> ResourceRef:
    return ResourceRef(APPLICATION_ENTITY.name, key)
