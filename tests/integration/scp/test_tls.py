"""DICOM over TLS: `listener.tls` and ``secrets/NAME/``, dcmtk as the device, and everybody who must stay out."""

from __future__ import annotations

import dataclasses
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from aegate_core.decisions.listener_config import ListenerDefaults, TLSFiles, listener_configs
from aegate_core.dicom.ae_title import AETitle
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.resources.values import ApplicationEntity, Listener, ListenerTLS, Metadata
from tests import dicom
from tests.integration.identities import Authority, Identity
from tests.integration.peers import run_dcmtk
from tests.integration.scp.listeners import RunningListener, running_listener, write_config
from tests.integration.scp.test_receiving import data_set_bytes, spooled_bytes
from tests.integration.scp.wires import RELEASE_RQ, Peer, associate_rq, connected, pdu, pdv, store_rq
from tests.integration.waiting import eventually


@dataclass(frozen=True, slots=True)
class Certificates:
    """Of a hospital, and of somebody whom it does not know."""

    authority: Authority
    secrets: Path
    device: Identity
    stranger: Identity


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates, made once."""
    folder = tmp_path_factory.mktemp("certificates")
    hospital, elsewhere = Authority.make(folder / "hospital"), Authority.make(folder / "elsewhere")
    hospital.issue(folder / "secrets" / "ct-identity")
    hospital.issue(folder / "device", "ct1")
    elsewhere.issue(folder / "stranger", "ct1")
    return folder


@pytest.fixture
def certificates(made: Path, tmp_path: Path) -> Certificates:
    """The listener's secrets are the test's own: it may change them."""
    secret = tmp_path / "secrets" / "ct-identity"
    secret.mkdir(parents=True)
    for file in (made / "secrets" / "ct-identity").iterdir():
        (secret / file.name).write_bytes(file.read_bytes())

    def identity(name: str) -> Identity:
        return Identity(*(made / name / file for file in ("tls.crt", "tls.key", "ca.crt")))

    hospital = Authority(made / "hospital")
    # Each side trusts the hospital: the stranger's certificate alone is wrong.
    stranger = dataclasses.replace(identity("stranger"), ca=hospital.folder / "ca.crt")
    return Certificates(hospital, tmp_path / "secrets", identity("device"), stranger)


@contextmanager
def tls_listener(
    tmp_path: Path, certificates: Certificates, client_auth: str = "Require"
) -> Iterator[RunningListener]:
    """Run the listener that an ApplicationEntity with ``listener.tls`` gets."""
    tls = ListenerTLS("ct-identity", client_auth)
    ae = ApplicationEntity(
        Metadata(ResourceKey("default", "ct1")),
        AETitle("CT1"),
        "127.0.0.1",
        104,
        listener=Listener(port=2762, tls=tls),
    )
    _, config = listener_configs([ae], ListenerDefaults(spool="", secrets=str(certificates.secrets)))
    with running_listener(tmp_path, *config.entities, tls=config.tls) as listener:
        yield listener


def storescu(port: int, *tls: str | Path) -> str:
    """Send a CT slice with dcmtk; empty when that went well, else what it says."""
    path = Path(str(dicom.pydicom_test_files()[0])).parent / "CT_small.dcm"
    done = run_dcmtk("storescu", "-xe", "-aet", "CT1", *tls, "127.0.0.1", str(port), path)
    return "" if done.returncode == 0 else done.stdout or "failed"


def with_certificate(identity: Identity) -> tuple[str | Path, ...]:
    return "+tls", identity.key, identity.certificate, "+cf", identity.ca


def without_certificate(identity: Identity) -> tuple[str | Path, ...]:
    return "+tla", "+cf", identity.ca


def refusals(listener: RunningListener) -> list[str]:
    return [e["reason"] for e in listener.events("connection.refused")]


def test_dcmtk_with_the_right_certificate_stores_and_nobody_else_does(
    tmp_path: Path, certificates: Certificates
) -> None:
    path = dicom.write(dicom.ct(), tmp_path / "in" / "1.dcm")
    with tls_listener(tmp_path, certificates) as listener:
        port = str(listener.port)
        sent = run_dcmtk(
            "storescu", "-aet", "CT1", *with_certificate(certificates.device), "127.0.0.1", port, path
        )
        assert sent.returncode == 0, sent.stdout
        assert list(spooled_bytes(listener).values()) == [data_set_bytes(path)]

        assert storescu(listener.port, *with_certificate(certificates.stranger))
        assert storescu(listener.port, *without_certificate(certificates.device))
        assert storescu(listener.port)

        eventually(lambda: refusals(listener) == ["tls_handshake_failed"] * 3)
        assert listener.metric("aegate_connections_refused_total", reason="tls_handshake_failed") == 3
        assert len(listener.arrivals()) == 1
        assert listener.open_associations() == 0


@pytest.mark.parametrize("client_auth", ["None", "Request"])
def test_certificate_is_not_needed_when_the_ae_does_not_require_one(
    tmp_path: Path, certificates: Certificates, client_auth: str
) -> None:
    with tls_listener(tmp_path, certificates, client_auth) as listener:
        assert storescu(listener.port, *without_certificate(certificates.device)) == ""
        assert storescu(listener.port, *with_certificate(certificates.device)) == ""
        # One that is shown must be right, if it is asked for at all.
        is_refused = storescu(listener.port, *with_certificate(certificates.stranger)) != ""
        assert is_refused == (client_auth == "Request")


def test_title_and_address_are_checked_behind_tls_too(tmp_path: Path, certificates: Certificates) -> None:
    with tls_listener(tmp_path, certificates) as listener:
        done = run_dcmtk(
            "echoscu",
            "-aet",
            "NOBODY",
            *with_certificate(certificates.device),
            "127.0.0.1",
            str(listener.port),
        )

        assert "Calling AE Title Not Recognized" in done.stdout


def client_context(identity: Identity) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=identity.ca)
    context.check_hostname = False
    context.load_cert_chain(identity.certificate, identity.key)
    return context


@contextmanager
def associated(port: int, identity: Identity) -> Iterator[Peer]:
    """Associate over TLS as bare bytes."""
    with connected(port, timeout_s=5) as raw, client_context(identity).wrap_socket(raw.sock) as sock:
        peer = Peer(sock)
        peer.associate()
        yield peer


def serial(peer: Peer) -> str:
    """Return the serial number of the certificate that the listener showed."""
    assert isinstance(peer.sock, ssl.SSLSocket)
    return str((peer.sock.getpeercert() or {})["serialNumber"])


def serial_of(port: int, identity: Identity) -> str:
    with associated(port, identity) as peer:
        peer.send(RELEASE_RQ)
        assert peer.receive_pdu()[0] == 6
        return serial(peer)


def test_renewed_certificate_is_served_and_cuts_no_association(
    tmp_path: Path, certificates: Certificates
) -> None:
    device, secret = certificates.device, certificates.secrets / "ct-identity"
    with tls_listener(tmp_path, certificates) as listener, associated(listener.port, device) as peer:
        first = serial(peer)

        certificates.authority.issue(secret)

        eventually(lambda: serial_of(listener.port, device) != first)
        peer.send(pdu(4, pdv(3, store_rq()) + pdv(0, bytes(100_000)) + pdv(2, b"ab")))
        assert peer.status() == 0x0000
        eventually(lambda: listener.state.state == "ready")


def test_certificate_is_renewed_while_the_configuration_cannot_be_used(
    tmp_path: Path, certificates: Certificates
) -> None:
    device, secret = certificates.device, certificates.secrets / "ct-identity"
    with tls_listener(tmp_path, certificates) as listener:
        first = serial_of(listener.port, device)
        write_config(tmp_path, "{")
        certificates.authority.issue(secret)

        eventually(lambda: serial_of(listener.port, device) != first)
        assert eventually(lambda: listener.state.state == "degraded")
        assert "listener configuration must be" in listener.state.message


def test_configuration_whose_identity_comes_later_is_taken_up_then(
    tmp_path: Path, certificates: Certificates
) -> None:
    late = certificates.secrets / "late"
    with tls_listener(tmp_path, certificates) as listener:
        first = serial_of(listener.port, certificates.device)
        tls = TLSFiles(str(late / "tls.crt"), str(late / "tls.key"), str(late / "ca.crt"))
        listener.configure(tls=tls)
        eventually(lambda: listener.state.state == "degraded")
        assert serial_of(listener.port, certificates.device) == first

        certificates.authority.issue(late)

        eventually(lambda: (listener.state.state, listener.state.generation) == ("ready", 2))
        assert serial_of(listener.port, certificates.device) != first


def test_silent_and_slow_tls_clients_delay_nobody(tmp_path: Path, certificates: Certificates) -> None:
    device = certificates.device
    with (
        tls_listener(tmp_path, certificates) as listener,
        connected(listener.port),
        connected(listener.port) as slow,
        associated(listener.port, device) as stuck,
    ):
        slow.send(b"\x16\x03\x01")  # the first bytes of a ClientHello
        # Half a TLS record in the middle of an object: its thread waits for the rest, and only its own.
        stuck.send(pdu(4, pdv(3, store_rq())))
        raw = socket.socket(fileno=stuck.sock.detach())
        raw.sendall(b"\x17\x03\x03\x40\x00" + bytes(100))
        for _ in range(3):
            with associated(listener.port, device) as peer:
                peer.send(pdu(4, pdv(3, store_rq()) + pdv(2, b"ab")))
                assert peer.status() == 0x0000
        raw.close()
        eventually(lambda: listener.open_associations() == 0)
        assert listener.leftovers() == []
        assert len(listener.arrivals()) == 3


def test_old_tls_is_refused(tmp_path: Path, certificates: Certificates) -> None:
    context = client_context(certificates.device)
    context.set_ciphers("AES128-SHA:AES256-SHA")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        tls_listener(tmp_path, certificates) as listener,
        connected(listener.port) as raw,
        pytest.raises((ssl.SSLError, ConnectionResetError)),
    ):
        context.wrap_socket(raw.sock)


def test_plain_request_on_the_tls_port_is_closed_at_once(tmp_path: Path, certificates: Certificates) -> None:
    with tls_listener(tmp_path, certificates) as listener, connected(listener.port) as plain:
        plain.send(associate_rq())
        assert plain.seconds_until_closed() < 5
        assert refusals(listener) == ["tls_handshake_failed"]
        assert json.loads(listener.config.to_json())["tls"]["client_auth"] == "Require"
