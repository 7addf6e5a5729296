"""From files to resources: folders, kinds, positions, duplicates, and what keeps the last good version."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.resources.manifests import LARGEST_BYTES
from aegate_core.resources.reference import ResourceRef
from aegate_core.resources.validation import ValidationResult, validate_manifests, validate_reading
from tests.unit.resources.builders import ae, crds, read_bytes, resource, route, validate, validate_text

GOOD = """\
apiVersion: aegate.dev/v1alpha1
kind: ApplicationEntity
metadata: {name: ct1}
spec: {title: CT1, node: 10.1.2.3, port: 104}
"""
CT1 = ResourceRef("ApplicationEntity", ResourceKey("default", "ct1"))


def check(*paths: Path) -> ValidationResult:
    """Validate real paths."""
    return validate_manifests([str(path) for path in paths], crds=crds())


def lines(result: ValidationResult) -> list[str]:
    """All problems as they are printed."""
    return [str(problem) for problem in [*result.unreadable, *result.problems]]


def test_folder_is_read_with_those_below_it(tmp_path: Path) -> None:
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices" / "ct1.yaml").write_text(GOOD)
    (tmp_path / "ct2.yml").write_text(GOOD.replace("ct1", "ct2").replace("CT1", "CT2"))
    (tmp_path / "route.json").write_text(json.dumps(route(to=["ct1"])))
    for folder in ("secrets", ".git"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.yaml").write_text("not: ours\n")
    (tmp_path / "kustomization.yaml").write_text("resources: []\n")
    (tmp_path / "locations.csv").write_text("code,display_name\n")
    result = check(tmp_path)
    assert lines(result) == []
    assert sorted(str(r.key) for r in result.resources) == ["default/ct1", "default/ct2", "default/r1"]
    assert result.resources[1].metadata.source == f"{tmp_path}/devices/ct1.yaml:1"


def test_one_file_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to("/proc/self/mem")  # EIO for everybody, root too
    (tmp_path / "b.yaml").write_text(GOOD)
    result = check(tmp_path)
    assert lines(result) == [
        f"{tmp_path}/a.yaml: expected a readable file or folder, got Input/output error: "
        "check the path and its mode"
    ]
    assert [str(r.key) for r in result.resources] == ["default/ct1"]


def test_each_document_has_its_line(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text("# a comment\n---\n" + GOOD + "---\n" + GOOD.replace("ct1", "ct2").replace("CT1", "CT2"))
    assert [r.metadata.source for r in check(file).resources] == [f"{file}:3", f"{file}:8"]


def test_problem_names_file_line_resource_and_field(tmp_path: Path) -> None:
    file = tmp_path / "ct.yaml"
    file.write_text(GOOD + "---\n" + GOOD.replace("port: 104", "prot: 104").replace("name: ct1", "name: x"))
    x = "ApplicationEntity default/x"
    assert lines(check(file)) == [
        f"{file}:9: {x} spec.port: expected a value, got nothing: the field is required; add it",
        f"{file}:9: {x} spec.prot: expected a field of the schema, got the unknown field 'prot': did you mean port?",
    ]


def test_a_list_is_what_is_in_it() -> None:
    result = validate(ae("ct1"), ae("ct2", port=0))
    assert [str(r.key) for r in result.resources] == ["default/ct1"]
    assert [p.field for p in result.problems] == ["spec.port"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "kind: Deployment\napiVersion: apps/v1\n",
            "expected one of AEPolicy, ApplicationEntity, ImageRoute, PatientPartition",
        ),
        ("kind: applicationentity\n", "did you mean ApplicationEntity?"),
        (
            "a: 1\n",
            "kind: expected one of AEPolicy, ApplicationEntity, ImageRoute, PatientPartition, got nothing",
        ),
        ("just text\n", "expected an object with apiVersion, kind, metadata and spec, got 'just text'"),
        ("- a\n", "got a list of 1"),
        (GOOD.replace("v1alpha1", "v1"), "expected aegate.dev/v1alpha1, got 'aegate.dev/v1'"),
        (
            GOOD.replace("apiVersion: aegate.dev/v1alpha1\n", ""),
            "apiVersion: expected aegate.dev/v1alpha1, got nothing",
        ),
        (GOOD.replace("{name: ct1}", "{}"), "metadata.name: expected a name, got nothing"),
        (GOOD.replace("{name: ct1}", "ct1"), "metadata: expected an object"),
        (
            GOOD.replace("{name: ct1}", "{name: CT1}"),
            "metadata.name: expected at most 253 lower-case letters",
        ),
        (GOOD.replace("{name: ct1}", "{name: 12}"), "metadata.name: expected a string, got the integer 12"),
        (GOOD.replace("name: ct1", "name: ct1, namespace: a.b"), "metadata.namespace: expected at most 63"),
        (GOOD.replace("name: ct1", "name: ct1, generateName: ct"), "set metadata.name"),
        (GOOD.replace("name: ct1", "name: ct1, label: {}"), "did you mean labels?"),
        (GOOD.replace("name: ct1", "name: ct1, labels: {a: 1}"), "metadata.labels.a: expected a string"),
        (
            GOOD.replace("name: ct1", "name: ct1, labels: {a: -b}"),
            "metadata.labels.a: expected at most 63 letters",
        ),
        (
            GOOD.replace("name: ct1", "name: ct1, labels: {a/b/c: x}"),
            'metadata.labels["a/b/c"]: expected a name',
        ),
        (
            GOOD.replace("name: ct1", "name: ct1, labels: []"),
            "metadata.labels: expected an object of strings",
        ),
        (
            GOOD.replace("name: ct1", "name: ct1, annotations: {a: true}"),
            "metadata.annotations.a: expected a string",
        ),
        ("", "<stdin>: expected manifests, got nothing"),
        ("# nothing\n", "<stdin>: expected at least one resource, got none"),
        ("a: \xff\n".encode("latin-1").decode("latin-1"), "expected one of"),
        (
            "a:\n\tb: 1\n",
            "<stdin>:2: expected spaces for indentation, got a tab: replace the tab with spaces",
        ),
        ("{", "<stdin>:1: expected JSON"),
    ],
)
def test_refused_with_reason_and_next_step(text: str, words: str) -> None:
    result = validate_text(text)
    assert result.resources == ()
    assert not result.is_valid
    assert words in lines(result)[0]


def test_what_a_server_sets_is_not_used() -> None:
    text = (
        GOOD.replace("name: ct1", "name: ct1, uid: abc, generation: 7, resourceVersion: '1'")
        + "status: {observedGeneration: x}\n"
    )
    result = validate_text(text)
    assert lines(result) == []
    assert (result.resources[0].metadata.uid, result.resources[0].metadata.generation) == ("", 1)


def test_a_resource_stands_once(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(GOOD)
    result = check(tmp_path)
    assert lines(result) == [
        f"{tmp_path}/b.yaml:3: {CT1} metadata.name: expected every resource once, got {CT1} again "
        f"(first in {tmp_path}/a.yaml:1): remove one"
    ]
    assert len(result.resources) == 1


def test_one_name_in_two_kinds_or_namespaces_is_two_resources() -> None:
    here, there = ae("x"), ae("x")
    there["metadata"] = {"name": "x", "namespace": "other"}
    assert len(validate(here, there, route("x")).resources) == 3


def test_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "image.yaml"
    with file.open("wb") as out:
        out.truncate(50 * 1024 * 1024)
    assert lines(check(file)) == [
        f"{file}: expected at most {LARGEST_BYTES} bytes in a file of manifests, got 52428800 bytes: "
        "split it into several files"
    ]


def test_text_in_another_encoding_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes("# a comment\ncomment: Müller\n".encode("latin-1"))
    assert lines(check(file)) == [
        f"{file}:2: expected UTF-8 text, got another byte at 22: save the file as UTF-8"
    ]
    assert check(file).broken_files == {str(file)}


def test_byte_order_mark_is_let_pass(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert check(tmp_path).is_valid


def test_folder_without_manifests_and_absent_path_cannot_be_used(tmp_path: Path) -> None:
    result = check(tmp_path, tmp_path / "absent")
    assert lines(result) == [
        f"{tmp_path}: expected files *.yaml, *.yml, *.json in the folder, got none: give a folder that holds manifests",
        f"{tmp_path}/absent: expected a readable file or folder, got No such file or directory: "
        "check the path and its mode",
    ]
    assert result.problems == ()


def test_good_resources_are_returned_beside_wrong_ones(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text("a: [\n")
    result = check(tmp_path)
    assert [str(r.key) for r in result.resources] == ["default/ct1"]
    assert len(result.problems) == 1


def test_wrong_manifest_keeps_its_last_good_version() -> None:
    in_force = [resource(ae("ct1")), resource(ae("ct2")), resource(ae("gone"))]
    result = validate(ae("ct1", port=0), ae("ct2"))
    assert result.source_errors(in_force) == {
        CT1: f"<stdin>:1: {CT1} spec.port: expected at least 1, got 0",
    }


def test_broken_file_keeps_all_it_held(tmp_path: Path) -> None:
    file, other = tmp_path / "a.yaml", tmp_path / "b.yaml"
    file.write_text(GOOD)
    other.write_text(GOOD.replace("ct1", "ct2").replace("CT1", "CT2"))
    in_force = check(tmp_path).resources
    file.write_text("apiVersion: [\n")
    result = check(tmp_path)
    errors = result.source_errors(in_force)
    assert list(errors) == [CT1]
    assert errors[CT1].startswith(f"{file}:2: expected YAML, got ")


def test_nothing_is_missed_while_anything_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(GOOD)
    in_force = check(tmp_path).resources
    file.rename(tmp_path / "b.yaml")
    (tmp_path / "b.yaml").write_text("apiVersion: [\n")
    assert list(check(tmp_path).source_errors(in_force)) == [CT1]
    assert list(check(tmp_path / "absent").source_errors(in_force)) == [CT1]
    (tmp_path / "b.yaml").write_text(GOOD.replace("kind: ApplicationEntity\n", ""))
    assert list(check(tmp_path).source_errors(in_force)) == [CT1]
    (tmp_path / "b.yaml").write_text(GOOD.replace("ct1", "ct2").replace("CT1", "CT2"))
    assert check(tmp_path).source_errors(in_force) == {}, "all is read, and it is not there"


def test_resource_moved_out_of_a_broken_file_is_right(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(GOOD)
    in_force = check(tmp_path).resources
    file.write_text("x: [\n")
    (tmp_path / "b.yaml").write_text(GOOD)
    assert check(tmp_path).source_errors(in_force) == {}


def test_transition_rules_hold_against_the_version_in_force() -> None:
    in_force = validate(ae(patientPartition="a")).resources
    changed = validate(ae(patientPartition="b"), old=in_force)
    assert [p.field for p in changed.problems] == ["spec.patientPartition"]
    assert changed.source_errors(in_force) == {CT1: str(changed.problems[0])}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"title": 12}, "expected a string, got the integer 12: put it in quotes"),
        ({"title": "A2345678901234567"}, "expected at most 16 characters, got 17: shorten it"),
        ({"port": "104"}, "expected an integer, got '104': take the quotes away"),
        ({"ability": False}, "YAML reads unquoted on, off, yes, no, true and false as booleans; put it in"),
        ({"routeLevel": "study"}, "did you mean Study?"),
        ({"sourceranges": []}, "did you mean sourceRanges?"),
        ({"listener": {"verifyNodes": True}}, "did you mean verifyNode?"),
        ({"node": None}, "expected a value, got nothing: the field is required; add it"),
        (
            {"push": {"compression": {"mode": "Lossless", "quality": 90}}},
            "only with it (got the integer 90)",
        ),
    ],
)
def test_the_next_step_is_said(spec: dict[str, object], words: str) -> None:
    value = {**ae("ct1"), "spec": {"title": "CT1", "node": "10.1.2.3", "port": 104, **spec}}
    assert [words in p.message for p in validate(value).problems if p.field != ""] == [True]


def test_a_policy_is_valid_and_no_resource_of_a_namespace() -> None:
    policy = {"apiVersion": "aegate.dev/v1alpha1", "kind": "AEPolicy", "metadata": {"name": "x"}, "spec": {}}
    result = validate(policy, policy)
    assert [str(p.ref) for p in result.policies] == ["AEPolicy x"]
    assert [p.message for p in result.problems] == [
        "expected every resource once, got AEPolicy x again (first in <stdin>:1): remove one"
    ]


def test_what_was_stored_before_a_rule_is_let_pass_while_it_does_not_change() -> None:
    stored = ae("ct1", node="ct1.example.org")
    old = {CT1: stored}
    labelled = {**stored, "metadata": {"name": "ct1", "labels": {"a": "b"}}}
    reading = read_bytes(json.dumps(labelled).encode())
    assert validate_reading(reading, old=old, crds=crds()).is_valid
    assert not validate_reading(reading, old={}, crds=crds()).is_valid
