"""A batch has the outcomes of its members one by one, with one lookup in each list."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohort_flywheel.common.sqlite import MAX_VALUES
from cohort_flywheel.config.cohorts import Consent
from cohort_flywheel.config.data_schema import DataSchema
from cohort_flywheel.segment.contact_batches import Asked, classify_batch
from cohort_flywheel.segment.contacts import classify_member
from cohort_flywheel.segment.do_not_contact_store import add_to_list, find_listed, make_list
from cohort_flywheel.segment.members import Member

CONSENT = Consent(attribute="emailConsent", opted_in=["yes"], opted_out=["no"], silence="opted_out")
RULE = partial(classify_member, columns=DataSchema().name_columns, score_column=None, consent=CONSENT)
#: Each member may be named by its playerId, which may be an address, and by its address.
PLAYERS = ("ann", "Bob", "cyd@example.com", " dan ")
ADDRESSES = ("ann@example.com", "BOB@example.com", "not an address", "")

records = st.none() | st.fixed_dictionaries(
    {"email": st.sampled_from(ADDRESSES), "emailConsent": st.sampled_from(["yes", "no"])}
)
texts = st.frozensets(st.sampled_from([*PLAYERS, *ADDRESSES, "bob", "bob@example.com", "dan"]))
reasons = st.dictionaries(
    st.tuples(st.sampled_from(["address", "player"]), st.sampled_from([*PLAYERS, *ADDRESSES])),
    st.sampled_from(["bounced", "complained"]),
)


@given(st.dictionaries(st.sampled_from(PLAYERS), records), texts, reasons)
def test_a_batch_has_the_outcomes_of_its_members(
    found: dict[str, dict[str, str] | None], listed: frozenset[str], suppressed: dict[Asked, str]
) -> None:
    batch = [(Member(player, 3), record) for player, record in found.items()]
    alone = [
        RULE(member, record, do_not_contact=listed.__contains__, suppressed=lambda *each: suppressed.get(each))
        for member, record in batch
    ]
    assert classify_batch(batch, RULE, listed.intersection, lambda asked: {
        each: suppressed[each] for each in asked if each in suppressed
    }) == alone  # fmt: skip
    if not listed and not suppressed:
        assert classify_batch(batch, RULE, None, None) == alone


@pytest.mark.parametrize("entries", [set[str](), {"ann"}])
def test_each_list_is_asked_once(entries: set[str]) -> None:
    calls: list[int] = []

    def find(asked: Sequence[str]) -> set[str]:
        calls.append(len(asked))
        return entries.intersection(asked)

    def find_suppressed(asked: Sequence[Asked]) -> dict[Asked, str]:
        calls.append(len(asked))
        return {}

    record = {"email": "one@example.com", "emailConsent": "yes"}
    batch = [(Member(player, 3), record) for player in ("ann", "bob")]
    classify_batch(batch, RULE, find, find_suppressed)
    assert len(calls) == 2


def test_listed_texts_are_found_among_many() -> None:
    with closing(sqlite3.connect(":memory:")) as listed:
        make_list(listed, "entry")
        add_to_list(listed, "entry", map(str, range(0, 3 * MAX_VALUES, 2)))
        assert find_listed("entry", map(str, range(2 * MAX_VALUES)), listed) == set(
            map(str, range(0, 2 * MAX_VALUES, 2))
        )
        assert find_listed("entry", ["1", "'", "\0"], listed) == find_listed("entry", [], listed) == set()
