"""Record the corpus anew: ``python -m tests.proofs.fuzzing.record``. Real programs talk through a relay that listens.

dcmtk's and pynetdicom's senders and ours call our listener, and ours calls dcmtk's, pynetdicom's and our own receiver.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pynetdicom import AE, build_context, evt
from pynetdicom.sop_class import CTImageStorage, MRImageStorage, Verification

from tests import dicom
from tests.integration.peers import run_dcmtk, store_scp
from tests.integration.scp.listeners import running_listener
from tests.proofs.fuzzing.calling import CONTEXTS, call_as_worker, call_by_files, probe
from tests.proofs.fuzzing.conversations import CORPUS, HEADER, Conversation, save
from tests.state_table import Role

Lines = list[tuple[Role, bytes]]


@contextmanager
def relay(port: int, lines: Lines) -> Iterator[int]:
    """Pass connections on to ``port`` and note every PDU; yield the port to call."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    near, _ = server.accept()
                    far = socket.create_connection(("127.0.0.1", port))
                    back = threading.Thread(target=_pass_on, args=(far, near, Role.ACCEPTOR, lines))
                    back.start()
                    _pass_on(near, far, Role.REQUESTOR, lines)
                    back.join()
                    near.close()
                    far.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def _pass_on(source: socket.socket, target: socket.socket, role: Role, lines: Lines) -> None:
    with contextlib.suppress(OSError), source.makefile("rb") as stream:
        while header := stream.read(HEADER.size):
            pdu = header + stream.read(HEADER.unpack(header)[2])
            lines.append((role, pdu))
            target.sendall(pdu)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def record(name: str, port: int, call: Callable[[int], object]) -> None:
    """Record what is said while ``call`` talks to ``port``."""
    lines: Lines = []
    with relay(port, lines) as near:
        call(near)
    path = save(Conversation(name, tuple(lines)))
    print(f"{path.name}: {len(lines)} PDUs, {sum(len(p) for _, p in lines)} bytes")


def objects(folder: Path) -> list[Path]:
    """Return the generated files that all senders send: two small CTs, one MR that needs several fragments."""
    wide = dicom.Instance(study="wide", rows=64, columns=64, transfer_syntax=dicom.ImplicitVRLittleEndian)
    made = [*dicom.ct_study("fuzz", 2), dicom.mr(wide)]
    return [dicom.write(ds, folder / f"{n}.dcm") for n, ds in enumerate(made)]


def _by_pynetdicom(port: int, files: Sequence[Path]) -> None:
    ae = AE(ae_title="CT1")
    contexts = [build_context(CTImageStorage), build_context(MRImageStorage), build_context(Verification)]
    assoc = ae.associate("127.0.0.1", port, contexts=contexts, ae_title="AEGATE", max_pdu=4096)
    assoc.send_c_echo()
    for path in files:
        assoc.send_c_store(path)
    assoc.send_c_echo()
    assoc.release()


@contextmanager
def _pynetdicom_receiver() -> Iterator[int]:
    ae = AE(ae_title="SINK")
    ae.supported_contexts = [build_context(c, s) for c, s in CONTEXTS]
    ae.maximum_pdu_size = 1024
    handlers = [(evt.EVT_C_STORE, lambda event: 0xB000 if event.message_id == 2 else 0x0000)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    yield int(server.socket.getsockname()[1])
    server.shutdown()


def _to_our_listener(folder: Path, files: list[Path]) -> None:
    def dcmtk(program: str, *options: str | Path) -> Callable[[int], object]:
        def call(port: int) -> None:
            # Options, then whom to call, then the files.
            at = options.index("--") if "--" in options else len(options)
            titles = ("-aet", "CT1", "-aec", "AEGATE")
            run_dcmtk(program, *titles, *options[:at], "127.0.0.1", str(port), *options[at + 1 :])

        return call

    with running_listener(folder) as listener:
        record("echoscu", listener.port, dcmtk("echoscu", "--repeat", "2"))
        record("storescu", listener.port, dcmtk("storescu", "-R", "--", *files))
        short = ("-R", "-pdu", "4096", "--max-send-pdu", "4096")
        record("storescu-short-pdus", listener.port, dcmtk("storescu", *short, "--", *files))
        record("storescu-abort", listener.port, dcmtk("storescu", "-R", "--abort", "--", files[0]))
        record("findscu-no-context", listener.port, dcmtk("findscu", "-W", "-k", "0010,0010"))
        record(
            "stranger", listener.port, lambda p: run_dcmtk("echoscu", "-aet", "NOBODY", "127.0.0.1", str(p))
        )
        record("pynetdicom", listener.port, lambda port: _by_pynetdicom(port, files))
        record("files-to-listener", listener.port, lambda port: call_by_files(port, files, calling="CT1"))
        record("worker-to-listener", listener.port, lambda port: call_as_worker(port, files, calling="CT1"))


def main() -> int:
    """Record all."""
    CORPUS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="aegate-record-") as name:
        folder = Path(name)
        files = objects(folder)
        _to_our_listener(folder, files)
        with store_scp(folder, title="SINK") as scp:
            record("files-to-storescp", scp.port, lambda port: call_by_files(port, files))
            record("worker-to-storescp", scp.port, lambda port: call_as_worker(port, files))
            record("probe-to-storescp", scp.port, probe)
        for refusal in ("--refuse", "--abort-after", "--abort-during"):
            with store_scp(folder, title="SINK", options=("+xa", refusal)) as scp:
                record(f"files-{refusal.strip('-')}", scp.port, lambda port: call_by_files(port, files))
        with _pynetdicom_receiver() as port:
            record("files-to-pynetdicom", port, lambda near: call_by_files(near, files))
            record("worker-to-pynetdicom", port, lambda near: call_as_worker(near, files))
    return 0


if __name__ == "__main__":
    sys.exit(main())
