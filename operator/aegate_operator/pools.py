"""Pools: listeners of the chart that serve many AEs each. The operator tells them which, in ConfigMaps.

A ConfigMap may hold 1 MiB, so the AEs of a pool are shared out over a number of them, by name: an edit changes one. An
AE is served when its own line is in force in every pod, so an edit makes nobody else's condition flicker. When the
number changes, an AE's line stands where it belongs and also where it was, until every pod has it from where it
belongs: a pod sees two ConfigMaps change at different times, and listeners take the same line twice for one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from aegate_core.decisions.listener_config import (
    ListenerDefaults,
    entities_to_json,
    is_admitted,
    listener_entity,
)
from aegate_core.decisions.references import Fault
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import ClusterRefused
from aegate_core.resources.conditions import Reason
from aegate_core.resources.reference import ResourceRef
from aegate_core.resources.values import ApplicationEntity, ListenerMode
from aegate_core.resources.yaml_tree import members
from aegate_operator.cache import Family
from aegate_operator.installation import Installation, Pool
from aegate_operator.manifests.child import POOL_LABEL, Manifest
from aegate_operator.manifests.places import SECRETS, SPOOL
from aegate_operator.observe import Facts, certificate_fault
from aegate_operator.pods import Pod, pool_family
from aegate_operator.reports import Report

KIND = "Pool"
"""In the work queue, beside the kinds of resources: namespace of the release, name of the pool."""
DEFAULT = "default"
SOON_S = 0.3
"""How long a change waits for others: a thousand AEs applied at once are a few writes."""
ADDRESS_S = 10.0
"""How often a pool's Service is asked again that has no address yet: a load balancer takes a minute or two."""
LARGEST_BYTES = 500_000

Lines = Mapping[ResourceKey, str]
"""What a listener is told of each AE."""


def pool_ref(name: str, installation: Installation) -> ResourceRef:
    """Return what stands for a pool in the work queue."""
    return ResourceRef(KIND, ResourceKey(installation.namespace, name))


def ref_of_pool(family: Family) -> ResourceRef | None:
    """Return what stands for a pool in the work queue, by what its children have in common; None for an AE's."""
    kind, _, name = family.name.partition("/")
    return ResourceRef(KIND, ResourceKey(family.namespace, name)) if kind == "pool" and name else None


def is_shared(ae: ApplicationEntity) -> bool:
    """Whether an AE has a place in a pool."""
    return is_admitted(ae) and ae.listener_mode is ListenerMode.SHARED


def pool_of(ae: ApplicationEntity, installation: Installation) -> Pool | None:
    """Return the pool that an AE names; None: there is none of that name."""
    return installation.pools.get(ae.listener.pool or DEFAULT)


def line_of(ae: ApplicationEntity, pool: Pool, installation: Installation) -> str:
    """Return what a pool's listener is told of an AE."""
    defaults = ListenerDefaults(
        spool=SPOOL,
        secrets=SECRETS,
        called_title=installation.title,
        index_wait_s=installation.listener.index_wait_s,
    )
    if pool.waits_for_index:
        ae = replace(ae, listener=replace(ae.listener, acknowledge="Indexed"))
    return entities_to_json([listener_entity(ae, defaults)]).strip("[]\n")


def share_of(key: ResourceKey, pool: Pool) -> int:
    """Return in which of the pool's ConfigMaps an AE is: by its name, so that nobody else's coming moves it."""
    return int.from_bytes(hashlib.sha256(str(key).encode()).digest()[:8], "big") % pool.shares


def file_of(share: int) -> str:
    """Return the file's name in the ConfigMap and in the pod: the number has a width, so names sort as numbers."""
    return f"{share:03}.json"


def share_in(name: str, pool: Pool) -> int | None:
    """Return which of the pool's ConfigMaps has that name; None: it is none of them."""
    found = re.fullmatch(rf"aegate-entities-{re.escape(pool.name)}-(0|[1-9][0-9]{{0,2}})", name)
    return int(found[1]) if found else None


def config_map_key(pool: Pool, share: int, installation: Installation) -> ResourceKey:
    """Return the ConfigMap's name; nothing in it is the release's."""
    return ResourceKey(installation.namespace, f"aegate-entities-{pool.name}-{share}")


def config_map(pool: Pool, share: int, lines: Lines, installation: Installation) -> Manifest:
    """Return one ConfigMap."""
    key = config_map_key(pool, share, installation)
    labels = {
        "app.kubernetes.io/name": "aegate-pool",
        "app.kubernetes.io/managed-by": "aegate-operator",
        "app.kubernetes.io/part-of": "aegate",
        POOL_LABEL: pool.name,
    }
    text = "[\n" + ",\n".join(line for _, line in sorted(lines.items())) + "\n]\n"
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": key.namespace, "name": key.name, "labels": labels},
        "data": {file_of(share): text},
    }


def lines_in(manifest: Mapping[str, object] | None, share: int) -> dict[ResourceKey, str]:
    """Return what a ConfigMap tells of each AE, as it lives; what somebody else has written there is left out."""
    text = str(members((manifest or {}).get("data")).get(file_of(share), ""))
    found = {}
    for line in text.splitlines():
        try:
            namespace, _, name = str(json.loads(line.rstrip(","))["ae"]).partition("/")
        except (ValueError, KeyError, TypeError):
            continue
        found[ResourceKey(namespace, name)] = line.rstrip(",")
    return found


def placed(
    wished: Lines, live: Mapping[int, Lines], pool: Pool, has_moved: Callable[[ResourceKey], bool]
) -> dict[int, dict[ResourceKey, str]]:
    """Return what each ConfigMap is to hold; one that is not in it is to go.

    ``live``: what each holds now. ``has_moved``: whether every pod has an AE's line from where it belongs.
    """
    found = {share: dict[ResourceKey, str]() for share in range(pool.shares)}
    for key, line in wished.items():
        found[share_of(key, pool)][key] = line
    for share, lines in live.items():
        for key in lines.keys() & wished.keys():
            if share != share_of(key, pool) and not has_moved(key):
                found.setdefault(share, {})[key] = wished[key]
    return found


def checked(pool: Pool, share: int, manifest: Manifest) -> Manifest:
    """Return the ConfigMap. Raises ClusterRefused when it would be too large for Kubernetes."""
    size = len(str(members(manifest["data"]).get(file_of(share), "")).encode())
    if size > LARGEST_BYTES:
        raise ClusterRefused(
            f"Pool {pool.name} is full: a ConfigMap of its AEs must be at most {LARGEST_BYTES} bytes, got {size}; "
            f"raise pools.{pool.name}.shares in the chart's values (now {pool.shares})."
        )
    return manifest


@dataclass(frozen=True, slots=True)
class Told:
    """What a ConfigMap tells, as it lives."""

    lines: Lines
    revision: str
    """Of its file, as pods report it."""


def told_by(manifest: Mapping[str, object], share: int, known: Mapping[str, Lines]) -> Told:
    """Return what a ConfigMap tells; ``known``: what is told by revisions that were read before."""
    text = members(manifest.get("data")).get(file_of(share))
    revision = hashlib.sha256(str(text).encode()).hexdigest() if text is not None else ""
    lines = known.get(revision)
    return Told(lines_in(manifest, share) if lines is None else lines, revision)


@dataclass
class _Share:
    told: Lines = field(default_factory=dict)
    known: dict[str, Lines] = field(default_factory=dict)
    """By revision: what is told, and what pods have in force that have not taken that up yet."""
    served: Lines = field(default_factory=dict)
    """What every ready pod has in force."""

    def see(self, told: Told, in_force: Sequence[str], *, is_certain: bool) -> None:
        """Take note of what the ready pods have in force, by revision; ``is_certain``: all of them were asked."""
        self.told = told.lines
        self.known = {r: lines for r, lines in self.known.items() if r in in_force or not is_certain}
        self.known[told.revision] = told.lines
        first, *others = [self.known.get(r, {}) for r in dict.fromkeys(in_force)] or [{}]
        self.served = {key: line for key, line in first.items() if all(o.get(key) == line for o in others)}


@dataclass
class PoolView:
    """What is known of one pool: what it is told, what is served, how its pods are."""

    pool: Pool
    shares: dict[int, _Share] = field(default_factory=lambda: defaultdict(_Share))
    """By the number of the ConfigMap; also those of another number of shares that are still there."""
    troubles: Mapping[int, str] = field(default_factory=dict)
    """Why a ConfigMap could not be written."""
    pods: tuple[Pod, ...] = ()
    reports: Mapping[str, Report] = field(default_factory=dict)
    has_been_seen: bool = False
    endpoint: str = ""
    """host:port where devices reach it; empty while its Service has no address."""
    _served: dict[ResourceKey, str] = field(default_factory=dict)
    """What every ready pod has in force of an AE; empty text, where two ConfigMaps tell different things of it."""

    @property
    def is_certain(self) -> bool:
        """Whether every ready pod has been asked; before the first look nothing is known."""
        return self.has_been_seen and all(pod.uid in self.reports for pod in self._ready())

    def see(self, pods: Iterable[Pod], reports: Mapping[str, Report], told: Mapping[int, Told]) -> None:
        """Take note of how the pods are; ``told``: what each ConfigMap tells, by its number."""
        self.pods, self.reports, self.has_been_seen = tuple(pods), dict(reports), True
        said = [reports.get(pod.uid, Report()).entities for pod in self._ready()]
        for share in self.shares.keys() - told.keys():
            del self.shares[share]
        for share, lines in told.items():
            in_force = [entities.get(file_of(share), "") for entities in said]
            self.shares[share].see(lines, in_force, is_certain=self.is_certain)
        self._served = {}
        for known in self.shares.values():
            for key, line in known.served.items():
                self._served[key] = line if self._served.get(key, line) == line else ""

    def is_told_of(self, key: ResourceKey) -> bool:
        """Whether any ConfigMap holds a line of an AE."""
        return any(key in share.told for share in self.shares.values())

    def is_told(self, key: ResourceKey, line: str) -> bool:
        """Whether the ConfigMap where an AE belongs holds that line of it."""
        return self._home(key).told.get(key) == line

    def has_moved(self, key: ResourceKey) -> bool:
        """Whether no pod needs an AE's line from where it was; pods that come, or go, may have what is old."""
        pods = [pod for pod in self.pods if not pod.has_ended]
        is_still = self.is_certain and all(pod.is_ready and not pod.is_leaving for pod in pods)
        return is_still and (not pods or key in self._home(key).served)

    def facts(self, ae: ApplicationEntity, line: str) -> Facts:
        """Return how the listener of an AE in this pool is; no counts: each would be a write for all of its AEs."""
        ready, trouble, said = self._ready(), self.troubles.get(share_of(ae.key, self.pool)), None
        if not ready:
            said = f"Pool {self.pool.name} has no pod that is ready."
        elif self._served.get(ae.key) != line:
            said = trouble or f"Not every pod of pool {self.pool.name} serves this generation."
        # Also of those that are not ready: with its port closed none is.
        there = (self.reports.get(pod.uid, Report()) for pod in self.pods if not pod.is_leaving)
        fault = certificate_fault(there)
        return Facts(
            trouble=said,
            progress=None if trouble or fault else said,
            fault=fault,
            is_certain=self.is_certain,
            remark=_remark(ae, self.pool),
        )

    def _home(self, key: ResourceKey) -> _Share:
        return self.shares.get(share_of(key, self.pool), _Share())

    def _ready(self) -> list[Pod]:
        return [pod for pod in self.pods if pod.is_ready and not pod.is_leaving]


def _remark(ae: ApplicationEntity, pool: Pool) -> str:
    longest_s = ae.listener.longest_association_s or 0
    if longest_s <= pool.grace_s:
        return ""
    return (
        f"listener.longestAssociationSeconds is {longest_s}, and pool {pool.name} waits {pool.grace_s} s when a pod "
        f"of it is to end: what is open then is aborted, unless pools.{pool.name}.graceSeconds is raised."
    )


def family_of_pool(pool: Pool, installation: Installation) -> Family:
    """Return what the children of a pool have in common; no AE's name has a slash."""
    return pool_family(installation.namespace, pool.name)


def missing_pool(ae: ApplicationEntity, installation: Installation) -> Facts:
    """Return how an AE is whose pool is not there."""
    name = ae.listener.pool or DEFAULT
    known = ", ".join(sorted(installation.pools)) or "none"
    message = (
        f"listener.pool must be a pool of the installation, got {name!r} and there is {known}: "
        "add it to pools in the chart's values, or name another."
    )
    return Facts(trouble=message, fault=Fault(Reason.POOL_NOT_FOUND, message))
