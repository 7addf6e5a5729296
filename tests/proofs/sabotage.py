"""Ways to break aegate on purpose, each with the proof that must notice. Data alone; selftest.py runs it.

``old`` stands in ``file`` exactly once: tests/unit/test_sabotage.py says so when the code has moved on.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sabotage:
    """One line of ours made wrong, and who finds out."""

    name: str
    file: str
    old: str
    new: str
    proof: tuple[str, ...]
    """What is run: arguments after ``python -m``."""


_POWER_LOSS = ("tests.proofs.powerloss", "--runs", "50")
_SPOOL = "core/aegate_core/stores/spool/writing.py"
_SPOOL_OUT = "core/aegate_core/stores/spool/sweeping.py"
_BLOBS = "core/aegate_core/stores/blobs/folder.py"
_INTAKE = "core/aegate_core/services/intake.py"
_SLOTS = "core/aegate_core/stores/queue/slots.py"
_RETRY = "core/aegate_core/decisions/retry.py"


def _step(*steps: str) -> tuple[str, ...]:
    wanted = (part for step in steps for part in ("--step", step))
    return ("tests.proofs.steps", "--kills", "6", "--database", "sqlite", *wanted)


def _test(node: str) -> tuple[str, ...]:
    return ("pytest", "-q", "--no-header", "-p", "no:cacheprovider", f"tests/integration/{node}")


SABOTAGES = (
    Sabotage(
        "skip the fsync of an object",
        _SPOOL,
        "            os.fsync(self._file)\n",
        "",
        _POWER_LOSS,
    ),
    Sabotage(
        "skip the fsync of the spool folder",
        _SPOOL,
        "            os.fsync(self._folder)\n",
        "",
        _POWER_LOSS,
    ),
    Sabotage(
        "skip the fsync of blobs and their folders",
        _BLOBS,
        "            make_durable(self.root, [*(self.root / key for key in keys), *folders])\n",
        "",
        _POWER_LOSS,
    ),
    Sabotage(
        "commit to SQLite without waiting for the disk",
        "core/aegate_core/database/connection.py",
        '"synchronous": "FULL"',
        '"synchronous": "OFF"',
        _POWER_LOSS,
    ),
    Sabotage(
        "acknowledge from memory and write a moment later",
        "scp/aegate_scp/receive.py",
        "            file.commit(record)\n",
        '            __import__("threading").Timer(0.05, file.commit, (record,)).start()\n',
        _step("WRITTEN"),
    ),
    Sabotage(
        "acknowledge what could not be kept",
        "scp/aegate_scp/receive.py",
        "        answer = answer or self._refusal or Answer(PROCESSING_FAILURE)\n",
        "        answer = Answer(SUCCESS)\n",
        _test("scp/test_refusing.py"),
    ),
    Sabotage(
        "take an object out of the spool before its rows are committed",
        _INTAKE,
        "    counts = await write(db, prepared, known, now)\n    reached(Step.COMMITTED)\n",
        "    await asyncio.to_thread(_clear, spooled, {p.side.arrival_id for p in prepared})\n"
        "    reached(Step.COMMITTED)\n    counts = await write(db, prepared, known, now)\n",
        _step("COMMITTED"),
    ),
    Sabotage(
        "lose the side record before the object",
        _SPOOL_OUT,
        "    path.unlink(missing_ok=True)\n    reached(Step.OBJECT_UNLINKED)\n"
        '    path.with_suffix(".json").unlink(missing_ok=True)\n',
        '    path.with_suffix(".json").unlink(missing_ok=True)\n'
        "    reached(Step.OBJECT_UNLINKED)\n    path.unlink(missing_ok=True)\n",
        _step("OBJECT_UNLINKED"),
    ),
    Sabotage(
        "drop what cannot be read instead of quarantining it",
        _INTAKE,
        '        return Prepared(arrival.side, "", digest, None, refusal.message)\n',
        "        raise FileNotFoundError from refusal\n",
        _test("intake/test_index_batch.py"),
    ),
    Sabotage(
        "ignore the fencing token",
        _SLOTS,
        "    if len(ours) != len(set(delivery_ids)):\n",
        "    if False:\n",
        _test("queue/test_claims.py"),
    ),
    Sabotage(
        "count an empty response as success",
        "scu/aegate_scu/storing.py",
        "or response.Status is None:\n            return None\n",
        "or response.Status is None:\n            return 0\n",
        _test("scu/test_answers.py"),
    ),
    Sabotage(
        "count 0xA7xx as stored",
        _RETRY,
        "    if 0xA700 <= status <= 0xA7FF:\n        return Verdict.TROUBLE\n",
        "    if 0xA700 <= status <= 0xA7FF:\n        return Verdict.STORED\n",
        _test("hostile/test_bad_receivers.py"),
    ),
    Sabotage(
        "count 0xB000 as failure",
        _RETRY,
        "0xB000 <= status <= 0xBFFF:\n        return Verdict.WARNING\n",
        "0xB001 <= status <= 0xBFFF:\n        return Verdict.WARNING\n",
        _test("hostile/test_bad_receivers.py"),
    ),
    Sabotage(
        "let a full destination cost attempts",
        _RETRY,
        "    if verdict is not Verdict.SUSPECT:\n        wait_s",
        "    if verdict is Verdict.UNREADABLE:\n        wait_s",
        _test("hostile/test_bad_receivers.py"),
    ),
    Sabotage(
        "send again what was acknowledged",
        "core/aegate_core/stores/queue/claiming.py",
        "WHERE i.delivery_id = ANY($1) AND i.state = 'PENDING'\n",
        "WHERE i.delivery_id = ANY($1)\n",
        _test("hostile/test_bad_receivers.py"),
    ),
    Sabotage(
        "let readers of the feed go by the numbers that rows drew, not by when they were committed",
        "core/aegate_core/stores/changes/feed.py",
        """    return "id" if db.is_sqlite else "position"\n""",
        """    return "id"\n""",
        _test("changes/test_feed.py"),
    ),
    Sabotage(
        "tell subscribers of all partitions",
        "core/aegate_core/stores/changes/feed.py",
        "    return scope.partitions is None or change.partition in scope.partitions\n",
        "    return True\n",
        _test("api/test_live_events.py"),
    ),
    Sabotage(
        "let streams go on when their token is revoked",
        "graphql_api/aegate_graphql_api/live/streams.py",
        "                        stream.end(EXPIRED)\n",
        "                        pass\n",
        _test("api/test_live_protocol.py"),
    ),
    Sabotage(
        "route what came back from where we sent it",
        "core/aegate_core/decisions/duplicates.py",
        "    return MODIFYING_SYSTEM in modifying_systems or any(source != ae for source in sent_from)\n",
        "    return False\n",
        _test("intake/test_index_batch.py"),
    ),
    Sabotage(
        "send a blob without comparing it with what arrived",
        "scu/aegate_scu/outgoing.py",
        "    if digest_data_set(arrival.path, offset) != arrival.sha256:\n",
        "    if False:\n",
        _test("scu/test_storage.py"),
    ),
    Sabotage(
        "remove images that a queue item still wants",
        "core/aegate_core/decisions/retention.py",
        "    if facts.live_deliveries:\n",
        "    if False:\n",
        _test("retention/test_retention.py"),
    ),
    Sabotage(
        "forget which arrivals are indexed already",
        "core/aegate_core/stores/index/receiving.py",
        """    rows = await tx.fetch(
        f"SELECT a.id AS id FROM arrival a WHERE a.id = ANY($1) AND NOT {GIVES_WAY}", list(ids)
    )
""",
        "    rows = []\n",
        _test("intake/test_index_batch.py"),
    ),
    Sabotage(
        "do not ask again, with the study locked, which arrivals are indexed already",
        "core/aegate_core/services/indexing.py",
        "    known = await receiving.known_arrivals(tx, [p.side.arrival_id for p in ordered])\n",
        "",
        _test("intake/test_races.py"),
    ),
    Sabotage(
        "show the rows of all partitions to everybody",
        "core/aegate_core/stores/scope.py",
        "        if not belongs or any(self._own(one.owner) is None for one in belongs):\n",
        "        if True:\n",
        _test("api/test_partitions.py"),
    ),
    Sabotage(
        "change items of another partition that are named by their ids",
        "graphql_api/aegate_graphql_api/mutations/selection.py",
        "    found = await lock_versions(tx, ids, context.scope)\n",
        "    found = await lock_versions(tx, ids, type(context.scope)())\n",
        _test("api/test_partitions.py"),
    ),
    Sabotage(
        "begin an operation about rows of another partition that are named by their ids",
        "graphql_api/aegate_graphql_api/mutations/many.py",
        "    ids = many.ids or ()\n",
        "    ids: tuple[int, ...] = ()\n",
        _test("api/test_partitions.py"),
    ),
    Sabotage(
        "run operations without the permission that they need",
        "graphql_api/aegate_graphql_api/authorisation.py",
        "        if not caller.holds_any(need):\n",
        "        if not need:\n",
        _test("api/test_permission_walk.py"),
    ),
    Sabotage(
        "take a provider's token that was made for somebody else",
        "graphql_api/aegate_graphql_api/identity/oidc.py",
        "        if self._issuer.audience not in (audience if isinstance(audience, list) else [audience]):\n",
        "        if not audience:\n",
        _test("identity/test_oidc.py"),
    ),
    Sabotage(
        "let every token hold a destination",
        "graphql_api/aegate_graphql_api/mutations/root.py",
        '        description="Hold all that goes to a destination.",\n        directives=[QUEUE],\n',
        '        description="Hold all that goes to a destination.",\n'
        '        directives=[__import__("aegate_graphql_api.permissions", fromlist=["ANYONE"]).ANYONE],\n',
        _test("api/test_refusals.py"),
    ),
    Sabotage(
        "run a document whatever it costs",
        "graphql_api/aegate_graphql_api/limits.py",
        '        _at_most("cost", MAX_COST, weight.cost)\n',
        "",
        _test("api/test_limits.py"),
    ),
    Sabotage(
        "let a caller ask as often as it likes",
        "graphql_api/aegate_graphql_api/door.py",
        "        if self._buckets is None:\n            return\n        now = time",
        "        if True:\n            return\n        now = time",
        _test("api/test_limits.py"),
    ),
)
