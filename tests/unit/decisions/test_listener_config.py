"""Which listeners a set of ApplicationEntities asks for, and that their configuration survives its JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aegate_core.decisions.listener_config import (
    ListenerConfig,
    ListenerDefaults,
    ListenerEntity,
    NotUnderstood,
    TLSFiles,
    entities_from_json,
    entities_to_json,
    listener_configs,
)
from aegate_core.dicom.ae_title import AETitle
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.errors import InvalidInput
from aegate_core.resources.values import (
    Ability,
    ApplicationEntity,
    Listener,
    ListenerMode,
    ListenerTLS,
    Metadata,
    Timeouts,
)

DEFAULTS = ListenerDefaults(spool="/data/spool", secrets="/secrets")


def entity(name: str, **values: Any) -> ApplicationEntity:
    key = ResourceKey("default", name)
    return ApplicationEntity(Metadata(key), AETitle(name.upper()), node="10.0.0.7", port=104, **values)


def names(configs: tuple[ListenerConfig, ...]) -> list[tuple[str, int, list[str]]]:
    return [(c.name, c.port, [e.ae.name for e in c.entities]) for c in configs]


def test_aes_without_a_port_share_one_listener() -> None:
    shared = Listener(mode=ListenerMode.SHARED)

    configs = listener_configs([entity("us1", listener=shared), entity("ct1")], DEFAULTS)

    assert names(configs) == [("shared", 11112, ["ct1", "us1"])]


def test_shared_listener_is_there_without_any_ae() -> None:
    assert names(listener_configs([], DEFAULTS)) == [("shared", 11112, [])]


def test_ae_with_a_listener_port_has_a_listener_of_its_own() -> None:
    configs = listener_configs([entity("ct1"), entity("us1", listener=Listener(port=11113))], DEFAULTS)

    assert names(configs) == [("shared", 11112, ["ct1"]), ("port-11113", 11113, ["us1"])]


def test_aes_of_one_listener_port_share_it_unless_their_tls_differs() -> None:
    tls = ListenerTLS("ct-identity")
    aes = [
        entity("a", listener=Listener(port=2762, tls=tls)),
        entity("b", listener=Listener(port=2762, tls=tls)),
        entity("c", listener=Listener(port=2762, tls=ListenerTLS("other"))),
    ]

    configs = listener_configs(aes, DEFAULTS)

    assert names(configs)[1:] == [("port-2762", 2762, ["a", "b"]), ("port-2762-2", 2762, ["c"])]


def test_ae_with_tls_never_shares_the_plain_port() -> None:
    tls = ListenerTLS("ct-identity", client_auth="Request", ca_secret_name="hospital-ca")

    _, config = listener_configs([entity("ct1", listener=Listener(tls=tls))], DEFAULTS)

    assert (config.port, config.tls) == (
        2762,
        TLSFiles(
            "/secrets/ct-identity/tls.crt",
            "/secrets/ct-identity/tls.key",
            "/secrets/hospital-ca/ca.crt",
            "Request",
        ),
    )


def test_listener_port_that_is_the_shared_one_joins_it() -> None:
    configs = listener_configs([entity("ct1", listener=Listener(port=11112)), entity("us1")], DEFAULTS)

    assert names(configs) == [("shared", 11112, ["ct1", "us1"])]


@pytest.mark.parametrize(
    "values",
    [
        {"enabled": False},
        {"ability": Ability.PRINT},
        {"listener": Listener(mode=ListenerMode.NONE)},
    ],
)
def test_ae_that_may_not_call_is_in_no_listener(values: dict[str, Any]) -> None:
    assert names(listener_configs([entity("ct1", **values)], DEFAULTS)) == [("shared", 11112, [])]


def test_printer_may_call_when_its_listener_mode_says_so() -> None:
    printer = entity("lp1", ability=Ability.PRINT, listener=Listener(mode=ListenerMode.SHARED))

    assert names(listener_configs([printer], DEFAULTS)) == [("shared", 11112, ["lp1"])]


def test_everything_that_a_listener_asks_comes_from_the_spec() -> None:
    listener = Listener(
        max_associations=3,
        verify_called_title=True,
        verify_node=False,
        called_title=AETitle("ARCHIVE"),
        longest_association_s=600,
        extra_sop_classes=("1.2.3",),
    )
    ae = entity(
        "ct1",
        listener=listener,
        source_ranges=("10.0.0.0/24",),
        timeouts=Timeouts(acse_s=5, network_idle_s=60),
    )

    ((found,),) = [c.entities for c in listener_configs([ae], DEFAULTS)]

    assert found == ListenerEntity(
        ae=ResourceKey("default", "ct1"),
        title=AETitle("CT1"),
        node="10.0.0.7",
        called_title=AETitle("ARCHIVE"),
        source_ranges=("10.0.0.0/24",),
        verify_node=False,
        verify_called_title=True,
        max_associations=3,
        longest_association_s=600,
        extra_sop_classes=("1.2.3",),
        acse_timeout_s=5,
        network_idle_s=60,
    )


@pytest.mark.parametrize(
    ("acknowledge", "dimse_response_s", "expected"),
    [("Spooled", 120, None), ("Indexed", 120, 30), ("Indexed", 12, 12)],
)
def test_indexed_waits_as_long_as_the_installation_and_the_device_allow(
    acknowledge: str, dimse_response_s: int, expected: int | None
) -> None:
    ae = entity(
        "ct1",
        listener=Listener(acknowledge=acknowledge),
        timeouts=Timeouts(dimse_response_s=dimse_response_s),
    )

    ((found,),) = [c.entities for c in listener_configs([ae], DEFAULTS)]

    assert found.index_wait_s == expected


def test_called_title_is_the_installations_unless_the_ae_names_one() -> None:
    defaults = ListenerDefaults(spool="/s", secrets="/c", called_title=AETitle("GATE"))

    ((found,),) = [c.entities for c in listener_configs([entity("ct1")], defaults)]

    assert found.called_title == AETitle("GATE")


def test_configuration_survives_its_json() -> None:
    tls = Listener(port=2762, tls=ListenerTLS("id"), extra_sop_classes=("1.2.3",))
    configs = listener_configs(
        [entity("ct1"), entity("us1", listener=tls, source_ranges=("10.0.0.0/8",))], DEFAULTS, generation=7
    )

    assert [ListenerConfig.from_json(c.to_json()) for c in configs] == list(configs)
    assert [c.generation for c in configs] == [7, 7]


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.pop("entities"),
        lambda values: values.update(port=70000),
        lambda values: values.update(port="many"),
        lambda values: values.update(spool=""),
        lambda values: values["entities"][0].update(title="SEVENTEEN_LETTERS"),
        lambda values: values["entities"][0].update(ae="ct1"),
        lambda values: values["entities"][0].pop("node"),
        lambda values: values.update(tls={"certificate": "a"}),
        lambda values: values.update(tls={"certificate": "a", "key": "b", "ca": "c", "client_auth": "Maybe"}),
    ],
)
def test_other_configuration_is_refused_whole(change: Any) -> None:
    (config,) = listener_configs([entity("ct1")], DEFAULTS)
    values = json.loads(config.to_json())
    change(values)

    with pytest.raises(InvalidInput):
        ListenerConfig.from_json(json.dumps(values))


def test_fields_that_a_newer_operator_writes_are_passed_over_and_named() -> None:
    tls = Listener(port=2762, tls=ListenerTLS("id"))
    _, config = listener_configs([entity("ct1", listener=tls)], DEFAULTS)
    values = json.loads(config.to_json())
    values["later"] = 1
    values["entities"][0]["newest"] = {"a": [1]}
    values["tls"]["pinned"] = "x"
    unknown: list[str] = []

    assert ListenerConfig.from_json(json.dumps(values), unknown=unknown.append) == config
    assert sorted(unknown) == ["later", "newest", "pinned"]


def test_line_that_a_newer_operator_wrote_keeps_no_other_line_out() -> None:
    (config,) = listener_configs([entity("ct1"), entity("mr1")], DEFAULTS)
    lines = json.loads(entities_to_json(config.entities))
    lines[1]["newest"] = True
    unknown: list[str] = []

    assert entities_from_json(json.dumps(lines), unknown=unknown.append) == config.entities
    assert unknown == ["newest"]


@pytest.mark.parametrize(
    "place",
    [lambda values: values, lambda values: values["entities"][0], lambda values: values["tls"]],
    ids=["configuration", "AE", "tls"],
)
def test_unknown_field_that_narrows_who_may_send_is_not_passed_over(place: Any) -> None:
    tls = Listener(port=2762, tls=ListenerTLS("id"))
    _, config = listener_configs([entity("ct1", listener=tls)], DEFAULTS)
    values = json.loads(config.to_json())
    place(values).update(must_know=["allowed_hours"], allowed_hours="8-18")

    with pytest.raises(NotUnderstood, match="got allowed_hours of a newer one: the last good one stays"):
        ListenerConfig.from_json(json.dumps(values))


def test_field_that_narrows_who_may_send_and_is_known_is_no_news() -> None:
    (config,) = listener_configs([entity("ct1")], DEFAULTS)
    lines = [
        line | {"must_know": ["source_ranges"]} for line in json.loads(entities_to_json(config.entities))
    ]
    unknown: list[str] = []

    assert entities_from_json(json.dumps(lines), unknown=unknown.append) == config.entities
    assert unknown == []
    lines[0]["must_know"].append("allowed_hours")
    with pytest.raises(NotUnderstood):
        entities_from_json(json.dumps(lines))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7"])
def test_text_that_is_no_configuration_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        ListenerConfig.from_json(text)
