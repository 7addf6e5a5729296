"""Bring CRDs into an API server, ours and ones that say nothing, and objects under either."""

from __future__ import annotations

import copy
import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from ruamel.yaml import YAML

from tests.cluster.validation.api_server import GROUP, PLURALS, ApiServer, collection
from tests.crd_cases.table import API_VERSION, Case, Manifest
from tests.integration.waiting import eventually

ROOT = Path(__file__).parents[3]
READY_S = 60
"""Until an API server acts on a CRD or a policy: a second on an idle machine."""
_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_POLICIES = {
    "ValidatingAdmissionPolicy": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
}
_SILENT = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def read_yaml(file: Path) -> list[Manifest]:
    """Return the documents of a file."""
    return list(YAML(typ="safe", pure=True).load_all(file.read_text("utf-8")))


def our_crds() -> list[Manifest]:
    """Return the CRDs as they lie in crds/."""
    return [document for file in sorted((ROOT / "crds").glob("*.yaml")) for document in read_yaml(file)]


def install(api: ApiServer) -> None:
    """Put our CRDs in force."""
    for crd in our_crds():
        put(api, _DEFINITIONS, crd)
    for kind in PLURALS:
        eventually(
            partial(_refuses, api, kind, ["spec"]),
            deadline_s=READY_S,
            what=f"the schema of {kind} in force",
        )


def install_without_rules(api: ApiServer) -> None:
    """Put CRDs of our kinds in force that let anything pass."""
    for crd in copy.deepcopy(our_crds()):
        version = crd["spec"]["versions"][0]  # type: ignore[index] # a CRD
        version["schema"] = {"openAPIV3Schema": _SILENT}
        version.pop("selectableFields", None)
        put(api, _DEFINITIONS, crd)
    for kind in PLURALS:
        eventually(
            partial(_refuses, api, kind, []),
            deadline_s=READY_S,
            what=f"{kind} without a schema in force",
        )


def put(api: ApiServer, place: str, manifest: Manifest) -> None:
    """Create an object, or bring the one of its name to this form."""
    name = manifest["metadata"]["name"]  # type: ignore[index] # an object
    there = api.request("GET", f"{place}/{name}")
    if there.status == http.client.NOT_FOUND:
        done = api.request("POST", place, manifest, fieldValidation="Strict")
    else:
        version = there.body["metadata"]["resourceVersion"]  # type: ignore[index] # an object
        whole = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": version}}  # type: ignore[dict-item] # the same
        done = api.request("PUT", f"{place}/{name}", whole, fieldValidation="Strict")
    assert done.is_accepted, done.message


def _refuses(api: ApiServer, kind: str, fields: list[str]) -> bool:
    return _refused(api, kind) == fields


def _refused(api: ApiServer, kind: str) -> list[str] | None:
    """Return the fields refused of an object that says nothing; None while its kind is not served."""
    nothing: Manifest = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "nothing"}}
    answer = api.request("POST", collection(nothing), nothing, dryRun="All")
    if answer.status == http.client.NOT_FOUND:
        return None
    return [place for place, _ in answer.refused]


def install_policies(api: ApiServer) -> None:
    """Put the admission policies of crds/policies in force."""
    for policy in our_policies():
        put(api, _POLICIES[str(policy["kind"])], policy)


def remove_policies(api: ApiServer) -> None:
    """Take the admission policies away, and all AEPolicies."""
    for policy in reversed(our_policies()):
        api.request("DELETE", f"{_POLICIES[str(policy['kind'])]}/{policy['metadata']['name']}")  # type: ignore[index] # an object
    api.request("DELETE", f"{GROUP}/{PLURALS['AEPolicy']}")


def our_policies() -> list[Manifest]:
    """Return the admission policies and their bindings as they lie in crds/policies/."""
    files = sorted((ROOT / "crds" / "policies").glob("*.yaml"))
    return [document for file in files for document in read_yaml(file)]


class OldObjects:
    """Stored objects, each in a namespace of its own, because many have one name; a policy, which can be in none,
    under another name."""

    def __init__(self, api: ApiServer) -> None:
        self._api = api
        self._stored: dict[str, Manifest] = {}
        self._count = 0

    @contextmanager
    def update_of(self, case: Case) -> Iterator[Manifest]:
        """Give the new version of a case, as an update of the old one, which is there for as long."""
        was_there = case.name in self._stored
        if not was_there:
            self.store(case)
        metadata = self._api.get(self._stored[case.name]).body["metadata"]
        own = {key: metadata[key] for key in ("name", "namespace", "resourceVersion") if key in metadata}  # type: ignore[index,operator] # an object
        yield {**case.manifest, "metadata": {**case.manifest["metadata"], **own}}  # type: ignore[dict-item] # objects
        if not was_there:
            self._api.delete(self._stored.pop(case.name))

    def store(self, case: Case) -> None:
        """Create the old version of a case."""
        assert case.old is not None
        place = f"case-{self._count}"
        self._count += 1
        make_namespace(self._api, place)
        old = in_place(case.old, place)
        self._api.delete(old)
        answer = self._api.create(old)
        assert answer.is_accepted, f"{case.name}: {answer.message}"
        self._stored[case.name] = answer.body


def make_namespace(api: ApiServer, name: str) -> None:
    """Create a namespace where it is not there."""
    namespace: Manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    made = api.request("POST", "/api/v1/namespaces", namespace)
    assert made.is_accepted or made.status == http.client.CONFLICT, made.message


def in_place(manifest: Manifest, place: str) -> Manifest:
    """Return the manifest in the namespace ``place``; a policy, which can be in none, under that name."""
    part = "name" if manifest["kind"] == "AEPolicy" else "namespace"
    return {**manifest, "metadata": {**manifest["metadata"], part: place}}  # type: ignore[dict-item] # an object
