"""Find what waits for a destination, hold it, and tell what came of it: queries and changes with the library gql.

    pip install "gql[httpx]"
    AEGATE_TOKEN=… python hold_and_tell.py http://127.0.0.1:8080/graphql default/pacs "archive is being moved"

Run it again with --resume to let go what it held.
"""

import argparse
import os
import sys

from gql import Client, GraphQLRequest
from gql.transport.exceptions import TransportQueryError
from gql.transport.httpx import HTTPXTransport

WAITING = """
query Waiting($to: String!, $state: DeliveryState!, $after: String) {
  queueItems(where: { destination: { eq: $to }, state: { eq: $state } }, first: 100, after: $after) {
    nodes { id level instancesTotal whyNotMoving { text } }
    pageInfo { hasNextPage endCursor }
  }
}
"""
ANSWER = """
  __typename
  ... on QueueItemsChanged { changed { id state } left { id because } }
  ... on OperationStarted { operation { id total } }
  ... on Problem { code message }
"""
HOLD = (
    "mutation Hold($ids: [ID!]!, $reason: String) "
    "{ done: holdQueueItems(selection: {ids: $ids}, reason: $reason) {" + ANSWER + "} }"
)
RESUME = (
    "mutation Resume($ids: [ID!]!, $reason: String) "
    "{ done: resumeQueueItems(selection: {ids: $ids}, reason: $reason) {" + ANSWER + "} }"
)


def ask(client, operation, **values):
    """Ask or change, and return the data. Ends the program with the message of what was refused as a whole."""
    try:
        return client.execute(GraphQLRequest(operation, variable_values=values))
    except TransportQueryError as refused:
        error = refused.errors[0]
        sys.exit(f"{error['extensions']['code']}: {error['message']}")


def waiting(client, to, state):
    """Return all items for a destination in a state, page after page."""
    found, after = [], None
    while True:
        page = ask(client, WAITING, to=to, state=state, after=after)["queueItems"]
        found += page["nodes"]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            return found


def told(done):
    """Return in one line what came of a change; a problem is data here, not an exception."""
    if done["__typename"] == "QueueItemsChanged":
        states = ", ".join(sorted({item["state"] for item in done["changed"]})) or "none"
        return f"{len(done['changed'])} changed, now {states}; {len(done['left'])} left as they were"
    if done["__typename"] == "OperationStarted":
        return (
            f"{done['operation']['total']} are changed in the background: operation {done['operation']['id']}"
        )
    return f"refused: {done['code']}: {done['message']}"


def main():
    """Hold, or resume, all that waits for a destination."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("destination", help="namespace/name of an AE")
    parser.add_argument("reason")
    parser.add_argument("--resume", action="store_true")
    given = parser.parse_args()
    headers = {"Authorization": f"Bearer {os.environ['AEGATE_TOKEN']}"}
    with Client(transport=HTTPXTransport(url=given.url, headers=headers)) as client:
        items = waiting(client, given.destination, "HELD" if given.resume else "SCHEDULED")
        for item in items:
            why = item["whyNotMoving"]["text"]
            print(f"{item['level']} of {item['instancesTotal']} images: {why}")
        if items:
            change = RESUME if given.resume else HOLD
            ids = [item["id"] for item in items]
            print(told(ask(client, change, ids=ids, reason=given.reason)["done"]))


if __name__ == "__main__":
    main()
