"""The outcomes of a launch's players, counted by group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from cohort_flywheel.config.cohorts import Direction
from cohort_flywheel.engagement.effect_outcomes import (
    MAX_CHANGES,
    Group,
    GroupOutcomes,
    Outcomes,
    OutcomeTables,
    Scores,
    put_together,
)
from tests.cohort_flywheel.engagement.effect_scores import add_scores

THEN = {"ann": 3, "bob": 5, "cyd": 3, "dot": 4, "eve": 6}
NOW = {"ann": 4, "bob": 2, "dot": 4, "eve": 1.5}  # cyd is not beyond the floor any more


def outcomes(
    folder: Path, then: Mapping[str, float], now: Mapping[str, float], groups: Mapping[Group, Iterable[str]],
    direction: Direction = "above", threshold: float = 2, floor: float = 1, earlier: Iterable[str] = (),
) -> dict[Group, GroupOutcomes]:  # fmt: skip
    with OutcomeTables(folder) as tables:
        for group, players in groups.items():
            tables.add_group(group, players)
        tables.add_earlier(earlier)
        add_scores(tables, folder, direction, then.items(), now.items())
        return tables.outcomes(Scores(direction, threshold, floor))


def test_each_player_counts_once_whatever_they_got(tmp_path: Path) -> None:
    found = outcomes(tmp_path, THEN, NOW, {"mailed": ["ann", "bob", "cyd", "gone"], "launch_holdout": ["dot", "eve"]})
    assert found["mailed"].all == Outcomes(
        players=3, without_score=1, further=1, left=2, back=2, changes=[(-3, 1), (-2, 1), (1, 1)]
    )
    assert found["launch_holdout"].all == Outcomes(players=2, left=1, back=1, changes=[(-4.5, 1), (0, 1)])
    assert "global_holdout" not in found


def test_below_a_threshold_is_the_same_mirrored(tmp_path: Path) -> None:
    groups: dict[Group, list[str]] = {"mailed": ["ann", "bob", "cyd"], "global_holdout": ["dot", "eve"]}
    above = outcomes(tmp_path, THEN, NOW, groups)
    then, now = ({player: -score for player, score in scores.items()} for scores in (THEN, NOW))
    below = outcomes(tmp_path, then, now, groups, "below", -2, -1)
    for group in groups:
        one, other = above[group].all, below[group].all
        assert other.model_copy(update={"changes": one.changes}) == one
        assert other.changes == sorted((-value, count) for value, count in one.changes)
        assert "-0.0" not in str(other.changes)


def test_changes_are_clipped_at_the_floor_of_both_snapshots(tmp_path: Path) -> None:
    """A later snapshot with a looser floor would say more of one player than of another."""
    found = outcomes(tmp_path, {"ann": 3, "bob": 3}, {"ann": 0}, {"mailed": ["ann", "bob"]}, floor=1)
    assert found["mailed"].all.changes == [(-2, 2)]


def test_a_player_of_several_vertices_has_the_score_furthest_beyond(tmp_path: Path) -> None:
    with OutcomeTables(tmp_path) as tables:
        tables.add_group("mailed", ["ann"])
        add_scores(tables, tmp_path, "above", [("ann", 3), ("ann", 5)], [("ann", 6), ("ann", 1)])
        assert tables.outcomes(Scores("above", 2, 0))["mailed"].all.changes == [(1, 1)]


def test_a_player_of_two_groups_counts_in_the_first(tmp_path: Path) -> None:
    found = outcomes(tmp_path, THEN, NOW, {"launch_holdout": ["ann", "bob"], "mailed": ["ann", "ann"]})
    assert (found["mailed"].all.players, found["launch_holdout"].all.players) == (1, 1)


def test_of_players_of_an_earlier_launch_only_their_first_counts(tmp_path: Path) -> None:
    found = outcomes(tmp_path, THEN, NOW, {"mailed": ["ann", "bob"], "launch_holdout": ["dot"]}, earlier=["bob", "dot"])
    assert (found["mailed"].all.players, found["mailed"].first.players, found["mailed"].repeated) == (2, 1, 1)
    assert (found["launch_holdout"].first, found["launch_holdout"].repeated) == (Outcomes(), 1)


@pytest.mark.parametrize("player", ['a,"b"', "ü\u2028x", " blank ", "a;b\tc"])
def test_any_player_id_is_found(tmp_path: Path, player: str) -> None:
    found = outcomes(tmp_path, {player: 3}, {player: 4}, {"mailed": [player]})
    assert found["mailed"].all.further == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and player.encode() in path.read_bytes()]


def test_many_different_changes_keep_their_mean_and_variance(tmp_path: Path) -> None:
    players = [f"p{number}" for number in range(3_000)]
    then = dict.fromkeys(players, 3.0)
    now = {player: 3 + (number**2 % 2_999) / 1_000 for number, player in enumerate(players)}
    changes = outcomes(tmp_path, then, now, {"mailed": players})["mailed"].all.changes
    assert len(changes) <= 2 * MAX_CHANGES + 4
    assert sum(count for _, count in changes) == 3_000
    exact = [now[player] - 3 for player in players]
    assert _moments(changes) == pytest.approx(_moments([(value, 1) for value in exact]), rel=0.01)


def test_few_changes_stay_as_they_are() -> None:
    assert list(put_together([(-1.5, 3), (0.0, 5), (2.0, 1)], 1)) == [(-1.5, 3), (0.0, 5), (2.0, 1)]
    assert (0.0, 5) in list(put_together([(-1.5, 3), (0.0, 5), (2.0, 1), (3.0, 1)], 100))


def _moments(changes: Iterable[tuple[float, int]]) -> tuple[float, float]:
    found = list(changes)
    players = sum(count for _, count in found)
    mean = sum(value * count for value, count in found) / players
    return mean, sum(count * (value - mean) ** 2 for value, count in found) / players
