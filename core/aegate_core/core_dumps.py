"""No picture of our memory on a disk: a process that holds patient data leaves no core file when it crashes."""

from __future__ import annotations

import resource

LIMIT_BYTES = 1
"""Too small for any core file. And not 0: a kernel that hands cores to a program, as Ubuntu's apport and
systemd-coredump have it, looks at no limit but this one (core(5), `coredump_pipe` in fs/coredump.c)."""


def forbid_core_dumps() -> None:
    """Let this process, and those that it starts, never write a core file nor hand one to a program.

    Where the limit is 0 for good (limits.conf, LimitCORE=0) it stays: only root may raise it.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    limit = LIMIT_BYTES if hard != 0 else 0
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
