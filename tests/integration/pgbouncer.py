"""A private PgBouncer in transaction mode before a private PostgreSQL: two server connections, whoever asks."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.postgres import USER, PostgresServer
from tests.integration.processes import process
from tests.integration.waiting import eventually

PORT = 6432
SERVER_CONNECTIONS = 2
SETTINGS = """
[databases]
* = host={server} user={user}
[pgbouncer]
unix_socket_dir = {folder}
listen_addr =
listen_port = {port}
auth_type = any
pool_mode = transaction
default_pool_size = {connections}
max_client_conn = 200
logfile = {folder}/pgbouncer.log
"""


@contextmanager
def pgbouncer(server: PostgresServer) -> Iterator[Path]:
    """Run one beside ``server``, in its folder; yield the folder of its socket."""
    folder = server.folder / "pgbouncer"
    folder.mkdir()
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        SETTINGS.format(
            server=server.folder, user=USER, folder=folder, port=PORT, connections=SERVER_CONNECTIONS
        )
    )
    as_user: list[str] = []
    if os.geteuid() == 0:  # it refuses to run as root, as the server does
        account = pwd.getpwnam("postgres")
        os.chown(folder, account.pw_uid, account.pw_gid)
        as_user = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    with process([*as_user, "/usr/sbin/pgbouncer", settings], log=folder / "output.log"):
        eventually((folder / f".s.PGSQL.{PORT}").exists, deadline_s=30, what="PgBouncer listens")
        yield folder


def through(url: str, folder: Path) -> str:
    """Return the URL of the same database through PgBouncer."""
    return f"{url.partition('?')[0]}?host={folder}&port={PORT}&pgbouncer=true"
