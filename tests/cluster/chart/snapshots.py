"""``python -m tests.cluster.chart.snapshots``: write snapshots anew; their diff says what a change does."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.chart.rendering import HERE, VALUES, helm_program, render, snapshot, with_values


def path_of(name: str) -> Path:
    """Return where the snapshot of a values file lies."""
    return HERE / "snapshots" / f"{name}.yaml"


if __name__ == "__main__":
    helm = helm_program()
    for name in VALUES:
        path_of(name).write_text(snapshot(render(helm, *with_values(name))))
