"""Ask the API of the demo, over HTTP as any other client."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from aegate_core.errors import PeerError

TIMEOUT_S = 10.0

PROGRESS = """
query DemoProgress {
  studies(first: 20) {
    nodes { id studyInstanceUid modalities instanceCount closeUnits { closedAt outcome } }
  }
  queueItems(first: 100) {
    nodes { state destinationAe instancesTotal instancesDone instancesFailed
            study { studyInstanceUid } whyNotMoving { text } }
  }
}
"""

PLAN = """
query DemoPlan($study: ID!) {
  explainRoute(studyId: $study) { sources { deliveries { destination instances } } }
}
"""

DESTINATIONS = "query DemoDestinations { destinations { nodes { id ae } } }"


@dataclass(frozen=True, slots=True)
class GraphQL:
    """One API and a token for it."""

    url: str
    token: str

    def ask(self, query: str, **variables: object) -> dict[str, Any]:
        """Return ``data``. Raises PeerError when there is none, with the API's own words."""
        request = urllib.request.Request(
            self.url,
            data=json.dumps({"query": query, "variables": variables}).encode(),
            headers={
                "Content-Type": "application/json",
                "Authorization": f"Bearer {self.token}",
                "X-Requested-With": "aegate-demo",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                body = json.load(answer)
        except (urllib.error.URLError, TimeoutError, ValueError) as error:
            raise PeerError(f"the API at {self.url} does not answer as expected: {error}") from error
        if body.get("errors"):
            raise PeerError(
                f"the API answered with an error: {body['errors'][0].get('message', 'without a text')}"
            )
        data: dict[str, Any] = body["data"]
        return data
