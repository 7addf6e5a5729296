"""Tokens of the cluster: TokenReview says who it is, SubjectAccessReview what RBAC lets them do.

DICOM_QUEUE is the verb ``operate`` on ``queues.aegate.dev``, which is no object but a name to write rules with: by
``resourceNames`` of one patient partition, in a namespace of all of its partitions, in the cluster of all. AE_EDITOR is
what kubectl needs to do the same: get, create, patch and delete of ``applicationentities.aegate.dev``.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import cast

from aegate_core.errors import ClusterError, IdentityUnavailable, StorageError
from aegate_core.events import CLUSTER_REFUSED_REVIEW, TOKEN_REFUSED, Log
from aegate_core.stores.cluster import ClusterClient
from aegate_core.stores.cluster.kinds import APPLICATION_ENTITY, Kind
from aegate_graphql_api.identity.oidc import LONGEST_TOKEN, unverified
from aegate_graphql_api.permission import Permission
from aegate_graphql_api.permissions import Caller

log = Log("api")

TOKEN_REVIEW = Kind("authentication.k8s.io/v1", "TokenReview", "tokenreviews")
ACCESS_REVIEW = Kind("authorization.k8s.io/v1", "SubjectAccessReview", "subjectaccessreviews")

QUEUE_VERBS = ("operate",)
EDITOR_VERBS = ("get", "create", "patch", "delete")
REVIEWS_AT_ONCE = 8
MOST_KEPT = 1_000
"""Of those who were known, and of those who were refused: however many these are, they push out none of those."""
Known = Callable[[], Awaitable[list[str]]]
"""Gives the patient partitions that there are, as namespace/name."""


@dataclass(frozen=True, slots=True)
class Lives:
    """How long an answer of the API server counts, in seconds."""

    fresh_s: float = 30.0
    """So late a right that was taken away is still held."""
    refused_s: float = 10.0
    retry_s: float = 5.0
    """After a failure nobody whose last answer goes on waits for the API server, for so long."""
    stale_s: float = 600.0
    """Where the API server does not answer, the last answer goes on so long: a queue at night must not need it."""
    turn_s: float = 5.0
    """So long a token waits for its turn to be asked after; then whoever has it is told to try again."""


@dataclass(frozen=True, slots=True)
class _Answer:
    caller: Caller | None
    at: float


class _Kept(OrderedDict[str, _Answer]):
    """The last answers by digest of the token, at most MOST_KEPT; what was not used for longest goes first."""

    def used(self, name: str) -> _Answer | None:
        if name in self:
            self.move_to_end(name)
        return self.get(name)

    def keep(self, name: str, answer: _Answer) -> None:
        self[name] = answer
        self.move_to_end(name)
        while len(self) > MOST_KEPT:
            self.popitem(last=False)


def _gate() -> asyncio.Semaphore:
    return asyncio.Semaphore(REVIEWS_AT_ONCE)


@dataclass(frozen=True, slots=True)
class _Subject:
    """Who it is, in the words of a SubjectAccessReview."""

    user: str
    spec: Mapping[str, object]


@dataclass(slots=True)
class KubernetesTokens:
    """Tokens that the API server knows and that are made for ``audience``: one stolen here opens nothing else."""

    client: ClusterClient
    known: Known
    audience: str
    lives: Lives = field(default_factory=Lives)
    local_only: bool = field(default=False, init=False)
    _answers: _Kept = field(default_factory=_Kept, init=False)
    _refusals: _Kept = field(default_factory=_Kept, init=False)
    _asking: dict[str, asyncio.Task[Caller | None]] = field(default_factory=dict, init=False)
    _silent_until: float = field(default=0.0, init=False)
    _strangers: asyncio.Semaphore = field(default_factory=_gate, init=False)
    _renewals: asyncio.Semaphore = field(default_factory=_gate, init=False)
    """Apart from those of strangers, who may be many: who is known does not wait behind them."""
    _rights: asyncio.Semaphore = field(default_factory=_gate, init=False)

    def is_ours(self, token: str) -> bool:
        """Whether it is a JWT, as all tokens of service accounts are; ask after those who know their issuer."""
        return len(token) <= LONGEST_TOKEN and bool(unverified(token, 1))

    async def authenticate(self, token: str, *, address: str) -> Caller | None:
        """Return the caller, None for a token that the API server does not know. Raises IdentityUnavailable."""
        if _is_over(token):
            log(TOKEN_REFUSED, by="kubernetes", reason="it says itself that it is over", address=address)
            return None
        name = hashlib.sha256(token.encode()).hexdigest()
        kept = self._answers.used(name) or self._refusals.used(name)
        age = time.monotonic() - kept.at if kept else 0.0
        if kept is not None and age < (self.lives.fresh_s if kept.caller else self.lives.refused_s):
            return _at(kept.caller, address)
        can_go_on = kept is not None and kept.caller is not None and age < self.lives.stale_s
        if kept is not None and can_go_on and time.monotonic() < self._silent_until:
            return _at(kept.caller, address)
        try:
            caller = await asyncio.shield(self._ask_once(name, token))
        except (ClusterError, StorageError) as error:
            log(CLUSTER_REFUSED_REVIEW, error=error.message)
            self._silent_until = time.monotonic() + self.lives.retry_s
            if kept is not None and can_go_on:
                return _at(kept.caller, address)
            raise _nobody_can_say() from error
        except IdentityUnavailable:
            if kept is not None and can_go_on:
                return _at(kept.caller, address)
            raise
        if caller is None:
            log(TOKEN_REFUSED, by="kubernetes", reason="the API server does not know it", address=address)
        return _at(caller, address)

    def _ask_once(self, name: str, token: str) -> asyncio.Task[Caller | None]:
        """Return the one question under way for this token."""
        if name not in self._asking:
            task = asyncio.create_task(self._ask(name, token))
            self._asking[name] = task
            task.add_done_callback(lambda done: self._asked(name, done))
        return self._asking[name]

    def _asked(self, name: str, done: asyncio.Task[Caller | None]) -> None:
        self._asking.pop(name, None)
        if not done.cancelled():
            done.exception()  # whoever asked may have gone away: then nobody else looks at it

    async def _ask(self, name: str, token: str) -> Caller | None:
        subject = await self._subject(token, self._renewals if name in self._answers else self._strangers)
        caller = None if subject is None else await self._caller(subject, token)
        here, there = (self._refusals, self._answers) if caller is None else (self._answers, self._refusals)
        here.keep(name, _Answer(caller, time.monotonic()))
        there.pop(name, None)
        return caller

    async def _subject(self, token: str, gate: asyncio.Semaphore) -> _Subject | None:
        """Return who it is. Raises IdentityUnavailable where too many others are asked after."""
        try:
            async with asyncio.timeout(self.lives.turn_s):
                await gate.acquire()
        except TimeoutError as error:
            raise _nobody_can_say() from error
        try:
            status = await self._review(TOKEN_REVIEW, {"token": token, "audiences": [self.audience]})
        finally:
            gate.release()
        user = cast("Mapping[str, object]", status.get("user") or {})
        audiences = cast("list[str]", status.get("audiences") or [])
        name = user.get("username")
        if status.get("authenticated") is not True or self.audience not in audiences or not name:
            return None
        spec = {"user": name, "uid": user.get("uid", ""), "groups": user.get("groups") or []}
        return _Subject(str(name), {**spec, "extra": user.get("extra") or {}})

    async def _caller(self, subject: _Subject, token: str) -> Caller:
        partitions = await self.known()
        namespaces = sorted({p.partition("/")[0] for p in partitions})
        queue = await self._queue(subject, partitions, namespaces)
        editor = await self._editor(subject, namespaces)
        held = {Permission.TOKEN}
        if queue != frozenset():
            held.add(Permission.DICOM_QUEUE)
        if editor != frozenset():
            held.add(Permission.AE_EDITOR)
        return Caller(
            name=f"k8s:{subject.user}"[:256],
            permissions=frozenset(held),
            expires_at=_expiry(token),
            partitions=queue,
            namespaces=editor,
        )

    async def _queue(
        self, subject: _Subject, partitions: list[str], namespaces: list[str]
    ) -> frozenset[str] | None:
        """Return the partitions whose queue they may operate; None: all. What is allowed widely is asked first."""

        def may(namespace: str = "", name: str = "") -> Awaitable[bool]:
            return self._may(subject, QUEUE_VERBS, "queues", namespace, name)

        if await may():
            return None
        whole = dict(zip(namespaces, await asyncio.gather(*map(may, namespaces)), strict=True))
        single = [p for p in partitions if not whole[p.partition("/")[0]]]
        allowed = await asyncio.gather(*(may(*p.split("/", 1)) for p in single))
        wide = {p for p in partitions if whole[p.partition("/")[0]]}
        return frozenset(wide | {p for p, is_allowed in zip(single, allowed, strict=True) if is_allowed})

    async def _editor(self, subject: _Subject, namespaces: list[str]) -> frozenset[str] | None:
        """Return the namespaces whose AEs they may edit; None: all."""

        def may(namespace: str = "") -> Awaitable[bool]:
            return self._may(subject, EDITOR_VERBS, "applicationentities", namespace)

        if await may():
            return None
        allowed = await asyncio.gather(*map(may, namespaces))
        return frozenset(n for n, is_allowed in zip(namespaces, allowed, strict=True) if is_allowed)

    async def _may(
        self, subject: _Subject, verbs: tuple[str, ...], resource: str, namespace: str, name: str = ""
    ) -> bool:
        """Return whether RBAC allows all of ``verbs``."""
        for verb in verbs:
            asked = {
                "group": APPLICATION_ENTITY.group,
                "resource": resource,
                "verb": verb,
                "namespace": namespace,
                "name": name,
            }
            async with self._rights:
                status = await self._review(ACCESS_REVIEW, {**subject.spec, "resourceAttributes": asked})
            if status.get("allowed") is not True:
                return False
        return True

    async def _review(self, kind: Kind, spec: Mapping[str, object]) -> Mapping[str, object]:
        said = await self.client.create(kind, {"metadata": {"name": ""}, "spec": spec})
        return cast("Mapping[str, object]", said.get("status") or {})


def _at(caller: Caller | None, address: str) -> Caller | None:
    if caller is None or (caller.expires_at is not None and caller.expires_at <= datetime.now(UTC)):
        return None
    return replace(caller, address=address)


def _is_over(token: str) -> bool:
    """Whether it says that it has ended; nothing of it is verified, and nobody claims that falsely to be let in."""
    expires = unverified(token, 1).get("exp")
    return isinstance(expires, int) and expires <= time.time()


def _nobody_can_say() -> IdentityUnavailable:
    return IdentityUnavailable("nobody can say now whose token of the cluster this is: try again in a moment")


def _expiry(token: str) -> datetime | None:
    """Return when a token ends that the API server has verified."""
    expires = unverified(token, 1).get("exp")
    return datetime.fromtimestamp(expires, UTC) if isinstance(expires, int) else None
