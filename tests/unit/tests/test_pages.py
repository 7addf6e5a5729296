"""A page of documentation that is wrong is noticed; ids and times are those of the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.docs.pages import Names, Step, steps

PAGE = """
1. Ask:

   ```graphql
   query A($x: ID!) { a(x: $x) }
   ```

   ```json
   {"x": "1"}
   ```

   ```json
   {"data": {"a": 1}}
   ```

```sh
ls
```

```graphql
{ b }
```
"""


def test_operations_are_read_with_what_they_are_given_and_what_they_answer(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    assert list(steps(page)) == [
        Step("page.md", "query A($x: ID!) { a(x: $x) }\n", {"x": "1"}, {"data": {"a": 1}}),
        Step("page.md", "{ b }\n"),
    ]


@pytest.mark.parametrize(
    ("shown", "came", "told"),
    [
        ({"n": 1}, {"n": 2}, [".n: shows 1, got 2"]),
        ({"n": 1}, {"n": None}, [".n: shows 1, got None"]),
        ({"n": 1}, {"m": 1}, [": shows ['n'], got ['m']"]),
        ({"n": [1]}, {"n": [1, 2]}, [".n: shows 1 items, got 2"]),
        ({"n": {"name": "A"}}, {"n": {"name": "B"}}, [".n.name: shows 'A', got 'B'"]),
        (
            {"until": "at 2026-11-27 10:00:00 UTC, by A"},
            {"until": "at 2026-12-24 11:11:11 UTC, by B"},
            [".until: shows 'at 2026-11-27 10:00:00 UTC, by A', got 'at 2026-12-24 11:11:11 UTC, by B'"],
        ),
        ({"until": "2026-11-27T10:00:00+00:00"}, {"until": "2026-12-24T11:11:11.123+00:00"}, []),
        (
            {"until": "2026-11-27T10:00:00+00:00"},
            {"until": None},
            [".until: shows '2026-11-27T10:00:00+00:00', got None"],
        ),
        ({"patientId": "4711"}, {"patientId": "4712"}, [".patientId: shows '4711', got '4712'"]),
    ],
)
def test_what_is_not_as_shown_is_told(shown: object, came: object, told: list[str]) -> None:
    assert Names().differences(shown, came) == told


def test_an_id_is_the_same_wherever_it_stands() -> None:
    names = Names()
    assert names.differences([{"id": "shown"}], [{"id": "here"}]) == []
    assert names.in_this_run({"ids": ["shown"], "n": 1}) == {"ids": ["here"], "n": 1}
    assert names.differences({"id": "shown"}, {"id": "other"}) == [".id: is another one than before"]
