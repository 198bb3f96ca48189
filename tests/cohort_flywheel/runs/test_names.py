"""Names come from the run alone, and two runs never share one."""

import re
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from cohort_flywheel.config.decimals import read_number
from cohort_flywheel.runs import names

AS_OF = datetime(2026, 11, 22, tzinfo=UTC)


def test_the_names_of_a_run() -> None:
    name = names.run_name("ea_atrisk", 2, AS_OF)
    assert name == "ea_atrisk_2_2026-11-22_00-00-00"
    assert names.extract_key(name) == "export/ea_atrisk_2_2026-11-22_00-00-00.json"
    assert names.rejects_key(name) == "rejects/ea_atrisk_2_2026-11-22_00-00-00.csv"
    assert names.report_folder(name) == "reports/ea_atrisk_2_2026-11-22_00-00-00/"
    assert names.segment_file_name(name, "0123456789abcdef" * 4) == f"{name}_0123456789abcdef.csv"
    assert names.claim_key(name) == "claims/ea_atrisk_2_2026-11-22_00-00-00.json"
    assert names.result_key("ea_atrisk", 2, AS_OF) == "results/ea_atrisk/2/2026-11-22_00-00-00.json"
    partition = "cohort=ea_atrisk/as_of=2026-11-22_00-00-00/"
    assert names.snapshot_key("ea_atrisk", AS_OF) == f"snapshots/{partition}snapshot.parquet"
    assert names.pending_snapshot_key("ea_atrisk", AS_OF, "0123") == f"snapshots_pending/{partition}0123.parquet"
    assert names.as_of_of_folder("as_of=2026-11-22_00-00-00") == AS_OF
    assert [names.as_of_of_folder(name) for name in ("2026-11-22_00-00-00", "as_of=today", "cohort=x")] == [None] * 3


def test_all_names_of_a_live_run_are_marked() -> None:
    live = names.run_name("ea_atrisk", 2, AS_OF, live=True)
    assert live == "ea_atrisk_2_2026-11-22_00-00-00_live"
    for make in (names.extract_key, names.rejects_key, names.report_folder, names.claim_key):
        assert live in make(live)
    assert live in names.segment_file_name(live, "a" * 64)


def test_all_names_of_a_run_of_an_uploaded_extract_have_its_digest() -> None:
    name = names.run_name("ea_atrisk", 2, AS_OF, extract_sha256="0123456789abcdef" * 4)
    assert name == "ea_atrisk_2_2026-11-22_00-00-00_extract_0123456789abcdef"
    assert names.staged_extract_key("staged/", name) == f"staged/{name}.json"


def test_the_days_of_one_cohort_and_threshold_are_not_anothers() -> None:
    """A prefix of S3 ends where its text ends: -7 must not list -75."""
    for longer in (
        names.results_folder("ea", -75),
        names.results_folder("ea_duty", -7),
        names.snapshots_folder("ea_x"),
    ):
        assert not longer.startswith((names.results_folder("ea", -7), names.snapshots_folder("ea")))


def test_a_threshold_below_zero_keeps_its_sign() -> None:
    assert names.run_name("ea_reputation", -75, AS_OF) == "ea_reputation_-75_2026-11-22_00-00-00"


def test_a_threshold_with_decimals_has_a_dot_in_keys_and_none_in_the_name_of_a_segment() -> None:
    name = names.run_name("churn", 0.75, AS_OF)
    assert name == "churn_0.75_2026-11-22_00-00-00"
    folder = names.rejects_folder(names.rejects_key(name), "a" * 64, 5)
    assert folder == "rejects/churn_0.75_2026-11-22_00-00-00/aaaaaaaaaaaaaaaa_5/"
    assert names.result_key("churn", 0.000001, AS_OF) == "results/churn/0.000001/2026-11-22_00-00-00.json"
    assert names.segment_name("churn", 0.75) == "churn_0p75"
    assert names.segment_name("churn", -2.5) == "churn_-2p5"
    assert names.segment_name("churn", 2) == "churn_2"


def test_the_name_is_in_utc() -> None:
    in_berlin = AS_OF.astimezone(timezone(timedelta(hours=1)))
    assert names.run_name("ea_atrisk", 2, in_berlin) == names.run_name("ea_atrisk", 2, AS_OF)


def test_other_bytes_have_another_file_name() -> None:
    assert names.segment_file_name("n", "a" * 64) != names.segment_file_name("n", "b" * 64)


cohorts = st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True)
thresholds = st.integers(-1000, 1000) | st.decimals(-9, 9, places=2).map(lambda n: read_number(float(n)))
runs = st.tuples(
    cohorts,
    thresholds,
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)).map(lambda d: d.replace(microsecond=0, tzinfo=UTC)),
)


@given(runs, runs)
def test_two_runs_share_a_name_only_if_they_are_one(
    one: tuple[str, float, datetime], other: tuple[str, float, datetime]
) -> None:
    assert (names.run_name(*one) == names.run_name(*other)) == (one == other)
    assert (names.segment_name(*one[:2]) == names.segment_name(*other[:2])) == (one[:2] == other[:2])


instants = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)).map(lambda d: d.replace(microsecond=0, tzinfo=UTC))


@given(instants, instants, st.integers(-12, 14))
def test_an_instant_reads_back_and_sorts_as_its_time_does(one: datetime, other: datetime, hours: int) -> None:
    elsewhere = one.astimezone(timezone(timedelta(hours=hours)))
    assert names.from_instant(names.instant(elsewhere)) == one
    assert names.from_instant(names.instant(one)).utcoffset() == timedelta(0)
    assert (names.instant(one) < names.instant(other)) == (one < other)


def test_a_report_file_name_has_only_safe_characters() -> None:
    run_id = "manual__2026-11-22T15:00:00+00:00"
    assert names.report_file_name("daily", run_id) == "daily__manual__2026-11-22T15_00_00_00_00.json"
    assert names.report_file_name("daily", run_id) != names.report_file_name("daily__ea_duty", run_id)
    assert re.fullmatch(r"[\w.-]+", names.report_file_name("daily", "a/../b c:ü"))


def test_an_endpoint_id_is_the_same_every_day() -> None:
    """Another Id would make a second endpoint of every player, with an opt-out of its own."""
    assert names.endpoint_id("EMAIL", "wayne96") == "00661730a5dbe43d5c8627deb43cd59b"


@given(st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text()))
def test_an_endpoint_id_is_one_players_on_one_channel(one: tuple[str, str], other: tuple[str, str]) -> None:
    ids = [names.endpoint_id(channel.replace("\0", ""), player) for channel, player in (one, other)]
    same = (one[0].replace("\0", ""), one[1]) == (other[0].replace("\0", ""), other[1])
    assert (ids[0] == ids[1]) == same


@given(st.text(min_size=3))
def test_an_endpoint_id_does_not_reveal_the_player(player: str) -> None:
    endpoint = names.endpoint_id("EMAIL", player)
    assert re.fullmatch(r"[0-9a-f]{32}", endpoint)
    assert player == endpoint or player not in endpoint or re.fullmatch(r"[0-9a-f]{3,}", player)
