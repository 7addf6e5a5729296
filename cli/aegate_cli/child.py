"""Run a module as a process that ends when its parent does: ``python -m aegate_cli.child PARENT_PID MODULE``.

The request is made here, in the new process, and not between fork and exec: nothing of ours runs in a forked copy of
the supervisor.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that this process gets when the thread that made it ends. Linux only."""


def end_with_parent(parent_pid: int) -> None:
    """Ask for SIGTERM (a clean stop) when the parent dies; leave at once when it is dead already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent_pid:
        sys.exit(1)


def main() -> None:
    """Become the module."""
    parent_pid, module = int(sys.argv[1]), sys.argv[2]
    end_with_parent(parent_pid)
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
