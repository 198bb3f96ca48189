"""The arithmetic of an effect: against published examples, against scipy, and on simulated launches."""

from __future__ import annotations

import math
from collections import Counter
from random import Random

import numpy as np
import pytest
import scipy  # its modules are imported when they are used

from cohort_flywheel.engagement.effect_intervals import (
    MIN_CHANGED,
    Values,
    detectable_mean,
    detectable_share,
    mean_difference,
    share_difference,
    wilson,
)

#: The examples of Newcombe (1998), table II, method 10, and their limits to four places.
NEWCOMBE = [
    ((56, 70, 48, 80), 0.0524, 0.3339),
    ((9, 10, 3, 10), 0.1705, 0.8090),
    ((5, 56, 0, 29), -0.0381, 0.1926),
    ((0, 10, 0, 20), -0.1611, 0.2775),
    ((10, 10, 0, 20), 0.6791, 1.0000),
]
#: How the score of a player changes between two as-ofs: most stay.
CHANGES = {0: 0.7, 1: 0.2, -1: 0.08, -3: 0.02}


@pytest.mark.parametrize(("groups", "low", "high"), NEWCOMBE, ids=[str(each[0]) for each in NEWCOMBE])
def test_the_interval_of_shares_is_that_of_the_paper(
    groups: tuple[int, int, int, int], low: float, high: float
) -> None:
    found = share_difference(*groups)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)
    mirrored = share_difference(*groups[2:], *groups[:2])
    assert mirrored == pytest.approx((-found.difference, -found.high, -found.low))


@pytest.mark.parametrize("number", [0, 1, 7, 40])
def test_the_interval_of_a_share_is_scipys(number: int) -> None:
    theirs = scipy.stats.binomtest(number, 40).proportion_ci(0.95, method="wilson")
    assert wilson(number, 40) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_the_interval_of_means_is_scipys() -> None:
    """Two bootstraps differ by chance, and ours is wider for small groups: by a hundredth of it at 200 players."""
    draw = draws(1)
    mailed, held_out = drawn(draw, CHANGES, 1_800), drawn(draw, CHANGES, 200)
    samples = [np.repeat(each.values, each.counts) for each in (mailed, held_out)]
    theirs = scipy.stats.bootstrap(
        samples,
        lambda one, other, axis: one.mean(axis=axis) - other.mean(axis=axis),
        n_resamples=5_000,
        vectorized=True,
        batch=100,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    ours = mean_difference(mailed, held_out)
    width = theirs.high - theirs.low
    assert ours.difference == pytest.approx(samples[0].mean() - samples[1].mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=width / 20)
    spread = math.sqrt(sum(sample.var(ddof=1) / len(sample) for sample in samples))
    assert detectable_mean(mailed, held_out) == pytest.approx(scipy.stats.norm.ppf(0.975) * spread)


def test_the_same_groups_have_the_same_interval() -> None:
    draw = draws(2)
    mailed, held_out = drawn(draw, CHANGES, 300), drawn(draw, CHANGES, 60)
    assert mean_difference(mailed, held_out) == mean_difference(mailed, held_out)


@pytest.mark.parametrize(("mailed", "held_out", "points"), [(180, 20, 21), (1_800, 200, 7)])
def test_small_groups_show_large_differences_only(mailed: int, held_out: int, points: int) -> None:
    """At a share of 30 %."""
    found = detectable_share(round(0.3 * (mailed + held_out)), mailed, held_out)
    assert round(100 * found) == points


def test_a_difference_could_be_seen_without_an_outcome() -> None:
    assert 0 < detectable_share(0, 180, 20) < 0.1


# --- simulated launches: the truth is known, and an interval of 95 % has it in 95 of 100


def draws(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - for a sample, not for a secret


def drawn(draw: Random, shares: dict[int, float], players: int) -> Values:
    found = sorted(Counter(draw.choices(list(shares), list(shares.values()), k=players)).items())
    return Values([value for value, _ in found], [count for _, count in found])


def covered_shares(mailed: float, held_out: float, sizes: tuple[int, int], times: int) -> float:
    draw, covered = draws(3), 0
    for _ in range(times):
        one, other = draw.binomialvariate(sizes[0], mailed), draw.binomialvariate(sizes[1], held_out)
        found = share_difference(one, sizes[0], other, sizes[1])
        covered += found.low <= mailed - held_out <= found.high
    return covered / times


def covered_means(sizes: tuple[int, int], times: int) -> float:
    """The held out change as CHANGES says; the mailed with more returns."""
    draw, other_shares = draws(4), {0: 0.7, 1: 0.1, -1: 0.15, -3: 0.05}
    truth = sum(value * (other_shares[value] - share) for value, share in CHANGES.items())
    covered = tried = 0
    while tried < times:
        one, other = drawn(draw, other_shares, sizes[0]), drawn(draw, CHANGES, sizes[1])
        if min(one.changed, other.changed) >= MIN_CHANGED:
            found = mean_difference(one, other)
            covered += found.low <= truth <= found.high
            tried += 1
    return covered / times


SHARES = [(0.3, 0.3, (270, 30)), (0.12, 0.2, (900, 100)), (0.05, 0.02, (1_800, 200)), (0.5, 0.4, (60, 60))]


@pytest.mark.parametrize(("mailed", "held_out", "sizes"), SHARES)
def test_intervals_of_shares_have_the_truth_as_often_as_they_say(
    mailed: float, held_out: float, sizes: tuple[int, int]
) -> None:
    """Of 2,000 launches; the limits are four standard errors away."""
    assert 0.93 < covered_shares(mailed, held_out, sizes, 2_000) < 0.97


def test_intervals_of_means_have_the_truth_as_often_as_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 200 launches, with a tenth of the samples: the limit is three standard errors away."""
    monkeypatch.setattr("cohort_flywheel.engagement.effect_intervals.SAMPLES", 200)
    assert covered_means((540, 60), 200) > 0.9


@pytest.mark.nightly
@pytest.mark.parametrize(("mailed", "held_out", "sizes"), SHARES)
def test_of_many_launches_the_intervals_of_shares_have_the_truth_in_95_of_100(
    mailed: float, held_out: float, sizes: tuple[int, int]
) -> None:
    assert 0.94 < covered_shares(mailed, held_out, sizes, 40_000) < 0.965


@pytest.mark.nightly
@pytest.mark.parametrize("sizes", [(270, 30), (540, 60), (900, 100), (1_800, 200)])
def test_of_many_launches_the_intervals_of_means_have_the_truth_in_95_of_100(
    sizes: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In 93 of 100 of the smallest groups: a bootstrap of 30 players says less."""
    monkeypatch.setattr("cohort_flywheel.engagement.effect_intervals.SAMPLES", 500)
    assert covered_means(sizes, 4_000) > (0.925 if sizes[1] < 60 else 0.935)
