"""`make new-cohort`: propose an entry of include/cohorts.yaml, from a snapshot's scores or from answers."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from local.config import ROOT, LocalError

REGISTRY = ROOT / "include" / "cohorts.yaml"
#: The share of the snapshot's players that a proposed threshold selects at most.
PERCENT = 5
#: A threshold has at most so many decimals, and no more than give this many different scores.
MAX_DECIMALS, STEPS = 6, 20
_BARS, _WIDTH = 12, 40

Number = int | float


@dataclass(frozen=True)
class Scores:
    """The property and direction of a cohort, and its players beyond the floor by their most extreme score."""

    property: str
    direction: str
    floor: Number
    counts: Mapping[Number, int]

    @cached_property
    def players(self) -> int:
        return sum(self.counts.values())


class Entry(NamedTuple):
    """What the lines of a cohort need."""

    name: str
    description: str
    property: str
    direction: str
    threshold: Number
    low: Number
    high: Number
    max_members: int


def new_cohort(name: str, description: str | None, snapshot: Path | None, percent: float = PERCENT) -> None:
    """Print the entry; its figures, and questions, go to stderr. Raises LocalError for an entry with a fault."""
    registry = REGISTRY.read_text(encoding="utf-8")
    scores = read_scores(snapshot) if snapshot else None
    name = name or _ask("Name (letters, digits and underscores)")
    description = description or _ask("Description (which players?)")
    if scores:
        entry = propose(name, description, scores, percent)
        _say(histogram(scores))
        selected, beyond = members(scores, entry.threshold), number(entry.threshold)
        _say(f"{entry.direction} {beyond}: {selected:,} of {scores.players:,} players")
    else:
        entry = _asked(name, description)
    text = entry_text(entry, registry)
    check(name, registry, text)
    print(text, end="")
    _say("Put these lines at the end of include/cohorts.yaml, correct the limits and the consent, then make a dry run.")


def read_scores(path: Path) -> Scores:
    """Read a snapshot: an object of the state bucket below snapshots/, whose name ends with .parquet."""
    _import_package()
    from cohort_flywheel.errors import FlywheelError
    from cohort_flywheel.segment.members import Members
    from cohort_flywheel.segment.snapshot import read_file_header

    try:
        with TemporaryDirectory() as folder:
            copied = Path(shutil.copy(path, folder))  # DuckDB reads its own folder only
            header = read_file_header(copied, path.name)
            with Members(Path(folder), direction=header.direction, threshold=header.floor) as found:
                found.add_snapshot(copied)
                counts = dict(found.count_scores())
    except OSError as error:
        raise LocalError(f"{path} cannot be read ({type(error).__name__}): give the path of a snapshot.") from None
    except FlywheelError as error:
        raise LocalError(str(error)) from None
    if not counts:
        raise LocalError(f"{path} has no players: give a snapshot of another day, or none, and answer the questions.")
    return Scores(header.property, header.direction, header.floor, counts)


def propose(name: str, description: str, scores: Scores, percent: float = PERCENT) -> Entry:
    """Return an entry with the loosest threshold that selects at most `percent` of the players, and at least one."""
    above, distinct, players = scores.direction == "above", scores.counts.keys(), scores.players
    decimals = next(
        each for each in range(MAX_DECIMALS + 1)
        if each == MAX_DECIMALS or len({round(score, each) for score in distinct}) >= min(len(distinct), STEPS)
    )  # fmt: skip
    threshold, selected = scores.floor, 0
    for candidate in sorted({round(score, decimals) for score in distinct} | {scores.floor}, reverse=above):
        beyond = members(scores, candidate)
        if selected and (beyond > players * percent / 100 or beyond == players):
            break
        if beyond:
            threshold, selected = candidate, beyond
    shift = 10**decimals
    if above:
        low, high = scores.floor, round(math.ceil(max(distinct) * shift) / shift, decimals)
    else:
        low, high = round(math.floor(min(distinct) * shift) / shift, decimals), scores.floor
    return Entry(name, description, scores.property, scores.direction, threshold, low, high, _round_up(2 * selected))


def members(scores: Scores, threshold: Number) -> int:
    """The number of players strictly beyond a threshold."""
    above = scores.direction == "above"
    return sum(count for score, count in scores.counts.items() if (score > threshold if above else score < threshold))


def histogram(scores: Scores) -> str:
    """Draw the players by score: a bar per score, or per range of scores if there are many."""
    distinct = sorted(scores.counts)
    if len(distinct) <= _BARS:
        rows = [(number(each), scores.counts[each]) for each in distinct]
    else:
        first, width = distinct[0], (distinct[-1] - distinct[0]) / _BARS
        counts: Counter[int] = Counter()
        for score, count in scores.counts.items():
            counts[min(int((score - first) / width), _BARS - 1)] += count
        edges = [number(float(f"{first + index * width:.4g}")) for index in range(_BARS + 1)]
        rows = [(f"{edges[index]} … {edges[index + 1]}", counts[index]) for index in range(_BARS)]
    longest, most = max(len(label) for label, _ in rows), max(count for _, count in rows)
    title = f"{scores.property}: {scores.players:,} players {scores.direction} {number(scores.floor)}"
    bars = (f"  {label:>{longest}} {count:>9,}  {'█' * math.ceil(_WIDTH * count / most)}" for label, count in rows)
    return "\n".join([title, *bars])


def entry_text(entry: Entry, registry: str) -> str:
    """Return the lines of a cohort; its consent is the registry's anchor, if there is one."""
    consent = "*consent" if re.search(r"(?m)^ +consent: &consent$", registry) else "none"
    return (
        f"\n  {entry.name}:\n"
        f"    description: {json.dumps(entry.description, ensure_ascii=False)}\n"
        f"    property: {entry.property}\n"
        f"    direction: {entry.direction}\n"
        f"    threshold: {number(entry.threshold)}\n"
        f"    threshold_range: {{min: {number(entry.low)}, max: {number(entry.high)}}}\n"
        f"    limits: {{min_members: 1, max_members: {entry.max_members}, max_change_percent: 50,"
        " max_reject_percent: 30}\n"
        "    daily: false\n"
        "    attributes: {}\n"
        f"    consent: {consent}\n"
    )


def check(name: str, registry: str, entry: str) -> None:
    """Raise LocalError unless the registry with the entry at its end has a new, valid cohort."""
    _import_package()
    from cohort_flywheel.config.registry import parse_registry
    from cohort_flywheel.errors import FlywheelError

    try:
        if name in parse_registry(registry, REGISTRY).names:
            raise LocalError(f"{REGISTRY.name} has a cohort {name} already: choose another name.")
        found = parse_registry(registry.rstrip("\n") + "\n" + entry, REGISTRY)
    except FlywheelError as error:
        raise LocalError(str(error)) from None
    if name not in found.cohorts:
        raise LocalError(found.broken.get(name, f"{REGISTRY.name} must end with its cohorts: move them to its end."))


def number(value: Number) -> str:
    """Write a number without an exponent, with at most six decimals."""
    return f"{value:.6f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _asked(name: str, description: str) -> Entry:
    return Entry(
        name,
        description,
        _ask("Property of the players' vertices with the score"),
        _ask("Are members above or below the threshold (above, below)"),
        _number("Threshold"),
        _number("The lowest threshold that a run may have"),
        _number("The highest"),
        int(_number("The most members that a run may have")),
    )


def _number(question: str) -> Number:
    answer = _ask(question)
    try:
        return int(answer) if re.fullmatch(r"[+-]?\d+", answer) else float(answer)
    except ValueError:
        raise LocalError(f"{answer!r} is not a number: start again.") from None


def _ask(question: str) -> str:
    print(f"{question}: ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline().strip()
    if not answer:
        raise LocalError("\nThe answer is missing: give NAME=, DESCRIPTION= and SNAPSHOT=, or answer the questions.")
    return answer


def _say(*lines: str) -> None:
    print(*lines, sep="\n", file=sys.stderr)


def _round_up(count: int) -> int:
    """Round up to one significant digit, at least 10."""
    step = 10 ** (len(str(max(count, 10))) - 1)
    return max(-(-count // step) * step, 10)


def _import_package() -> None:
    if str(ROOT / "plugins") not in sys.path:
        sys.path.insert(0, str(ROOT / "plugins"))
