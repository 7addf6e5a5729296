"""The operator on a real API server, with its own rights: what it writes, what it repairs, what it leaves alone."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

from aegate_core.database import open_database
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.services.entities import load_configuration
from aegate_core.stores.cluster.kinds import (
    APPLICATION_ENTITY,
    CONFIG_MAP,
    DEPLOYMENT,
    NETWORK_POLICY,
    SERVICE,
)
from aegate_operator.reports import Report
from aegate_operator.rights import RULES
from tests.cluster.lab.audit import Request
from tests.cluster.operator.operating import DEADLINE_S, INSTALLATION, Ward, apply_all, never_hot, store
from tests.integration.waiting import eventually_async

GOOD = {
    "Accepted": ("True", "Accepted"),
    "ResolvedRefs": ("True", "ResolvedRefs"),
    "Ready": ("True", "Ready"),
}
TAKEN_OVER = timedelta(seconds=5)
"""From an owner's deletion to the next one's Deployment, at most; a machine that does much else is slow."""
OWNED = (DEPLOYMENT, SERVICE, CONFIG_MAP, NETWORK_POLICY)


def child(key: ResourceKey) -> ResourceKey:
    return ResourceKey(key.namespace, f"ae-{key.name}")


async def test_from_applied_to_ready_to_gone(ward: Ward, radiology: str) -> None:
    async with ward.operating() as operator:
        key = await ward.add_ae(radiology)
        await ward.until(key, "Ready", "True", "Ready")
        assert await ward.conditions(key) == GOOD
        status: Any = (await ward.admin.get(APPLICATION_ENTITY, key))["status"]
        assert status["observedGeneration"] == 1
        assert status["listener"] == {
            "mode": "Dedicated",
            "endpoint": f"ae-ct1.{radiology}.svc:11112",
            "replicas": 1,
            "readyReplicas": 1,
        }
        assert Counter(ward.writes(radiology))["patch", "applicationentities/status"] <= 4
        for kind in OWNED:
            assert ward.writes(radiology).count(("patch", kind.plural)) == 1
        events = ward.lab.get("events.events.k8s.io", f"--namespace={radiology}")["items"]
        assert [e["reason"] for e in events if e["reportingController"] == "aegate.dev/operator"] == ["Ready"]

        await ward.remove(APPLICATION_ENTITY, key)
        for kind in OWNED:
            await ward.until_gone(kind, child(key))
        await eventually_async(
            lambda: key not in {r.key for r in operator.informer.declared()}, deadline_s=30
        )


async def test_a_foreign_managers_harmless_field_survives(ward: Ward, radiology: str) -> None:
    async with ward.operating():
        key = await ward.add_ae(radiology)
        await ward.until(key, "Ready", "True", "Ready")
        theirs = {"metadata": {"annotations": {"team": "imaging"}}, "spec": {"sessionAffinity": "ClientIP"}}
        await ward.admin.merge(SERVICE, child(key), theirs)
        await ward.add_ae(radiology, listener={"serviceAnnotations": {"ours": "1"}})

        async def both() -> bool:
            live: Any = await ward.admin.get(SERVICE, child(key))
            annotations = live["metadata"]["annotations"]
            return (annotations.get("team"), annotations.get("ours")) == ("imaging", "1") and (
                live["spec"]["sessionAffinity"] == "ClientIP"
            )

        await eventually_async(both, deadline_s=DEADLINE_S)
        await ward.add_ae(radiology, listener={})

        async def only_theirs() -> bool:
            live: Any = await ward.admin.get(SERVICE, child(key))
            return (
                "ours" not in live["metadata"]["annotations"]
                and live["metadata"]["annotations"]["team"] == "imaging"
            )

        await eventually_async(only_theirs, deadline_s=DEADLINE_S)


async def test_deleted_while_no_operator_ran_it_leaves_cluster_and_database(
    ward: Ward, radiology: str
) -> None:
    async with ward.operating():
        kept, lost = await ward.add_ae(radiology, "ct1"), await ward.add_ae(radiology, "mr1")
        for key in (kept, lost):
            await ward.until(key, "Ready", "True", "Ready")
    await ward.remove(APPLICATION_ENTITY, lost)
    for kind in OWNED:
        await ward.until_gone(kind, child(lost))
    async with ward.operating(), open_database(f"sqlite://{ward.database}") as db:

        async def rows() -> set[ResourceKey]:
            return set((await load_configuration(db)).entities) & {kept, lost}

        async def is_gone() -> bool:
            return await rows() == {kept}

        await eventually_async(is_gone, deadline_s=DEADLINE_S)


async def test_a_title_over_two_namespaces(ward: Ward, radiology: str, cardiology: str) -> None:
    async with ward.operating():
        owner = await ward.add_ae(radiology)
        await ward.until(owner, "Accepted", "True", "Accepted")
        other = await ward.add_ae(cardiology)
        await ward.until(other, "Accepted", "False", "TitleConflict")
        assert f"belongs to {owner} " in await ward.message(other, "Accepted")
        assert await ward.find(DEPLOYMENT, child(other)) is None
        await ward.add_ae(radiology, suspend=True)
        await ward.until(owner, "Ready", "True", "Suspended")
        assert (await ward.conditions(other))["Accepted"] == ("False", "TitleConflict")
        await ward.remove(APPLICATION_ENTITY, owner)
        await ward.until(other, "Ready", "True", "Ready")
    gone = next(r.at for r in ward.lab.audit() if _is_of(r, "delete", "applicationentities", owner))
    made = next(r.answered_at for r in ward.lab.audit() if _is_of(r, "patch", "deployments", child(other)))
    print(f"the title was taken over after {(made - gone).total_seconds():.2f} s")
    assert made - gone < TAKEN_OVER


async def test_two_of_one_title_in_the_same_second_end_with_one_owner(
    ward: Ward, radiology: str, cardiology: str
) -> None:
    async with ward.operating():
        pair = await asyncio.gather(*(ward.add_ae(n) for n in (radiology, cardiology)))

        async def said() -> list[tuple[str, str]]:
            return sorted([(await ward.conditions(key)).get("Accepted", ("", "")) for key in pair])

        async def is_settled() -> bool:
            return await said() == [("False", "TitleConflict"), ("True", "Accepted")]

        await eventually_async(is_settled, deadline_s=DEADLINE_S)
        [owner] = [key for key in pair if (await ward.conditions(key))["Accepted"][0] == "True"]
        [other] = [key for key in pair if key != owner]
        await ward.until(owner, "Ready", "True", "Ready")
        for kind in OWNED:
            await ward.until_gone(kind, child(other))
        assert f"belongs to {owner} " in await ward.message(other, "Accepted")
        assert await is_settled()
        times = [(await ward.admin.get(APPLICATION_ENTITY, k))["metadata"]["creationTimestamp"] for k in pair]  # type: ignore[index]
    print(f"made at {times}")
    async with ward.operating():
        assert await is_settled(), "nor does another operator see it otherwise"


def _is_of(request: Request, verb: str, resource: str, key: ResourceKey) -> bool:
    return (request.verb, request.resource, request.namespace, request.name) == (
        verb,
        resource,
        key.namespace,
        key.name,
    )


async def test_two_namespaced_operators_share_a_database(ward: Ward, radiology: str, cardiology: str) -> None:
    """Each looks after its own namespace, and takes nothing out of the other's rows."""
    one, two = (replace(INSTALLATION, watched_namespaces=(n,), release=n) for n in (radiology, cardiology))
    async with ward.operating(one):
        first = await ward.add_ae(radiology, "ct1")
        await ward.until(first, "Ready", "True", "Ready")
        async with ward.operating(two), open_database(f"sqlite://{ward.database}") as db:
            second = await ward.add_ae(cardiology, "mr1")
            await ward.until(second, "Ready", "True", "Ready")

            async def has_both() -> bool:
                return set((await load_configuration(db)).entities) >= {first, second}

            await eventually_async(has_both, deadline_s=DEADLINE_S)
            await ward.add_ae(radiology, "ct1", comment="written anew")
            await ward.remove(APPLICATION_ENTITY, second)

            async def has_first() -> bool:
                return set((await load_configuration(db)).entities) & {first, second} == {first}

            await eventually_async(has_first, deadline_s=DEADLINE_S)


async def test_every_request_is_within_the_listed_rights(ward: Ward, radiology: str) -> None:
    async with ward.operating():
        key = await ward.add_ae(radiology)
        await ward.until(key, "Ready", "True", "Ready")
        await ward.add_ae(radiology, networkPolicy="Disabled", listener={"replicas": 2})
        await ward.until_gone(NETWORK_POLICY, child(key))
        await ward.until(key, "Ready", "True", "Ready")
    allowed = {(rule.group, rule.resource, verb) for rule in RULES for verb in rule.verbs}
    asked = {(r.group, r.resource, r.verb) for r in ward.requests() if r.resource}
    assert asked - allowed == set()
    assert [r for r in ward.requests() if r.is_forbidden] == []


async def test_a_used_up_quota_and_a_denied_child_are_said_and_heal(ward: Ward, radiology: str) -> None:
    quota: dict[str, Any] = {
        "kind": "ResourceQuota",
        "metadata": {"name": "few", "namespace": radiology},
        "spec": {"hard": {"count/services": "0", "pods": "0"}},
    }
    apply_all(ward.lab, [quota])
    ward.lab.kubectl(
        "wait",
        f"--namespace={radiology}",
        "resourcequota/few",
        "--for=jsonpath={.status.hard}",
        "--timeout=60s",
    )
    async with ward.operating(), never_hot(ward):
        key = await ward.add_ae(radiology)

        async def says(*words: str) -> bool:
            message = await ward.message(key)
            return all(word in message for word in words)

        await eventually_async(
            lambda: says("apply Service", "exceeded quota: few", "Its pods cannot be made"),
            deadline_s=DEADLINE_S,
        )
        assert (await ward.conditions(key))["Ready"] == ("False", "ListenerNotReady")
        tries = ward.writes(radiology).count(("patch", "services"))
        await eventually_async(
            lambda: ward.writes(radiology).count(("patch", "services")) > tries + 1, deadline_s=DEADLINE_S
        )
        ward.lab.kubectl("delete", f"--namespace={radiology}", "resourcequota/few")
        await ward.until(key, "Ready", "True", "Ready")


async def test_a_missing_store_and_a_bad_certificate_are_said_and_heal(ward: Ward, radiology: str) -> None:
    ward.lab.kubectl(
        "delete", f"--namespace={radiology}", "persistentvolumeclaim/aegate-blobs", "--timeout=60s"
    )
    async with ward.operating(), never_hot(ward):
        key = await ward.add_ae(radiology)
        await ward.until(key, "ResolvedRefs", "False", "StoreNotFound")
        ward.lab.kubectl(
            "patch",
            "persistentvolume",
            f"blobs-{radiology}",
            "--type=merge",
            '--patch={"spec":{"claimRef":null}}',
        )
        apply_all(ward.lab, store(radiology)[1:2])
        await ward.until(key, "Ready", "True", "Ready")
        ward.listeners.said["ct1"] = Report(
            "", "degraded", certificate_problem="CertificateExpired", certificate_message="It ended."
        )
        await ward.add_ae(radiology, comment="looked at again")
        await ward.until(key, "ResolvedRefs", "False", "CertificateExpired")
        ward.listeners.said.clear()
        await ward.until(key, "Ready", "True", "Ready")


async def test_a_deletion_with_a_foreign_finalizer_is_not_fought(ward: Ward, radiology: str) -> None:
    async with ward.operating():
        key = await ward.add_ae(radiology)
        await ward.until(key, "Ready", "True", "Ready")
        await ward.admin.merge(APPLICATION_ENTITY, key, {"metadata": {"finalizers": ["example.com/wait"]}})
        ward.lab.kubectl(
            "delete",
            f"--namespace={radiology}",
            "applicationentity/ct1",
            "--cascade=foreground",
            "--wait=false",
        )
        for kind in OWNED:
            await ward.until_gone(kind, child(key))
        before = ward.writes(radiology)
        await ward.admin.merge(APPLICATION_ENTITY, key, {"metadata": {"finalizers": []}})
        await ward.until_gone(APPLICATION_ENTITY, key)
        assert ward.writes(radiology) == before


async def test_an_api_server_that_ends_and_one_that_says_nothing_for_a_while(
    ward: Ward, radiology: str
) -> None:
    async with ward.operating() as operator:
        key = await ward.add_ae(radiology, "ct1")
        await ward.until(key, "Ready", "True", "Ready")
        for program, name in (("kube-apiserver", "mr1"), ("etcd", "us1")):
            async with never_hot(ward):
                ward.lab.restart(program)
                another = await ward.add_ae(radiology, name)
                await ward.until(another, "Ready", "True", "Ready")
        assert operator.liveness.trouble() is None
