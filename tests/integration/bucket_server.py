"""versitygw as the server of the images' bucket: a private process in the test's folder, its objects plain files there.

It verifies signatures and digests as S3 does. Compiled from a Go module, once, outside of the tree; run as a program,
this module does only that.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from botocore.session import Session

from aegate_core.settings import Bucket
from aegate_core.stores.blobs import MARK
from tests.cluster.lab.build import VERSITYGW, build
from tests.integration.identities import Identity
from tests.integration.processes import free_port, process
from tests.integration.waiting import eventually

ACCESS_KEY, SECRET_KEY = "AEGATETEST", "a-secret-of-this-test-alone"
NAME = "images"


@dataclass
class BucketServer:
    """A server with one bucket, and the credentials for it in a folder as a mounted Secret has them."""

    folder: Path
    port: int
    child: subprocess.Popen[bytes] | None = None
    options: tuple[str, ...] = ()
    """More of the server's own, such as its certificate."""
    host: str = "127.0.0.1"
    """The address of this machine that it listens on."""
    tls_name: str = ""
    """The name in its certificate; '' without TLS."""
    ca: Path | None = None
    """By whom its certificate is, for `client`."""
    prefix: str = "hospital/"
    _logs: int = field(default=0)

    @property
    def secret(self) -> Path:
        """The folder of the credentials."""
        return self.folder / "secret"

    @property
    def objects(self) -> Path:
        """Where the server keeps the objects of our prefix, as files."""
        return self.folder / "root" / NAME / self.prefix

    @property
    def bucket(self) -> Bucket:
        """The settings that lead there."""
        base = f"https://{self.tls_name}" if self.tls_name else f"http://{self.host}"
        return Bucket(NAME, self.secret, endpoint=f"{base}:{self.port}", prefix=self.prefix)

    @property
    def environ(self) -> dict[str, str]:
        """The same for a process."""
        return {
            "AEGATE_S3_BUCKET": NAME,
            "AEGATE_S3_ENDPOINT": self.bucket.endpoint,
            "AEGATE_S3_PREFIX": self.prefix,
            "AEGATE_S3_SECRET": str(self.secret),
        }

    def give(self, access_key: str = ACCESS_KEY, secret_key: str = SECRET_KEY) -> None:
        """Put credentials where processes read them."""
        self.secret.mkdir(exist_ok=True)
        (self.secret / "access-key-id").write_text(f"{access_key}\n")
        (self.secret / "secret-access-key").write_text(f"{secret_key}\n")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the server until the end of the block, on the same port and the same objects each time."""
        self._logs += 1
        command: list[str | Path] = [
            _program(),
            "--access",
            ACCESS_KEY,
            "--secret",
            SECRET_KEY,
            "--port",
            f"{self.host}:{self.port}",
        ]
        root = self.folder / "root"
        metadata = self.folder / "metadata"
        for needed in (root, metadata):
            needed.mkdir(exist_ok=True)
        command += [*self.options, "posix", "--sidecar", metadata, root]
        with process(command, log=self.folder / f"versitygw-{self._logs}.log", stop_s=5) as self.child:
            eventually(self._is_listening, deadline_s=60, what="versitygw is up")
            yield

    def _is_listening(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((self.host, self.port)) == 0

    def client(self) -> Any:
        """Return a client with all rights, to look and to arrange things."""
        return _session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=self.bucket.endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            verify=str(self.ca) if self.ca else None,
        )

    def names(self) -> list[str]:
        """Return the keys of all objects, without the prefix; the mark of their installation is none."""
        answer = self.client().list_objects_v2(Bucket=NAME, Prefix=self.prefix)
        names = (found["Key"].removeprefix(self.prefix) for found in answer.get("Contents", ()))
        return [name for name in names if name != MARK]

    def uploads(self) -> list[dict[str, Any]]:
        """Return the uploads that were begun and not completed."""
        return list(self.client().list_multipart_uploads(Bucket=NAME).get("Uploads", ()))


@cache
def _session() -> Session:
    """Return the one of this process: each has the descriptions of the API read anew, a tenth of a second."""
    return Session()


def _program() -> Path:
    return build(modules=[VERSITYGW]).folder("versitygw") / "versitygw"


@contextmanager
def bucket_server(
    folder: Path, identity: Identity | None = None, *, host: str = "127.0.0.1"
) -> Iterator[BucketServer]:
    """Run a server with an empty bucket until the end of the block; over TLS where it has an identity."""
    folder.mkdir()
    server = BucketServer(folder, free_port(), host=host)
    if identity:
        server.options = ("--cert", str(identity.certificate), "--key", str(identity.key))
        server.tls_name, server.ca = "localhost", identity.ca
    server.give()
    with server.running():
        server.client().create_bucket(Bucket=NAME)
        yield server
    shutil.rmtree(folder / "root", ignore_errors=True)


if __name__ == "__main__":
    _program()
