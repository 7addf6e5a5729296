"""A certificate authority of the tests, and identities laid out as secrets are."""

from __future__ import annotations

import subprocess
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def make_authority(folder: Path) -> Path:
    """Make a CA and two identities of it in ``folder``: ``server`` (for localhost) and ``client``; return it."""
    ca = ("-subj", "/CN=Test CA", "-addext", "basicConstraints=critical,CA:TRUE")
    _openssl(folder, "req", "-x509", *_KEY, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", *ca)
    for name, host in (("server", "localhost"), ("client", "client")):
        (folder / f"{name}.ext").write_text(f"subjectAltName=DNS:{host}\n")
        request = ("-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={host}")
        _openssl(folder, "req", *_KEY, *request)
        signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
        extension = ("-extfile", f"{name}.ext")
        _openssl(folder, "x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.crt", *extension)
    return folder


def lay_out(authority: Path, identity: str, secret: Path) -> None:
    """Write an identity of the authority as the secret in the folder ``secret``."""
    secret.mkdir(parents=True, exist_ok=True)
    for source, target in (
        (f"{identity}.crt", "tls.crt"),
        (f"{identity}.key", "tls.key"),
        ("ca.crt", "ca.crt"),
    ):
        (secret / target).write_bytes((authority / source).read_bytes())


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=30)
