"""What the tests of this folder made the service accounts ask for is what the chart lets them do: no more, no less.

It runs last, and has nothing to judge by when it runs alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from tests.cluster.chart.rendering import GIVEN, Object, helm_program, objects, render, sets
from tests.cluster.release.hospital import RELEASE, SYSTEM, VALUES, Hospital

Right = tuple[str, str, str]
"""API group, resource, verb."""
OPERATOR = f"system:serviceaccount:{SYSTEM}:{RELEASE}-operator"
API = f"system:serviceaccount:{SYSTEM}:{RELEASE}-api"
TEST = f"system:serviceaccount:{SYSTEM}:{RELEASE}-test"
FINALIZERS: Right = ("aegate.dev", "applicationentities/finalizers", "update")
"""Asked for by OwnerReferencesPermissionEnforcement about an owner reference, never by a request."""


def test_the_operator_uses_what_it_is_granted(installed: Hospital) -> None:
    assert _unused(installed, OPERATOR, _live(installed)) == {FINALIZERS}


def test_the_api_uses_what_it_is_granted(installed: Hospital) -> None:
    assert _unused(installed, API, _live(installed)) == set()


def test_helm_test_uses_what_it_is_granted(installed: Hospital) -> None:
    """Its Role is there only while it runs: what it grants is read from the chart."""
    assert _unused(installed, TEST, _rendered()) == set()


def test_no_other_service_account_of_the_chart_has_rights() -> None:
    subjects = [s for one in _rendered() if one["kind"].endswith("Binding") for s in one["subjects"]]
    assert {f"system:serviceaccount:{s['namespace']}:{s['name']}" for s in subjects} == {OPERATOR, API, TEST}


def test_no_service_account_of_ours_was_refused_or_asked_beside_it(installed: Hospital) -> None:
    spaces = tuple(f"system:serviceaccount:{space}:" for space in (SYSTEM, installed.namespace))
    ours = [r for r in installed.lab.audit() if r.user.startswith(spaces)]
    assert [r for r in ours if r.is_forbidden] == []
    assert {r.user for r in ours} <= {OPERATOR, API, TEST}


def _live(hospital: Hospital) -> list[Object]:
    """Return the roles and bindings of the cluster."""
    kinds = "clusterroles,roles,clusterrolebindings,rolebindings"
    found: list[Object] = hospital.lab.get(kinds, "--all-namespaces")["items"]
    return found


def _rendered() -> list[Object]:
    """Return what the chart makes, hooks too."""
    return objects(render(helm_program(), *sets(*GIVEN), *VALUES, release=RELEASE, namespace=SYSTEM))


def _unused(hospital: Hospital, user: str, there: list[Object]) -> set[Right]:
    """Return what a service account may and did not ask for; fails where it asked for more than it may."""
    used = {(r.group, r.resource, r.verb) for r in hospital.lab.audit() if r.user == user and r.resource}
    granted = set(_granted(there, user))
    assert used - granted == set()
    # Applying what is not there yet asks for create, and is written down as the patch that it is.
    applied = {(group, resource, "create") for group, resource, verb in used if verb == "patch"}
    return granted - used - applied


def _granted(there: list[Object], user: str) -> Iterator[Right]:
    """Give each right of the roles that are bound to a service account."""
    _, _, namespace, name = user.split(":")
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    roles = {(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]): o for o in there}
    for binding in there:
        if subject not in [{k: s.get(k) for k in subject} for s in binding.get("subjects", [])]:
            continue
        role = binding["roleRef"]
        where = binding["metadata"]["namespace"] if role["kind"] == "Role" else None
        for rule in roles[role["kind"], where, role["name"]]["rules"]:
            yield from itertools.product(rule["apiGroups"], rule["resources"], rule["verbs"])
