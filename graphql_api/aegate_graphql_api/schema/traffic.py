"""What goes to an AE: how much waits for it and how much it took lately, counted as the dashboard counts it.

The surprise: whose the items are decides, not whose the AE is. It may take images of several patient partitions.
"""

from __future__ import annotations

from collections import defaultdict

from aegate_core.stores.listing import read_by
from aegate_core.stores.queue import rollup
from aegate_core.stores.queue.list_items import DESTINATIONS, live_counts
from aegate_core.stores.scope import ALL_ROWS
from aegate_graphql_api.context import Context
from aegate_graphql_api.schema.categories import LATELY, Row, counts_of, sent_lately
from aegate_graphql_api.schema.delivery_states import StateCount


async def load_waiting(context: Context, aes: list[str]) -> list[list[StateCount]]:
    """Load the unfinished items that each AE is to get, by state."""
    ids = {r["ae"]: r["id"] for r in await read_by(context.db, DESTINATIONS, "ae", aes, ALL_ROWS)}
    found: dict[object, list[Row]] = defaultdict(list)
    for row in await live_counts(context.db, [int(str(id)) for id in ids.values()], context.scope):
        found[row["destination_key"]].append(row)
    return [counts_of(found[ids.get(ae)]) for ae in aes]


async def load_sent(context: Context, aes: list[str]) -> list[int]:
    """Load how many items each AE took within the last hour."""
    since = context.now - LATELY
    found: dict[object, list[Row]] = defaultdict(list)
    for row in await rollup.finished(context.db, since, since, context.scope):
        found[row["destination"]].append(row)
    return [sent_lately(found[ae]) for ae in aes]
