"""What the demo offers to somebody who stays: where everything is, and three things to try."""

from __future__ import annotations

from pathlib import Path

from aegate_cli.demo.scene import Scene
from aegate_core.health import read_state

SPARE_SLICES_A_SERIES = 5


def make_spare_studies(folder: Path) -> tuple[Path, Path]:
    """Write two small CT studies that nobody has sent yet, for somebody to send; return their folders."""
    # numpy and pydicom come in at the end, when nobody waits for a start any more.
    from aegate_cli.demo.objects import ct_study

    folders = (folder / "first", folder / "second")
    for study in folders:
        study.mkdir(parents=True)
        for number, ds in enumerate(ct_study(SPARE_SLICES_A_SERIES), 1):
            ds.save_as(study / f"{number:02}.dcm", enforce_file_format=True)
    return folders


def invitation(scene: Scene, token: str, *, pacs_id: str, spare: tuple[Path, Path]) -> str:
    """Return the text; ``pacs_id`` is the id of the PACS as a destination, ``spare`` two studies to send."""
    http = f"http://127.0.0.1:{scene.ports['http']}"
    said = read_state(scene.data / "run" / "up.state")
    health = f"http://127.0.0.1:{said.health_port}" if said else http
    send = f".venv/bin/aegate send 127.0.0.1:{scene.ports['shared']} {{}} --calling CT_ER --called AEGATE"
    return f"""
It stays up until Ctrl-C.

  GraphiQL  {http}/graphiql
  Health    {health}/readyz   Metrics {health}/metrics
  Token     {token}
            in GraphiQL: enter it at the top
  Queue     .venv/bin/aegate queue list --data {scene.data}
  Log       {scene.log}

Three things to try
  1. Send a study, this one or a folder of your own, as the CT of the emergency department, and look where it is:
     {send.format(spare[0])}
     {{ studies(first: 1) {{ nodes {{ modalities instanceCount closeUnits {{ closedAt outcome }} }} }} }}
  2. Hold the PACS, send another study, and ask why it does not move (in GraphiQL; resumeDestination lets it go):
     mutation {{ holdDestination(id: "{pacs_id}", reason: "lunch") {{ __typename }} }}
     {send.format(spare[1])}
     {{ queueItems {{ nodes {{ state destinationAe whyNotMoving {{ text nextStep }} }} }} }}
  3. Change a file and watch it take effect within two seconds, with no association cut:
     {scene.hospital}/ct-er.yaml, for example quietPeriodSeconds: 10; then
     {{ applicationEntities {{ nodes {{ name generation spec conditions {{ type status reason }} }} }} }}
"""
