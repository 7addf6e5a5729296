"""The manifests that people copy from; clients have their own folders beside them."""

from __future__ import annotations

from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"
HOSPITAL = EXAMPLES / "hospital"
MANIFESTS = sorted([*EXAMPLES.glob("*.yaml"), *HOSPITAL.glob("*.yaml")])
