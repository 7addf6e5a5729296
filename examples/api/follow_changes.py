"""Follow what happens in aegate, and go on after a restart where it was left: each change is handled at least once.

    AEGATE_TOKEN=… python follow_changes.py http://127.0.0.1:8080/graphql follow.cursor

The cursor is kept in the file of the second argument. Nothing but Python's standard library is needed; put what your
integration does into `handle`. It may be called twice for a change, where the program ended between the two steps.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

CHANGES = """query($after: String) { changes(first: 100, after: $after) {
  nodes { at kind action objectId state partition } pageInfo { endCursor hasNextPage } latestCursor } }"""
LOOK_EVERY_S = 1.0
BUSY = (429, 502, 503, 504)


class Expired(Exception):
    """What followed our cursor is not kept any more: this program was away for more than seven days."""


def ask(url: str, token: str, after: str | None) -> dict:
    """Return the next page of changes. Raises OSError where it helps to try again, and ends where it does not."""
    body = json.dumps({"query": CHANGES, "variables": {"after": after}}).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        if error.code in BUSY:
            raise
        answer = refusal(error)
    for error in answer.get("errors", []):
        if error["extensions"]["code"] == "CURSOR_EXPIRED":
            raise Expired(error["message"])
        raise SystemExit(f"the API refused: {error['message']}")
    return answer["data"]["changes"]


def refusal(error: urllib.error.HTTPError) -> dict:
    """Return what the API says beside another status than 200, such as 401 for a token that is not valid."""
    try:
        return json.load(error)
    except ValueError:  # a proxy answered, not the API
        raise SystemExit(f"refused: {error}") from error


def handle(change: dict) -> None:
    """Do what is to be done about a change. Here: tell it. Read the object by node(id:) where you need more."""
    print(json.dumps(change), flush=True)


def keep(cursor: str, file: Path) -> None:
    """Write the cursor in one step: a half one would be of no use after a crash."""
    part = file.with_suffix(".part")
    part.write_text(cursor)
    part.replace(file)


def begin_anew(url: str, token: str) -> str:
    """Return the cursor of now; then read all that you follow, for what was missed is not told any more."""
    cursor = ask(url, token, None)["latestCursor"]
    print("missed changes: read studies and queueItems anew here", file=sys.stderr, flush=True)
    return cursor


def follow(url: str, token: str, file: Path) -> None:
    """Handle changes for ever: first a page, then its cursor, then the next."""
    cursor = file.read_text() if file.exists() else None
    while True:
        try:
            page = ask(url, token, cursor)
        except Expired:
            cursor = begin_anew(url, token)
            continue
        except OSError as error:  # not there, or busy: it will be
            print(f"not reached ({type(error).__name__}), trying again", file=sys.stderr, flush=True)
            time.sleep(LOOK_EVERY_S)
            continue
        for change in page["nodes"]:
            handle(change)
        if page["pageInfo"]["endCursor"] != cursor:
            cursor = page["pageInfo"]["endCursor"]
            keep(cursor, file)
        if not page["pageInfo"]["hasNextPage"]:
            time.sleep(LOOK_EVERY_S)


if __name__ == "__main__":
    follow(sys.argv[1], os.environ["AEGATE_TOKEN"], Path(sys.argv[2]))
