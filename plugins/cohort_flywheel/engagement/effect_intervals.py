"""Intervals of 95 % of the difference between two groups: of shares, and of means.

Shares: Newcombe's score interval (Newcombe 1998, Statistics in Medicine 17:873-890, method 10). Means: a bootstrap
with a fixed seed, its percentiles expanded for small groups (Hesterberg 2015, The American Statistician 69:371-386).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from statistics import NormalDist
from typing import NamedTuple

_NORMAL = NormalDist()
#: The quantile of the normal distribution of an interval of 95 %.
Z = _NORMAL.inv_cdf(0.975)
#: With fewer players in either group, or fewer players in all with an outcome, there are too few to tell.
MIN_PLAYERS, MIN_OUTCOMES = 30, 5
#: With fewer players in either group whose score has changed, a bootstrap of it says too little.
MIN_CHANGED = 10
#: The samples of a bootstrap, and its seed: the same data give the same interval.
SAMPLES, SEED = 2_000, 20261122


class Interval(NamedTuple):
    """A difference, and its interval of 95 %."""

    difference: float
    low: float
    high: float


class Values(NamedTuple):
    """The values of a group: each different value, and how many players have it."""

    values: Sequence[float]
    counts: Sequence[int]

    @property
    def players(self) -> int:
        return sum(self.counts)

    @property
    def changed(self) -> int:
        """The players whose value is not 0."""
        return sum(count for value, count in zip(self.values, self.counts, strict=True) if value)

    def mean(self) -> float:
        return _mean(self.values, self.counts)

    def variance(self) -> float:
        mean, players = self.mean(), self.players
        squares = sum(count * (value - mean) ** 2 for value, count in zip(self.values, self.counts, strict=True))
        return squares / max(players - 1, 1)


def wilson(number: int, players: int) -> tuple[float, float]:
    """Return Wilson's score interval of a share."""
    share, square = number / players, Z * Z
    middle = (share + square / (2 * players)) / (1 + square / players)
    half = Z * math.sqrt(share * (1 - share) / players + square / (4 * players * players)) / (1 + square / players)
    return max(0.0, middle - half), min(1.0, middle + half)


def share_difference(mailed: int, of_mailed: int, held_out: int, of_held_out: int) -> Interval:
    """Return the difference of two shares, `mailed / of_mailed - held_out / of_held_out`; no group is empty."""
    one, other = mailed / of_mailed, held_out / of_held_out
    (low, high), (other_low, other_high) = wilson(mailed, of_mailed), wilson(held_out, of_held_out)
    difference = one - other
    return Interval(
        difference,
        difference - math.hypot(one - low, other_high - other),
        difference + math.hypot(high - one, other - other_low),
    )


def detectable_share(outcomes: int, of_mailed: int, of_held_out: int) -> float:
    """Return the difference of shares that groups of this size could show, by the share of both together.

    With few outcomes that share is uncertain: two of each kind are added, as Agresti and Coull (1998) do.
    """
    share = (outcomes + 2) / (of_mailed + of_held_out + 4)
    return Z * math.sqrt(share * (1 - share) * (1 / of_mailed + 1 / of_held_out))


def mean_difference(mailed: Values, held_out: Values) -> Interval:
    """Return the difference of two means, with a bootstrap's interval; no group is empty."""
    difference = mailed.mean() - held_out.mean()
    samples = sorted(
        one - other for one, other in zip(_sample_means(mailed, 0), _sample_means(held_out, 1), strict=True)
    )
    tail = _tail(min(mailed.players, held_out.players))
    return Interval(difference, _quantile(samples, tail), _quantile(samples, 1 - tail))


def detectable_mean(mailed: Values, held_out: Values) -> float:
    """Return the difference of means that groups of this size could show, by their variances."""
    return Z * math.sqrt(mailed.variance() / mailed.players + held_out.variance() / held_out.players)


def _sample_means(group: Values, stream: int) -> list[float]:
    """Return the means of samples with replacement; each draws the number of players per value."""
    random, players = Random(SEED + stream), group.players  # noqa: S311 - for a sample, not for a secret
    means = []
    for _ in range(SAMPLES):
        left, rest, total = players, players, 0.0
        for value, count in zip(group.values, group.counts, strict=True):
            drawn = random.binomialvariate(left, min(1.0, count / rest)) if left else 0
            total += value * drawn
            left -= drawn
            rest -= count
        means.append(total / players)
    return means


def _tail(players: int) -> float:
    """Return the share of samples outside either end of an interval, for the smaller group.

    The quantile of Student's t is by its expansion (Abramowitz and Stegun, 26.7.5).
    """
    freedom = max(players - 1, 1)
    student = Z + (Z**3 + Z) / (4 * freedom) + (5 * Z**5 + 16 * Z**3 + 3 * Z) / (96 * freedom**2)
    return _NORMAL.cdf(-student * math.sqrt(players / freedom))


def _quantile(values: Sequence[float], share: float) -> float:
    place = share * (len(values) - 1)
    below = math.floor(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (place - below) * (values[above] - values[below])


def _mean(values: Sequence[float], counts: Sequence[int]) -> float:
    return sum(value * count for value, count in zip(values, counts, strict=True)) / sum(counts)
