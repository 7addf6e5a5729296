"""The CRD files themselves: the one source, enforced in full or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from aegate_core.errors import InvalidResource, NotFound
from aegate_core.resources.crds import crds_folder, load_crds
from aegate_core.resources.manifest_of import to_manifest
from aegate_core.resources.parse import parse_resource
from aegate_core.resources.rules import compile_all
from aegate_core.resources.schema import Schema, check, with_defaults
from aegate_core.resources.validation import validate_reading, versions_of
from tests.unit.resources.builders import ae, crds, partition, read_bytes, route


def nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every schema below one, with its path."""
    yield path, schema
    children = dict(schema.get("properties", {}))  # type: ignore[call-overload] # a CRD's own form
    children |= {
        key: schema[key] for key in ("items", "additionalProperties") if isinstance(schema.get(key), Mapping)
    }
    for name, child in children.items():
        yield from nodes(child, f"{path}.{name}")


def edited(folder: Path, **edits: object) -> Path:
    """A copy of the CRDs in which spec.comment of the AE has further keywords."""
    shutil.copytree(crds_folder(), folder / "crds")
    file = folder / "crds" / "applicationentity.yaml"
    yaml = YAML(typ="safe", pure=True)
    document = yaml.load(file.read_text())
    spec = document["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["comment"].update(edits)
    with file.open("w") as out:
        yaml.dump(document, out)
    return folder / "crds"


def test_all_four_kinds_with_all_their_rules() -> None:
    loaded = load_crds()
    assert {kind: crd.api_version for kind, crd in loaded.items()} == {
        "AEPolicy": "aegate.dev/v1alpha1",
        "ApplicationEntity": "aegate.dev/v1alpha1",
        "ImageRoute": "aegate.dev/v1alpha1",
        "PatientPartition": "aegate.dev/v1alpha1",
    }
    assert {kind: compile_all(crd.schema) for kind, crd in loaded.items()} == {
        "AEPolicy": 2,
        "ApplicationEntity": 43,
        "ImageRoute": 6,
        "PatientPartition": 3,
    }


@pytest.mark.parametrize("kind", ["AEPolicy", "ApplicationEntity", "ImageRoute", "PatientPartition"])
def test_every_field_has_a_description_and_a_limit(kind: str) -> None:
    for path, node in nodes(crds()[kind].schema):
        if path == ".metadata":
            assert node == {"type": "object"}, "an API server refuses anything else here"
            continue
        assert node.get("description"), f"{kind}{path} has no description"
        limited = {
            "string": not path.startswith(".spec") or {"maxLength", "enum", "pattern"} & node.keys(),
            "array": "maxItems" in node,
            "integer": not path.startswith(".spec") or "minimum" in node,
            "object": "additionalProperties" not in node or "maxProperties" in node,
        }
        assert limited.get(str(node.get("type")), True), f"{kind}{path} has no limit"
        assert not {True, False, None} & {v for v in node.get("enum", []) if not isinstance(v, str)}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "value", [ae(), ae(ability="Print"), ae(push={}), route(), partition(retention={"images": {}})]
)
def test_values_have_the_defaults_of_the_crds(value: dict[str, object]) -> None:
    schema = crds()[str(value["kind"])].schema
    filled = with_defaults(value, schema)
    assert isinstance(filled, dict)
    assert parse_resource(filled) == parse_resource(value)
    assert list(check(to_manifest(parse_resource(value)), schema, ())) == []


def test_rule_added_to_a_copy_is_enforced(tmp_path: Path) -> None:
    rule = {"rule": "!self.contains('fax')", "message": "nobody has a fax"}
    folder = edited(tmp_path, **{"x-kubernetes-validations": [rule]})
    text = json.dumps(ae(comment="fax 123"))
    refused = validate_reading(read_bytes(text.encode()), old={}, crds=load_crds(folder))
    assert [str(p) for p in refused.problems] == [
        "<stdin>:1: ApplicationEntity default/ct1 spec.comment: nobody has a fax (got 'fax 123')"
    ]
    assert validate_reading(read_bytes(text.encode()), old={}, crds=crds()).is_valid


def test_transition_rule_added_to_a_copy_is_enforced(tmp_path: Path) -> None:
    rule = {"rule": "size(self) >= size(oldSelf)", "messageExpression": "'at least ' + string(size(oldSelf))"}
    loaded = load_crds(edited(tmp_path, **{"x-kubernetes-validations": [rule]}))
    text = json.dumps(ae(comment="short")).encode()
    assert validate_reading(read_bytes(text), old={}, crds=loaded).is_valid
    refused = validate_reading(
        read_bytes(text), old=versions_of([parse_resource(ae(comment="longer"))]), crds=loaded
    )
    assert [p.message for p in refused.problems] == ["at least 6 (got 'short')"]


def test_rule_that_does_not_compile_refuses_the_crd(tmp_path: Path) -> None:
    folder = edited(tmp_path, **{"x-kubernetes-validations": [{"rule": "self.nothing(1"}]})
    with pytest.raises(InvalidResource, match=r"applicationentity\.yaml: CEL expression does not compile"):
        load_crds(folder)


def test_keyword_that_cannot_be_checked_refuses_the_crd(tmp_path: Path) -> None:
    folder = edited(tmp_path, anyOf=[{"minLength": 3}])
    with pytest.raises(InvalidResource, match=r"comment uses anyOf, which cannot be checked"):
        load_crds(folder)


def test_rule_that_fails_to_evaluate_is_a_problem(tmp_path: Path) -> None:
    loaded = load_crds(
        edited(tmp_path, **{"x-kubernetes-validations": [{"rule": "self.matches(1 > 0 ? '[' : '')"}]})
    )
    result = validate_reading(read_bytes(json.dumps(ae(comment="x")).encode()), old={}, crds=loaded)
    assert [p.field for p in result.problems] == ["spec.comment"]
    assert "a value for which the rule can be evaluated" in result.problems[0].message


def test_folder_without_crds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="must hold CustomResourceDefinitions"):
        load_crds(tmp_path)


@pytest.mark.parametrize("text", ["a: [", "kind: CustomResourceDefinition\nspec: 1\n"])
def test_broken_crd_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(InvalidResource):
        load_crds(tmp_path)
