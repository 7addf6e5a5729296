"""The Grafana dashboard: one row for what comes in, one for what goes out, one for what is in the way."""

from __future__ import annotations

import json

Panel = tuple[str, str, str, str]
"""Title, PromQL, legend, unit."""

ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "In",
        (
            ("Associations open", "sum by (ae) (aegate_associations_open)", "{{ae}}", "short"),
            (
                "Images acknowledged",
                'sum by (ae) (rate(aegate_instances_received_total{status="0x0000"}[5m]))',
                "{{ae}}",
                "ops",
            ),
            ("Bytes acknowledged", "sum by (ae) (rate(aegate_instance_bytes_total[5m]))", "{{ae}}", "Bps"),
            (
                "Images refused",
                'sum by (ae, status) (rate(aegate_instances_received_total{status!="0x0000"}[5m]))',
                "{{ae}} {{status}}",
                "ops",
            ),
        ),
    ),
    (
        "Out",
        (
            (
                "Images pushed",
                "sum by (ae, verdict) (rate(aegate_instances_pushed_total[5m]))",
                "{{ae}} {{verdict}}",
                "ops",
            ),
            (
                "Deliveries settled",
                "sum by (state) (rate(aegate_deliveries_settled_total[5m]))",
                "{{state}}",
                "ops",
            ),
            (
                "Studies and series closed",
                "sum by (outcome) (rate(aegate_units_closed_total[5m]))",
                "{{outcome}}",
                "ops",
            ),
            ("Associations that push", "sum by (ae) (aegate_push_associations_open)", "{{ae}}", "short"),
        ),
    ),
    (
        "In the way",
        (
            ("Acknowledged, not yet indexed", "sum by (ae) (aegate_spool_arrivals)", "{{ae}}", "short"),
            ("Room in the spools", "min by (namespace, pod) (aegate_spool_free_bytes)", "{{pod}}", "bytes"),
            (
                "Receivers in trouble",
                "max by (ae) (aegate_destination_in_trouble)",
                "{{ae}}",
                "short",
            ),
            (
                "Associations rejected",
                "sum by (reason) (rate(aegate_associations_rejected_total[5m]))",
                "{{reason}}",
                "ops",
            ),
        ),
    ),
)
COLUMNS = 24
HEIGHT = 8


def dashboard() -> str:
    """Return the dashboard as Grafana imports it."""
    panels: list[dict[str, object]] = []
    for row, (title, shown) in enumerate(ROWS):
        y = row * (HEIGHT + 1)
        panels.append({"type": "row", "title": title, "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1}})
        width = COLUMNS // len(shown)
        for column, panel in enumerate(shown):
            panels.append(_panel(panel, {"x": column * width, "y": y + 1, "w": width, "h": HEIGHT}))
    source = {"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus"}
    document = {
        "uid": "aegate",
        "title": "aegate",
        "tags": ["dicom"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [source]},
        "panels": [{"id": number, **panel} for number, panel in enumerate(panels, 1)],
    }
    return json.dumps(document, indent=2) + "\n"


def _panel(panel: Panel, place: dict[str, int]) -> dict[str, object]:
    title, expression, legend, unit = panel
    source = {"type": "prometheus", "uid": "${source}"}
    return {
        "type": "timeseries",
        "title": title,
        "datasource": source,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [{"refId": "A", "datasource": source, "expr": expression, "legendFormat": legend}],
    }
