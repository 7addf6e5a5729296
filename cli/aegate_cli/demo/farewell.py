"""What the demo offers to somebody who stays: where everything is, and three things to try."""

from __future__ import annotations

from aegate_cli.demo.scene import Scene
from aegate_core.health import read_state


def invitation(scene: Scene, token: str) -> str:
    """Return the text."""
    http = f"http://127.0.0.1:{scene.ports['http']}"
    said = read_state(scene.data / "run" / "up.state")
    health = f"http://127.0.0.1:{said.health_port}" if said else http
    return f"""
It stays up until Ctrl-C.

  GraphiQL  {http}/graphiql
  Health    {health}/readyz   Metrics {health}/metrics
  Token     {token}
            in GraphiQL under Headers: {{"Authorization": "Bearer {token}"}}
  Log       {scene.log}

Three things to try
  1. Send a study of your own, as the CT of the emergency department:
     .venv/bin/aegate send 127.0.0.1:{scene.ports["shared"]} FOLDER --calling CT_ER --called AEGATE
  2. Hold a destination and ask why its items do not move (in GraphiQL; take the id from the first query):
     {{ destinations {{ nodes {{ id ae breaker }} }} }}
     mutation {{ holdDestination(id: "…", reason: "lunch") {{ __typename }} }}
     {{ queueItems {{ nodes {{ state destinationAe whyNotMoving {{ text nextStep }} }} }} }}
  3. Change a file and watch it take effect within two seconds, with no association cut:
     {scene.hospital}/ct-er.yaml, for example quietPeriodSeconds: 10; then
     {{ applicationEntities {{ nodes {{ name conditions {{ type status reason message }} }} }} }}
"""
