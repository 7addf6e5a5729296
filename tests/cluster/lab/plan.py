"""The addresses of a lab: labs of different numbers share none, so they run side by side.

On the full ring every node, and the control plane, has an address on a bridge of the lab. On the cheap ring
everything runs on this machine, and a whole network is made local to it, so that each pod has an address of its
own; it is not one of 127.0.0.0/8, because Kubernetes refuses those in an EndpointSlice.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from tests.cluster.lab.errors import LabRefused

LARGEST_NUMBER = 19
"""More would run into the other ring's networks."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Who has which address. `nodes` is None on the cheap ring."""

    number: int
    nodes: int | None

    def __post_init__(self) -> None:
        if not 0 <= self.number <= LARGEST_NUMBER:
            raise LabRefused(f"a lab's number must be 0 to {LARGEST_NUMBER}, got {self.number}: take another")

    @property
    def is_full(self) -> bool:
        """Whether there are real nodes."""
        return self.nodes is not None

    @property
    def node_numbers(self) -> range:
        """The real nodes, counted from 1."""
        return range(1, (self.nodes or 0) + 1)

    @property
    def bridge(self) -> str:
        """The network interface that joins nodes, control plane and this machine."""
        return f"agl{self.number}"

    @property
    def machine(self) -> IPv4Address:
        """This machine, as nodes and pods reach it."""
        return self._address("10.89", 254)

    @property
    def control_plane(self) -> IPv4Address:
        """The API server's address; DNS is there too."""
        return self._address("10.89", 100) if self.is_full else self.local_network[100]

    @property
    def api_url(self) -> str:
        """Where the API server answers."""
        return f"https://{self.control_plane}:6443"

    @property
    def services(self) -> IPv4Network:
        """The addresses of Services. On the cheap ring nothing listens on them."""
        return IPv4Network(f"10.96.{self.number}.0/24") if self.is_full else _top(self.local_network)

    @property
    def api_service(self) -> IPv4Address:
        """The Service ``kubernetes``."""
        return self.services[1]

    @property
    def local_network(self) -> IPv4Network:
        """The cheap ring's network, all of it on this machine: pods from x.x.1.0 on, 16,000 Services at its end."""
        return IPv4Network(f"10.{200 + self.number}.0.0/16")

    def node(self, i: int) -> IPv4Address:
        """Return the address of a real node."""
        return self._address("10.89", i)

    def node_name(self, i: int) -> str:
        """Return what Kubernetes calls a real node; its cgroup is called so, too."""
        return f"{self.bridge}-n{i}"

    def pods(self, i: int) -> IPv4Network:
        """Return the network of a real node's pods."""
        return IPv4Network(f"10.{120 + i}.{self.number}.0/24")

    def link(self, address: IPv4Address) -> str:
        """Return the name of the link that plugs an address into the bridge."""
        return f"{self.bridge}v{str(address).rpartition('.')[2]}"

    def networks(self) -> list[IPv4Network]:
        """Return every network that must be nobody else's on this machine."""
        if not self.is_full:
            return [self.local_network]
        bridge = IPv4Network(f"10.89.{self.number}.0/24")
        return [bridge, self.services, *map(self.pods, self.node_numbers)]

    def _address(self, network: str, last: int) -> IPv4Address:
        return IPv4Address(f"{network}.{self.number}.{last}")


def _top(network: IPv4Network) -> IPv4Network:
    return IPv4Network(f"{network[-1]}/18", strict=False)
