"""How far each study is, put together from what its sender heard and what GraphQL tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

FINISHED = ("COMPLETED", "WARNING", "FAILED", "CANCELED")


@dataclass(slots=True)
class Sent:
    """What a modality made and what of it was acknowledged to it."""

    modality: str
    study_uid: str = ""
    digests: dict[str, str] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StudyProgress:
    """One row of the table."""

    modality: str
    made: int
    received: int
    indexed: int
    closed: str
    queued: int
    pushed: Mapping[str, tuple[int, int]]
    """Destination: instances done and in all."""
    is_finished: bool
    why: str

    def stages(self) -> tuple[str, ...]:
        """Return the row's texts."""
        pushed = ", ".join(
            f"{name.split('/')[-1]} {done}/{total}" for name, (done, total) in self.pushed.items()
        )
        return (
            self.modality,
            f"{self.received}/{self.made}",
            f"{self.indexed}/{self.made}",
            self.closed or "…",
            str(self.queued),
            pushed or "…",
            self.why,
        )


def study_progress(sent: Sent, answer: Mapping[str, Any]) -> StudyProgress:
    """Return how far the study of ``sent`` is. ``answer`` is the data of the PROGRESS query."""
    studies = [n for n in answer["studies"]["nodes"] if n["studyInstanceUid"] == sent.study_uid]
    study = studies[0] if studies else None
    items = [
        n
        for n in answer["queueItems"]["nodes"]
        if (n["study"] or {}).get("studyInstanceUid") == sent.study_uid
    ]
    units = study["closeUnits"] if study else []
    closed = bool(units) and all(u["closedAt"] for u in units)
    pushed: dict[str, tuple[int, int]] = {}
    for item in sorted(items, key=lambda i: str(i["destinationAe"])):
        done, total = pushed.get(item["destinationAe"], (0, 0))
        pushed[item["destinationAe"]] = (done + item["instancesDone"], total + item["instancesTotal"])
    why = next((i["whyNotMoving"]["text"] for i in items if i["whyNotMoving"]), "")
    return StudyProgress(
        modality=sent.modality,
        made=len(sent.digests),
        received=len(sent.acknowledged),
        indexed=study["instanceCount"] if study else 0,
        closed=", ".join(sorted({str(u["outcome"]) for u in units})) if closed else "",
        queued=len(items),
        pushed=pushed,
        is_finished=closed and bool(items) and all(i["state"] in FINISHED for i in items),
        why=why,
    )


def progress_table(rows: Iterable[StudyProgress], elapsed_s: float) -> Table:
    """Return the live table."""
    table = Table(title=f"{elapsed_s:5.1f} s", title_justify="left", header_style="bold")
    for heading in ("study", "received", "→ indexed", "→ closed", "→ queued", "→ pushed", "why not yet"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row.stages())
    return table
