"""Peers that break off, that break on one object, and TLS."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, _config, evt
from pynetdicom.sop_class import CTImageStorage, Verification

from aegate_core.decisions.moving import NotMovingCode
from aegate_core.resources.values import Push, PushTLS, Timeouts
from aegate_core.services import deliveries
from tests.dicom import ct_study
from tests.integration.identities import Authority
from tests.integration.scu.clinic import breaker_is, clinic, entity, reaches, why
from tests.integration.scu.raw_peer import Store, raw_peer, response

_config.LOG_HANDLER_LEVEL = "none"

Receive = Callable[[evt.Event], int]


@contextmanager
def receiver(store: Receive, *, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Run a small receiver of CTs; yield its port."""
    ae = AE(ae_title="SINK")
    ae.add_supported_context(CTImageStorage, ExplicitVRLittleEndian)
    ae.add_supported_context(Verification)
    server = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)], ssl_context=context
    )
    assert server is not None
    try:
        yield int(server.socket.getsockname()[1])
    finally:
        server.shutdown()


async def test_object_that_breaks_the_association_alone_is_poison(database_url: str, tmp_path: Path) -> None:
    objects = ct_study("s1", 3)
    poison = str(objects[1].SOPInstanceUID)
    stored: list[str] = []

    def store(event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        if uid == poison:
            event.assoc.abort()
            return 0xC000
        stored.append(uid)
        return 0x0000

    async with clinic(database_url, tmp_path) as here:
        with receiver(store) as port:
            await here.configure(entity(port))
            delivery = await here.enqueue(*await here.store(*objects))
            async with here.worker():
                for _ in range(2):
                    await reaches(here, delivery, "RETRY")
                    assert (await why(here, delivery))[0] is NotMovingCode.BACKOFF
                    async with here.db.transaction() as tx:
                        rows = await tx.fetch("SELECT breaks FROM delivery_instance WHERE breaks > 0")
                        assert len(rows) == 1
                    await here.retry_now()
                await reaches(here, delivery, "FAILED")
            assert [r[0] for r in await here.instances(delivery)] == ["STORED", "DEAD", "STORED"]
            assert (await here.instances(delivery))[1] == ("DEAD", None, "POISON")
            assert sorted(stored) == sorted(
                str(o.SOPInstanceUID) for o in objects if o.SOPInstanceUID != poison
            )
            assert (await here.destination())["breaker"] == "CLOSED"


async def test_peer_that_always_breaks_off_is_in_trouble_itself(database_url: str, tmp_path: Path) -> None:
    broken = [True]

    def store(event: evt.Event) -> int:
        if broken[0]:
            event.assoc.abort()
        return 0x0000

    async with clinic(database_url, tmp_path) as here:
        with receiver(store) as port:
            await here.configure(entity(port))
            ids = [await here.enqueue(*await here.store(*ct_study(f"s{n}", 1))) for n in range(3)]
            async with here.worker():
                await breaker_is(here, "OPEN")
                broken[0] = False
                for delivery in ids:
                    await reaches(here, delivery, "RETRY")
                assert "BROKEN" in str((await here.destination())["last_error"])
                await here.retry_now()
                await here.probe_now()
                for delivery in ids:
                    await reaches(here, delivery, "COMPLETED")


async def test_not_authorised_rejects_us_without_costing_anything(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        with receiver(lambda event: 0x0124) as port:
            await here.configure(entity(port))
            delivery = await here.enqueue(*await here.store(*ct_study("s1", 2)))
            async with here.worker():
                await breaker_is(here, "REJECTED_BY_PEER")
                await reaches(here, delivery, "SCHEDULED")
            assert (await here.delivery(delivery))["attempts"] == 0
            assert [r[0] for r in await here.instances(delivery)] == ["PENDING", "PENDING"]


async def test_half_an_answer_over_tls_holds_nothing_up(
    database_url: str, tmp_path: Path, authority: Authority
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server = authority.issue(tmp_path / "server")
    context.load_cert_chain(server.certificate, server.key)

    def answer(store: Store) -> bytes:
        whole = response(store.message_id, 0x0000)
        return whole[:9] if store.number == 1 else whole

    async with clinic(database_url, tmp_path) as here:
        with raw_peer(answer, context=context) as peer:
            named = Push(tls=PushTLS(server_name="localhost"))
            await here.configure(entity(peer.port, push=named, timeouts=Timeouts(dimse_response_s=1)))
            delivery = await here.enqueue(*await here.store(*ct_study("s1", 1)))
            async with here.worker(secrets=secrets_of(authority, tmp_path)):
                await reaches(here, delivery, "RETRY")
                assert (await why(here, delivery))[1] == "BROKEN: SINK gave no status for an instance"
                await here.retry_now()
                await reaches(here, delivery, "COMPLETED")
            assert len(peer.stores) == 2


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A folder with a CA and two identities of it: ``server`` (for localhost) and ``client``."""
    return Authority.make(tmp_path_factory.mktemp("tls") / "authority")


def secrets_of(authority: Authority, folder: Path) -> Path:
    """Lay out the workers' identity as secrets are laid out locally."""
    authority.issue(folder / "secrets" / "aegate-client", "client")
    return folder / "secrets"


async def test_push_over_tls_with_client_certificate(
    database_url: str, tmp_path: Path, authority: Authority
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server = authority.issue(tmp_path / "server")
    context.load_cert_chain(server.certificate, server.key)
    context.load_verify_locations(server.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    seen: list[str] = []

    def store(event: evt.Event) -> int:
        seen.append(str(event.assoc.dul.socket.socket.version()))
        return 0x0000

    async with clinic(database_url, tmp_path) as here:
        with receiver(store, context=context) as port:
            secrets = secrets_of(authority, tmp_path)
            # The node is an address; the certificate is for localhost.
            await here.configure(entity(port, push=Push(tls=PushTLS())))
            delivery = await here.enqueue(*await here.store(*ct_study("s1", 2)))
            async with here.worker(secrets=secrets):
                await breaker_is(here, "OPEN")
                assert seen == []
                named = Push(tls=PushTLS(server_name="localhost"))
                await here.configure(entity(port, push=named))
                await here.probe_now()
                await reaches(here, delivery, "COMPLETED")
            assert seen == ["TLSv1.3", "TLSv1.3"]
            unchecked = Push(tls=PushTLS(verify_hostname=False))
            await here.configure(entity(port, push=unchecked))
            second = await here.enqueue(*await here.store(*ct_study("s2", 1)))
            async with here.worker(secrets=secrets):
                await reaches(here, second, "COMPLETED")


async def test_push_over_tls_without_identity_waits_and_says_why(database_url: str, tmp_path: Path) -> None:
    async with clinic(database_url, tmp_path) as here:
        with receiver(lambda event: 0x0000) as port:
            await here.configure(entity(port, push=Push(tls=PushTLS())))
            delivery = await here.enqueue(*await here.store(*ct_study("s1", 1)))
            async with here.worker():
                await breaker_is(here, "OPEN")
                code, text = await why(here, delivery)
                assert code is NotMovingCode.BREAKER_OPEN
                assert "secret aegate-client" in text
                async with here.db.transaction() as tx:
                    done = await deliveries.cancel(tx, [delivery], actor="ann", now=datetime.now(UTC))
                    assert done.done == (delivery,)
