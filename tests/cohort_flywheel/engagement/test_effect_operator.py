"""The effect of launches from the objects of a state bucket: measured once, wherever a run is killed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from cohort_flywheel.common import duckdb
from cohort_flywheel.common.duckdb import connect
from cohort_flywheel.engagement import effect_store
from cohort_flywheel.engagement.effect_store import effect_of_cohort
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.plan import Plan
from tests.cohort_flywheel.all_keys import check_all_keys
from tests.cohort_flywheel.engagement.effect_launches import LAUNCHED, Launches
from tests.cohort_flywheel.engagement.event_days import NEWEST, Events, killed_at_write
from tests.cohort_flywheel.memory_limits import MemoryLimits, tuned
from tests.cohort_flywheel.plans import plan_output

#: Of the mailed a fifth goes further, of the held out a half.
MAILED, HELD_OUT = [f"mailed-{number:03d}" for number in range(200)], [f"held-{number:03d}" for number in range(60)]
THEN = dict.fromkeys((*MAILED, *HELD_OUT), 3.0)
NOW = THEN | dict.fromkeys((*MAILED[:40], *HELD_OUT[:30]), 5.0) | dict.fromkeys((*MAILED[40:60], HELD_OUT[-1]), 1.0)
NAME = "ea_atrisk_2_2026-11-15_00-00-00"
DAY = timedelta(days=1)


@pytest.fixture
def launches(
    airflow_env: Any, servers: Any, fresh_config: Any, context: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Launches]:
    made = Launches(Events(servers, fresh_config, context, monkeypatch), tmp_path)
    yield made
    check_all_keys(made.events.s3, fresh_config)


@pytest.fixture
def measured(launches: Launches) -> Launches:
    launches.launch(MAILED, HELD_OUT)
    launches.snapshot(LAUNCHED, THEN)
    launches.snapshot(NEWEST, NOW)
    return launches


def test_the_two_lists_of_a_launch_are_compared(measured: Launches, tmp_path: Path) -> None:
    found = measured.measure()
    (launch,) = found["launches"]
    assert (launch["launch"], launch["status"], launch["measured_at"]) == (NAME, "measured", NEWEST.isoformat())
    effect = launch["launch_holdout"]
    assert (effect["mailed"], effect["held_out"], effect["erased"]) == (200, 60, 0)
    assert (effect["further"]["mailed"], effect["further"]["held_out"]) == (40, 30)
    assert (effect["further"]["difference"], effect["further"]["verdict"]) == (-0.3, "lower")
    assert (effect["left"]["mailed"], effect["left"]["held_out"]) == (20, 1)
    assert (effect["change"]["mailed"], effect["change"]["held_out"]) == (0.2, pytest.approx(0.966667))
    assert launch["global_holdout"] is None
    path = tmp_path / "read" / "effects.parquet"
    path.parent.mkdir()
    path.write_bytes(measured.get("engagement/effects/as_of=2026-11-22_00-00-00/effects.parquet"))
    with connect(path.parent) as sql:
        rows = sql.read_parquet(str(path)).project("launches, outcome, verdict").fetchall()
    assert rows[0] == ([NAME], "further", "lower")


def test_scores_are_compared_in_the_memory_of_the_tuning(
    measured: Launches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = MemoryLimits(tmp_path / "limits", monkeypatch)
    with tuned():
        assert measured.measure()["launches"][0]["status"] == "measured"
    assert limits.are_tuned()


def test_too_little_memory_is_reported_with_its_remedy(measured: Launches, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duckdb, "MEMORY_MB", 1)
    with pytest.raises(AirflowFailException, match="CF-TASK-04: DuckDB could not .* memory_mb under tuning") as raised:
        measured.measure()
    assert "mailed-" not in str(raised.value)


def test_nothing_that_is_kept_names_a_player(measured: Launches, capsys: pytest.CaptureFixture[str]) -> None:
    measured.measure()
    kept = {key: body for key, body in measured.events.kept.items() if "effect" in key}
    assert sorted(key.split("/")[1] for key in kept) == ["effect_reports", "effects", "launch_effects"]
    said = capsys.readouterr().out.encode()
    assert not any(word in body for body in (*kept.values(), said) for word in (b"mailed-0", b"held-0"))


def test_the_report_has_the_effects_and_the_report_of_a_run_those_of_its_cohort(measured: Launches) -> None:
    measured.measure()
    effects = measured.events.run()["effects"]
    assert effects["launches"][0]["launch_holdout"]["further"]["verdict"] == "lower"
    about = {"state_bucket": measured.events.state, "reads_engagement": True}
    found = effect_of_cohort(S3Hook(), Plan.model_validate(plan_output(as_of=NEWEST, **about)))
    assert found is not None
    assert (found.as_of, [each.launch for each in found.launches]) == (NEWEST, [NAME])
    for other in ({"as_of": NEWEST - DAY}, {"reads_engagement": False}):
        assert effect_of_cohort(S3Hook(), Plan.model_validate(plan_output(**about | other))) is None
    key = f"engagement/reports/{NEWEST:%Y-%m-%d_%H-%M-%S}.json"
    kept = measured.get(key)
    measured.put(key, b'{"as_of": "of another version"}')
    assert effect_of_cohort(S3Hook(), Plan.model_validate(plan_output(as_of=NEWEST, **about))) is None
    measured.put(key, kept)
    of_another = effect_of_cohort(S3Hook(), Plan.model_validate(plan_output(cohort="ea_duty", **about)))
    assert of_another is not None
    assert (of_another.launches, of_another.engagement) == ([], {})


def test_a_launch_waits_for_its_days_and_for_a_final_snapshot(launches: Launches) -> None:
    launches.launch(MAILED, HELD_OUT)
    launches.snapshot(LAUNCHED, THEN)
    launches.snapshot(NEWEST - DAY, NOW)
    launches.snapshot(NEWEST, NOW, final=False)
    assert launches.measure(NEWEST - DAY)["launches"][0]["status"] == "waiting"
    assert launches.measure()["launches"][0]["status"] == "no snapshot"
    launches.snapshot(NEWEST + DAY, NOW)
    assert launches.measure()["launches"][0]["status"] == "no snapshot", "what is newer does not count"
    later = launches.measure(NEWEST + DAY)["launches"][0]
    assert (later["status"], later["measured_at"]) == ("measured", (NEWEST + DAY).isoformat())
    assert launches.measure()["launches"][0]["status"] == "no snapshot", "also after it was measured"


@pytest.mark.parametrize("header", [{"floor": 3}, {"property": "ea_malice"}, {"direction": "below", "floor": 9}])
def test_snapshots_that_cannot_be_compared_give_no_effect(launches: Launches, header: dict[str, Any]) -> None:
    launches.launch(MAILED, HELD_OUT)
    launches.snapshot(LAUNCHED, THEN)
    launches.snapshot(NEWEST, NOW, **header)
    assert launches.measure()["launches"][0]["status"] == "no snapshot"


def test_lists_without_a_send_ledger_are_of_no_launch(launches: Launches) -> None:
    launches.launch(MAILED, HELD_OUT, begun=False)
    launches.snapshot(LAUNCHED, THEN)
    launches.snapshot(NEWEST, NOW)
    assert launches.measure() == {"launches": [], "pooled": []}


def test_what_was_measured_stays(measured: Launches) -> None:
    first = measured.measure()
    measured.put(f"launches/{NAME}/mailed.txt", b"")  # as an erasure of all of them would leave it
    measured.snapshot(NEWEST + DAY, {})
    assert measured.measure() == first
    assert measured.measure(NEWEST + DAY) == first


def test_erased_players_leave_both_groups(launches: Launches) -> None:
    """An erasure takes them out of the lists, the snapshots and the send ledger; the facts keep their numbers."""
    launches.launch(MAILED, HELD_OUT)
    launches.launch(MAILED[10:], HELD_OUT[5:], mailed=200, launch_holdout=60)
    launches.snapshot(LAUNCHED, {player: THEN[player] for player in (*MAILED[10:], *HELD_OUT[5:])})
    launches.snapshot(NEWEST, {player: NOW[player] for player in (*MAILED[10:], *HELD_OUT[5:])})
    effect = launches.measure()["launches"][0]["launch_holdout"]
    assert (effect["mailed"], effect["held_out"], effect["erased"]) == (190, 55, 15)
    assert (effect["further"]["mailed"], effect["further"]["held_out"]) == (30, 25)


def test_launches_of_a_month_are_pooled_and_the_global_holdout_is_apart(launches: Launches) -> None:
    never = [f"never-{number:03d}" for number in range(40)]
    later = LAUNCHED + DAY
    launches.launch(MAILED, HELD_OUT, never)
    launches.launch([*MAILED[:50], "new-1"], [*HELD_OUT[:10], "new-2"], never, as_of=later)
    for day in (LAUNCHED, later):
        launches.snapshot(day, THEN | dict.fromkeys([*never, "new-1", "new-2"], 3))
        launches.snapshot(day + timedelta(days=7), NOW | dict.fromkeys([*never, "new-1", "new-2"], 9))
    found = launches.measure(NEWEST + DAY)
    assert [each["global_holdout"]["held_out"] for each in found["launches"]] == [40, 40]
    (pooled,) = found["pooled"]
    assert (pooled["month"], pooled["repeated"], len(pooled["launches"])) == ("2026-11", 100, 2)
    assert (pooled["launch_holdout"]["mailed"], pooled["launch_holdout"]["held_out"]) == (201, 61)
    assert (pooled["global_holdout"]["mailed"], pooled["global_holdout"]["held_out"]) == (201, 40)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(1, 4))
def test_a_run_killed_at_any_write_leaves_what_an_undisturbed_one_leaves(
    measured: Launches, number: int, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The three writes are the launch's outcomes, the effects as JSON and as Parquet."""
    measured.measure()
    undisturbed = measured.events.kept
    for key in undisturbed:
        measured.events.s3.delete_object(Bucket=measured.events.state, Key=key)
    with killed_at_write(effect_store, number, monkeypatch, after=after):
        measured.measure()
    measured.measure()
    assert measured.events.kept == undisturbed


def test_a_run_without_launches_writes_an_empty_effect(launches: Launches) -> None:
    assert launches.measure() == {"launches": [], "pooled": []}
    assert json.loads(launches.get("engagement/effect_reports/2026-11-22_00-00-00.json")) == launches.measure()
