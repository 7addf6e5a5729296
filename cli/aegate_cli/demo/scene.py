"""Where the demo plays: its folders and ports; the example hospital on others when the usual ones are taken."""

from __future__ import annotations

import re
import shutil
import socket
from dataclasses import dataclass, field
from pathlib import Path

from aegate_cli.ports import Endpoint, PortUnavailable, ensure_bindable, free_port
from aegate_core.errors import InvalidInput

USUAL = {"shared": 11112, "pacs": 11113, "workstation": 11114, "ultrasound": 11115, "http": 8080}
WRITTEN = ("pacs", "workstation", "ultrasound")
"""Ports that stand in the YAML; the others are options of `aegate up`."""


@dataclass(frozen=True, slots=True)
class Part:
    """One modality and where, by the routes of the example hospital, its images have to arrive."""

    modality: str
    calling_title: str
    port_name: str
    receivers: tuple[str, ...]


PARTS = (
    Part("CT", "CT_ER", "shared", ("pacs", "workstation")),
    Part("US", "US_CARDIO", "ultrasound", ("pacs",)),
)
RECEIVERS = {"pacs": ("PACS", "default/pacs"), "workstation": ("WS_READ_1", "default/ws-read-1")}
"""AE title, and the name of the resource."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Folders and ports of one demo."""

    root: Path
    hospital: Path
    ports: dict[str, int]
    notes: list[str] = field(default_factory=list)
    claims: list[socket.socket] = field(default_factory=list)
    """Open as long as this demo needs its ports."""

    def close(self) -> None:
        """Give the ports back to other demos."""
        for claimed in self.claims:
            claimed.close()

    @property
    def data(self) -> Path:
        """The fresh data folder."""
        return self.root / "data"

    def received(self, receiver: str) -> Path:
        """The folder into which a receiver writes."""
        return self.root / receiver

    @property
    def log(self) -> Path:
        """What all processes of `aegate up` log."""
        return self.root / "aegate.log"


def find_hospital(given: Path | None) -> Path:
    """Return the example hospital: the one given, that of the working directory, or that of this clone."""
    places = (
        [given] if given else [Path("examples/hospital"), Path(__file__).parents[3] / "examples" / "hospital"]
    )
    for place in places:
        if (place / "routes.yaml").is_file():
            return place.absolute()
    raise InvalidInput(
        f"expected the example hospital, got nothing at {places[0]}: start it in a clone of aegate"
    )


def set_scene(root: Path, hospital: Path) -> Scene:
    """Choose ports, and copy the hospital with other ones when usual ones are taken."""
    claims: list[socket.socket] = []
    ports, notes = choose_ports(claims)
    moved = {USUAL[name]: ports[name] for name in WRITTEN if ports[name] != USUAL[name]}
    if moved:
        copy = root / "hospital"
        shutil.copytree(hospital, copy)
        for file in copy.glob("*.yaml"):
            file.write_text(move_ports(file.read_text(), moved))
        hospital = copy
        notes.append(f"the hospital's files were copied to {copy} and hold the other ports")
    for folder in (root / "pacs", root / "workstation", root / "made"):
        folder.mkdir()
    return Scene(root, hospital, ports, notes, claims)


def claim(port: int) -> socket.socket | None:
    """Claim a port among all demos of this machine while the socket returned is open; None when another demo has it.

    Between looking whether a port is free and binding it, seconds go by, in which another demo may look too. An
    abstract socket name (unix(7), Linux alone) belongs to one process, and to nobody when that has ended.
    """
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        name.bind(f"\0aegate-demo-port-{port}")
    except OSError:
        name.close()
        return None
    return name


def choose_ports(claims: list[socket.socket]) -> tuple[dict[str, int], list[str]]:
    """Return a port for each use, and a note for each that is not the usual one; ``claims`` are to be kept open."""
    ports: dict[str, int] = {}
    notes = []
    for name, usual in USUAL.items():
        claimed = claim(usual)
        try:
            ensure_bindable(Endpoint("0.0.0.0", usual), purpose=name, remedy="take another")
            is_free = claimed is not None
        except PortUnavailable:
            is_free = False
        if claimed is not None:
            claims.append(claimed)
        ports[name] = usual if is_free else free_port()
        if not is_free:
            notes.append(f"port {usual} is in use: the demo takes {ports[name]} for {name}")
    return ports, notes


def move_ports(text: str, moved: dict[int, int]) -> str:
    """Return YAML with other numbers after ``port:``; comments and everything else stay."""
    return re.sub(
        r"(\bport:\s*)(\d+)", lambda match: match[1] + str(moved.get(int(match[2]), int(match[2]))), text
    )
