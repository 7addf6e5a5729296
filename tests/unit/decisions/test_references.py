"""Conditions that need all resources at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegate_core.decisions.neighbours import Neighbours
from aegate_core.decisions.references import Surroundings, decide_conditions
from aegate_core.dicom.ae_title import AETitle
from aegate_core.dicom.identifiers import ResourceKey
from aegate_core.resources.conditions import Condition, ConditionType, Reason, Status
from aegate_core.resources.reference import ResourceRef, ref_of
from aegate_core.resources.values import ApplicationEntity, Resource
from tests.unit.resources.builders import ae, manifest, partition, resource, route

PACS = resource(ae("pacs"))
CT = resource(ae("ct1"), labels={"department": "er"})


def entity(
    name: str, title: str, *, uid: str = "", created_at: str = "", namespace: str = "default"
) -> ApplicationEntity:
    """An AE with what decides who owns a title."""
    value = ae(name, title=title)
    value["metadata"] = {"name": name, "namespace": namespace}
    found = resource(value, uid=uid, created_at=created_at)
    assert isinstance(found, ApplicationEntity)
    return found


def of(
    wanted: Resource, *others: Resource, surroundings: Surroundings | None = None
) -> dict[ConditionType, Condition]:
    """The conditions of the first resource among all."""
    decided = decide_conditions([wanted, *others], surroundings or Surroundings())
    return {condition.type: condition for condition in decided[ref_of(wanted)]}


def statuses(conditions: dict[ConditionType, Condition]) -> list[tuple[str, str]]:
    """Status and reason of Accepted, ResolvedRefs and Ready."""
    types = (ConditionType.ACCEPTED, ConditionType.RESOLVED_REFS, ConditionType.READY)
    return [(conditions[t].status.value, conditions[t].reason.value) for t in types]


GOOD = [("True", "Accepted"), ("True", "ResolvedRefs"), ("True", "Ready")]


@pytest.mark.parametrize("good", [CT, resource(partition()), resource(route(source={"aes": ["ct1"]}))])
def test_nothing_wrong(good: Resource) -> None:
    conditions = of(good, *[r for r in (PACS, CT) if ref_of(r) != ref_of(good)])
    assert statuses(conditions) == GOOD
    assert {c.observed_generation for c in conditions.values()} == {1}
    assert ConditionType.STALLED not in conditions
    assert ConditionType.RECONCILING not in conditions


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (ae(enabled=False), Reason.DISABLED),
        (ae(suspend=True), Reason.SUSPENDED),
        (route(enabled=False), Reason.DISABLED),
        (ae(enabled=False, ability="Print"), Reason.DISABLED),
    ],
)
def test_what_is_off_on_purpose_is_healthy(value: dict[str, object], reason: Reason) -> None:
    ready = of(resource(value), PACS)[ConditionType.READY]
    assert (ready.status, ready.reason) == (Status.TRUE, reason)


class TestTitles:
    def test_accepted_one_keeps_its_title(self) -> None:
        old, new = entity("a", "CT#1", created_at="2020"), entity("b", "ct#1", created_at="2010")
        surroundings = Surroundings(accepted=frozenset([old.key]))
        assert statuses(of(old, new, surroundings=surroundings)) == GOOD
        refused = of(new, old, surroundings=surroundings)
        assert statuses(refused) == [
            ("False", "TitleConflict"),
            ("True", "ResolvedRefs"),
            ("False", "TitleConflict"),
        ]
        assert refused[ConditionType.ACCEPTED].message.startswith("The title ct#1 belongs to default/a ")

    def test_else_the_oldest_has_it(self) -> None:
        old, new = entity("b", "CT#1", created_at="2010"), entity("a", "ct#1", created_at="2020")
        assert Neighbours([new, old]).owner(old.title) is old

    def test_else_the_lowest_uid(self) -> None:
        first, second = entity("b", "CT#1", uid="1"), entity("a", "ct#1", uid="2")
        assert Neighbours([second, first]).owner(first.title) is first

    def test_titles_are_one_over_all_namespaces(self) -> None:
        here, there = entity("ct1", "CT1", uid="1"), entity("ct1", "CT1", uid="2", namespace="other")
        assert of(there, here)[ConditionType.ACCEPTED].reason is Reason.TITLE_CONFLICT

    def test_suspended_owner_keeps_it(self) -> None:
        owner = resource(ae("a", title="CT#1", suspend=True), uid="1")
        new = entity("b", "ct#1", uid="2")
        assert of(new, owner)[ConditionType.ACCEPTED].reason is Reason.TITLE_CONFLICT

    def test_next_one_is_taken_up_when_the_owner_goes(self) -> None:
        assert statuses(of(entity("b", "ct#1"))) == GOOD

    def test_route_to_a_refused_one_says_so(self) -> None:
        owner, refused = entity("a", "CT#1", uid="1"), entity("b", "ct#1", uid="2")
        refs = of(resource(route(to=["b"])), owner, refused)[ConditionType.RESOLVED_REFS]
        assert (refs.status, refs.reason) == (Status.FALSE, Reason.TITLE_CONFLICT)

    @given(
        st.permutations(
            [
                entity(n, "CT#1", uid=u, created_at=c)
                for n, u, c in [("a", "1", "2"), ("b", "2", "1"), ("c", "0", "2")]
            ]
        )
    )
    def test_order_does_not_matter(self, entities: list[ApplicationEntity]) -> None:
        owner = Neighbours(entities).owner(AETitle("ct#1"))
        assert owner is not None
        assert owner.key.name == "b"


class TestEntities:
    def test_unknown_partition_blocks(self) -> None:
        conditions = of(resource(ae(patientPartition="imaging")))
        assert statuses(conditions) == [
            ("True", "Accepted"),
            ("False", "PartitionNotFound"),
            ("False", "PartitionNotFound"),
        ]
        assert "still taken" in conditions[ConditionType.READY].message

    def test_partition_of_another_namespace_is_none(self) -> None:
        value = partition("imaging")
        value["metadata"] = {"name": "imaging", "namespace": "other"}
        refs = of(resource(ae(patientPartition="imaging")), resource(value))[ConditionType.RESOLVED_REFS]
        assert refs.reason is Reason.PARTITION_NOT_FOUND

    def test_known_partition(self) -> None:
        assert statuses(of(resource(ae(patientPartition="p1")), resource(partition("p1")))) == GOOD

    def test_unknown_location_leaves_ready_true(self) -> None:
        conditions = of(
            resource(ae(locationCode="ER")), surroundings=Surroundings(locations=frozenset(["RAD"]))
        )
        assert statuses(conditions) == [("True", "Accepted"), ("False", "LocationUnknown"), ("True", "Ready")]

    def test_locations_that_are_not_known_are_not_missed(self) -> None:
        assert statuses(of(resource(ae(locationCode="ER")))) == GOOD

    def test_all_faults_are_in_the_message_and_the_first_gives_the_reason(self) -> None:
        value = ae(
            locationCode="ER",
            patientPartition="x",
            listener={"tls": {"secretName": "s", "caSecretName": "c"}},
        )
        surroundings = Surroundings(locations=frozenset(), secrets=frozenset(["s"]))
        refs = of(resource(value), surroundings=surroundings)[ConditionType.RESOLVED_REFS]
        assert refs.reason is Reason.SECRET_NOT_FOUND
        for words in ("'c'", "'x'", "'ER'"):
            assert words in refs.message

    def test_secrets_that_are_not_known_are_not_missed(self) -> None:
        assert statuses(of(resource(ae(listener={"tls": {"secretName": "s"}})))) == GOOD

    def test_printer_says_that_printing_is_not_there(self) -> None:
        conditions = of(resource(ae(ability="Print")))
        assert statuses(conditions) == [
            ("True", "Accepted"),
            ("True", "ResolvedRefs"),
            ("False", "PrintNotAvailable"),
        ]
        assert "Printing is not there yet" in conditions[ConditionType.READY].message

    def test_iscl_is_recorded_and_refused_with_a_reason(self) -> None:
        ready = of(resource(ae(port=2761)))[ConditionType.READY]
        assert (ready.status, ready.reason) == (Status.FALSE, Reason.ISCL_NOT_SUPPORTED)
        assert "2762 with push.tls" in ready.message

    def test_listener_that_does_not_answer(self) -> None:
        troubles = {CT.key: "Port 104 is taken by another program."}
        ready = of(CT, surroundings=Surroundings(listener_troubles=troubles))[ConditionType.READY]
        assert (ready.reason, ready.message) == (Reason.LISTENER_NOT_READY, troubles[CT.key])

    def test_wrong_newer_manifest_is_stalled_and_stays_ready(self) -> None:
        errors = {ref_of(CT): "ct.yaml:4: spec.port: expected at least 1, got 0"}
        conditions = of(CT, surroundings=Surroundings(errors=errors))
        assert statuses(conditions) == GOOD
        stalled = conditions[ConditionType.STALLED]
        assert (stalled.status, stalled.reason) == (Status.TRUE, Reason.INVALID)
        assert stalled.message == f"{errors[ref_of(CT)]} (generation 1 stays in force)"


class TestRoutes:
    @pytest.mark.parametrize(
        ("spec", "reason", "words", "ready"),
        [
            ({"to": ["pac"]}, Reason.ENTITY_NOT_FOUND, "(did you mean 'pacs'?)", "False"),
            ({"source": {"aes": ["zzz"]}}, Reason.ENTITY_NOT_FOUND, "spec.from.aes names 'zzz'", "False"),
            ({"to": ["other/pacs"]}, Reason.REF_NOT_PERMITTED, "within the namespace", "False"),
            ({"to": ["film"]}, Reason.PRINT_NOT_AVAILABLE, "a printer", "False"),
            ({"source": {"partitions": ["p9"]}}, Reason.PARTITION_NOT_FOUND, "'p9'", "False"),
            ({"source": {"locations": ["XX"]}}, Reason.LOCATION_UNKNOWN, "'XX'", "True"),
            ({"source": {"selector": {"matchLabels": {"a": "b"}}}}, Reason.NOTHING_SELECTED, "(a=b)", "True"),
            (
                {"to": ["ct1"], "source": {"selector": {"matchLabels": {"department": "er"}}}},
                Reason.SOURCE_IS_DESTINATION,
                "'ct1'",
                "False",
            ),
            (
                {"source": {"elements": [{"keyword": "StudyDescripton", "op": "Exists"}]}},
                Reason.KEYWORD_UNKNOWN,
                "(did you mean 'StudyDescription'?)",
                "False",
            ),
        ],
    )
    def test_names_that_lead_nowhere(
        self, spec: dict[str, object], reason: Reason, words: str, ready: str
    ) -> None:
        printer = resource(ae("film", ability="Print"))
        surroundings = Surroundings(locations=frozenset(["ER"]))
        conditions = of(resource(route(**spec)), PACS, CT, printer, surroundings=surroundings)
        refs = conditions[ConditionType.RESOLVED_REFS]
        assert (refs.status, refs.reason) == (Status.FALSE, reason)
        assert words in refs.message
        assert conditions[ConditionType.ACCEPTED].is_true
        assert conditions[ConditionType.READY].status.value == ready

    def test_entities_of_another_namespace_are_not_seen(self) -> None:
        value = manifest("ImageRoute", "r1", {"to": ["pacs"]}, namespace="other")
        assert of(resource(value), PACS)[ConditionType.RESOLVED_REFS].reason is Reason.ENTITY_NOT_FOUND

    def test_selector_narrowed_by_names_does_not_select_the_destination(self) -> None:
        source = {"aes": ["pacs"], "selector": {"matchLabels": {"department": "er"}}}
        assert statuses(of(resource(route(to=["ct1"], source=source)), PACS, CT)) == GOOD

    def test_everything_known(self) -> None:
        source = {
            "aes": ["ct1"],
            "selector": {"matchLabels": {"department": "er"}},
            "partitions": ["default"],
            "locations": ["ER"],
            "elements": [{"keyword": "BodyPartExamined", "op": "Exists"}],
        }
        surroundings = Surroundings(locations=frozenset(["ER"]))
        assert statuses(of(resource(route(source=source)), PACS, CT, surroundings=surroundings)) == GOOD


def test_one_name_in_two_kinds_is_two_resources() -> None:
    entity_, route_ = resource(ae("x")), resource(route("x", to=["x"]))
    assert set(decide_conditions([entity_, route_], Surroundings())) == {
        ResourceRef("ApplicationEntity", ResourceKey("default", "x")),
        ResourceRef("ImageRoute", ResourceKey("default", "x")),
    }
