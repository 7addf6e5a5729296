"""Which contexts are proposed, and in which syntax an object goes out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aegate_core.decisions.contexts import (
    DECODABLE,
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLICIT_LE,
    MOST_CONTEXTS,
    NATIVE,
    ObjectKind,
    ProposedContext,
    choose_syntax,
    offers,
    plan_associations,
)

CT, VIDEO, JPEG_LOSSLESS = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.4.102", "1.2.840.10008.1.2.4.70"

kinds = st.builds(
    ObjectKind,
    st.integers(1, 60).map(lambda n: f"1.2.3.{n}"),
    st.sampled_from([*sorted(NATIVE), *sorted(DECODABLE), VIDEO]),
)


def test_native_and_decodable_objects_are_also_offered_in_little_endian() -> None:
    assert offers(EXPLICIT_BE) == (EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE)
    assert offers(EXPLICIT_LE) == (EXPLICIT_LE, IMPLICIT_LE)
    assert offers(IMPLICIT_LE) == (IMPLICIT_LE, EXPLICIT_LE)
    assert offers(JPEG_LOSSLESS) == (JPEG_LOSSLESS, EXPLICIT_LE, IMPLICIT_LE)
    assert offers(VIDEO) == (VIDEO,)


@given(st.lists(kinds, max_size=300))
def test_every_kind_is_offered_once_and_no_association_has_too_many_contexts(
    wanted: list[ObjectKind],
) -> None:
    plan = plan_associations(wanted)
    planned = [kind for association in plan for kind in association.kinds]
    assert sorted(planned) == sorted(set(wanted))
    for association in plan:
        assert len(association.contexts) <= MOST_CONTEXTS
        assert len(set(association.contexts)) == len(association.contexts)
        for kind in association.kinds:
            for syntax in offers(kind.transfer_syntax):
                assert ProposedContext(kind.sop_class, syntax) in association.contexts


def test_few_kinds_share_one_association() -> None:
    plan = plan_associations([ObjectKind(CT, EXPLICIT_LE), ObjectKind(CT, IMPLICIT_LE)])
    assert [sorted(a.contexts) for a in plan] == [
        [ProposedContext(CT, IMPLICIT_LE), ProposedContext(CT, EXPLICIT_LE)]
    ]


@given(kinds, st.sets(st.sampled_from([*sorted(NATIVE), *sorted(DECODABLE), VIDEO])))
def test_own_syntax_comes_first_and_nothing_goes_out_unaccepted(kind: ObjectKind, taken: set[str]) -> None:
    accepted = {ProposedContext(kind.sop_class, syntax) for syntax in taken}
    chosen = choose_syntax(kind, accepted)
    assert chosen is None or chosen in taken
    if kind.transfer_syntax in taken:
        assert chosen == kind.transfer_syntax
    assert (chosen is None) == (not taken & set(offers(kind.transfer_syntax)))
