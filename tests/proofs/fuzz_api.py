"""Documents made from the schema by schemathesis, against a real API: ``make fuzz-api SECONDS=600``.

Whatever is asked: the answer is one of GraphQL, it is what schema and document promise, its errors have a code of ours
which is never INTERNAL or UNAVAILABLE, nothing fails inside, and the process lives on. Half of the ids are real ones.
The seed gives the same documents again.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import schemathesis
from graphql import build_schema, parse
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.graphql import nodes

from aegate_graphql_api.errors import CODES
from aegate_graphql_api.tokens import create_token
from tests import sentinel
from tests.integration.api.test_process import api_process
from tests.proofs.api_hospital import hospital
from tests.proofs.fuzzing.answers import Judge

SDL = Path(__file__).parents[2] / "graphql_api" / "schema.graphql"
NEVER = ("INTERNAL", "UNAVAILABLE")
BATCH = 200
MOST_FAULTS = 20
_ROOT_FIELD = re.compile(r"^  (?:\w+: )?(\w+)", re.MULTILINE)
_ID = re.compile(r'(\b\w*[iI]ds?: (?:\[(?:"[^"]*", )*)?)"[^"]*"')


@dataclass
class Campaign:
    """All documents of one run."""

    client: httpx.Client
    token: str
    random: random.Random
    ids: list[str]
    until: float
    asked: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    fields: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """Whether there is no time left, or enough was found."""
        return time.monotonic() > self.until or len(self.faults) >= MOST_FAULTS

    def ask(self, text: str) -> None:
        """Send a document and judge the answer."""
        if self.is_over:
            return
        if self.random.random() < 0.5:
            text = _ID.sub(lambda match: f'{match.group(1)}"{self.random.choice(self.ids)}"', text)
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = self.client.post("/graphql", json={"query": text}, headers=headers)
        self.asked += 1
        self.fields.update(_ROOT_FIELD.findall(text))
        self.faults += [f"{fault}: {text}" for fault in self._faults(text, answer)]

    def _faults(self, text: str, answer: httpx.Response) -> Iterator[str]:
        if answer.status_code != 200:
            yield f"HTTP {answer.status_code}"
            return
        said = answer.json()
        errors = said.get("errors", [])
        sentinel.assert_absent(str(errors), "a GraphQL error")
        codes = [str(error["extensions"]["code"]) for error in errors] or ["OK"]
        self.codes.update(codes)
        yield from (f"the code {code}" for code in codes if code != "OK" and code not in CODES)
        yield from (f"the code {code}: {errors[0]['message']}" for code in codes if code in NEVER)
        if said["data"] is not None:
            yield from Judge(_SCHEMA, parse(text)).faults(said["data"])


_SCHEMA = build_schema(SDL.read_text())


def made_documents() -> Any:
    """Return the strategy of all operations of the schema."""
    schemathesis.graphql.scalar("DateTime", st.datetimes().map(lambda at: nodes.String(at.isoformat() + "Z")))
    schemathesis.graphql.scalar("BigInt", st.integers().map(nodes.Int))
    schemathesis.graphql.scalar("JSON", st.text(max_size=20).map(nodes.String))
    return schemathesis.graphql.from_path(SDL).as_strategy()


def fuzz(campaign: Campaign, number: int) -> None:
    """Ask documents, one batch after the other, each with a seed of its own."""
    strategy = made_documents()
    while not campaign.is_over:
        number += 1

        @seed(number)
        @settings(
            max_examples=BATCH,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy)
        def batch(case: Any) -> None:
            campaign.ask(case.body)

        batch()


def main() -> int:
    """Print what was asked and what came back; 1 when something was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aegate-fuzz-api-") as name:
        folder = Path(name)
        with hospital(folder, options.database) as (url, ids):
            tokens = folder / "tokens.json"
            token = create_token(tokens, "fuzz", ["DICOM_QUEUE", "AE_EDITOR"])
            with api_process(folder, url, "api", AEGATE_RATE="0") as (client, child):
                assert isinstance(child, subprocess.Popen)
                campaign = Campaign(
                    client, token, random.Random(options.seed), ids, time.monotonic() + options.seconds
                )
                fuzz(campaign, options.seed * 1_000_000)
                if child.poll() is not None or client.get("/readyz").status_code != 200:
                    campaign.faults.append("the process is not well afterwards")
        failed = [line for line in (folder / "api.log").read_text().splitlines() if "request.failed" in line]
    faults = campaign.faults + failed[:MOST_FAULTS]
    for fault in faults:
        print(f"FAILED {fault}")
    codes = ", ".join(f"{code} {count}" for code, count in campaign.codes.most_common())
    print(f"{campaign.asked} documents over {len(campaign.fields)} fields of the roots; {codes}")
    print(f"{len(faults)} faults (seed {options.seed}, {options.database})")
    return 1 if faults or not campaign.asked else 0


if __name__ == "__main__":
    sys.exit(main())
