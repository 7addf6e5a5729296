"""A good device beside many connections that say nothing: ``python -m tests.proofs.silence --sockets 1000``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.integration.hostile.silence import LEAST_SHARE, share_beside_silence
from tests.integration.scp.listeners import entity, running_listener


def main() -> int:
    """Print which part of its rate the device keeps; 1 when it is too small, or the listener failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sockets", type=int, default=1000)
    count = parser.parse_args().sockets
    with (
        tempfile.TemporaryDirectory() as folder,
        running_listener(Path(folder), entity(max_associations=5)) as listener,
    ):
        share = share_beside_silence(listener, count)
        failed = listener.events("process.failed")
        descriptors = len(list(Path(f"/proc/{listener.child.pid}/fd").iterdir()))
    print(f"{count} silent sockets: a good device keeps {share:.0%} of its rate (at least {LEAST_SHARE:.0%})")
    print(f"the listener holds {descriptors} descriptors and {len(failed)} of its threads have failed")
    return 0 if share >= LEAST_SHARE and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
