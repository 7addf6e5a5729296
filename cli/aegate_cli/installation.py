"""What one `aegate up` was told, and the processes that follow from it: pure, no process is started here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aegate_cli.ports import Endpoint
from aegate_cli.process import ProcessSpec
from aegate_core.decisions.listener_config import ListenerDefaults
from aegate_core.dicom.ae_title import AETitle
from aegate_core.settings import DataFolder

GRACE_S = 30
"""How long processes may finish what they do after SIGTERM; longer for a listener whose AE says so."""


@dataclass(frozen=True, slots=True)
class Installation:
    """Everything the supervisor must know; made once, from the command line."""

    folder: Path
    """The resources: YAML and JSON; ``secrets/NAME/`` in it."""
    data: DataFolder
    database_url: str
    dicom: Endpoint
    http: Endpoint
    title: AETitle
    workers: int = 1
    restart_max_s: float = 30.0
    grace_s: int = GRACE_S
    way_in: Mapping[str, str] = field(default_factory=dict)
    """The API's environment for TLS; the identity provider's is in ours, which every process inherits."""
    lock_fd: int | None = None
    """Descriptor of the data folder's lock; every process inherits it, so it is held until the last one ends."""

    @property
    def secrets(self) -> Path:
        """Folder of the secrets: ``NAME/tls.crt``, ``tls.key``, ``ca.crt``."""
        return self.folder / "secrets"

    @property
    def tokens(self) -> Path:
        """File of the local tokens' digests."""
        return self.data.run / "tokens.json"

    @property
    def listener_defaults(self) -> ListenerDefaults:
        """What stands in no ApplicationEntity."""
        return ListenerDefaults(
            spool=str(self.data.spool),
            secrets=str(self.secrets),
            host=self.dicom.host,
            shared_port=self.dicom.port,
            called_title=self.title,
            grace_s=self.grace_s,
        )

    def process_spec(self, name: str, module: str, state_name: str = "", **environment: str) -> ProcessSpec:
        """Return how one process is started; all know data folder and database."""
        return ProcessSpec(
            name=name,
            module=module,
            environment={
                "AEGATE_DATA": str(self.data.root),
                "AEGATE_DATABASE_URL": self.database_url,
                **environment,
            },
            state_file=self.data.run / f"{state_name or name}.state",
            inherited_fds=() if self.lock_fd is None else (self.lock_fd,),
        )


def standing_processes(installation: Installation) -> tuple[ProcessSpec, ...]:
    """Return the processes that run whatever the resources say: indexer, workers, API."""
    workers = [
        installation.process_spec(
            "worker" if installation.workers == 1 else f"worker-{n}",
            "aegate_scu",
            AEGATE_CALLING_TITLE=installation.title.value,
            AEGATE_SECRETS=str(installation.secrets),
        )
        for n in range(1, installation.workers + 1)
    ]
    api = installation.process_spec(
        "api",
        "aegate_graphql_api",
        AEGATE_HTTP_LISTEN=str(installation.http),
        AEGATE_TOKENS=str(installation.tokens),
        **installation.way_in,
    )
    return (installation.process_spec("indexer", "aegate_scp.indexer"), *workers, api)
