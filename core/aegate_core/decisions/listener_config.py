"""Which listeners there are, and what each must know: a pure function of the ApplicationEntities.

AEs without a port of their own share one listener; an AE with ``listener.port`` (or with TLS, which no plain
port may serve) gets another. The JSON is what a listener reads, live, from its configuration file; on a
cluster the same from a ConfigMap. Its writer may be newer than its reader: while a cluster is upgraded the old pods are
told by the new operator. A field that the reader does not know is passed over, because to refuse a file would shut out
every AE in it; so a new field must have a default under which an older listener is right. One that narrows who may
send has none: where it is set, its writer names it in ``must_know`` beside it, and a reader that does not know it
refuses the file, and goes on by the last good one.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from aegate_core.dicom.ae_title import AETitle
from aegate_core.dicom.identifiers import ResourceKey, parse_resource_key
from aegate_core.errors import InvalidInput
from aegate_core.resources.values import ApplicationEntity, ListenerMode, ListenerTLS

TLS_PORT = 2762
"""dicom-tls (PS3.8 9.1.1): for an AE with TLS that names no port."""

Unknown = Callable[[str], None]
"""Gets the name of a field that is passed over."""

OUR_TITLE = AETitle("AEGATE")
"""What devices call us when the installation names no title of its own."""


MUST_KNOW = "must_know"
"""Names of fields beside it that narrow who may send: who does not know one of them may not go by the rest."""


class NotUnderstood(InvalidInput):
    """A newer writer narrows who may send by a field that this version does not know."""


@dataclass(frozen=True, slots=True)
class ListenerEntity:
    """One admitted AE, as a listener sees it."""

    ae: ResourceKey
    title: AETitle
    node: str
    called_title: AETitle
    source_ranges: tuple[str, ...] = ()
    """CIDRs it may call from; empty: the node's addresses alone."""
    verify_node: bool = True
    verify_called_title: bool = False
    max_associations: int = 25
    longest_association_s: int | None = None
    """After this an association is aborted; None: never, as long as it is not idle."""
    extra_sop_classes: tuple[str, ...] = ()
    acse_timeout_s: int = 30
    network_idle_s: int = 600
    index_wait_s: int | None = None
    """How long a C-STORE-RSP waits for the indexer to take the object; None: durable in the spool is enough."""


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """Where the listener's identity lies, as PEM; read again when they change."""

    certificate: str
    key: str
    ca: str
    client_auth: str = "Require"
    """None, Request or Require a client certificate signed by ``ca``."""


@dataclass(frozen=True, slots=True)
class ListenerConfig:
    """Everything one listener process must know. What is bound at start: host, port, spool."""

    name: str
    """On one machine ``shared`` or ``port-<port>``, part of a file name; on a cluster the AE, namespace/name."""
    host: str
    port: int
    spool: str
    entities: tuple[ListenerEntity, ...] = ()
    tls: TLSFiles | None = None
    generation: int = 1
    grace_s: int = 30
    """How long open associations may go on after SIGTERM; then A-ABORT."""
    watermark_used_percent: float = 95.0
    watermark_free_bytes: int = 5 * 1024**3
    """Congested when more than that percentage is used and less than these bytes are free."""

    def to_json(self) -> str:
        """Return the configuration as JSON for people to read."""
        values = asdict(self) | {"entities": [_dumped(entity) for entity in self.entities]}
        return json.dumps(values, indent=2)

    @staticmethod
    def from_json(text: str | bytes, *, unknown: Unknown = lambda name: None) -> ListenerConfig:
        """Read what `to_json` wrote; ``unknown`` gets the name of each field that is passed over.

        Raises InvalidInput that says what is wrong.
        """
        try:
            values = json.loads(text)
            tls = TLSFiles(**_known(TLSFiles, values["tls"], unknown)) if values.get("tls") else None
            entities = tuple(_entity(e, unknown) for e in values["entities"])
            config = ListenerConfig(
                **_known(ListenerConfig, values, unknown) | {"entities": entities, "tls": tls}
            )
        except NotUnderstood:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, InvalidInput) as error:
            raise InvalidInput(
                f"listener configuration must be as its writer made it, got {error!r}: write it anew"
            ) from error
        _check(config)
        return config


def entities_to_json(entities: Iterable[ListenerEntity]) -> str:
    """Return AEs of a listener as JSON, an AE a line, so that one edit is one line of a diff."""
    lines = (json.dumps(_dumped(entity), separators=(",", ":")) for entity in entities)
    return "[\n" + ",\n".join(lines) + "\n]\n"


def entities_from_json(
    text: str | bytes, *, unknown: Unknown = lambda name: None
) -> tuple[ListenerEntity, ...]:
    """Read what `entities_to_json` wrote; ``unknown`` gets the name of each field that is passed over.

    Raises InvalidInput that says what is wrong.
    """
    try:
        return tuple(_entity(values, unknown) for values in json.loads(text))
    except NotUnderstood:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, InvalidInput) as error:
        raise InvalidInput(
            f"AEs of a listener must be as their writer made them, got {error!r}: write them anew"
        ) from error


@dataclass(frozen=True, slots=True)
class ListenerDefaults:
    """The installation's own, for what stands in no ApplicationEntity."""

    spool: str
    secrets: str
    """Folder of the secrets: ``NAME/tls.crt``, ``tls.key``, ``ca.crt``."""
    host: str = "0.0.0.0"
    shared_port: int = 11112
    called_title: AETitle = OUR_TITLE
    """What devices call us, for an AE that verifies it and names no ``listener.calledTitle``."""
    grace_s: int = 30
    index_wait_s: int = 30
    """With ``acknowledge: Indexed``, how long a device waits for the indexer; its ``dimseResponseSeconds`` if less."""


def is_admitted(ae: ApplicationEntity) -> bool:
    """Say whether the AE may call us: disabled AEs and those of mode None may not; a printer, if its mode says so."""
    return ae.enabled and ae.listener_mode is not ListenerMode.NONE


def listener_configs(
    entities: Iterable[ApplicationEntity], defaults: ListenerDefaults, *, generation: int = 1
) -> tuple[ListenerConfig, ...]:
    """Return the configuration of every listener, the shared one first and always, then by port.

    AEs with the same ``listener.port`` and the same TLS share it: on one machine it can be bound only once.
    """
    shared = (defaults.shared_port, None)
    groups: dict[tuple[int, ListenerTLS | None], list[ApplicationEntity]] = defaultdict(list, {shared: []})
    for ae in sorted(entities, key=lambda ae: ae.key):
        if is_admitted(ae):
            fallback = TLS_PORT if ae.listener.tls else defaults.shared_port
            groups[ae.listener.port or fallback, ae.listener.tls].append(ae)
    configs: list[ListenerConfig] = []
    for (port, tls), members in sorted(groups.items(), key=lambda g: (g[0] != shared, str(g[0]))):
        configs.append(
            ListenerConfig(
                name=_name(port, configs) if configs else "shared",
                host=defaults.host,
                port=port,
                spool=defaults.spool,
                entities=tuple(listener_entity(ae, defaults) for ae in members),
                tls=_tls_files(tls, defaults.secrets) if tls else None,
                generation=generation,
                grace_s=defaults.grace_s,
            )
        )
    return tuple(configs)


def dedicated_config(ae: ApplicationEntity, defaults: ListenerDefaults, *, generation: int) -> ListenerConfig:
    """Return the configuration of a listener that serves ``ae`` alone, on ``shared_port``.

    Its identity lies in ``identity`` and ``ca`` below the folder of the secrets, whatever their secrets are called.
    """
    tls = ae.listener.tls
    return ListenerConfig(
        name=str(ae.key),
        host=defaults.host,
        port=defaults.shared_port,
        spool=defaults.spool,
        entities=(listener_entity(ae, defaults),),
        tls=_tls_files(ListenerTLS("identity", tls.client_auth, "ca"), defaults.secrets) if tls else None,
        generation=generation,
        grace_s=defaults.grace_s,
    )


def _name(port: int, taken: Iterable[ListenerConfig]) -> str:
    same = sum(1 for config in taken if config.port == port)
    return f"port-{port}" + (f"-{same + 1}" if same else "")


def listener_entity(ae: ApplicationEntity, defaults: ListenerDefaults) -> ListenerEntity:
    """Return an AE as a listener sees it."""
    listener = ae.listener
    return ListenerEntity(
        ae=ae.key,
        title=ae.title,
        node=ae.node,
        called_title=listener.called_title or defaults.called_title,
        source_ranges=ae.source_ranges,
        verify_node=listener.verify_node,
        verify_called_title=listener.verify_called_title,
        max_associations=listener.max_associations,
        longest_association_s=listener.longest_association_s,
        extra_sop_classes=listener.extra_sop_classes,
        acse_timeout_s=ae.timeouts.acse_s,
        network_idle_s=ae.timeouts.network_idle_s,
        index_wait_s=min(defaults.index_wait_s, ae.timeouts.dimse_response_s)
        if listener.acknowledge == "Indexed"
        else None,
    )


def _dumped(entity: ListenerEntity) -> dict[str, Any]:
    named = {"ae": str(entity.ae), "title": entity.title.value, "called_title": entity.called_title.value}
    return asdict(entity) | named


def _tls_files(tls: ListenerTLS, secrets: str) -> TLSFiles:
    own = f"{secrets}/{tls.secret_name}"
    return TLSFiles(
        certificate=f"{own}/tls.crt",
        key=f"{own}/tls.key",
        ca=f"{secrets}/{tls.ca_secret_name or tls.secret_name}/ca.crt",
        client_auth=tls.client_auth,
    )


_FIELDS = {
    kind: frozenset(f.name for f in fields(kind)) for kind in (ListenerConfig, ListenerEntity, TLSFiles)
}


def _known(
    kind: type[ListenerConfig | ListenerEntity | TLSFiles], values: Mapping[str, Any], unknown: Unknown
) -> dict[str, Any]:
    if more := sorted(set(values.get(MUST_KNOW, ())) - _FIELDS[kind]):
        raise NotUnderstood(
            "listener configuration must restrict who may send by what this version knows, got "
            f"{', '.join(more)} of a newer one: the last good one stays; let this listener be of the operator's version"
        )
    for name in values.keys() - _FIELDS[kind] - {MUST_KNOW}:
        unknown(name)
    return {name: value for name, value in values.items() if name in _FIELDS[kind]}


def _entity(values: Mapping[str, Any], unknown: Unknown) -> ListenerEntity:
    return ListenerEntity(
        **_known(ListenerEntity, values, unknown)
        | {
            "ae": parse_resource_key(values["ae"]),
            "title": AETitle(values["title"]),
            "called_title": AETitle(values["called_title"]),
            "source_ranges": tuple(values.get("source_ranges", ())),
            "extra_sop_classes": tuple(values.get("extra_sop_classes", ())),
        }
    )


def _check(config: ListenerConfig) -> None:
    if not isinstance(config.port, int) or not 0 <= config.port <= 65535:
        raise InvalidInput(f"port must be 0 to 65535, got {config.port!r}: mend the listener configuration")
    if not isinstance(config.spool, str) or not config.spool:
        raise InvalidInput("spool must be a folder, got nothing: mend the listener configuration")
    if config.tls and config.tls.client_auth not in ("None", "Request", "Require"):
        raise InvalidInput(f"clientAuth must be None, Request or Require, got {config.tls.client_auth!r}")
