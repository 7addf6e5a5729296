"""Which queue items a command means: q17, a study by whatever names it, or a filter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aegate_cli.api.client import API
from aegate_cli.api.names import find_destination, find_items, find_study, named
from aegate_core.errors import InvalidInput

STATES = ("SCHEDULED", "IN_PROGRESS", "RETRY", "HELD", "FAILED", "COMPLETED", "WARNING", "CANCELED")
UNFINISHED = ("SCHEDULED", "IN_PROGRESS", "RETRY", "HELD", "FAILED")
"""What somebody has to look after: a failed item waits for a retry."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What was typed as a filter."""

    to: str | None = None
    source: str | None = None
    states: Sequence[str] = ()
    search: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether all items fit."""
        return not (self.to or self.source or self.states or self.search)

    def where(self, api: API) -> dict[str, object]:
        """Return it as the API's filter. Raises AegateError for a destination that is not there, InvalidInput."""
        found: dict[str, object] = {}
        if self.to is not None:
            found["destination"] = {"eq": find_destination(api, self.to)["ae"]}
        if self.source is not None:
            found["sourceAe"] = named(self.source)
        if self.states:
            found["state"] = {"in": [state_of(state) for state in self.states]}
        return found


def state_of(text: str) -> str:
    """Return a state as the API spells it. Raises InvalidInput."""
    state = text.upper().replace("-", "_")
    if state not in STATES:
        raise InvalidInput(f"--state must be one of {', '.join(STATES)}, got another: correct it")
    return state


def selection_of(api: API, which: Sequence[str], wanted: Filter) -> dict[str, object]:
    """Return what was typed as a selection of the API.

    Raises AegateError where nothing was named, or items by themselves and anything else.
    """
    ids = list(find_items(api, which).values())
    if ids and (len(ids) < len(set(which)) or not wanted.is_empty):
        raise InvalidInput("expected items such as q17, or studies and a filter, got both: use two commands")
    if not which and wanted.is_empty:
        raise InvalidInput(
            "expected which items, got none: name items (q17), studies (an accession number, a UID, s4), or a filter "
            "such as --to pacs --state failed"
        )
    if ids:
        return {"ids": ids}
    studies = [find_study(api, text) for text in which]
    if wanted.is_empty:
        return {"studyIds": [study["id"] for study in studies]}
    where = wanted.where(api) | _of(studies)
    return {"search": wanted.search, "where": where} if wanted.search else {"where": where}


def is_counted(selection: dict[str, object]) -> bool:
    """Whether it is a filter, of which nobody knows how many it finds."""
    return "where" in selection


def _of(studies: Sequence[dict[str, object]]) -> dict[str, object]:
    """Return the filter on them: each in its own partition, as another may have a study of the same UID."""
    if not studies:
        return {}
    uids: dict[str, list[str]] = {}
    for study in studies:
        uids.setdefault(str(study["partition"]), []).append(str(study["studyInstanceUid"]))
    return {
        "OR": [
            {"partition": {"eq": partition}, "studyInstanceUid": {"in": found}}
            for partition, found in uids.items()
        ]
    }
