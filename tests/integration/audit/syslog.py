"""A private syslog-ng that takes syslog over TLS (RFC 5425) from clients of one authority, and what it received."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from aegate_scu.collector import CollectorAddress
from tests.integration.identities import Authority
from tests.integration.processes import free_port, process
from tests.integration.waiting import eventually

CONFIGURATION = """
@version: 3.38
options {{ keep-hostname(yes); use-dns(no); log-msg-size(1048576); stats-freq(0); }};
source s {{ syslog(ip("127.0.0.1") port({port}) transport("tls") flags(no-hostname)
  tls(key-file("{secret}/tls.key") cert-file("{secret}/tls.crt") ca-file("{secret}/ca.crt")
      peer-verify(required-trusted))); }};
destination d {{ file("{folder}/received" template("${{PRI}} ${{MSGID}} ${{PROGRAM}} ${{MSG}}\\n")); }};
log {{ source(s); destination(d); }};
"""


@dataclass(frozen=True, slots=True)
class SyslogServer:
    """The server's folder and port, and the identity that a client needs."""

    folder: Path
    address: CollectorAddress

    def lines(self) -> list[tuple[int, str, str]]:
        """Return priority, MSGID and message of each line received."""
        if not (self.folder / "received").exists():
            return []
        found = []
        for line in (self.folder / "received").read_text("utf-8").splitlines():
            priority, msgid, program, message = line.split(" ", 3)
            assert program == "aegate"
            found.append((int(priority), msgid, message.removeprefix("\ufeff")))
        return found

    def messages(self) -> list[ET.Element]:
        """Return the audit messages received."""
        return [ET.fromstring(text) for _, _, text in self.lines()]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run it until the end of the block."""
        options = ["--foreground", "--no-caps", "-f", self.folder / "syslog-ng.conf"]
        places = ["-p", self.folder / "pid", "-R", self.folder / "persist", "-c", self.folder / "control"]
        with process(["/usr/sbin/syslog-ng", *options, *places], log=self.folder / "output.log"):
            eventually((self.folder / "control").exists, deadline_s=30, what="syslog-ng listens")
            yield


def syslog_server(folder: Path) -> SyslogServer:
    """Return a server that does not run yet."""
    authority = Authority.make(folder / "authority")
    authority.issue(folder / "server", "127.0.0.1")
    client = authority.issue(folder / "client", "aegate")
    port = free_port()
    text = CONFIGURATION.format(port=port, secret=folder / "server", folder=folder)
    (folder / "syslog-ng.conf").write_text(text)
    address = CollectorAddress("127.0.0.1", port, client.ca, client.certificate, client.key)
    return SyslogServer(folder, address)
