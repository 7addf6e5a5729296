"""Certificate authorities and identities of a test, made by openssl, laid out as secrets are: ``secrets/NAME/``."""

from __future__ import annotations

import ipaddress
import subprocess
from dataclasses import dataclass
from pathlib import Path


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=30)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True, slots=True)
class Identity:
    """Files of one side, as PEM."""

    certificate: Path
    key: Path
    ca: Path


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs identities; its files lie in ``folder``."""

    folder: Path

    @staticmethod
    def make(folder: Path) -> Authority:
        """Make a new one."""
        folder.mkdir(parents=True)
        name = ("-subj", f"/CN={folder.name}", "-addext", "basicConstraints=critical,CA:TRUE")
        _openssl(folder, "req", "-x509", *_KEY, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", *name)
        return Authority(folder)

    def issue(self, secret: Path, common_name: str = "localhost", *, days: int = 2) -> Identity:
        """Put a new identity of a host into ``secret`` in place of what is there; each file in one step.

        With ``days`` below 0 it has expired.
        """
        secret.mkdir(parents=True, exist_ok=True)
        request = ("-keyout", str(secret / "new.key"), "-out", str(secret / "new.csr"))
        _openssl(self.folder, "req", *_KEY, *request, "-subj", f"/CN={common_name}")
        signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", str(days))
        output = ("-in", str(secret / "new.csr"), "-out", str(secret / "new.crt"))
        kind = "IP" if _is_address(common_name) else "DNS"
        (secret / "new.ext").write_text(f"subjectAltName={kind}:{common_name}\n")
        _openssl(self.folder, "x509", "-req", *output, *signed, "-extfile", str(secret / "new.ext"))
        for used in ("new.csr", "new.ext"):
            (secret / used).unlink()
        (secret / "new.ca").write_bytes((self.folder / "ca.crt").read_bytes())
        for new, name in (("new.crt", "tls.crt"), ("new.key", "tls.key"), ("new.ca", "ca.crt")):
            (secret / new).replace(secret / name)
        return Identity(secret / "tls.crt", secret / "tls.key", secret / "ca.crt")
