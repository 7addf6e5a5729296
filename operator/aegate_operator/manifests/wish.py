"""What a listener of its own is to be: the AE's spec over the installation's defaults, each question answered once."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterator

from aegate_core.decisions.listener_config import TLS_PORT, is_admitted
from aegate_core.resources.values import ApplicationEntity, ListenerMode, Spool
from aegate_operator.installation import EMPTY_DIR, ONE_NODE, PERSISTENT, Installation

ABORT_S = 10
"""For the associations that had to be aborted at the end of the grace period to end."""
LAST_BATCH_S = 15
"""For the indexer to finish its batch; it stops after the receiver."""


def has_listener(ae: ApplicationEntity) -> bool:
    """Say whether the AE has a listener of its own."""
    return is_admitted(ae) and ae.listener_mode is ListenerMode.DEDICATED


def is_disabled(ae: ApplicationEntity) -> bool:
    """Say whether the AE would have a listener of its own, were it enabled."""
    return not ae.enabled and ae.listener_mode is ListenerMode.DEDICATED


def service_port(ae: ApplicationEntity, installation: Installation) -> int:
    """Return the port that devices call, of the Service: never ``spec.port``, which is the device's own."""
    return ae.listener.port or (TLS_PORT if ae.listener.tls else installation.listener.port)


def service_type(ae: ApplicationEntity, installation: Installation) -> str:
    """Return the Service's type."""
    return ae.listener.service_type or installation.listener.service_type


def spool_of(ae: ApplicationEntity, installation: Installation) -> Spool:
    """Return the spool with nothing left open."""
    wished, default = ae.listener.spool, installation.listener.spool
    if wished is None:
        return default
    return Spool(
        wished.type,
        wished.access_mode or default.access_mode,
        wished.storage_class_name or default.storage_class_name,
        wished.size or default.size,
    )


def is_durable(spool: Spool) -> bool:
    """Say whether the spool outlives its pod."""
    return spool.type == PERSISTENT


def is_of_one_node(spool: Spool) -> bool:
    """Say whether only one pod at a time may have the spool."""
    return spool.type == PERSISTENT and spool.access_mode == ONE_NODE


def waits_for_index(ae: ApplicationEntity, installation: Installation) -> bool:
    """Say whether an image is acknowledged only when it is indexed: always, where the spool dies with its pod."""
    return ae.listener.acknowledge == "Indexed" or spool_of(ae, installation).type == EMPTY_DIR


def replicas(ae: ApplicationEntity, installation: Installation) -> int:
    """Return how many pods there are; one, where only one may have the spool."""
    if is_of_one_node(spool_of(ae, installation)):
        return 1
    return ae.listener.replicas or installation.listener.replicas


def grace_s(ae: ApplicationEntity, installation: Installation) -> int:
    """Return how long associations may go on after SIGTERM."""
    return ae.listener.longest_association_s or installation.listener.grace_s


def termination_s(ae: ApplicationEntity, installation: Installation) -> int:
    """Return how long a pod may take to end, in all."""
    return installation.listener.pre_stop_s + grace_s(ae, installation) + ABORT_S + LAST_BATCH_S


def admitted_ranges(ae: ApplicationEntity) -> tuple[str, ...]:
    """Return the CIDRs that may reach the DICOM port: the node, if it is an address, and ``sourceRanges``.

    Neither a NetworkPolicy nor a load balancer can name a host: for a node with a DNS name the CRD asks for
    ``sourceRanges``, and they alone count. Nothing, where the AE has ``networkPolicy: Disabled``.
    """
    if ae.network_policy == "Disabled":
        return ()
    networks = [ipaddress.ip_network(r) for r in ae.source_ranges]
    with contextlib.suppress(ValueError):  # a DNS name
        networks.append(ipaddress.ip_network(ae.node))
    v4 = [n for n in networks if isinstance(n, ipaddress.IPv4Network)]
    v6 = [n for n in networks if isinstance(n, ipaddress.IPv6Network)]
    collapsed = (*ipaddress.collapse_addresses(v4), *ipaddress.collapse_addresses(v6))
    return tuple(str(network) for network in collapsed)


def remarks(ae: ApplicationEntity, installation: Installation) -> Iterator[str]:
    """Yield what people should know of a listener that is not quite what they may think; for its conditions."""
    spool = spool_of(ae, installation)
    if is_of_one_node(spool):
        yield (
            "The spool is ReadWriteOnce: one replica, and an update stops the listener before it starts the next; "
            "devices have to try again meanwhile."
        )
        if (ae.listener.replicas or installation.listener.replicas) > 1:
            yield "listener.replicas counts as 1: more need a ReadWriteMany spool."
    if not is_durable(spool) and ae.listener.acknowledge != "Indexed":
        yield (
            "The spool dies with its pod: images are acknowledged when they are indexed (acknowledge Indexed), and "
            "refused while the database is away."
        )
