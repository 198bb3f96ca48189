"""Names come from the run alone, and two runs never share one."""

import re
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from cohort_flywheel import names

AS_OF = datetime(2026, 11, 22, tzinfo=UTC)


def test_the_names_of_a_run() -> None:
    name = names.run_name("ea_atrisk", 2, AS_OF)
    assert name == "ea_atrisk_2_2026-11-22_00-00-00"
    assert names.extract_key(name) == "export/ea_atrisk_2_2026-11-22_00-00-00.json"
    assert names.rejects_key(name) == "rejects/ea_atrisk_2_2026-11-22_00-00-00.csv"
    assert names.report_folder(name) == "reports/ea_atrisk_2_2026-11-22_00-00-00/"
    assert names.segment_file_name(name, "0123456789abcdef" * 4) == f"{name}_0123456789abcdef.csv"


def test_a_threshold_below_zero_keeps_its_sign() -> None:
    assert names.run_name("ea_reputation", -75, AS_OF) == "ea_reputation_-75_2026-11-22_00-00-00"


def test_the_name_speaks_utc() -> None:
    in_berlin = AS_OF.astimezone(timezone(timedelta(hours=1)))
    assert names.run_name("ea_atrisk", 2, in_berlin) == names.run_name("ea_atrisk", 2, AS_OF)


def test_other_bytes_have_another_file_name() -> None:
    assert names.segment_file_name("n", "a" * 64) != names.segment_file_name("n", "b" * 64)


cohorts = st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True)
runs = st.tuples(
    cohorts,
    st.integers(-1000, 1000),
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)).map(lambda d: d.replace(microsecond=0, tzinfo=UTC)),
)


@given(runs, runs)
def test_two_runs_share_a_name_only_if_they_are_one(
    one: tuple[str, int, datetime], other: tuple[str, int, datetime]
) -> None:
    assert (names.run_name(*one) == names.run_name(*other)) == (one == other)


def test_a_report_is_a_file_name_that_s3_has_no_qualms_about() -> None:
    assert names.report_file_name("manual__2026-11-22T15:00:00+00:00") == "manual__2026-11-22T15_00_00_00_00.json"
    assert re.fullmatch(r"[\w.-]+", names.report_file_name("a/../b c:ü"))


def test_an_endpoint_id_is_the_same_every_day() -> None:
    """Another Id would make a second endpoint of every player, with an opt-out of its own."""
    assert names.endpoint_id("EMAIL", "wayne96") == "00661730a5dbe43d5c8627deb43cd59b"


@given(st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text()))
def test_an_endpoint_id_is_one_players_on_one_channel(one: tuple[str, str], other: tuple[str, str]) -> None:
    ids = [names.endpoint_id(channel.replace("\0", ""), player) for channel, player in (one, other)]
    same = (one[0].replace("\0", ""), one[1]) == (other[0].replace("\0", ""), other[1])
    assert (ids[0] == ids[1]) == same


@given(st.text(min_size=3))
def test_an_endpoint_id_tells_nobody_who_the_player_is(player: str) -> None:
    endpoint = names.endpoint_id("EMAIL", player)
    assert re.fullmatch(r"[0-9a-f]{32}", endpoint)
    assert player == endpoint or player not in endpoint or re.fullmatch(r"[0-9a-f]{3,}", player)
