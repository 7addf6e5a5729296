"""Sends the attacks of the table, over HTTP by httpx and over WebSockets by websockets, and judges the answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import httpx
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests import sentinel
from tests.integration.api.attacks import NOTHING, OK, Asked, Sent
from tests.integration.api.live_attacks import Raw, Said

LONGEST_S = 20
"""Longer than the server waits for first words."""


class Attacker:
    """Sends attacks to a server, as the holder of the token that each names."""

    def __init__(self, client: httpx.Client, tokens: Mapping[str, str], real: Mapping[str, str]) -> None:
        self._client = client
        self._tokens = tokens
        self._real = real

    def send(self, attack: Asked | Sent | Said, number: int = 0) -> str | None:
        """Return how the answer differs from what the table expects, or None."""
        if isinstance(attack, Said):
            return self._converse(attack)
        request = self._asked(attack, number) if isinstance(attack, Asked) else self._sent(attack)
        try:
            answer = self._client.send(request)
        except httpx.ReadError:  # the server did not wait for the end of it
            answer = httpx.Response(400, text="reset")
        return what_is_wrong(attack, answer)

    def _converse(self, attack: Said) -> str | None:
        closed, code = self._heard(attack)
        sentinel.assert_absent(code, "a reason")
        assert not any(token in code for token in self._tokens.values())
        if closed == attack.closed and code.startswith(attack.code) and (closed or code == attack.code):
            return None
        return f"{attack.name}: {attack.closed} {attack.code} is expected, got {closed} {code}"

    def _heard(self, attack: Said) -> tuple[int | None, str]:
        """Return code and reason of the close, or None and the code of an answer after which the connection goes on."""
        base = self._client.base_url
        protocols = None if attack.protocol is None else [Subprotocol(attack.protocol)]
        headers = dict(attack.headers)
        try:
            with connect(
                f"ws://{base.host}:{base.port}/graphql", subprotocols=protocols, additional_headers=headers
            ) as opened:
                with suppress(ConnectionClosed):  # before all was said: why comes below
                    self._say(opened, attack)
                code = _answered(opened, attack)
                opened.send('{"type": "ping"}')
                while json.loads(opened.recv(LONGEST_S))["type"] != "pong":
                    pass
                return None, code
        except InvalidStatus as refused:
            return refused.response.status_code, ""
        except ConnectionClosed as closed:
            return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "cut")

    def _say(self, opened: ClientConnection, attack: Said) -> None:
        if attack.token is not None:
            bearer = {"authorization": f"Bearer {self._tokens[attack.token]}"}
            opened.send(json.dumps({"type": "connection_init", "payload": bearer}))
            assert json.loads(opened.recv(LONGEST_S)) == {"type": "connection_ack"}
        for one in attack.said:
            if isinstance(one, Raw):
                opened.socket.sendall(one.content)
            else:
                opened.send(json.dumps(self._filled(one)) if isinstance(one, Mapping) else one)

    def _asked(self, attack: Asked, number: int) -> httpx.Request:
        body: dict[str, Any] = {
            "query": attack.query + ("\n" * number if attack.query else ""),
            "variables": self._filled(attack.variables),
            "operationName": attack.operation,
        }
        headers = {"Authorization": f"Bearer {self._tokens[attack.token]}"}
        return self._client.build_request("POST", "/graphql", json=body, headers=headers)

    def _filled(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: self._filled(inner) for key, inner in value.items()}
        if isinstance(value, list) and len(value) < 10:
            return [self._filled(inner) for inner in value]
        return self._real.get(value, value) if isinstance(value, str) else value

    def _sent(self, attack: Sent) -> httpx.Request:
        headers: dict[str, str | None] = {
            "Authorization": f"Bearer {self._tokens['both']}",
            "Content-Type": "application/json",
            **attack.headers,
        }
        given = {name: value for name, value in headers.items() if value is not None}
        return self._client.build_request(attack.method, attack.path, content=attack.content, headers=given)


def _answered(opened: ClientConnection, attack: Said) -> str:
    """Return the code of the first error, or of the last answer, once every operation is answered."""
    waiting = {
        one.get("id") for one in attack.said if isinstance(one, Mapping) and one["type"] == "subscribe"
    }
    code = ""
    while waiting or attack.closed is not None:
        message = json.loads(opened.recv(LONGEST_S))
        if message["type"] == "error":
            sentinel.assert_absent(str(message), "an error over a WebSocket")
            return str(message["payload"][0]["extensions"]["code"])
        if message["type"] == "next":
            code = _code_of_data(message["payload"])
            waiting.discard(message["id"])
    return code


def code_of(answer: httpx.Response) -> str:
    """Return the code of an answer, as the table has it."""
    if not answer.headers.get("content-type", "").startswith("application/json"):
        return ""
    return _code_of_data(answer.json())


def _code_of_data(said: Mapping[str, Any]) -> str:
    sentinel.assert_absent(str(said.get("errors")), "a GraphQL error")
    if said.get("errors"):
        return str(said["errors"][0]["extensions"]["code"])
    values = list((said["data"] or {}).values())
    if values and isinstance(values[0], dict):
        if "code" in values[0]:
            return str(values[0]["code"])
        if values[0].get("nodes") == []:
            return NOTHING
    return OK


def what_is_wrong(attack: Asked | Sent, answer: httpx.Response) -> str | None:
    """Return how an answer differs from what the table expects, or None."""
    got = code_of(answer)
    if got != attack.code:
        return f"{attack.name}: {attack.code} is expected, got {got}: {answer.text[:300]}"
    if isinstance(attack, Sent) and answer.status_code != attack.status:
        return f"{attack.name}: {attack.status} is expected, got {answer.status_code}"
    return None
