"""What the API server wrote down: who asked for what, each request once.

Count by user: a cluster at rest writes by itself, and `audit.yaml` says which reads are left out.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

_LACKS_A_RIGHT = re.compile(r'forbidden: User "[^"]*" cannot ')
READS = frozenset({"get", "list", "watch"})


@dataclass(frozen=True, slots=True)
class Request:
    """One request to the API server."""

    at: datetime
    """When it came."""
    answered_at: datetime
    """When it was answered; of a watch, when it began."""
    user: str
    """``admin``, ``system:serviceaccount:NAMESPACE:NAME``, …"""
    verb: str
    """As RBAC knows it: get, list, watch, create, update, patch, delete, deletecollection."""
    group: str
    """API group; "" for the core group."""
    resource: str
    """In the plural, with its subresource: ``pods/status``; "" when the URL is of no resource."""
    namespace: str
    name: str
    code: int
    """HTTP status that was answered."""
    is_forbidden: bool
    """Whether it is a right that lacks: quotas and admission answer 403, too."""
    agent: str
    """The user agent, which tells programs apart that share a user."""
    url: str

    @property
    def is_write(self) -> bool:
        """Whether it could change something."""
        return self.verb not in READS


def read_requests(log: Path) -> list[Request]:
    """Return all requests in the log so far, in its order; a watch from its beginning, all others once answered."""
    found: dict[str, Request] = {}
    for line in log.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):  # the last one may be half written
            event = json.loads(line)
            found.setdefault(event["auditID"], _request(event))
    return list(found.values())


def by_user_and_verb(requests: Iterable[Request]) -> Counter[tuple[str, str]]:
    """Count requests by who asked and what for."""
    return Counter((r.user, r.verb) for r in requests)


def _request(event: dict[str, Any]) -> Request:
    target = event.get("objectRef", {})
    parts = (target.get("resource", ""), target.get("subresource", ""))
    return Request(
        at=datetime.fromisoformat(event["requestReceivedTimestamp"]),
        answered_at=datetime.fromisoformat(event["stageTimestamp"]),
        user=event["user"]["username"],
        verb=event["verb"],
        group=target.get("apiGroup", ""),
        resource="/".join(p for p in parts if p),
        namespace=target.get("namespace", ""),
        name=target.get("name", ""),
        code=event.get("responseStatus", {}).get("code", 0),
        is_forbidden=bool(_LACKS_A_RIGHT.search(event.get("responseStatus", {}).get("message", ""))),
        agent=event.get("userAgent", ""),
        url=event["requestURI"],
    )
