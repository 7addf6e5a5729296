"""A modality as a process of its own: makes its images, digests them, waits for "send" on standard input, sends them.

What it says on standard output is one JSON object a line: first the digests of all data sets, before anything is sent;
then each acknowledgement.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from aegate_cli.demo.objects import ct_study, ultrasound_study
from aegate_core.dicom.ae_title import AETitle
from aegate_core.dicom.digest import digest_data_set
from aegate_core.dicom.part10 import read_file_meta
from aegate_core.errors import PeerError
from aegate_scu.send import Remote, send_files

STUDIES = {"CT": ct_study, "US": ultrasound_study}


def main(modality: str, folder: Path, host: str, port: int, calling: str) -> int:
    """Make, digest and send one study; return 0 when every instance was acknowledged."""
    paths, digests, study_uid = [], {}, ""
    for number, ds in enumerate(STUDIES[modality](), 1):
        path = folder / f"{modality}-{number:03}.dcm"
        ds.save_as(path, enforce_file_format=True)
        paths.append(path)
        digests[str(ds.SOPInstanceUID)] = data_set_digest(path)
        study_uid = str(ds.StudyInstanceUID)
    say({"made": digests, "study": study_uid})
    if sys.stdin.readline().strip() != "send":
        return 1
    remote = Remote(host, port, AETitle("AEGATE"), AETitle(calling))
    stored = 0
    try:
        for outcome in send_files(paths, remote):
            stored += outcome.is_stored
            say({"sent": outcome.sop_instance_uid, "status": outcome.status, "problem": outcome.problem})
    except PeerError as error:
        say({"sent": "", "status": None, "problem": error.message})
    return 0 if stored == len(paths) else 1


def data_set_digest(path: Path) -> str:
    """Return SHA-256 of the data set's bytes in a Part 10 file."""
    with path.open("rb") as file:
        offset = read_file_meta(file).data_offset
    return digest_data_set(path, offset)


def say(message: dict[str, object]) -> None:
    """Write one line at once."""
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    kind, folder_, host_, port_, calling_ = sys.argv[1:6]
    sys.exit(main(kind, Path(folder_), host_, int(port_), calling_))
