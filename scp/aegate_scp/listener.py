"""One listener: the entrance, the associations behind it, and the configuration in force, which may change at any time.

`apply` touches no open association: an AE that is gone finishes what it sends and is not admitted again.
"""

from __future__ import annotations

import errno
import secrets
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from aegate_core.decisions.listener_config import ListenerConfig, ListenerEntity
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import InvalidInput
from aegate_core.events import (
    ASSOCIATION_REJECTED,
    CONFIG_LOADED,
    LISTENER_BOUND,
    LISTENER_CLOSED,
    Log,
)
from aegate_core.stores.spool import Journal, SpoolFolder, Watermark
from aegate_scp.association import Arrived, ListenerAssociation, local_ae
from aegate_scp.association_log import AssociationLog, Refusal
from aegate_scp.congestion import Congestion
from aegate_scp.metrics import ListenerMetrics
from aegate_scp.negotiation import (
    Directory,
    Load,
    Reason,
    Rejection,
    Request,
    normalised_request,
    parse_address,
    read_request,
)
from aegate_scp.receive import Intake, Peer
from aegate_scp.resolution import NodeAddresses, Resolve, resolve_by_system
from aegate_scp.server import Entrance
from aegate_scp.tls import Identity, read_identity

_FIRST_RESOLUTION_S = 2.0
"""How long a start or a change waits for the addresses of new names; later answers are taken up as they come."""


NOT_AUTHENTICATED = ("tls_handshake_failed",)
"""Ends of connections without an association that the audit hears of: a node did not authenticate itself."""


def _now() -> datetime:
    return datetime.now(UTC)


class Listener:
    """Listen from `start` to `drain`; with an identity that cannot be used the port is closed meanwhile."""

    def __init__(
        self,
        config: ListenerConfig,
        *,
        metrics: ListenerMetrics,
        spool_process: str | None = None,
        resolve: Resolve = resolve_by_system,
        now: Callable[[], datetime] = _now,
    ) -> None:
        """Take the spool; ``spool_process`` names its folder there. Raises StorageError when it cannot be written."""
        self.metrics = metrics
        self._config = config
        self._log = Log("scp")
        self._now = now
        self._spool = SpoolFolder(Path(config.spool), spool_process)
        journal = Journal(self._spool.root, self._spool.process)
        self._associations_told = AssociationLog(journal, metrics, now=now)
        self._congestion = Congestion(self._spool, _watermark(config), metrics)
        self._intake = Intake(self._spool, self._congestion, metrics)
        self._nodes = NodeAddresses(resolve)
        self._directory = Directory(())
        self._identity = Identity()
        """What is served; of a listener without TLS it is empty."""
        self._newest = Identity()
        """What the files were when they were last read: the same, or one that cannot be served."""
        self._lock = threading.Lock()
        self._open: Counter[ResourceKey] = Counter()
        self._associations: set[ListenerAssociation] = set()
        self._ae = local_ae()
        self._entrance: Entrance | None = None
        self.port = 0

    @property
    def config(self) -> ListenerConfig:
        """The configuration in force."""
        return self._config

    @property
    def tls_context(self) -> ssl.SSLContext | None:
        """For connections from now on. None is plain: nobody is let in with it where TLS is wished for."""
        return self._identity.context

    def start(self) -> None:
        """Bind and begin to accept, when the identity allows it.

        Raises InvalidInput saying what to do when the port cannot be had.
        """
        self._associations_told.start()
        self.apply(self._config)

    def apply(self, config: ListenerConfig) -> None:
        """Put a configuration in force for what comes from now on. Raises InvalidInput and changes nothing."""
        for name in ("host", "port", "spool"):
            if getattr(config, name) != getattr(self._config, name):
                raise InvalidInput(
                    f"{name} is bound at start and cannot change live: start the listener anew"
                )
        try:
            directory = Directory(config.entities)
        except ValueError as error:
            raise InvalidInput(
                f"sourceRanges must be CIDRs, got {error}: mend the listener configuration"
            ) from error
        identity = self._wished_identity(config)
        self._nodes.watch(directory.nodes, timeout_s=_FIRST_RESOLUTION_S)
        if config.tls and identity.problem(self._now()):
            self._close_door()  # before a configuration with TLS is in force without a context: never plain
        self._directory, self._identity, self._config = directory, identity, config
        self._congestion.watermark = _watermark(config)
        self._congestion.check_again()
        self.metrics.generation.set(config.generation)
        self._log(CONFIG_LOADED, generation=config.generation, entities=len(config.entities))
        self.mind_the_door()

    def _wished_identity(self, config: ListenerConfig) -> Identity:
        """Return the identity to serve with ``config``: the newest; the one in force while that cannot be served.

        Raises InvalidInput where another identity is asked for and is not there: the one in force goes on being
        served, and the configuration is tried again when its files come.
        """
        if config.tls is None:
            self._newest = Identity()
            return self._newest
        self._newest = read_identity(config.tls)
        problem = self._newest.problem(self._now())
        if problem is None or not self._is_served():
            return self._newest
        if config.tls != self._config.tls:
            raise InvalidInput(problem[1])
        return self._identity

    def reload_tls(self) -> None:
        """Read the identity's files again; one that cannot be served does not take the place of one that can."""
        tls = self._config.tls
        if tls is None:
            return
        self._newest = read_identity(tls)
        if self._newest.problem(self._now()) is None or not self._is_served():
            self._identity = self._newest
        self.mind_the_door()

    def mind_the_door(self) -> None:
        """Close the port when the identity has become one that must not be served, open it when it is one again.

        Raises InvalidInput saying what to do when the port cannot be had.
        """
        if self._newest.not_after is not None:
            self.metrics.certificate_not_after.labels("tls.crt").set(self._newest.not_after.timestamp())
        else:
            self.metrics.certificate_not_after.clear()
        if self._config.tls and self._identity.problem(self._now()):
            self._close_door()
        elif self._entrance is None:
            self._open_door()

    def _is_served(self) -> bool:
        """Say whether there is an identity in force that may still be served."""
        return self._identity.context is not None and self._identity.problem(self._now()) is None

    def _open_door(self) -> None:
        listening = _bind(self._config.host, self.port or self._config.port)
        self.port = listening.getsockname()[1]
        self._entrance = Entrance(listening, self, self.metrics)
        self._entrance.start()
        self._log(
            LISTENER_BOUND,
            host=self._config.host,
            port=self.port,
            tls=self.tls_context is not None,
            entities=len(self._config.entities),
        )

    def _close_door(self) -> None:
        """Let nobody in any more; open associations go on."""
        if self._entrance is not None:
            self._entrance.stop()
            self._entrance = None
            self._log(
                LISTENER_CLOSED, port=self.port, reason=self.closed() or "another identity is wished for"
            )

    def closed(self) -> str | None:
        """Return why the port is closed though the listener runs, or None."""
        problem = self._identity.problem(self._now()) if self._config.tls else None
        return problem and f"the TLS port is closed: {problem[1]}"

    def certificate(self) -> dict[str, object] | None:
        """Return how the newest identity is, for `/state`; None without TLS."""
        if self._config.tls is None:
            return None
        now, newest = self._now(), self._newest
        reason, message = newest.problem(now) or (None, newest.warning(now) or "")
        if reason and self._is_served():
            message += "; the last good one is still served"
        not_after = newest.not_after.isoformat().replace("+00:00", "Z") if newest.not_after else None
        return {"problem": reason and reason.value, "message": message, "notAfter": not_after}

    def trouble(self) -> str | None:
        """Return why nobody can associate though the port is open, or None."""
        return None if self._entrance is None else self._entrance.trouble()

    def has_failed(self) -> bool:
        """Say whether nobody will ever come in again: only a new process helps."""
        return self._entrance is not None and self._entrance.has_failed

    def congestion(self) -> str | None:
        """Return why nothing can be taken in just now, or None."""
        return self._congestion.trouble()

    def warning(self) -> str | None:
        """Return what will keep images from being taken in soon, or None."""
        said = self.certificate()
        return self._congestion.warning() or (str(said["message"]) or None if said else None)

    def drain(self, grace_s: float) -> None:
        """Stop accepting, let associations finish, abort those that have not after ``grace_s``, free the spool."""
        if self._entrance is not None:
            self._entrance.stop()
        deadline_s = time.monotonic() + grace_s
        for association in self._alive():
            association.join(max(0.0, deadline_s - time.monotonic()))
        for association in self._alive():
            association.end("drained")
        for association in self._alive():
            association.join(timeout=10)
        self._associations_told.stop()
        self._nodes.stop()
        self._spool.close()

    def greet(self, sock: socket.socket, request: bytes, remote: tuple[str, int]) -> bytes | None:
        """Start an association and return None, or return the A-ASSOCIATE-RJ."""
        asked = read_request(request, parse_address(remote[0]))
        is_congested = self._congestion.trouble() is not None
        with self._lock:
            load = Load(self._open, is_congested)
            verdict = self._directory.admit(asked, self._nodes.known, load)
            if isinstance(verdict, ListenerEntity):
                self._open[verdict.ae] += 1
        if isinstance(verdict, Rejection):
            return self._reject(verdict, asked)
        free_slot = self._slot(verdict.ae)
        peer = Peer(
            secrets.token_hex(4),
            verdict.ae,
            asked.calling,
            asked.called,
            str(asked.address),
            verdict.index_wait_s,
        )
        try:
            local = sock.getsockname()
            arrived = Arrived(
                sock,
                normalised_request(request, asked),
                peer,
                verdict,
                local_address=(str(local[0]).partition("%")[0], int(local[1])),
                remote_address=(remote[0].partition("%")[0], remote[1]),
            )
            association = ListenerAssociation(
                self._ae, arrived, self._intake, self._associations_told, free_slot
            )
            association.start()
        except (OSError, RuntimeError):
            # Out of descriptors or threads. The socket must not block yet: the entrance goes on with it.
            free_slot()
            return self._reject(Rejection(Reason.CONGESTION, verdict.ae), asked)
        self._associations = {*self._alive(), association}
        return None

    def note_refused(self, address: str, reason: str) -> None:
        """Tell the audit of a connection that failed to say who it is."""
        if reason in NOT_AUTHENTICATED:
            self._associations_told.refused(Refusal(reason, calling="", called="", peer=address))

    def _alive(self) -> list[ListenerAssociation]:
        return [a for a in self._associations if a.is_alive()]

    def _slot(self, ae: ResourceKey) -> Callable[[], None]:
        """Count an open association of ``ae``; the returned function uncounts it, once."""
        gauge = self.metrics.open_associations.labels(str(ae))
        gauge.inc()
        held = [True]

        def free() -> None:
            with self._lock:
                if held.pop() if held else False:
                    self._open[ae] -= 1
                    gauge.dec()

        return free

    def _reject(self, rejection: Rejection, asked: Request) -> bytes:
        if rejection.reason is Reason.WRONG_SOURCE_ADDRESS:
            self._nodes.refresh_soon(self._directory.nodes_of(asked.calling))
        ae = str(rejection.ae) if rejection.ae else ""
        self.metrics.rejected_associations.labels(ae, rejection.reason.value).inc()
        result, source, diagnostic = rejection.answer
        self._log(
            ASSOCIATION_REJECTED,
            reason=rejection.reason.value,
            calling=asked.calling,
            called=asked.called,
            peer=str(asked.address),
            result=result,
            source=source,
            diagnostic=diagnostic,
        )
        self._associations_told.refused(
            Refusal(rejection.reason.value, rejection.ae, asked.calling, asked.called, str(asked.address))
        )
        return rejection.encode()


def _watermark(config: ListenerConfig) -> Watermark:
    return Watermark(config.watermark_used_percent, config.watermark_free_bytes)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128, dualstack_ipv6=host == "::")
    except OSError as error:
        advice = {
            errno.EADDRINUSE: "is taken by another process: stop that, or choose another port",
            errno.EACCES: "is below 1024 and needs a right: choose a higher one, or grant CAP_NET_BIND_SERVICE",
            errno.EADDRNOTAVAIL: "is on an address that this machine does not have: mend the host",
        }.get(error.errno or 0, f"cannot be bound ({error.strerror}): mend host and port")
        raise InvalidInput(f"port {port} on {host} {advice}") from error
