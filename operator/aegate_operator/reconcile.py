"""Look at one resource and make the cluster what it says: a list of steps, each safe alone and safe to repeat.

Level-triggered: which event led here does not matter, and a second look right after the first writes nothing. A
resource that is suspended, cannot be read, or is about to be deleted keeps all that it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from aegate_core.decisions.references import Surroundings, conditions_of, invalid_conditions
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import (
    ClusterConflict,
    ClusterError,
    ClusterNotFound,
    ClusterRefused,
    ClusterUnavailable,
)
from aegate_core.events import EVENT_LOST, Log
from aegate_core.resources.conditions import Condition, ConditionType, find_condition
from aegate_core.resources.reference import ResourceRef
from aegate_core.resources.values import ApplicationEntity
from aegate_core.resources.yaml_tree import members
from aegate_core.stores.cluster.client import Manifest, key_of
from aegate_core.stores.cluster.kinds import (
    APPLICATION_ENTITY,
    CONFIG_MAP,
    DEPLOYMENT,
    EVENT,
    SERVICE,
    Kind,
)
from aegate_core.stores.cluster.occasions import Occasion, event_manifest
from aegate_operator.cache import DECLARED, Family, is_leaving
from aegate_operator.children import ChildWriter, Written
from aegate_operator.declared import conditions_in, generation_of
from aegate_operator.draining import Drainer
from aegate_operator.endpoint import endpoint_of
from aegate_operator.manifests import Child, children, remarks, revision
from aegate_operator.manifests.child import label_of
from aegate_operator.observe import Facts, Sighting, observe
from aegate_operator.pool_keeper import PoolKeeper
from aegate_operator.pools import KIND as POOL
from aegate_operator.rollout import RolloutState
from aegate_operator.status import change, listener_status, stalled
from aegate_operator.surface import Surface

KINDS = {kind.name: kind for kind in DECLARED}

log = Log("operator")


@dataclass
class Outcomes:
    """What is known of the listeners, for conditions and for the index."""

    facts: dict[ResourceKey, Facts] = field(default_factory=dict)
    endpoints: dict[ResourceKey, str] = field(default_factory=dict)
    locations: frozenset[str] | None = None
    """Codes in the index; None: not read yet."""
    changed: Callable[[], None] = lambda: None
    """Tells the projection that rows may differ."""

    def take(self, key: ResourceKey, facts: Facts | None) -> None:
        """Remember how an AE's listener is; None: it has none, or is left as it is."""
        if facts != self.facts.get(key):
            self.changed()
        if facts is None:
            self.facts.pop(key, None)
        else:
            self.facts[key] = facts

    def surroundings(self, keys: Iterable[ResourceKey] | None = None) -> Surroundings:
        """Return what resources are judged against; ``keys``: those AEs' facts alone."""
        wanted = self.facts if keys is None else [key for key in keys if key in self.facts]
        facts = {key: self.facts[key] for key in wanted}
        return Surroundings(
            locations=self.locations,
            listener_troubles={key: f.trouble for key, f in facts.items() if f.trouble is not None},
            unresolved={key: f.fault for key, f in facts.items() if f.fault is not None},
            progress={key: f.progress for key, f in facts.items() if f.progress is not None},
            remarks={key: f.remark for key, f in facts.items() if f.remark},
        )


class Reconciler:
    """Looks at one resource at a time; several at once are several AEs."""

    def __init__(self, surface: Surface, outcomes: Outcomes) -> None:
        self._surface = surface
        self._outcomes = outcomes
        self._children = ChildWriter(surface.client, surface.cache, surface.metrics)
        self._drainer = Drainer(surface.client, surface.cache, surface.installation)
        self._pools = PoolKeeper(surface, self._children, outcomes.facts.get)
        self._met: set[ResourceKey] = set()
        self._unapplied: set[ResourceKey] = set()
        """AEs whose own change the API server has not taken yet."""

    async def reconcile(self, ref: ResourceRef) -> bool:
        """Do all steps for one resource; True when anything was written.

        Raises ClusterError when not all could be done: the same again, later.
        """
        if ref.kind == POOL:
            return await self._pools.reconcile(ref.key.name)
        kind = KINDS[ref.kind]
        manifest = self._surface.cache.get(kind, ref.key)
        if manifest is None:
            return await self._forget(ref)
        if is_leaving(manifest):
            return False  # with its children already going, to make them anew would be a fight without end
        error = self._surface.declared.error(ref, manifest)
        if error is not None:
            if kind == APPLICATION_ENTITY:
                self._let_others_roll(self._surface.gate.forget(ref.key))
            conditions = invalid_conditions(
                error,
                generation=generation_of(manifest),
                resource=self._surface.declared.newest(ref, generation_of(manifest)),
            )
            return await self._say(kind, manifest, stalled(conditions), {})
        resource = self._surface.declared.get(ref)
        if isinstance(resource, ApplicationEntity):
            return await self._entity(manifest, resource)
        if resource is None:
            raise AssertionError(f"{ref} is in the cache, and neither readable nor wrong")
        conditions = conditions_of(
            resource, self._surface.declared.neighbours, self._outcomes.surroundings(())
        )
        return await self._say(kind, manifest, conditions, {})

    async def _entity(self, manifest: Manifest, ae: ApplicationEntity) -> bool:
        written = Written()
        if not self._own_title(ae):
            written = await self._give_up(ae)
        elif ae.suspend:
            self._let_others_roll(self._surface.gate.forget(ae.key))
            self._outcomes.take(ae.key, None)  # what it was last would not be known after a restart
        else:
            written = await self._make_so(manifest, ae)
        self._note(ae, written)
        facts = self._outcomes.facts.get(ae.key)
        has_said = False
        if facts is None or facts.is_certain or not _speaks_of_now(manifest):
            has_said = await self._say_entity(manifest, ae, facts)
        if written.refusals:
            raise ClusterRefused(" ".join(written.refusals))
        return has_said or written.changed > 0

    def _own_title(self, ae: ApplicationEntity) -> bool:
        """Take the title if it is ours to take."""
        neighbours = self._surface.declared.neighbours
        owner = neighbours.owner(ae.title)
        is_owner = owner is None or owner.key == ae.key
        neighbours.accept(ae.key, is_owner)
        return is_owner

    async def _give_up(self, ae: ApplicationEntity) -> Written:
        """Remove what the AE had while the title was its own."""
        removed = await self._children.prune(ae.metadata.uid, family(ae.key), ())
        self._surface.reports.watch(ae.key, {}, "")
        self._outcomes.take(ae.key, None)
        self._pools.left(ae.key)
        self._let_others_roll(self._surface.gate.forget(ae.key))
        return Written(removed) + await self._drain(ae.key, ())

    async def _make_so(self, manifest: Manifest, ae: ApplicationEntity) -> Written:
        """Apply the children, remove what is wished no longer, and see how the listener is."""
        wished = children(ae, self._surface.installation)
        now, later = self._by_turn(manifest, ae, wished)
        await self._drainer.stop(family(ae.key), ae.key.name, now)
        written = await self._children.bring(ae, now, was_complete=_speaks_of_now(manifest))
        removed = await self._children.prune(ae.metadata.uid, family(ae.key), wished)
        deployment = next((child for child in wished if child.kind == DEPLOYMENT.name), None)
        shared = self._pools.look(ae)
        if deployment is None:
            self._surface.reports.watch(ae.key, {}, "")
            self._outcomes.take(ae.key, shared)
            self._let_others_roll(self._surface.gate.forget(ae.key))
        else:
            removed += await self._observe(ae, wished, written.refusals, waits=bool(later))
        return written + Written(removed) + await self._drain(ae.key, wished)

    async def _drain(self, key: ResourceKey, wished: Sequence[Child]) -> Written:
        """Empty the spool of an AE that is gone, or that fills it no more."""
        try:
            return Written(await self._drainer.look(family(key), key.name, wished))
        except ClusterUnavailable:
            raise
        except ClusterError as error:
            return Written(0, (f"{error.message.rstrip('.')}.",))

    def _by_turn(
        self, manifest: Manifest, ae: ApplicationEntity, wished: Sequence[Child]
    ) -> tuple[list[Child], list[Child]]:
        """Return what may be applied now, and what has to wait: a Deployment that only the installation changes."""
        now, later = list(wished), list[Child]()
        is_own_change = not _speaks_of_now(manifest) or ae.key in self._unapplied
        child = next((child for child in wished if child.kind == DEPLOYMENT.name), None)
        if child is None:
            return now, later
        rolls = self._children.template_differs(child, ae.key.namespace)
        self._resume(manifest, ae, wished, rolls)
        gate = self._surface.gate
        if rolls and is_own_change:
            self._let_others_roll(gate.overtake(ae.key))
        elif not rolls and gate.is_waiting(ae.key):  # somebody has made it so
            self._let_others_roll(gate.forget(ae.key))
        elif rolls:
            facts = self._outcomes.facts.get(ae.key) or self._see(ae, wished)
            is_healthy = facts.rollout is RolloutState.COMPLETE
            if not gate.admit(ae.key, is_healthy=is_healthy):
                # The old version of the listener need not understand a configuration for the new one.
                later = [c for c in wished if c.kind in (DEPLOYMENT.name, CONFIG_MAP.name)]
                now = [c for c in wished if c not in later]
        return now, later

    def _resume(
        self, manifest: Manifest, ae: ApplicationEntity, wished: Sequence[Child], rolls: bool | None
    ) -> None:
        """Count a listener that an operator before us let roll, when it is met for the first time."""
        if ae.key in self._met:
            return
        self._met.add(ae.key)
        if rolls is False and self._see(ae, wished).rollout is not RolloutState.COMPLETE:
            self._surface.gate.resume(ae.key, is_own=not _speaks_of_now(manifest, ConditionType.READY))

    def _see(
        self,
        ae: ApplicationEntity,
        wished: Sequence[Child],
        refusals: Sequence[str] = (),
        *,
        waits: bool = False,
    ) -> Facts:
        name = next(child.name for child in wished if child.kind == DEPLOYMENT.name)
        pods = self._surface.cache.pods(family(ae.key))
        gate = self._surface.gate
        deployment = self._surface.cache.get(DEPLOYMENT, ResourceKey(ae.key.namespace, name))
        sighting = Sighting(
            deployment=deployment,
            generation=self._children.generation(ae.key, deployment),
            pods=sorted(pods.values(), key=lambda pod: pod.key),
            reports=self._surface.reports.of(pods),
            revision=self._revision(ae, wished, waits=waits),
            refusals=refusals,
            is_upgrade=gate.is_rolling(ae.key),
            waits=gate.why_waiting() if waits else "",
            remark=" ".join(remarks(ae, self._surface.installation)),
        )
        return observe(sighting)

    async def _observe(
        self, ae: ApplicationEntity, wished: Sequence[Child], refusals: Sequence[str], *, waits: bool
    ) -> int:
        """Ask the pods, hurry those that are late, and remember how the listener is; return how many were hurried."""
        pods, wish = self._surface.cache.pods(family(ae.key)), self._revision(ae, wished, waits=waits)
        self._surface.reports.watch(ae.key, pods, wish)
        hurried = await self._children.hurry(pods, self._surface.reports.of(pods), wish)
        facts = self._see(ae, wished, refusals, waits=waits)
        self._outcomes.take(ae.key, facts)
        self._let_others_roll(
            self._surface.gate.report(ae.key, facts.rollout, facts.trouble or "it makes no progress")
        )
        return hurried

    def _revision(self, ae: ApplicationEntity, wished: Sequence[Child], *, waits: bool) -> str:
        """Return which configuration pods should have in force: while the new version waits, the one that is there."""
        child = next(child for child in wished if child.kind == CONFIG_MAP.name)
        live = self._surface.cache.get(CONFIG_MAP, ResourceKey(ae.key.namespace, child.name))
        return revision(live if waits and live is not None else child.manifest)

    def _let_others_roll(self, keys: Iterable[ResourceKey]) -> None:
        for key in keys:
            self._surface.enqueue(ResourceRef("ApplicationEntity", key))

    def _note(self, ae: ApplicationEntity, written: Written) -> None:
        before = self._outcomes.endpoints.get(ae.key, "")
        services = [m for _, m in self._surface.cache.children(family(ae.key), SERVICE)]
        endpoint = endpoint_of(services[0]) if services else self._pools.endpoint(ae)
        if endpoint:
            self._outcomes.endpoints[ae.key] = endpoint
        else:
            self._outcomes.endpoints.pop(ae.key, None)
        if written.refusals:
            self._unapplied.add(ae.key)
        else:
            self._unapplied.discard(ae.key)
        if endpoint != before:
            self._outcomes.changed()

    async def _say_entity(self, manifest: Manifest, ae: ApplicationEntity, facts: Facts | None) -> bool:
        surroundings = self._outcomes.surroundings([ae.key])
        conditions = conditions_of(ae, self._surface.declared.neighbours, surroundings)
        ready = find_condition(conditions, ConditionType.READY)
        ends_at = facts.certificate_ends_at if facts else ""
        self._surface.metrics.entity(
            ae.key, is_ready=ready is not None and ready.is_true, certificate_ends_at=ends_at
        )
        endpoint = self._outcomes.endpoints.get(ae.key, "")
        more: dict[str, object] = {"listener": listener_status(ae, facts, endpoint)}
        return await self._say(KINDS["ApplicationEntity"], manifest, stalled(conditions), more)

    async def _say(
        self, kind: Kind, manifest: Manifest, conditions: Sequence[Condition], more: dict[str, object]
    ) -> bool:
        """Write the status if it differs, and an event for each condition that changed."""
        wished = change(manifest, conditions, more, now=self._surface.now())
        if wished is None:
            return False
        try:
            live = await self._surface.client.apply(kind, wished.manifest, subresource="status")
        except (ClusterNotFound, ClusterConflict):
            return False  # it is gone, or another one by now: its event leads here again
        # Somebody's edit that came between is taken up by its event, which would be no news any more.
        if _wish(live) == _wish(manifest):
            self._surface.cache.put(kind, live)
        self._outcomes.changed()
        for occasion in wished.occasions:
            await self._tell(live, occasion)
        return True

    async def _tell(self, about: Manifest, occasion: Occasion) -> None:
        event = event_manifest(about, occasion, self._surface.reporter, at=self._surface.now())
        try:
            await self._surface.client.create(EVENT, event)
        except ClusterError as error:
            key = key_of(about)
            log(
                EVENT_LOST,
                kind=str(about["kind"]),
                namespace=key.namespace,
                name=key.name,
                error=error.message,
            )

    async def _forget(self, ref: ResourceRef) -> bool:
        """Let go of what is gone: its children are collected by their owner references, its spool is emptied first."""
        if ref.kind != APPLICATION_ENTITY.name:
            return False
        self._surface.reports.watch(ref.key, {}, "")
        self._surface.metrics.forget(ref.key)
        self._pools.left(ref.key)
        self._children.forget(ref.key)
        self._outcomes.take(ref.key, None)
        self._outcomes.endpoints.pop(ref.key, None)
        self._met.discard(ref.key)
        self._unapplied.discard(ref.key)
        self._let_others_roll(self._surface.gate.forget(ref.key))
        written = await self._drain(ref.key, ())
        if written.refusals:
            raise ClusterRefused(" ".join(written.refusals))
        return written.changed > 0


def family(key: ResourceKey) -> Family:
    """Return what the children of an AE have in common."""
    return Family(key.namespace, label_of(key.name))


def _wish(manifest: Manifest) -> tuple[object, ...]:
    """Return what people change of a resource and somebody looks at: not its status, nor annotations."""
    metadata = members(manifest.get("metadata"))
    names = ("uid", "generation", "labels", "deletionTimestamp")
    return tuple(metadata.get(name) for name in names)


def _speaks_of_now(manifest: Manifest, of: ConditionType = ConditionType.ACCEPTED) -> bool:
    """Whether the condition is True of this generation: once accepted, its children were applied once."""
    said = find_condition(conditions_in(manifest), of)
    return said is not None and said.is_true and said.observed_generation == generation_of(manifest)
