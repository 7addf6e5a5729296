"""What people type: get, explain, apply, edit, diff, with the CRDs in force."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.lab.lab import Lab
from tests.cluster.validation.api_server import PLURALS, ApiServer
from tests.cluster.validation.installing import OldObjects, make_namespace

NAMESPACE = "people"
CT1 = """\
apiVersion: aegate.dev/v1alpha1
kind: ApplicationEntity
metadata: {name: ct1}
spec: {title: CT1, node: 10.1.2.3, port: 104, locationCode: ER, comment: ask for the key}
"""
OTHERS = """\
apiVersion: aegate.dev/v1alpha1
kind: ApplicationEntity
metadata: {name: film-1}
spec: {title: FILM_1, node: 10.1.2.4, port: 104, ability: Print, enabled: false}
---
apiVersion: aegate.dev/v1alpha1
kind: ImageRoute
metadata: {name: all}
spec: {to: [pacs, ws], level: Series}
---
apiVersion: aegate.dev/v1alpha1
kind: PatientPartition
metadata: {name: research}
spec: {displayName: Research, issuerOfPatientID: R, retention: {images: {days: 30}}}
"""
POLICY = """\
apiVersion: aegate.dev/v1alpha1
kind: AEPolicy
metadata: {name: people}
spec: {allowedCIDRs: [10.0.0.0/8], requireTLS: true}
"""


class People:
    """kubectl in a namespace of its own."""

    def __init__(self, cluster: Lab) -> None:
        self._cluster = cluster

    def kubectl(self, *arguments: str | Path, stdin: str = "") -> str:
        return self._cluster.kubectl("--namespace", NAMESPACE, *arguments, stdin=stdin)

    def apply(self, text: str, *arguments: str) -> str:
        return self.kubectl("apply", "--filename", "-", *arguments, stdin=text)

    def spec(self, name: str = "ae/ct1") -> dict[str, object]:
        found = json.loads(self.kubectl("get", name, "--output", "json"))["spec"]
        assert isinstance(found, dict)
        return found

    def refused(self, *arguments: str | Path, stdin: str = "") -> str:
        """What kubectl says when it fails."""
        with pytest.raises(AssertionError) as failure:
            self.kubectl(*arguments, stdin=stdin)
        return str(failure.value)


@pytest.fixture
def people(cluster: Lab, api: ApiServer, stored: OldObjects) -> Iterator[People]:
    make_namespace(api, NAMESPACE)
    yield People(cluster)
    cluster.kubectl("--namespace", NAMESPACE, "delete", "ae,iroute,ppart", "--all")
    cluster.kubectl("delete", "aepol", "people", "--ignore-not-found")


def table(text: str) -> list[list[str]]:
    """The rows that kubectl printed, without ages."""
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]


def test_get_shows_what_one_looks_for(people: People) -> None:
    people.apply(CT1 + "---\n" + OTHERS)
    header, first, second = table(people.kubectl("get", "ae"))
    assert header == ["NAME", "TITLE", "NODE", "PORT", "ABILITY", "LOCATION", "READY", "REASON", "AGE"]
    assert first[:6] == ["ct1", "CT1", "10.1.2.3", "104", "Push", "ER"]
    assert second[:5] == ["film-1", "FILM_1", "10.1.2.4", "104", "Print"]
    wide = table(people.kubectl("get", "ae", "ct1", "--output", "wide"))
    assert wide[0] == [*header[:-1], "ENDPOINT", "PARTITION", "COMMENT", "MESSAGE", "AGE"]
    assert "default" in wide[1]
    assert "ask for the key" in wide[1]
    (route_header, route) = table(people.kubectl("get", "iroute"))
    assert route_header == ["NAME", "ENABLED", "TO", "LEVEL", "READY", "REASON", "AGE"]
    assert route[:4] == ["all", "true", '["pacs","ws"]', "Series"]
    (partition_header, partition) = table(people.kubectl("get", "ppart"))
    assert partition_header == ["NAME", "DISPLAY", "ISSUER", "KEEP", "AGE"]
    assert partition[:4] == ["research", "Research", "R", "30"]
    people.apply(POLICY)
    (policy_header, policy) = table(people.kubectl("get", "aepol", "people"))
    assert policy_header == ["NAME", "CIDRS", "TLS", "LOOPBACK", "SERVICES", "AGE"]
    assert policy[:4] == ["people", '["10.0.0.0/8"]', "true", "false"]


def test_short_names_and_the_category(people: People) -> None:
    people.apply(CT1 + "---\n" + OTHERS)
    for name in ("ae", "aes", "applicationentity", "applicationentities.aegate.dev"):
        assert people.kubectl("get", name, "ct1", "--output", "name") == "applicationentity.aegate.dev/ct1\n"
    everything = people.kubectl("get", "aegate", "--output", "name").split()
    assert sorted(everything) == [
        "applicationentity.aegate.dev/ct1",
        "applicationentity.aegate.dev/film-1",
        "imageroute.aegate.dev/all",
        "patientpartition.aegate.dev/research",
    ]


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("spec.title=CT1", ["ct1"]),
        ("spec.node=10.1.2.4", ["film-1"]),
        ("spec.locationCode=ER", ["ct1"]),
        ("spec.patientPartition=default", ["ct1", "film-1"]),
        ("spec.ability=Print", ["film-1"]),
        ("spec.enabled=false", ["film-1"]),
        ("spec.enabled=true,spec.ability=Push", ["ct1"]),
        ("spec.title=NONE", []),
    ],
)
def test_fields_select(people: People, selector: str, names: list[str]) -> None:
    people.apply(CT1 + "---\n" + OTHERS)
    found = people.kubectl("get", "ae", "--field-selector", selector, "--output", "name").split()
    assert [name.split("/")[1] for name in found] == names


def test_other_fields_do_not_select(people: People) -> None:
    assert "field label not supported: spec.port" in people.refused(
        "get", "ae", "--field-selector", "spec.port=104"
    )


def test_apply(people: People) -> None:
    assert people.apply(CT1) == "applicationentity.aegate.dev/ct1 created\n"
    assert people.apply(CT1) == "applicationentity.aegate.dev/ct1 unchanged\n"
    assert people.apply(CT1.replace("104", "105")) == "applicationentity.aegate.dev/ct1 configured\n"
    before = people.spec()
    assert before["port"] == 105
    said = people.refused("apply", "--filename", "-", stdin=CT1.replace("104", "0"))
    assert "spec.port" in said
    assert "greater than or equal to 1" in said
    assert 'unknown field "spec.prot"' in people.refused(
        "apply", "--filename", "-", stdin=CT1.replace("port:", "prot: 1, port:")
    )
    immutable = people.refused("apply", "--filename", "-", stdin=CT1.replace("CT1", "ct1"))
    assert "title is immutable: create another ApplicationEntity" in immutable
    assert people.spec() == before
    assert "locationCode" in before
    people.apply(CT1.replace("locationCode: ER, ", ""))
    assert "locationCode" not in people.spec()


def test_apply_on_the_server(people: People) -> None:
    ours = ("--server-side", "--field-manager", "ours")
    assert people.apply(CT1, *ours) == "applicationentity.aegate.dev/ct1 serverside-applied\n"
    theirs = CT1.split("spec:")[0] + "spec: {title: CT1, node: 10.1.2.3, port: 105}\n"
    said = people.refused(
        "apply", "--filename", "-", "--server-side", "--field-manager", "theirs", stdin=theirs
    )
    assert 'conflict with "ours": .spec.port' in said
    people.apply(theirs, "--server-side", "--field-manager", "theirs", "--force-conflicts")
    assert people.spec()["port"] == 105
    assert people.spec()["locationCode"] == "ER", "what the other one owns stays"


def test_ranges_of_two_managers_come_together(people: People) -> None:
    for manager, network in (("ours", "10.1.0.0/16"), ("theirs", "10.2.0.0/16")):
        text = CT1.replace("port:", f"sourceRanges: [{network}], port:")
        people.apply(text, "--server-side", "--field-manager", manager)
    assert people.spec()["sourceRanges"] == ["10.1.0.0/16", "10.2.0.0/16"]
    people.apply(CT1, "--server-side", "--field-manager", "theirs")
    assert people.spec()["sourceRanges"] == ["10.1.0.0/16"]


def test_edit(people: People, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    people.apply(CT1)
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/port: 104/port: 105/' \"$1\"\n")
    editor.chmod(0o755)
    monkeypatch.setenv("KUBE_EDITOR", str(editor))
    assert people.kubectl("edit", "ae", "ct1") == "applicationentity.aegate.dev/ct1 edited\n"
    assert people.spec()["port"] == 105
    # A refused edit is opened again with the reason on top; kubectl gives up when it is not changed any more.
    opened = tmp_path / "opened"
    editor.write_text(f'#!/bin/sh\ncat "$1" >> {opened}\nsed -i \'s/title: CT1/title: CT2/\' "$1"\n')
    assert "no valid changes were saved" in people.refused("edit", "ae", "ct1")
    assert "title is immutable: create another ApplicationEntity" in opened.read_text()
    assert (people.spec()["title"], people.spec()["port"]) == ("CT1", 105)


def test_dry_run_on_the_server(people: People) -> None:
    said = people.apply(CT1, "--dry-run=server")
    assert said == "applicationentity.aegate.dev/ct1 created (server dry run)\n"
    assert people.kubectl("get", "ae", "--output", "name") == ""
    people.apply(CT1)
    people.apply(CT1.replace("104", "105"), "--dry-run=server")
    assert people.spec()["port"] == 104
    wrong = CT1.replace("10.1.2.3", "10.1.2.300")
    said = people.refused("apply", "--filename", "-", "--dry-run=server", stdin=wrong)
    assert "node must be an IPv4 or IPv6 address or a DNS name in lower case" in said


def test_diff(people: People, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    people.apply(CT1)
    assert people.kubectl("diff", "--filename", "-", stdin=CT1) == ""
    program, shown = tmp_path / "diff", tmp_path / "shown"
    program.write_text(f'#!/bin/sh\ndiff --unified --recursive "$1" "$2" > {shown}\n')
    program.chmod(0o755)
    monkeypatch.setenv("KUBECTL_EXTERNAL_DIFF", str(program))
    people.refused("diff", "--filename", "-", stdin=CT1.replace("104", "105"))
    changes = [line for line in shown.read_text().splitlines() if re.match(r"[-+] ", line)]
    assert changes == ["-  generation: 1", "+  generation: 2", "-  port: 104", "+  port: 105"]
    assert people.spec()["port"] == 104


def test_the_object_shows_its_defaults(people: People) -> None:
    people.apply(CT1)
    spec = people.spec()
    assert spec["study"] == {"quietPeriodSeconds": 60, "maxAgeSeconds": 5400}
    assert spec["listener"] == {"verifyCalledTitle": False, "verifyNode": True, "maxAssociations": 25}
    assert (spec["patientPartition"], spec["routeLevel"], spec["enabled"]) == ("default", "Study", True)


@pytest.mark.parametrize("kind", PLURALS)
def test_explain_knows_every_field(people: People, api: ApiServer, kind: str) -> None:
    served = api.request("GET", "/openapi/v3/apis/aegate.dev/v1alpha1").body["components"]["schemas"]  # type: ignore[index] # OpenAPI
    schema = served[f"dev.aegate.v1alpha1.{kind}"]
    undescribed = [path for path, node in _fields(schema, kind) if not node.get("description")]
    assert undescribed == []
    text = people.kubectl("explain", kind.lower())
    assert re.search(rf"KIND:\s+{kind}\n", text)
    assert schema["description"].split(".")[0] in re.sub(r"\s+", " ", text)
    assert "spec\t<Object> -required-" in people.kubectl("explain", kind.lower(), "--recursive")


def _fields(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """All fields below one, but for those of metadata, which Kubernetes describes."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        if path.count(".") or name not in ("metadata",):
            yield from _fields(child, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if isinstance(node.get(name), dict):
            yield from _fields(node[name], f"{path}.{name}")


def test_explain_of_one_field(people: People) -> None:
    text = people.kubectl("explain", "ae.spec.listener.tls.clientAuth")
    assert "ENUM:\n    None\n    Request\n    Require" in text
