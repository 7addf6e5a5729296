"""The way in changes under an open association: to TLS, to a pool, to none at all. What is open goes on to its end."""

from __future__ import annotations

import base64
import json
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.release.edited import Edited, old_pods_end_well
from tests.cluster.release.hospital import Hospital
from tests.dicom import Instance, ct, write
from tests.integration.identities import Authority, Identity
from tests.integration.peers import run_dcmtk
from tests.integration.waiting import eventually

NAME, TITLE = "ct-7", "CT_7"
POOL = "default"
OTHER = "ct-12"


@pytest.fixture(scope="module")
def entity(installed: Hospital) -> Iterator[Edited]:
    """An AE whose device is this machine."""
    installed.add_ae(NAME)
    installed.wait_until_ready(NAME)
    yield Edited(installed, NAME)
    installed.kubectl("delete", "applicationentity", NAME)


def is_taken(address: tuple[str, int], file: Path, *tls: str | Path) -> bool:
    host, port = address
    return run_dcmtk("storescu", "-aet", TITLE, "-aec", "AEGATE", *tls, host, str(port), file).returncode == 0


def test_no_listener_while_it_is_not_enabled(entity: Edited, tmp_path: Path) -> None:
    address = entity.hospital.address(NAME)
    with (
        old_pods_end_well(entity, tmp_path),
        entity.hospital.paced_sender(address, TITLE, "disabled") as sender,
    ):
        sender.goes_on()
        entity.patch({"enabled": False}, reason="Disabled")
        eventually(lambda: all(ending for _, _, ending in entity.pods().values()), what="its pods are to end")
        sender.goes_on()
    file = write(ct(Instance(study="not enabled")), tmp_path / "1.dcm")
    assert not is_taken(address, file)
    entity.patch({"enabled": True})
    assert is_taken(entity.hospital.address(NAME), file)


def test_no_listener_where_the_mode_is_none(entity: Edited, tmp_path: Path) -> None:
    """The device is only sent to from now on; what it has open goes on to its end."""
    address = entity.hospital.address(NAME)
    with (
        old_pods_end_well(entity, tmp_path),
        entity.hospital.paced_sender(address, TITLE, "no listener") as sender,
    ):
        sender.goes_on()
        entity.patch({"listener": {"mode": "None"}})
        eventually(lambda: all(ending for _, _, ending in entity.pods().values()), what="its pods are to end")
        sender.goes_on()
    file = write(ct(Instance(study="mode None")), tmp_path / "1.dcm")
    assert not is_taken(address, file)
    entity.patch({"listener": {"mode": "Dedicated"}})
    assert is_taken(entity.hospital.address(NAME), file)


def test_a_pool_takes_over_and_gives_back(entity: Edited, tmp_path: Path) -> None:
    hospital = entity.hospital
    own, pool = hospital.address(NAME), hospital.pool_address(POOL)
    file = write(ct(Instance(study="shared")), tmp_path / "1.dcm")
    with old_pods_end_well(entity, tmp_path), hospital.paced_sender(own, TITLE, "to the pool") as sender:
        sender.goes_on()
        entity.patch({"listener": {"mode": "Shared"}})
        assert is_taken(pool, file)
        sender.goes_on()
    with hospital.paced_sender(pool, TITLE, "from the pool") as sender:
        sender.goes_on()
        entity.patch({"listener": {"mode": "Dedicated"}})
        sender.goes_on()
    assert is_taken(hospital.address(NAME), file)
    assert not is_taken(pool, file)


@dataclass(frozen=True, slots=True)
class Identities:
    """Of the listener, of its device, and of a device that another authority vouches for."""

    authority: Authority
    listener: Identity
    device: Identity
    other: Identity


@pytest.fixture(scope="module")
def identities(installed: Hospital, tmp_path_factory: pytest.TempPathFactory) -> Identities:
    """Certificates; the listener's is not in the cluster yet."""
    folder = tmp_path_factory.mktemp("identities")
    hospital, vendor = Authority.make(folder / "hospital"), Authority.make(folder / "vendor")
    listener = hospital.issue(folder / "listener")
    installed.kubectl(
        "create", "secret", "generic", "vendor-ca", f"--from-file=ca.crt={vendor.folder}/ca.crt"
    )
    return Identities(
        hospital, listener, hospital.issue(folder / "device", "ct7"), vendor.issue(folder / "other", "ct7")
    )


def make_secret(hospital: Hospital, name: str, identity: Identity) -> None:
    files = [f"--from-file={f.name}={f}" for f in (identity.certificate, identity.key, identity.ca)]
    hospital.kubectl("create", "secret", "generic", name, *files)


def tls_of(identity: Identity, trusted: Identity) -> tuple[str | Path, ...]:
    return "+tls", identity.key, identity.certificate, "+cf", trusted.ca


def client_context(identity: Identity, trusted: Identity) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=trusted.ca)
    context.load_cert_chain(identity.certificate, identity.key)
    return context


def test_tls(entity: Edited, identities: Identities, tmp_path: Path) -> None:
    """From plain to TLS, whose Secret comes late, to another client CA, to no client certificate, and back."""
    hospital, file = entity.hospital, write(ct(Instance(study="tls")), tmp_path / "1.dcm")
    good, other = (
        tls_of(identities.device, identities.listener),
        tls_of(identities.other, identities.listener),
    )
    anonymous = ("+tla", "+cf", identities.listener.ca)

    def taken() -> list[bool]:
        address = hospital.address(NAME)
        return [is_taken(address, file, *how) for how in ((), anonymous, good, other)]

    with (
        old_pods_end_well(entity, tmp_path),
        hospital.paced_sender(hospital.address(NAME), TITLE, "plain") as sender,
    ):
        sender.goes_on()
        spec: dict[str, Any] = {"listener": {"tls": {"secretName": "ct-7-tls"}}}
        with hospital.never_hot():
            entity.patch(spec, type="ResolvedRefs", reason="SecretNotFound")
            sender.goes_on()
            make_secret(hospital, "ct-7-tls", identities.listener)
            eventually(entity.is_effective, deadline_s=180, what="its Secret is taken up")
        sender.goes_on()
    assert taken() == [False, False, True, False]

    context = client_context(identities.device, identities.listener)
    with hospital.paced_sender(hospital.address(NAME), TITLE, "tls", tls=context) as sender:
        for change, expected in (
            ({"clientAuth": "None"}, [False, True, True, True]),
            ({"clientAuth": "Request"}, [False, True, True, False]),
            ({"clientAuth": "Require", "caSecretName": "vendor-ca"}, [False, False, False, True]),
        ):
            sender.goes_on()
            entity.patch({"listener": {"tls": change}})
            assert taken() == expected, change
            sender.goes_on()

    with old_pods_end_well(entity, tmp_path / "plain"):
        entity.patch({"listener": {"tls": None}})
    assert taken() == [True, False, False, False]


def replace_secret(hospital: Hospital, name: str, identity: Identity) -> None:
    files = (identity.certificate, identity.key, identity.ca)
    data = {f.name: base64.b64encode(f.read_bytes()).decode() for f in files}
    hospital.kubectl("patch", "secret", name, "--type=merge", f"--patch={json.dumps({'data': data})}")


def served_at(address: tuple[str, int], context: ssl.SSLContext) -> str:
    """Return the certificate that a device is shown."""
    with (
        socket.create_connection(address, timeout=60) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        return ssl.DER_cert_to_PEM_cert(connection.getpeercert(binary_form=True) or b"")


@pytest.mark.full
def test_a_secret_is_replaced(entity: Edited, identities: Identities, tmp_path: Path) -> None:
    """By what cannot be served, twice, and by a renewed one: it is said, no pod ends, the neighbour knows nothing."""
    hospital, authority = entity.hospital, identities.authority
    good = authority.issue(tmp_path / "good")
    foreign = replace(authority.issue(tmp_path / "foreign"), key=good.key)
    expired = authority.issue(tmp_path / "expired", days=-1)
    renewed = authority.issue(tmp_path / "renewed")
    context = client_context(identities.device, good)
    other = Edited(hospital, OTHER)
    make_secret(hospital, f"{OTHER}-tls", good)
    hospital.add_ae(OTHER, listener={"tls": {"secretName": f"{OTHER}-tls"}})
    hospital.wait_until_ready(OTHER)
    address = hospital.address(OTHER)
    before, at_rest = (other.pods(), entity.pods()), entity.live_conditions()
    with (
        hospital.never_hot(),
        hospital.paced_sender(hospital.address(NAME), TITLE, "beside it") as neighbour,
        hospital.paced_sender(address, "CT_12", "its Secret is replaced", tls=context) as sender,
    ):
        for identity, reason in ((foreign, "CertificateInvalid"), (expired, "CertificateExpired")):
            replace_secret(hospital, f"{OTHER}-tls", identity)
            eventually(
                lambda reason=reason: other.says("ResolvedRefs", reason),  # type: ignore[misc]
                deadline_s=120,
                what=lambda: str(other.conditions()),
            )
            assert "the last good one is still served" in other.message("ResolvedRefs")
            assert not other.is_effective(), "Ready tells it, too"
            assert served_at(address, context) == good.certificate.read_text()
            sender.goes_on()
        replace_secret(hospital, f"{OTHER}-tls", renewed)
        eventually(
            lambda: other.says("ResolvedRefs", "ResolvedRefs") and other.is_effective(),
            deadline_s=120,
            what=lambda: str(other.conditions()),
        )
        assert served_at(address, context) == renewed.certificate.read_text()
        sender.goes_on()
        neighbour.goes_on()
    assert (other.pods(), entity.pods()) == before
    assert entity.live_conditions() == at_rest
    hospital.kubectl("delete", "applicationentity", OTHER)


def test_no_image_was_lost(entity: Edited) -> None:
    """Whatever these tests did to its listener meanwhile."""
    entity.hospital.until_nothing_is_lost()
