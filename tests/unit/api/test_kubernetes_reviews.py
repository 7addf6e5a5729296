"""What strangers with invented tokens of the cluster cost those who are known: nothing."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import pytest

from aegate_core.errors import ClusterUnavailable, IdentityUnavailable
from aegate_core.stores.cluster import ClusterClient
from aegate_core.stores.cluster.kinds import Kind
from aegate_graphql_api.identity.kubernetes import MOST_KEPT, KubernetesTokens, Lives
from tests.integration.waiting import eventually_async

AUDIENCE = "aegate.dev"


def token(subject: str, **claims: object) -> str:
    def part(value: object) -> str:
        return urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'RS256'})}.{part({'sub': subject, **claims})}.c2ln"


GENUINE = token("anna")


@dataclass
class APIServer:
    """Knows one token and allows its holder everything; asked after others it may keep silent."""

    asked: list[str] = field(default_factory=list)
    is_silent: bool = False
    is_away: bool = False
    speaks: asyncio.Event = field(default_factory=asyncio.Event)

    async def create(self, kind: Kind, manifest: Mapping[str, object]) -> Mapping[str, object]:
        spec = cast("Mapping[str, object]", manifest["spec"])
        if self.is_away:
            raise ClusterUnavailable("nobody answers")
        if kind.name != "TokenReview":
            return {"status": {"allowed": True}}
        self.asked.append(str(spec["token"]))
        if spec["token"] != GENUINE:
            if self.is_silent:
                await self.speaks.wait()
            return {"status": {"authenticated": False}}
        return {"status": {"authenticated": True, "audiences": [AUDIENCE], "user": {"username": "anna"}}}


def tokens(server: APIServer, lives: Lives) -> KubernetesTokens:
    async def known() -> list[str]:
        return ["default/default"]

    return KubernetesTokens(cast("ClusterClient", server), known, AUDIENCE, lives)


async def test_refused_tokens_push_out_nobody_who_is_known() -> None:
    server = APIServer()
    door = tokens(server, Lives(fresh_s=3600, refused_s=3600))
    caller = await door.authenticate(GENUINE, address="10.0.0.1")
    assert caller is not None
    for n in range(MOST_KEPT + 1):
        assert await door.authenticate(token(f"eve-{n}"), address="10.0.0.2") is None
    server.is_away = True
    assert await door.authenticate(GENUINE, address="10.0.0.1") == caller
    assert await door.authenticate(token(f"eve-{MOST_KEPT}"), address="10.0.0.2") is None
    with pytest.raises(IdentityUnavailable):
        await door.authenticate(token("eve-0"), address="10.0.0.2")
    assert server.asked.count(GENUINE) == 1


async def test_stranger_waits_no_longer_than_a_turn_and_who_is_known_not_at_all() -> None:
    server = APIServer(is_silent=True)
    door = tokens(server, Lives(fresh_s=0, turn_s=0.05))
    assert await door.authenticate(GENUINE, address="") is not None
    strangers = [asyncio.create_task(door.authenticate(token(f"eve-{n}"), address="")) for n in range(8)]

    async def all_asked() -> bool:
        return len(server.asked) == 9

    await eventually_async(all_asked, what="eight strangers are asked after")
    with pytest.raises(IdentityUnavailable):
        await door.authenticate(token("eve-8"), address="")
    assert await door.authenticate(GENUINE, address="") is not None
    assert server.asked.count(GENUINE) == 2
    server.speaks.set()
    assert await asyncio.gather(*strangers) == [None] * 8
    assert await door.authenticate(token("eve-8"), address="") is None


@pytest.mark.parametrize("expires", [0, 1_600_000_000, True])
async def test_token_that_says_it_is_over_is_not_asked_after(expires: int) -> None:
    server = APIServer()
    assert await tokens(server, Lives()).authenticate(token("anna", exp=expires), address="") is None
    assert server.asked == []


@pytest.mark.parametrize("expires", [10**30, "soon", None, 32_503_680_000])
async def test_token_that_may_go_on_is_asked_after(expires: object) -> None:
    server = APIServer()
    own = token("eve", exp=expires)
    assert await tokens(server, Lives()).authenticate(own, address="") is None
    assert server.asked == [own]
