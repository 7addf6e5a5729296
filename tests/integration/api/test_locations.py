"""The table of locations, kept through the API."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.integration.api.clients import API, signed_in

LIST = "query($s: String, $a: String) { locations(startsWith: $s, first: 2, after: $a) { nodes { code displayName } "
LIST += "pageInfo { hasNextPage endCursor } totalCount { value } } }"
ANSWER = "{ __typename ... on LocationChanged { changed location { displayName } } ... on Problem { code } "
ANSWER += "... on ValidationProblem { fieldErrors { field } } }"
SAVE = f"mutation($c: String!, $n: String!) {{ saveLocation(code: $c, displayName: $n) {ANSWER} }}"
REMOVE = f"mutation($c: String!) {{ removeLocation(code: $c) {ANSWER} }}"


async def save(api: API, code: str, name: str) -> Any:
    return (await api.ask(SAVE, token=api.editor, c=code, n=name))["saveLocation"]


async def test_locations_are_added_renamed_listed_and_removed(empty_api: API) -> None:
    api = empty_api
    for code in ("ER", "ICU", "ICU-2", "OR_1"):
        assert (await save(api, code, f"Room {code}"))["changed"] is True
    assert (await save(api, "ER", "Emergency"))["location"]["displayName"] == "Emergency"
    assert (await save(api, " ER ", "Emergency"))["changed"] is False

    first = (await api.ask(LIST, token=api.queue))["locations"]
    second = (await api.ask(LIST, token=api.queue, a=first["pageInfo"]["endCursor"]))["locations"]
    codes = [node["code"] for node in first["nodes"] + second["nodes"]]
    assert (sorted(codes), first["totalCount"]["value"]) == (["ER", "ICU", "ICU-2", "OR_1"], 4)
    found = (await api.ask(LIST, s="ICU"))["locations"]["nodes"]
    assert [node["code"] for node in found] == ["ICU", "ICU-2"]

    gone = (await api.ask(REMOVE, token=api.editor, c="ICU"))["removeLocation"]
    assert gone["location"]["displayName"] == "Room ICU"
    assert (await api.ask(REMOVE, c="ICU"))["removeLocation"]["code"] == "NOT_FOUND"
    actions = [row["action"] for row in await api.audit()]
    assert actions == ["saveLocation"] * 6 + ["removeLocation"]


async def test_what_can_be_no_location_and_who_may_change_none(empty_api: API) -> None:
    api = empty_api
    for code, name, field in (("", "x", "code"), ("x" * 65, "x", "code"), ("a", "x\ny", "displayName")):
        assert [e["field"] for e in (await save(api, code, name))["fieldErrors"]] == [field]
    refused = await api.refused(SAVE, token=api.queue, c="ER", n="x")
    assert refused["extensions"]["code"] == "FORBIDDEN"
    narrow = signed_in(api, lambda caller: replace(caller, namespaces=frozenset({"one"})))
    async with narrow.client:
        assert (await save(narrow, "ER", "x"))["code"] == "FORBIDDEN"
    assert (await api.ask(LIST))["locations"]["nodes"] == []
    assert await api.audit() == []
