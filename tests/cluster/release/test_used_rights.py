"""What the tests of this folder made the service accounts ask for is what the chart lets them do: no more, no less.

It runs last, and has nothing to judge by when it runs alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.cluster.release.hospital import RELEASE, SYSTEM, Hospital

Right = tuple[str, str, str]
"""API group, resource, verb."""
OPERATOR = f"system:serviceaccount:{SYSTEM}:{RELEASE}-operator"
API = f"system:serviceaccount:{SYSTEM}:{RELEASE}-api"
FINALIZERS: Right = ("aegate.dev", "applicationentities/finalizers", "update")
"""Asked for by OwnerReferencesPermissionEnforcement about an owner reference, never by a request."""


def test_the_operator_uses_what_it_is_granted(installed: Hospital) -> None:
    assert _unused(installed, OPERATOR) == {FINALIZERS}


def test_the_api_uses_what_it_is_granted(installed: Hospital) -> None:
    assert _unused(installed, API) == set()


def test_no_service_account_of_ours_was_refused_or_asked_beside_it(installed: Hospital) -> None:
    spaces = tuple(f"system:serviceaccount:{space}:" for space in (SYSTEM, installed.namespace))
    ours = [r for r in installed.lab.audit() if r.user.startswith(spaces)]
    assert [r for r in ours if r.is_forbidden] == []
    assert {r.user for r in ours} <= {OPERATOR, API, f"system:serviceaccount:{SYSTEM}:{RELEASE}-test"}


def _unused(hospital: Hospital, user: str) -> set[Right]:
    """Return what a service account may and did not ask for; fails where it asked for more than it may."""
    used = {(r.group, r.resource, r.verb) for r in hospital.lab.audit() if r.user == user and r.resource}
    granted = set(_granted(hospital, user))
    assert used - granted == set()
    # Applying what is not there yet asks for create, and is written down as the patch that it is.
    applied = {(group, resource, "create") for group, resource, verb in used if verb == "patch"}
    return granted - used - applied


def _granted(hospital: Hospital, user: str) -> Iterator[Right]:
    """Give each right of the roles that are bound to a service account."""
    _, _, namespace, name = user.split(":")
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    bindings: list[dict[str, Any]] = hospital.lab.get("clusterrolebindings,rolebindings", "--all-namespaces")[
        "items"
    ]
    for binding in bindings:
        if subject not in [{k: s.get(k) for k in subject} for s in binding.get("subjects", [])]:
            continue
        role = binding["roleRef"]
        where = [f"--namespace={binding['metadata']['namespace']}"] if role["kind"] == "Role" else []
        for rule in hospital.lab.get(role["kind"].lower(), role["name"], *where)["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    for verb in rule["verbs"]:
                        yield group, resource, verb
