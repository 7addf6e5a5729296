"""What a policy makes of operations, by whichever transport they come: trusted documents, the rate, audit, traces."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from aegate_core.database import Database
from aegate_core.services.manifests import Manifests
from aegate_graphql_api.context import Context
from aegate_graphql_api.documents import TrustedDocuments
from aegate_graphql_api.door import Door
from aegate_graphql_api.http_requests import checked_operation
from aegate_graphql_api.patient_data import AccessLog
from aegate_graphql_api.permissions import Caller
from aegate_graphql_api.policy import Policy
from aegate_graphql_api.tracing import OFF, Traces

if TYPE_CHECKING:
    from aegate_graphql_api.live.hub import Hub


class Rules:
    """One for a process: a caller's rate is the same over HTTP, events and WebSockets.

    Raises InvalidInput for trusted documents that cannot be used.
    """

    def __init__(self, policy: Policy, accesses: AccessLog, traces: Traces = OFF) -> None:
        self.policy = policy
        self.accesses = accesses
        self.traces = traces
        self.door = Door(policy)
        self._documents = TrustedDocuments(policy)
        self._documents.load()

    def context(
        self,
        db: Database,
        caller: Caller,
        now: datetime,
        *,
        manifests: Manifests | None = None,
        live: Hub | None = None,
    ) -> Context:
        """Return the surroundings of one operation, with what the policy says of them."""
        return Context(
            db,
            caller,
            now,
            manifests,
            introspection=self.policy.introspection,
            fast_lists=self.policy.fast_lists,
            live=live,
            judged=partial(self.door.take_turn, caller.name),
        )

    def operation_of(self, asked: object) -> dict[str, Any]:
        """Return a JSON value as an operation with its document. Raises Refusal for what is none, or not trusted."""
        operation = checked_operation(asked)
        return {**operation, "query": self._documents.text_of(operation)}
