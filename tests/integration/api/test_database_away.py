"""A database that does not answer: typed errors and 503, at once and again, while the process lives on."""

from __future__ import annotations

from pathlib import Path

from aegate_core.database import open_database
from tests.integration.api.clients import API, connect
from tests.integration.intake.hospital import Place


async def test_an_unreachable_database_is_unavailable(api: API, tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/gone/no.sqlite3" if api.db.is_sqlite else "postgres://nobody@127.0.0.1:1/none"
    async with open_database(url) as db:
        away = connect(Place(db, tmp_path, api.place.spool), tmp_path / "away")
        async with away.client:
            assert (await away.refused("{ queueItems { nodes { id } } }"))["extensions"][
                "code"
            ] == "UNAVAILABLE"
            held = await away.ask(
                'mutation { holdDestination(id: "RGVzdGluYXRpb246ZGVmYXVsdC9wYWNz") '
                "{ __typename ... on Problem { code } } }"
            )
            assert held["holdDestination"] == {"__typename": "UnavailableProblem", "code": "UNAVAILABLE"}
            assert (await away.client.get("/readyz")).status_code == 503
            assert (await away.client.get("/healthz")).status_code == 200
            assert (await away.ask("{ viewer { name } }"))["viewer"] == {"name": "both"}
    assert (await api.client.get("/readyz")).status_code == 200
