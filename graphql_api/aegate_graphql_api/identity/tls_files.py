"""Certificate and key of the API's port: checked at the start, taken again when a renewal replaces the files."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from aegate_core.errors import InvalidValue
from aegate_core.events import CERTIFICATE_REFUSED, Log

log = Log("api")


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """Certificate chain and key as PEM. Raises InvalidValue when they cannot be used."""

    certificate: Path
    key: Path
    _context: ssl.SSLContext = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_context", self._loaded())

    def factory(self) -> Callable[[object, object], ssl.SSLContext]:
        """Return what uvicorn asks for the context."""
        return lambda config, default: self._context

    async def renew(self, every_s: float) -> None:
        """Look after the files for ever; while new ones cannot be used, those before go on."""
        seen = self._look()
        while True:
            await asyncio.sleep(every_s)
            if (now := self._look()) == seen:
                continue
            seen = now
            try:
                self._loaded()  # aside first: half of a renewal must not take the old one's place
                self._load_into(self._context)
            except InvalidValue as error:
                log(CERTIFICATE_REFUSED, error=error.message)

    def _loaded(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._load_into(context)
        return context

    def _load_into(self, context: ssl.SSLContext) -> None:
        try:
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, ValueError) as error:
            raise InvalidValue(
                "AEGATE_HTTP_TLS_CERT and AEGATE_HTTP_TLS_KEY must be a certificate chain and its key as PEM, got "
                f"{type(error).__name__} at {self.certificate} and {self.key}: name others"
            ) from error

    def _look(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_looks(path) for path in (self.certificate, self.key))


def _looks(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
