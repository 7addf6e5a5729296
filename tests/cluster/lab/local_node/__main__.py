"""``python -m tests.cluster.lab.local_node``: a node whose pods are processes of this machine."""

from __future__ import annotations

import argparse
import asyncio
import signal
from ipaddress import IPv4Network
from pathlib import Path

from tests.cluster.lab.local_node.node import LocalNode, Settings


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="local-node")
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--network", type=IPv4Network, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--processes", type=int, required=True)
    asyncio.run(_run(Settings(**vars(parser.parse_args()))))


async def _run(settings: Settings) -> None:
    node = asyncio.ensure_future(LocalNode(settings).run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, node.cancel)
    await asyncio.wait([node])
    if not node.cancelled():
        node.result()


if __name__ == "__main__":
    main()
