"""What of the chart is generated, and what it says of other parts of the tree."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from ruamel.yaml import YAML

from aegate_core.database import known_migrations
from aegate_core.database.roles import RIGHTS
from aegate_graphql_api.endpoint import APIMetrics
from aegate_operator.metrics import OperatorMetrics
from aegate_scp.indexer.metrics import IndexerMetrics
from aegate_scp.metrics import ListenerMetrics
from aegate_scu.metrics import WorkerMetrics
from tools.chart.__main__ import crd_copy, generated

CHART = Path(__file__).parents[3] / "charts/aegate"
OPEN = {"labels", "annotations", "serviceAnnotations", "nodeSelector", "requests", "limits", "global"}
"""What is Kubernetes' own, and so not closed by us."""


def yaml(path: str) -> Any:
    return YAML(typ="safe").load((CHART / path).read_text())


def sections(schema: dict[str, Any], at: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield at, schema
    for key, part in schema.get("properties", {}).items():
        if key == "pools":  # by names of the reader's choice
            yield from sections(part["additionalProperties"], f"{at}/{key}/NAME")
        elif part.get("type") == "object" and key not in OPEN:
            yield from sections(part, f"{at}/{key}")


def test_what_is_committed_is_what_is_generated() -> None:
    root = CHART.parents[1]
    assert [str(path) for path, text in generated().items() if (root / path).read_text() != text] == []


def test_the_schema_is_closed_at_every_level_and_every_value_has_a_comment() -> None:
    found = dict(sections(json.loads((CHART / "values.schema.json").read_text())))
    assert {at for at, schema in found.items() if schema["additionalProperties"] is not False} == set()
    silent = [f"{at}/{key}" for at, s in found.items() for key, part in s["properties"].items()
              if at.rpartition("/")[2] != "resources" and not part.get("description")]  # fmt: skip
    assert silent == []
    assert {
        "/image",
        "/listener/spool",
        "/api/httpRoute",
        "/database/trial/resources",
        "/pools/NAME/spool",
    } < found.keys()


def test_values_and_schema_hold_the_same_keys() -> None:
    def keys(values: dict[str, Any], schema: dict[str, Any], at: str = "") -> Iterator[str]:
        for key in values.keys() ^ (schema["properties"].keys() - {"global"}):
            yield f"{at}/{key}"
        for key, value in values.items():
            part = schema["properties"].get(key, {})
            if isinstance(value, dict) and "properties" in part and key != "resources":
                yield from keys(value, part, f"{at}/{key}")

    assert list(keys(yaml("values.yaml"), json.loads((CHART / "values.schema.json").read_text()))) == []


def test_the_chart_knows_every_role_and_the_schema_of_this_code() -> None:
    database = yaml("values.yaml")["database"]
    assert database["roles"].keys() == RIGHTS.keys()
    assert database["secrets"].keys() == {*RIGHTS, "owner"}
    assert (CHART / "files/schema.txt").read_text() == f"{known_migrations()[-1]}\n"


def test_alerts_and_dashboard_ask_for_metrics_that_there_are() -> None:
    all_made = (ListenerMetrics(), IndexerMetrics(), WorkerMetrics(), OperatorMetrics(), APIMetrics())
    registries: list[CollectorRegistry] = [made.registry for made in all_made]
    there = {f"{m.name}_total" if m.type == "counter" else m.name for r in registries for m in r.collect()}
    asked = set()
    for name in ("alerts.yaml", "dashboard.json"):
        asked |= set(re.findall(r"\baegate_[a-z_]+", (CHART / "files" / name).read_text()))
    assert asked
    assert asked - there == set()


def test_a_crds_copy_differs_by_what_keeps_it_alone() -> None:
    text = "kind: CustomResourceDefinition\nmetadata:\n  name: x\nspec:\n  metadata:\n    a: b\n"
    assert crd_copy(text) == text.replace(
        "\nmetadata:\n", "\nmetadata:\n  annotations: {helm.sh/resource-policy: keep}\n", 1
    )
