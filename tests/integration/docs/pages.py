"""Pages of documentation as programs: operations in fenced blocks, what they are given, and what they answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
BLOCK = re.compile(r"^( *)```(graphql|json)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
TIME = re.compile(r"20\d\d-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(\+00:00|Z| UTC)?")
OPAQUE = re.compile(r"\.(id|objectId|targetId|\w*[cC]ursor|version|\w*rrivalId)(\[\d+\])*$")
"""Members whose texts are other ones with each run: where they come again, they are the same again."""


@dataclass
class Step:
    """An operation of a page; ``answer`` is the whole body, None where the page shows none."""

    page: str
    operation: str
    variables: dict[str, Any] = field(default_factory=dict)
    answer: dict[str, Any] | None = None


def steps(page: Path) -> Iterator[Step]:
    """Yield the operations of a page in their order. JSON after one is its variables, or its answer."""
    step: Step | None = None
    for indent, language, text in BLOCK.findall(page.read_text()):
        text = re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)
        if language == "graphql":
            if step is not None:
                yield step
            step = Step(page.name, text)
        elif step is not None:
            found = json.loads(text)
            if found.keys() <= {"data", "errors", "extensions"}:
                step.answer = found
            else:
                step.variables = found
    if step is not None:
        yield step


@dataclass
class Names:
    """What is called otherwise in this run than in the pages: opaque texts, by the pages' ones."""

    here: dict[str, str] = field(default_factory=dict)

    def in_this_run(self, value: Any) -> Any:
        """Return what a page gives, as this run calls it."""
        if isinstance(value, dict):
            return {name: self.in_this_run(member) for name, member in value.items()}
        if isinstance(value, list):
            return [self.in_this_run(item) for item in value]
        return self.here.get(value, value) if isinstance(value, str) else value

    def differences(self, shown: Any, came: Any, at: str = "") -> list[str]:
        """Return where what came is not what a page shows; learn what opaque texts are called in this run."""
        if isinstance(shown, dict) and isinstance(came, dict):
            if shown.keys() != came.keys():
                return [f"{at}: shows {sorted(shown)}, got {sorted(came)}"]
            return [d for name in shown for d in self.differences(shown[name], came[name], f"{at}.{name}")]
        if isinstance(shown, list) and isinstance(came, list):
            if len(shown) != len(came):
                return [f"{at}: shows {len(shown)} items, got {len(came)}"]
            pairs = zip(shown, came, strict=True)
            return [d for i, (s, c) in enumerate(pairs) for d in self.differences(s, c, f"{at}[{i}]")]
        if isinstance(shown, str) and isinstance(came, str) and OPAQUE.search(at):
            return [] if self.here.setdefault(shown, came) == came else [f"{at}: is another one than before"]
        return [] if _timeless(shown) == _timeless(came) else [f"{at}: shows {shown!r}, got {came!r}"]


def _timeless(value: Any) -> Any:
    return TIME.sub("a time", value) if isinstance(value, str) else value
