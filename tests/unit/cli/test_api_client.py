"""What the commands that ask the API send, and what they make of answers that are none."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path

import graphql
import pytest

from aegate_cli.api.client import API, document
from aegate_cli.api.errors import APIError, APIForbidden, APIUnreachable
from aegate_cli.api.names import id_of, name_of, named, short
from aegate_cli.api.outcomes import problem_of
from aegate_cli.api.place import open_api
from aegate_cli.api.shown import print_json, printable
from aegate_cli.api.waiting import wait_for
from aegate_cli.api.words import words_of
from aegate_core.errors import AegateError, InvalidInput
from aegate_graphql_api.global_ids import decode_id, encode_id
from tests.unit.cli.answering import answering

ROOT = Path(__file__).parents[3]
DOCUMENTS = ROOT / "cli/aegate_cli/api/documents"
NAMES = sorted(file.stem for file in DOCUMENTS.glob("*.graphql"))


@cache
def schema() -> graphql.GraphQLSchema:
    return graphql.build_schema((ROOT / "graphql_api/schema.graphql").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_every_document_is_one_that_the_api_answers(name: str) -> None:
    parsed = graphql.parse(document(name))
    assert graphql.validate(schema(), parsed) == []
    (operation,) = parsed.definitions
    assert isinstance(operation, graphql.OperationDefinitionNode)
    assert operation.name is not None
    assert operation.name.value.startswith("Aegate")


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, "<html>a portal</html>", "got status 200 with something else"),
        (200, "[]", "got status 200 with something else"),
        (502, "", "got status 502 with something else"),
        (200, "{}", "got status 200 without data"),
        (200, '{"data": null, "errors": ["?"]}', "an error without a text"),
    ],
)
def test_what_is_no_answer_of_the_api_is_said_to_be_none(status: int, body: str, said: str) -> None:
    with answering(status, body) as (url, _, _), pytest.raises(APIUnreachable) as raised:
        API(url, "t").ask("destinations", where={}, first=1)
    assert said in raised.value.message


def test_a_token_follows_no_redirect_and_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        answering(200, "{}") as (elsewhere, heard, _),
        answering(307, "", Location=elsewhere) as (url, asked, _),
    ):
        monkeypatch.setenv("http_proxy", elsewhere)
        with pytest.raises(APIUnreachable, match="got status 307"):
            API(url, "t").ask("operation", id="x")
        assert (asked, heard) == (["/graphql"], [])


@pytest.mark.parametrize(
    ("code", "kind", "exit_code"),
    [
        ("FORBIDDEN", APIForbidden, 4),
        ("UNAUTHENTICATED", APIForbidden, 4),
        ("RATE_LIMITED", APIUnreachable, 3),
        ("TIME_LIMIT", APIUnreachable, 3),
        ("NOT_FOUND", APIError, 1),
        ("INVALID_QUERY", APIError, 1),
        ("BAD_SEARCH", InvalidInput, None),
    ],
)
def test_each_code_of_the_api_has_its_kind(code: str, kind: type[AegateError], exit_code: int | None) -> None:
    body = json.dumps({"data": None, "errors": [{"message": "no: do this", "extensions": {"code": code}}]})
    with answering(200, body) as (url, _, _), pytest.raises(kind, match="^no: do this") as raised:
        API(url, "t").ask("operation", id="x")
    assert getattr(raised.value, "exit_code", None) == exit_code


def test_an_operation_whose_api_stays_away_is_left_to_itself() -> None:
    error = {"message": "ask later", "extensions": {"code": "RATE_LIMITED", "retryAfterSeconds": 61}}
    operation = encode_id("Operation", 2)
    with answering(429, json.dumps({"errors": [error]})) as (url, asked, _):
        with pytest.raises(
            APIUnreachable, match="ask later; it goes on by itself; `aegate queue wait o2` follows it"
        ):
            wait_for(API(url, "t"), operation)
        assert asked == ["/graphql"]
    with pytest.raises(APIUnreachable, match="got no answer .+; it goes on by itself"):
        wait_for(API(url, "t"), operation, patience_s=0.6)


@pytest.mark.parametrize(
    "server",
    [
        "http://aegate.example.org",
        "ftp://aegate.example.org",
        "aegate.example.org",
        "https://me:secret@aegate.example.org",
        "https://aegate.example.org/?a=b",
        "https://aegate.example.org:99999",
        "",
    ],
)
def test_a_token_goes_nowhere_where_somebody_may_read_it(server: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    with pytest.raises(InvalidInput, match="--server must be an https URL"):
        open_api(server, tmp_path / "token", None, None)


def test_a_server_may_have_a_path_and_needs_a_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("aegate_t\n")
    assert (
        open_api("https://a.example.org/pacs/", file, None, None).url == "https://a.example.org/pacs/graphql"
    )
    assert open_api("https://a.example.org/graphql", file, None, None).token == "aegate_t"
    assert "aegate_t" not in repr(open_api("https://a.example.org", file, None, None))
    with pytest.raises(APIForbidden, match="--token-file"):
        open_api("https://a.example.org", None, None, None)
    for text in ("", "two words", "line\nline"):
        file.write_text(text)
        with pytest.raises(InvalidInput, match="must hold one token"):
            open_api("https://a.example.org", file, None, None)
    with pytest.raises(InvalidInput, match="No such file"):
        open_api("https://a.example.org", tmp_path / "absent", None, None)
    file.write_text("t")
    with pytest.raises(InvalidInput, match="--ca must be a PEM file"):
        open_api("https://a.example.org", file, file, None)


def test_of_several_tokens_the_option_counts_then_the_environments_own_then_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed, kept = tmp_path / "typed", tmp_path / "kept"
    typed.write_text("aegate_typed\n")
    kept.write_text("aegate_kept\n")

    def token(file: Path | None) -> str:
        return open_api("https://a.example.org", file, None, None).token

    monkeypatch.setenv("AEGATE_TOKEN_FILE", str(kept))
    assert (token(None), token(typed)) == ("aegate_kept", "aegate_typed")
    monkeypatch.setenv("AEGATE_TOKEN", "aegate_own")
    assert (token(None), token(typed), token(kept)) == ("aegate_own", "aegate_typed", "aegate_kept")
    monkeypatch.setenv("AEGATE_TOKEN", "")
    assert token(None) == "aegate_kept"
    with pytest.raises(InvalidInput, match="AEGATE_TOKEN_FILE are for --server"):
        open_api(None, None, None, tmp_path)
    kept.write_text("two words")
    with pytest.raises(InvalidInput, match="AEGATE_TOKEN_FILE must hold one token"):
        token(None)
    monkeypatch.setenv("AEGATE_TOKEN_FILE", "")
    with pytest.raises(APIForbidden, match="or put it into AEGATE_TOKEN"):
        token(None)


@pytest.mark.parametrize(
    "text", ["two words", "aegate_secret\nX-Other: 1", "aegate_sécret", "aegate_secret\x01"]
)
def test_what_is_no_token_is_refused_and_not_repeated(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEGATE_TOKEN", text)
    with pytest.raises(InvalidInput, match="AEGATE_TOKEN must hold one token") as refused:
        open_api("https://a.example.org", None, None, None)
    assert "cret" not in refused.value.message
    assert "words" not in refused.value.message


def test_a_token_of_the_environment_goes_to_the_server_that_was_named_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AEGATE_TOKEN", "aegate_own")
    with pytest.raises(InvalidInput, match="are for --server or AEGATE_SERVER"):
        open_api(None, None, None, tmp_path)
    with pytest.raises(InvalidInput, match="--server must be an https URL") as refused:
        open_api("http://aegate.example.org", None, None, None)
    assert "aegate_own" not in refused.value.message
    assert list(tmp_path.iterdir()) == []


def test_a_short_name_is_of_one_kind_and_a_number_alone_of_none() -> None:
    assert id_of("q17", "QueueItem") == encode_id("QueueItem", 17)
    assert id_of(encode_id("QueueItem", 17), "QueueItem") == encode_id("QueueItem", 17)
    assert [id_of(text, "QueueItem") for text in ("17", "s17", "q0", "q01", "q", "Q17")] == [None] * 6
    assert id_of(encode_id("Study", 1), "QueueItem") is None
    assert (short(encode_id("Study", 4)), short("anything")) == ("s4", "anything")
    assert [decode_id(text) for text in ("", "!", encode_id("", 1), encode_id("Study", "\0"))] == [None] * 4


def test_an_ae_is_found_by_name_and_by_title() -> None:
    assert (name_of("CT 1.A"), named("CT_1")) == ("ct-1-a", {"matches": "*/ct-1"})
    assert named("radiology/ct1") == {"eq": "radiology/ct1"}
    for text in ("", "*", "a/b/c", "ct?", "é"):
        with pytest.raises(InvalidInput):
            named(text)


def test_who_owns_a_resource_is_told_with_the_way_out() -> None:
    problem = {"code": "MANAGED_ELSEWHERE", "message": "", "manager": "kubectl", "fields": ["spec.port"]}
    can = problem_of({**problem, "canTakeOver": True})
    assert str(can) == "kubectl owns spec.port: change it there, or force it with --take-over"
    cannot = problem_of({**problem, "canTakeOver": False})
    assert str(cannot) == "kubectl owns spec.port: change it there: a change by this command would be undone"


def test_nothing_that_a_header_holds_moves_the_terminal() -> None:
    assert printable("A\x1b]0;x\x07\u202e\nB") == "A?]0;x???B"


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("kind", "shown"), [(Terminal, r"\u00c4\u009b2J\u202e"), (StringIO, "Ä\x9b2J\u202e")]
)
def test_json_on_a_terminal_is_ascii_and_the_same(kind: type[StringIO], shown: str) -> None:
    with redirect_stdout(kind()) as stdout:
        print_json({"description": "Ä\x9b2J\u202e"})
    assert shown in stdout.getvalue()
    assert json.loads(stdout.getvalue()) == {"description": "Ä\x9b2J\u202e"}


def test_words_are_typed_or_a_line_of_standard_input_and_never_none_by_mistake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", StringIO("  miller ann \nmore\n\n"))
    assert (words_of([]), words_of(["miller", "-"]), words_of(["-"])) == (None, "miller -", "miller ann")
    assert words_of(["-"]) == "more"
    for typed in (["-"], ["-"], [""], [" ", ""]):
        with pytest.raises(InvalidInput, match="expected words to search for, got none"):
            words_of(typed)
