"""A thousand AEs applied at once, and ten thousand in a pool: ``python -m tests.proofs.operator_load --entities 1000``.

On a real API server, with pods that are only said to run but for a few. The yardstick is measured in the same run: a
plain client that applies the very same children, eight at once, as the operator does. Both are timed until the pods are
there. Then the operator is started anew, and the API server's audit log must hold no write of it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from aegate_core.database import migrate
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.stores.cluster import ClusterClient
from aegate_operator.installation import parse_installation
from tests.cluster.chart.rendering import helm_program, objects, render, sets
from tests.cluster.lab.lab import Lab
from tests.cluster.lab.starting import LOCAL_TAG, LabSettings, running_lab
from tests.cluster.operator.operating import HOME, USER, apply_all, rights, store
from tests.integration.postgres import PostgresServer, postgres_server
from tests.integration.processes import cpu_s
from tests.integration.waiting import eventually_async, take_s
from tests.proofs.command import begin, finish, parser_of
from tests.proofs.fleet.fleet import DEADLINE_S, LOOK_S, Fleet, administrator, sizes_of_pools, timed
from tests.proofs.fleet.replicas import seen_after_s, two_replicas
from tests.proofs.fleet.running import Running, running_operator

ROOT = Path(__file__).parents[2]
MOST_RATIO = 1.5
"""How much longer than the plain client it may take until all is well."""
MOST_KB = 70.0
"""Of memory an AE."""
JUDGED_FROM = 100
"""Fewer AEs are no measure: what comes once is most of it."""
ANEW_FROM = 1000
"""The same of an operator that is started anew: lists pass through it, and cost once what is shared by all AEs."""
LARGEST_CONFIG_MAP = 500_000
EDITS = 20
MOST_UNSEEN_S = 1.0
"""From a change's answer by one replica of the API until another one shows it, at most."""
SHARES = 16
WARM_UP = 10
"""AEs before memory is measured: what is loaded for the first of them is not the price of the next."""
KB = 1000.0
INSTALLATION: dict[str, Any] = {
    "image": f"localhost/aegate:{LOCAL_TAG}",
    "namespace": HOME,
    "listener": {"spool": {"type": "EmptyDir"}, "preStopSeconds": 1},
}
POOL = {
    "name": "default",
    "endpoint": f"aegate-pool-default.{HOME}.svc:11112",
    "shares": SHARES,
    "waitsForIndex": True,
}


@dataclass
class Here:
    """A lab with our CRDs and the operator's account, a database, and what is wrong so far."""

    lab: Lab
    admin: ClusterClient
    root: Path
    database_url: str
    wrong: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Print a line of the report."""
        print(text, flush=True)

    def expect(self, is_so: bool, otherwise: str) -> None:
        """Take note of what is wrong."""
        if not is_so:
            self.wrong.append(otherwise)

    def writes(self, since: datetime) -> Counter[tuple[str, str]]:
        """Count the operator's writes since then, by verb and resource."""
        return Counter(
            (r.verb, r.resource) for r in self.lab.audit() if r.user == USER and r.is_write and r.at >= since
        )

    def requests(self) -> Counter[tuple[str, str]]:
        """Count all that the operator has asked."""
        return Counter((r.verb, r.resource) for r in self.lab.audit() if r.user == USER)

    def processor_s(self) -> dict[str, float]:
        """Return the processor time of each program of the lab."""
        return {name: cpu_s(pid) for name, pid in self.lab.programs().items() if pid}


@contextmanager
def laboratory(settings: LabSettings) -> Iterator[Lab]:
    """Run a lab with our CRDs and the operator's account in it."""
    with running_lab(settings, lambda text: print(f"lab: {text}", file=sys.stderr)) as lab:
        crds = [
            YAML(typ="safe", pure=True).load(f.read_text()) for f in sorted((ROOT / "crds").glob("*.yaml"))
        ]
        apply_all(lab, [*crds, *rights()])
        for crd in ("applicationentities", "imageroutes", "patientpartitions"):
            lab.kubectl("wait", f"crd/{crd}.aegate.dev", "--for=condition=Established", "--timeout=60s")
        yield lab


async def dedicated(here: Here, count: int) -> None:
    """A listener of its own for each AE, against a client that applies the same."""
    plain = Fleet(here.lab, here.admin, "plain", count, {})
    plain.prepare(here.database_url)
    reference_s = await _plainly(here, plain)
    await plain.delete()
    fleet, warm = Fleet(here.lab, here.admin, "fleet", count, {}), _warm(here, count, {})
    for one in (warm, fleet):
        one.prepare(here.database_url)
    with running_operator(here.lab, here.root, INSTALLATION, here.database_url) as operator:
        await _warm_up(warm, operator)
        few, before, asked = operator.rss_bytes, here.processor_s(), here.requests()
        took_s = await _converge(here, fleet, operator)
        _spent(here, before, operator)
        requests = here.requests() - asked
        kb = (operator.rss_bytes - few) / count / KB
        ratio = took_s / reference_s
        here.say(
            f"{count} AEs with a listener each: all Ready {took_s:.1f} s after the first was applied, "
            f"{ratio:.2f} of the plain client's time (at most {MOST_RATIO})"
        )
        here.say(
            f"memory {operator.rss_bytes / 2**20:.0f} MiB, {few / 2**20:.0f} with {WARM_UP} AEs: {kb:.1f} kB an AE "
            f"(at most {MOST_KB:.0f}); most {operator.peak_bytes / 2**20:.0f} MiB"
        )
        await asyncio.to_thread(_edit, here, fleet)
        await _until_at_rest(operator, WARM_UP + count)
    per_entity = {
        " ".join(what): number / count for what, number in requests.most_common() if number >= count / 2
    }
    here.say("requests an AE: " + ", ".join(f"{what} {number:.1f}" for what, number in per_entity.items()))
    is_measure = count >= JUDGED_FROM
    here.expect(
        not is_measure or ratio <= MOST_RATIO,
        f"it took {ratio:.2f} of the plain client's time until all were Ready",
    )
    here.expect(not is_measure or kb <= MOST_KB, f"the operator holds {kb:.1f} kB an AE")
    await _restart(here, count, few, INSTALLATION)


def _edit(here: Here, fleet: Fleet) -> None:
    """Change AEs through one replica of the API, and read them on another."""
    ends = [fleet.entities()[n * (fleet.count - 1) // EDITS]["metadata"] for n in range(EDITS)]
    with two_replicas(here.lab, here.root / "replicas", here.database_url) as (one, two):
        took = sorted(
            seen_after_s(one, two, ResourceKey(end["namespace"], end["name"]), f"edit {n}")
            for n, end in enumerate(ends)
        )
    here.say(
        f"an edit through one replica of the API is read on another after {took[len(took) // 2]:.2f} s, "
        f"{took[-1]:.2f} s at most (at most {MOST_UNSEEN_S:.0f})"
    )
    here.expect(took[-1] <= MOST_UNSEEN_S, f"an edit was read on another replica after {took[-1]:.2f} s")


async def _plainly(here: Here, plain: Fleet) -> float:
    applied_s = await plain.apply_children(parse_installation(INSTALLATION))
    there_s = applied_s + await plain.until_available()
    here.say(
        f"the plain client: children of {plain.count} AEs applied in {applied_s:.1f} s, "
        f"available after {there_s:.1f} s"
    )
    return there_s


def _warm(here: Here, first: int, spec: dict[str, Any]) -> Fleet:
    return Fleet(here.lab, here.admin, "warm", WARM_UP, spec, first)


async def _warm_up(warm: Fleet, operator: Running) -> None:
    await warm.apply()
    await warm.until_ready()
    await _until_at_rest(operator, WARM_UP)


async def _converge(here: Here, fleet: Fleet, operator: Running) -> float:
    applying = asyncio.create_task(fleet.apply())
    took_s = await timed(_both(applying, fleet))
    here.say(f"{fleet.count} AEs applied in {applying.result():.1f} s")
    await _until_at_rest(operator, WARM_UP + fleet.count)
    return took_s


async def _both(applying: asyncio.Task[float], fleet: Fleet) -> None:
    await applying
    await fleet.until_ready()


async def _until_at_rest(operator: Running, count: int) -> None:
    """Return when every AE was looked at and said to be Ready, and nothing is due."""

    async def is_at_rest() -> bool:
        now = operator.metrics()
        if now.looks >= count and now.ready == count and now.depth == 0:
            return True
        await take_s(LOOK_S)
        return False

    await eventually_async(is_at_rest, deadline_s=DEADLINE_S, what="the operator has nothing to do")


async def _restart(here: Here, count: int, few: int, installation: dict[str, Any]) -> None:
    since = datetime.now(UTC)
    with running_operator(here.lab, here.root, installation, here.database_url) as operator:
        listed_s = operator.age_s
        await _until_at_rest(operator, WARM_UP + count)
        compared_s = operator.age_s
        looks = operator.metrics().looks
        kb = (operator.rss_bytes - few) / count / KB
    written = here.writes(since)
    here.say(
        f"started anew: all listed after {listed_s:.1f} s, compared {compared_s - listed_s:.1f} s later "
        f"({looks} looks), {sum(written.values())} writes, {kb:.1f} kB an AE"
    )
    here.expect(not written, f"started anew it wrote: {dict(written)}")
    here.expect(count < ANEW_FROM or kb <= MOST_KB, f"started anew the operator holds {kb:.1f} kB an AE")


def _spent(here: Here, before: dict[str, float], operator: Running) -> None:
    after = here.processor_s()
    parts = {"operator": operator.cpu_s} | {n: after[n] - before.get(n, 0.0) for n in sorted(after)}
    here.say("processor time: " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in parts.items()))


async def shared(here: Here, count: int) -> None:
    """One pool for all AEs."""
    installation = {**INSTALLATION, "pools": [POOL]}
    _deploy_pool(here)
    spec = {"listener": {"mode": "Shared"}}
    fleet, warm = Fleet(here.lab, here.admin, "shared", count, spec), _warm(here, count, spec)
    names = [*warm.namespaces, *fleet.namespaces]
    apply_all(here.lab, [{"kind": "Namespace", "metadata": {"name": name}} for name in names])
    with running_operator(here.lab, here.root, installation, here.database_url) as operator:
        await _warm_up(warm, operator)
        few, before = operator.rss_bytes, here.processor_s()
        took_s = await _converge(here, fleet, operator)
        _spent(here, before, operator)
        kb = (operator.rss_bytes - few) / count / KB
        sizes = await sizes_of_pools(here.admin, HOME)
        here.say(
            f"{count} AEs in a pool: all Ready after {took_s:.1f} s; memory {operator.rss_bytes / 2**20:.0f} MiB, "
            f"{kb:.1f} kB an AE, most {operator.peak_bytes / 2**20:.0f} MiB; {len(sizes)} ConfigMaps of at most "
            f"{max(sizes, default=0)} bytes"
        )
    here.expect(len(sizes) == SHARES, f"{len(sizes)} ConfigMaps for {SHARES} shares")
    here.expect(
        max(sizes, default=0) < LARGEST_CONFIG_MAP, f"a ConfigMap holds {max(sizes, default=0)} bytes"
    )
    is_measure = count >= JUDGED_FROM
    here.expect(not is_measure or kb <= MOST_KB, f"the operator holds {kb:.1f} kB an AE in a pool")
    await _restart(here, count, few, installation)


def _deploy_pool(here: Here) -> None:
    """Deploy the pool as the chart has it; its pod is a process of this machine."""
    values = (
        "image.repository=localhost/aegate",
        f"image.tag={LOCAL_TAG}",
        "pools.default.spool.type=EmptyDir",
        f"pools.default.shares={SHARES}",
        "pools.default.replicas=1",
    )
    claim = store(HOME)
    claim[-1]["stringData"] = {"dsn": here.database_url}
    apply_all(here.lab, claim)
    rendered = objects(render(helm_program(), *sets(*values), namespace=HOME))
    pool = [o for o in rendered if o["metadata"].get("labels", {}).get("aegate.dev/pool") == "default"]
    YAML(typ="safe", pure=True).dump_all(pool, here.root / "pool.yaml")
    here.lab.apply(here.root / "pool.yaml")
    here.lab.kubectl(
        "rollout", "status", "deployment/aegate-pool-default", f"--namespace={HOME}", "--timeout=280s"
    )


async def prove(
    root: Path, server: PostgresServer, *, entities: int, pooled: int, processes: int
) -> list[str]:
    """Return what is wrong; print what was seen."""
    wrong = []
    for part, count in ((dedicated, entities), (shared, pooled)):
        if not count:
            continue
        folder = root / part.__name__
        folder.mkdir()
        url = server.create(part.__name__)
        await migrate(url)
        with laboratory(LabSettings(processes=processes)) as lab:
            async with administrator(lab) as admin:
                here = Here(lab, admin, folder, url)
                await part(here, count)
                wrong += here.wrong
    return wrong


def main() -> int:
    """Run the proof; exit code 1 when it failed."""
    parser = parser_of(__doc__, database=None)
    parser.add_argument("--entities", type=int, default=1000, help="AEs with a listener each (default: 1000)")
    parser.add_argument("--pooled", type=int, help="AEs in a pool (default: ten times as many)")
    parser.add_argument("--processes", type=int, help="pods that run (default: 40 of 1000)")
    options = parser.parse_args()
    count = options.entities
    pooled = 10 * count if options.pooled is None else options.pooled
    processes = max(4, count // 25) if options.processes is None else options.processes
    root = begin("operator-load")
    began = time.monotonic()
    with postgres_server(max_connections="100") as server:
        wrong = asyncio.run(prove(root, server, entities=count, pooled=pooled, processes=processes))
    print(f"{time.monotonic() - began:.0f} s")
    return finish(wrong, root)


if __name__ == "__main__":
    sys.exit(main())
