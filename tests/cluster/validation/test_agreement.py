"""Manifests that nobody thought of: `aegate validate` and an API server say the same of each.

A manifest is accepted; then some of its fields get values from the edges of every form: too long, null, of another
type, nearly an address. The seed is printed with what differs.
"""

from __future__ import annotations

import http.client
import json
import os
import random
from collections.abc import Iterator, Mapping
from functools import partial

import pytest

from aegate_core.resources.crds import load_crds
from aegate_core.resources.manifests import read_manifests
from aegate_core.resources.schema import Schema, items_of, properties
from aegate_core.resources.validation import validate_reading
from tests.cluster.validation.api_server import PLURALS, ApiServer
from tests.cluster.validation.installing import OldObjects
from tests.crd_cases.table import API_VERSION, Manifest, reported_field

SEED = int(os.environ.get("SEED", "7"))
MANIFESTS = int(os.environ.get("MANIFESTS", "50"))
"""Of each kind."""
BASES: dict[str, Manifest] = {
    "ApplicationEntity": {"title": "CT1", "node": "10.1.2.3", "port": 104},
    "ImageRoute": {"to": ["pacs"]},
    "PatientPartition": {},
    "AEPolicy": {},
}
EDGES: tuple[object, ...] = (
    *(None, True, False, 0, 1, -1, 2, 64, 65, 104, 65535, 65536, 2**31, 2**63, 2**70, 104.0, 0.5, 1e300),
    *(
        "",
        " ",
        "a",
        "A",
        "None",
        "true",
        "1",
        "é",
        "a\\b",
        "a\nb",
        "\x00",
        "\x7f",
        "\u2028",
        "\U0001f600",
        "a b",
        "-",
    ),
    *(
        "10.1.2.3",
        "010.1.2.3",
        "10.1.2.300",
        "::1",
        "::",
        "2001:DB8::1",
        "fe80::1%1",
        "::ffff:1.2.3.4",
        "1.2.3.4.",
    ),
    *(
        "10.0.0.0/8",
        "10.0.0.1/8",
        "10.0.0.0/08",
        "::/0",
        "::ffff:10.0.0.0/104",
        "2001:db8::/129",
        "/8",
        "10.0.0.0/-1",
    ),
    *(
        "255.255.255.255",
        "224.0.0.1",
        "239.255.255.255",
        "ff02::1",
        "ff0e::1",
        "169.254.0.1",
        "fe80::1",
        "127.0.0.1",
    ),
    *(
        "ct1.example.org",
        "CT1",
        "ct_1",
        "ct1.",
        ".ct1",
        "a..b",
        "xn--a",
        "n" * 64,
        "n" * 254,
        "n." * 127,
        "localhost",
    ),
    *(
        "1Gi",
        "1gi",
        "1.5Gi",
        ".5",
        "5.",
        "+1",
        "-1",
        "1e3",
        "1E3",
        "1E",
        "1e",
        "0",
        "0.0",
        "1Ki1",
        "1 Gi",
        "9" * 30,
    ),
    *(
        "STANDARD\\1,1",
        "STANDARD\\0,1",
        "1.2.3",
        "1.2.03",
        "2.",
        "1",
        "example.org/a",
        "/a",
        "a/b/c",
        "Example.org/A",
    ),
    *(
        [],
        {},
        [None],
        [""],
        ["a", "a"],
        ["a", "b"],
        {"a": None},
        {"a": "b"},
        {"": ""},
        {"a": 1},
        {"a b": "c"},
    ),
)


def places(
    schema: Schema, path: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], Schema]]:
    """Every place below a schema where a value can stand; of a list, its first item."""
    for name, child in properties(schema).items():
        yield (*path, name), child
        yield from places(child, (*path, name))
    if items_of(schema):
        yield (*path, 0), items_of(schema)
        yield from places(items_of(schema), (*path, 0))


def put(holder: Manifest, path: tuple[str | int, ...], value: object) -> None:
    """Set the value, and make the objects and lists around it, where nothing else stands in the way."""
    here: object = holder
    for step, following in zip(path, [*path[1:], None], strict=True):
        empty: object = [] if isinstance(following, int) else {}
        last = following is None
        if isinstance(here, dict) and isinstance(step, str):
            here[step] = value if last else here.get(step) or empty
            here = here[step]
        elif isinstance(here, list) and step == 0:
            here[:] = [value if last else here[0] if here else empty]
            here = here[0]
        else:
            return


def _text(manifest: Manifest, most: int) -> bytes:
    """The manifest as standard input gives it."""
    return json.dumps(manifest).encode()


def manifests(kind: str, schema: Schema) -> Iterator[Manifest]:
    """Manifests of a kind with one to three fields changed."""
    chance = random.Random(f"{SEED} {kind}")
    spots = [(path, node) for path, node in places(properties(schema)["spec"])]
    for _ in range(MANIFESTS):
        spec: Manifest = json.loads(json.dumps(BASES[kind]))
        for path, node in chance.sample(spots, chance.choice((1, 1, 2, 3))):
            choices = node.get("enum")
            usual = isinstance(choices, list) and chance.random() < 0.5
            put(spec, path, chance.choice(choices if usual else EDGES))  # type: ignore[arg-type] # a list, by the line above
        yield {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "ct1"}, "spec": spec}


@pytest.mark.parametrize("kind", PLURALS)
def test_both_refuse_the_same_fields(api: ApiServer, stored: OldObjects, kind: str) -> None:
    crds = load_crds()
    differing = []
    for manifest in manifests(kind, crds[kind].schema):
        reading = read_manifests(["-"], stdin=partial(_text, manifest))
        ours = {
            reported_field(p.field): p.message for p in validate_reading(reading, old={}, crds=crds).problems
        }
        answer = api.create(manifest, dryRun="All")
        theirs = dict(answer.refused)
        # What cannot be decoded, such as an object for a number, is all that a server tells of a manifest.
        is_told_whole = answer.status != http.client.BAD_REQUEST
        if answer.is_accepted == bool(ours) or (is_told_whole and ours.keys() != theirs.keys()):
            differing.append((manifest["spec"], _short(ours), _short(theirs)))
    assert differing == [], f"SEED={SEED}"


def _short(said: Mapping[str, str]) -> dict[str, str]:
    return {place: message[:120] for place, message in said.items()}
