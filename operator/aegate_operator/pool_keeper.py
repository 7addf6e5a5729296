"""Keeps the ConfigMaps of the pools as the AEs are, and knows of each AE in a pool whether it is served."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import ClusterError, ClusterRefused, ClusterUnavailable
from aegate_core.events import CHILD_APPLIED, Log
from aegate_core.resources.reference import ResourceRef
from aegate_core.resources.values import ApplicationEntity
from aegate_core.resources.yaml_tree import members
from aegate_core.stores.cluster.kinds import APPLICATION_ENTITY, CONFIG_MAP
from aegate_operator.children import ChildWriter
from aegate_operator.compare import differences, stamped
from aegate_operator.installation import Pool
from aegate_operator.observe import Facts
from aegate_operator.pools import (
    SOON_S,
    PoolView,
    checked,
    config_map,
    config_map_key,
    family_of_pool,
    file_of,
    is_shared,
    line_of,
    lines_in,
    missing_pool,
    pool_of,
    pool_ref,
    share_of,
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
        self._facts_of = facts_of
        self._wrong: Mapping[ResourceRef, str] = {}
        self._views = {pool.name: PoolView(pool) for pool in installation.pools.values()}

    def look(self, ae: ApplicationEntity) -> Facts | None:
        """Return how the listener of an AE is that has a place in a pool, None for another; have its pool told."""
        pool = pool_of(ae, self._installation) if is_shared(ae) else None
        self.left(ae.key, but=pool)
        if pool is None:
            return missing_pool(ae, self._installation) if is_shared(ae) else None
        view, line = self._views[pool.name], line_of(ae, pool, self._installation)
        if view.shares[share_of(ae.key, pool)].wished.get(ae.key) != line:
            self._soon(pool)
        return view.facts(ae, line)

    def endpoint(self, ae: ApplicationEntity) -> str:
        """Return where the device reaches its pool; empty when it has none."""
        pool = pool_of(ae, self._installation) if is_shared(ae) else None
        return pool.endpoint if pool else ""

    def left(self, key: ResourceKey, *, but: Pool | None = None) -> None:
        """Have the pools told that an AE has no place there any more."""
        for view in self._views.values():
            if view.pool != but and key in view.shares[share_of(key, view.pool)].wished:
                self._soon(view.pool)

    async def reconcile(self, name: str) -> bool:
        """Write what differs, ask the pods, and have those AEs looked at of which something else is true now.

        Raises ClusterUnavailable, and ClusterRefused when not all could be written: the same again, later.
        """
        pool = self._installation.pools[name]
        view, family = self._views[name], family_of_pool(pool, self._installation)
        if not all(self._declared.has_judged(_ref(ae.key)) for ae in self._members(pool)):
            self._soon(pool)  # right after a start: what may not be put in force is not known yet
            return False
        self._wrong = self._declared.wrong()
        lines = [dict[ResourceKey, str]() for _ in range(pool.shares)]
        for key, line in self._lines(pool):
            lines[share_of(key, pool)][key] = line
        written, refusals = 0, list[str]()
        for share, told in enumerate(lines):
            try:
                written += await self._write(pool, share, told)
            except ClusterUnavailable:
                raise
            except ClusterError as error:
                view.refuse(share, error.message)
                refusals.append(error.message)
            else:
                view.wish(share, told)
        revisions = self._revisions(pool)
        pods, wished = self._cache.pods(family), stand("", revisions)
        self._reports.watch(family, pods, wished)
        reports = self._reports.of(pods)
        written += await self._children.hurry(pods, reports, wished)
        view.see(pods.values(), reports, revisions)
        for ae in self._members(pool):
            if not ae.suspend and view.facts(ae, line_of(ae, pool, self._installation)) != self._facts_of(
                ae.key
            ):
                self._enqueue(_ref(ae.key))
        if refusals:
            raise ClusterRefused(" ".join(refusals))
        return written > 0

    def _lines(self, pool: Pool) -> Iterator[tuple[ResourceKey, str]]:
        """Give what is wished of each AE; one that is suspended, or cannot be put in force, stays as it is told now."""
        kept = dict(self._kept(pool))
        yield from kept.items()
        for ae in self._members(pool):
            owner = self._declared.neighbours.owner(ae.title)
            if ae.key not in kept and not self._is_frozen(ae.key) and (owner is None or owner.key == ae.key):
                yield ae.key, line_of(ae, pool, self._installation)

    def _kept(self, pool: Pool) -> Iterator[tuple[ResourceKey, str]]:
        """Give what is told now of AEs that are there and are left as they are."""
        for share in range(pool.shares):
            live = self._cache.get(CONFIG_MAP, config_map_key(pool, share, self._installation))
            for key, line in lines_in(live, share).items():
                if self._cache.get(APPLICATION_ENTITY, key) is not None and self._is_frozen(key):
                    yield key, line

    def _is_frozen(self, key: ResourceKey) -> bool:
        """Whether an AE is suspended, cannot be read, or is refused by a rule."""
        ae = self._declared.get(_ref(key))
        return not isinstance(ae, ApplicationEntity) or ae.suspend or _ref(key) in self._wrong

    def _members(self, pool: Pool) -> Iterator[ApplicationEntity]:
        for ae in self._declared.entities():
            if is_shared(ae) and pool_of(ae, self._installation) == pool:
                yield ae

    async def _write(self, pool: Pool, share: int, lines: Mapping[ResourceKey, str]) -> int:
        wished = checked(pool, share, config_map(pool, share, lines, self._installation))
        key = config_map_key(pool, share, self._installation)
        live = self._cache.get(CONFIG_MAP, key)
        if live is not None and not any(differences(stamped(wished), live)):
            return 0
        self._cache.put(CONFIG_MAP, await self._client.apply(CONFIG_MAP, stamped(wished)))
        change = "created" if live is None else "updated"
        log(CHILD_APPLIED, kind="ConfigMap", namespace=key.namespace, name=key.name, change=change)
        return 1

    def _revisions(self, pool: Pool) -> dict[str, str]:
        """Return the revision of each file, as the ConfigMaps live."""
        found = {}
        for share in range(pool.shares):
            live = self._cache.get(CONFIG_MAP, config_map_key(pool, share, self._installation))
            data = members((live or {}).get("data"))
            if (text := data.get(file_of(share))) is not None:
                found[file_of(share)] = hashlib.sha256(str(text).encode()).hexdigest()
        return found

    def _soon(self, pool: Pool) -> None:
        self._enqueue(pool_ref(pool, self._installation), delay_s=SOON_S)


def _ref(key: ResourceKey) -> ResourceRef:
    return ResourceRef(APPLICATION_ENTITY.name, key)
