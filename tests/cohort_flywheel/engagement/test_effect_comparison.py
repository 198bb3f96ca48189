"""What is said of an effect: too few to tell, not seen, higher or lower; and months put together."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import pytest

from cohort_flywheel.campaign.holdout import LaunchFacts, due
from cohort_flywheel.common.duckdb import connect
from cohort_flywheel.engagement.effect import LaunchEffect, effect_lines, engagement_shares
from cohort_flywheel.engagement.effect_comparison import (
    LaunchRecord,
    compare,
    effects,
    launch_effect,
    month_of,
    pool,
    unmeasured,
)
from cohort_flywheel.engagement.effect_outcomes import Group, GroupOutcomes, Outcomes, OutcomeTables, Scores
from cohort_flywheel.engagement.effect_table import COLUMNS, ENGAGEMENT_COLUMNS, write_effects, write_engagement
from cohort_flywheel.engagement.event_counts import LaunchCounts
from tests.cohort_flywheel.engagement.effect_scores import score_files

AS_OF = datetime(2026, 11, 1, tzinfo=UTC)


def facts(**changes: Any) -> LaunchFacts:
    about: dict[str, Any] = {
        "launch": "ea_atrisk_2_2026-11-01_00-00-00", "cohort": "ea_atrisk", "template": "at_risk", "as_of": AS_OF,
        "timezone": "UTC", "property": "ea_atrisk", "direction": "above", "threshold": 2, "vertex_label": "player",
        "player_id": "playerId", "destination": "ses", "effect_days": 7, "holdout_percent": 10,
        "global_holdout_percent": 0, "launched_at": AS_OF, "mailed": 1_800, "launch_holdout": 200, "global_holdout": 0,
    }  # fmt: skip
    return LaunchFacts.model_validate(about | changes)


def outcomes(players: int, further: int = 0, left: int = 0, back: int | None = None) -> Outcomes:
    changes = [(-1.0, left), (0.0, players - further - left), (1.0, further)]
    back = left if back is None else back
    return Outcomes(
        players=players, further=further, left=left, back=back, changes=[each for each in changes if each[1]]
    )


def record(
    group: Outcomes, other: Outcomes, first: tuple[Outcomes, Outcomes] | None = None, **changes: Any
) -> LaunchRecord:
    """A launch whose mailed and held out have these outcomes, and those of them in no earlier launch `first`."""
    groups = {
        name: GroupOutcomes(all=whole, first=part, repeated=whole.players - part.players)
        for name, whole, part in zip(("mailed", "launch_holdout"), (group, other), first or (group, other), strict=True)
    }
    return LaunchRecord.model_validate({"facts": facts(**changes), "measured_at": AS_OF, "floor": 0, "groups": groups})


def test_a_difference_beyond_chance_is_lower_or_higher() -> None:
    found = compare(outcomes(1_800, 216, 300), outcomes(200, 44, 20), 0, 0)
    assert (found.further.verdict, found.left.verdict, found.change.verdict) == ("lower", "higher", "lower")
    assert (found.further.mailed, found.further.held_out, found.further.difference) == (216, 44, -0.1)
    assert found.further.sentence == (
        "12.0 % of 1,800 mailed and 22.0 % of 200 held out went further beyond the threshold: -10.0 points"
        " (-16.4 points to -4.6 points)"
    )
    assert found.change.sentence.startswith(
        "the mean change is -0.046667 of the mailed and +0.12 of the held out, clipped at the floor 0: -0.167 ("
    )


def test_no_difference_seen_says_which_could_have_been_seen() -> None:
    found = compare(outcomes(1_800, 540), outcomes(200, 62), 0, 0).further
    assert found.verdict == "not seen"
    assert found.detectable == pytest.approx(0.067, abs=0.0005)
    assert found.low is not None
    assert found.sentence.endswith("no difference seen; a difference of 6.7 points could have been seen")


def test_too_few_to_tell_have_no_interval() -> None:
    few = compare(outcomes(180, 54), outcomes(20, 6), 0, 0)
    assert (few.further.verdict, few.further.difference, few.further.low) == ("too few to tell", None, None)
    assert few.further.sentence.endswith("too few to tell; a difference of 21.2 points could have been seen")
    assert compare(outcomes(270, 3), outcomes(30, 1), 0, 0).further.verdict == "too few to tell"
    assert compare(outcomes(270, 4), outcomes(30, 1), 0, 0).further.verdict == "not seen"
    assert compare(outcomes(270, 90), outcomes(30, 9), 0, 0).change.verdict == "too few to tell"
    assert compare(outcomes(270, 90), outcomes(30, 10), 0, 0).change.verdict == "not seen"


def test_an_empty_group_is_not_compared() -> None:
    found = compare(outcomes(180, 54), Outcomes(), 0, 0)
    assert (found.further.detectable, found.change.mailed) == (None, None)
    assert found.further.sentence == "180 mailed and 0 held out can be compared: too few to tell"


def test_where_scores_only_grow_it_says_that_leaving_cannot_happen() -> None:
    found = compare(outcomes(1_800, 540, back=0), outcomes(200, 62, back=0), 0, 0).left
    assert found.sentence.endswith("where scores only grow away from it, leaving cannot happen")
    assert found.verdict == "too few to tell"
    moved = compare(outcomes(1_800, 540, back=0), outcomes(200, 62, back=1), 0, 0).left
    assert "cannot" not in moved.sentence


def test_players_that_an_erasure_has_removed_leave_both_groups() -> None:
    found = launch_effect(record(outcomes(1_790, 216), outcomes(199, 44)))
    assert found.launch_holdout is not None
    assert (found.launch_holdout.mailed, found.launch_holdout.held_out, found.launch_holdout.erased) == (1_790, 199, 11)
    assert found.global_holdout is None


def test_the_global_holdout_is_compared_apart() -> None:
    kept = record(outcomes(1_800, 216), outcomes(200, 44), global_holdout_percent=5, global_holdout=100)
    groups = kept.groups | {"global_holdout": GroupOutcomes(all=outcomes(100, 30), first=outcomes(100, 30))}
    found = launch_effect(kept.model_copy(update={"groups": groups}))
    assert found.launch_holdout is not None
    assert found.global_holdout is not None
    assert (found.launch_holdout.held_out, found.global_holdout.held_out) == (200, 100)


def test_launches_of_a_month_are_put_together_and_each_player_counts_once() -> None:
    second = record(
        outcomes(900, 100), outcomes(100, 20), (outcomes(600, 70), outcomes(60, 12)),
        launch="ea_atrisk_2_2026-11-08_00-00-00", as_of=datetime(2026, 11, 8, tzinfo=UTC),
        mailed=900, launch_holdout=100,
    )  # fmt: skip
    (found,) = pool([second, record(outcomes(1_800, 216), outcomes(200, 44))])
    assert (found.month, found.template, found.repeated) == ("2026-11", "at_risk", 340)
    assert found.launches == ["ea_atrisk_2_2026-11-01_00-00-00", "ea_atrisk_2_2026-11-08_00-00-00"]
    assert found.launch_holdout is not None
    assert (found.launch_holdout.mailed, found.launch_holdout.held_out) == (2_400, 260)
    assert (found.launch_holdout.further.mailed, found.launch_holdout.erased) == (286, 0)


def test_launches_that_differ_are_pooled_apart() -> None:
    """Of other percentages, months, properties or templates; and a month of one launch is that launch."""
    one = record(outcomes(1_800, 216), outcomes(200, 44))
    others = (
        {"holdout_percent": 20}, {"as_of": datetime(2026, 12, 1, tzinfo=UTC)}, {"property": "ea_malice"},
        {"template": "back"}, {"effect_days": 14}, {"direction": "below"}, {"global_holdout_percent": 5},
    )  # fmt: skip
    for changes in others:
        other = record(outcomes(1_800, 216), outcomes(200, 44), launch="other", **changes)
        assert pool([one, other]) == [], changes


def test_the_month_is_that_of_the_schedules_zone() -> None:
    late = facts(as_of=datetime(2026, 10, 31, 23, tzinfo=UTC), timezone="Europe/Berlin")
    assert (month_of(late), month_of(facts(as_of=late.as_of))) == ("2026-11", "2026-10")


def test_the_log_of_a_report_tells_the_two_holdouts_apart() -> None:
    kept = record(outcomes(1_800, 216), outcomes(200, 44), global_holdout_percent=5, global_holdout=100)
    groups = kept.groups | {"global_holdout": GroupOutcomes(all=outcomes(100, 30), first=outcomes(100, 30))}
    found = effects([kept.model_copy(update={"groups": groups})], [unmeasured(facts(launch="b"), is_due=False)])
    lines = [(name, said.partition(" went")[0]) for name, said in effect_lines(found)]
    assert lines == [
        ("effect of ea_atrisk_2_2026-11-01_00-00-00", "12.0 % of 1,800 mailed and 22.0 % of 200 held out"),
        (
            "effect of being mailed, ea_atrisk_2_2026-11-01_00-00-00",
            "12.0 % of 1,800 mailed and 30.0 % of 100 held out",
        ),
        ("effect of b", "due on 2026-11-08"),
    ]


def test_an_effect_is_due_by_the_dates_of_the_schedules_zone() -> None:
    """The clock of Berlin is set back on 2026-10-25: in UTC the as-of of that week is an hour later."""
    late = facts(as_of=datetime(2026, 10, 20, 22, tzinfo=UTC), timezone="Europe/Berlin")
    assert due(late) == datetime(2026, 10, 27, 23, tzinfo=UTC)
    assert unmeasured(late, is_due=False).due == due(late)
    assert due(facts()) == datetime(2026, 11, 8, tzinfo=UTC)


def test_launches_that_wait_are_named() -> None:
    found = effects([], [unmeasured(facts(), is_due=False), unmeasured(facts(launch="b"), is_due=True)])
    assert [(each.launch[:1], each.status) for each in found.launches] == [("e", "waiting"), ("b", "no snapshot")]
    assert found.pooled == []


def test_the_table_has_a_row_for_each_outcome(tmp_path: Path) -> None:
    two = [record(outcomes(1_800, 216, 300), outcomes(200, 44, 20), launch=name) for name in ("a", "b")]
    write_effects(tmp_path / "effects.parquet", effects(two, [unmeasured(facts(), is_due=False)]))
    with connect(tmp_path) as sql:
        table = sql.read_parquet(str(tmp_path / "effects.parquet"))
        assert table.columns == list(COLUMNS)
        rows = table.project("launches, month, outcome, mailed_players, difference, verdict").fetchall()
    assert len(rows) == 9
    assert rows[0] == (["b"], None, "further", 1_800, -0.1, "lower")
    assert rows[-1][:3] == (["a", "b"], "2026-11", "change")


def test_an_empty_table_can_be_read(tmp_path: Path) -> None:
    write_effects(tmp_path / "effects.parquet", effects([], []))
    with connect(tmp_path) as sql:
        assert sql.read_parquet(str(tmp_path / "effects.parquet")).fetchall() == []


def test_engagement_is_shares_of_delivered_messages() -> None:
    counts = LaunchCounts(
        messages=25, states={"delivered": 18, "tracked": 2, "bounced": 5}, opened=10, opened_unlikely_bot=4,
        opened_no_flag=1, clicked=5, unsubscribed=2, untracked=3,
    )  # fmt: skip
    found = engagement_shares(counts)
    assert (found.messages, found.delivered, sum(found.states.values())) == (25, 20, 25)
    assert (found.opened, found.opened_unlikely_bot, found.opened_no_flag) == (0.5, 0.2, 0.05)
    assert (found.clicked, found.unsubscribed, found.complained, found.untracked) == (0.25, 0.1, 0, 0.15)
    assert engagement_shares(LaunchCounts(messages=3, states={"bounced": 3})).opened is None


def test_the_messages_of_a_launch_are_a_row(tmp_path: Path) -> None:
    counts = LaunchCounts(messages=23, states={"delivered": 18, "bounced": 5}, opened=9)
    launches = {"b": engagement_shares(counts), "a": engagement_shares(LaunchCounts())}
    write_engagement(tmp_path / "launches.parquet", launches)
    with connect(tmp_path) as sql:
        table = sql.read_parquet(str(tmp_path / "launches.parquet"))
        assert table.columns == list(ENGAGEMENT_COLUMNS)
        names = "launch, messages, delivered_messages, bounced_messages, sent_messages, delivered, opened, clicked"
        rows = table.project(names).fetchall()
    assert rows == [("a", 0, 0, 0, 0, 0, None, None), ("b", 23, 18, 5, 0, 18, 0.5, 0)]


def test_the_intervals_of_simulated_launches_have_the_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the scores of two snapshots on: 25 launches, of which 24 are expected to have it, and at least 22 do.

    A player who is absent is beyond the floor 0. Each group has its shares of players that go two further, are absent,
    come back to 1, or stay.
    """
    monkeypatch.setattr("cohort_flywheel.engagement.effect_intervals.SAMPLES", 200)
    draw, then_scores = Random(5), (3, 5, 8)  # noqa: S311 - for a sample, not for a secret
    shares: dict[Group, tuple[float, ...]] = {
        "mailed": (0.15, 0.2, 0.1, 0.55),
        "launch_holdout": (0.3, 0.1, 0.05, 0.55),
    }
    sizes: dict[Group, int] = {"mailed": 300, "launch_holdout": 100}
    mean = sum(then_scores) / 3

    def expected(group: Group) -> tuple[float, float, float]:
        further, absent, back, _ = shares[group]
        return further, absent + back, 2 * further - mean * absent + (1 - mean) * back

    one, other = expected("mailed"), expected("launch_holdout")
    truth = [mine - its for mine, its in zip(one, other, strict=True)]
    then, now = dict[str, int](), dict[str, int]()  # the two snapshots have the players of all launches
    for launch, (group, players) in product(range(25), sizes.items()):
        moves = draw.choices(("further", "absent", "back", "stays"), shares[group], k=players)
        for place, move in enumerate(moves):
            player, score = f"{launch}-{group}-{place}", draw.choice(then_scores)
            then[player] = score
            if move != "absent":
                now[player] = {"further": score + 2, "back": 1, "stays": score}[move]
    paths = score_files(tmp_path, "above", then.items(), now.items())
    covered = Counter[str]()
    for launch in range(25):
        with OutcomeTables(tmp_path) as tables:
            for group, players in sizes.items():
                tables.add_group(group, [f"{launch}-{group}-{place}" for place in range(players)])
            for when, path in paths.items():
                tables.add_scores(when, path, "above")
            groups = tables.outcomes(Scores("above", 2, 0))
        found = compare(groups["mailed"].all, groups["launch_holdout"].all, 0, 0)
        for name, value in zip(("further", "left", "change"), truth, strict=True):
            each = getattr(found, name)
            covered[name] += each.low <= value <= each.high
    assert min(covered[name] for name in ("further", "left", "change")) >= 22, covered


def test_an_effect_says_nothing_of_those_who_clicked() -> None:
    """Who clicks is not drawn: those players differ from the others without an e-mail."""
    assert not [name for name in LaunchEffect.model_fields if "click" in name or "open" in name]
