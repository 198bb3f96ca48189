"""The history of a chaos run: what was done, one JSON object per line. A run is resumed, replayed and shrunk by it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import JsonValue

#: `start` is a new installation, `round` a quiet point at which no invariant was violated, `stuck` one never reached.
type Kind = Literal["start", "action", "done", "kill", "cut", "round", "violation", "stuck"]
#: What a replay repeats; the quiet point of a `round` too, with its kills.
DONE = ("action", "kill", "cut", "round")
#: Seconds between a kill or a cut and an event that names a subject of a violation.
NEAR = 60.0
#: The cohort and the threshold in the name of a run or launch.
_RUN_NAME = re.compile(r"(\w+?)_(-?[\d.]+)_\d{4}-\d\d-\d\d_")


class Event(NamedTuple):
    """One event; `at` are seconds since 1970, `after` seconds since the start of the installation."""

    kind: Kind
    at: float
    after: float
    about: dict[str, JsonValue]

    @property
    def name(self) -> str:
        return str(self.about.get("name", ""))


class Counts(NamedTuple):
    """The numbers of the line that a chaos run prints."""

    kills: int = 0
    cuts: int = 0
    runs: int = 0
    launches: int = 0
    violations: int = 0

    def plus(self, other: Counts) -> Counts:
        return Counts(*map(sum, zip(self, other, strict=True)))

    def __str__(self) -> str:
        return (
            f"chaos: {self.kills} kills, {self.cuts} cuts, {self.runs} runs, {self.launches} launches,"
            f" {self.violations} violations"
        )


class History:
    """The file of one seed. An event is on disk before the next one happens."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events = read(path)

    def add(self, event: Event) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.events.append(event)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event._asdict()) + "\n")

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)
        self.events.clear()

    def set_aside(self, kills: int) -> None:
        """Begin again where so many kills are done without a violation; the file becomes earlier.jsonl."""
        counts = self.counts()
        if self.events and counts.kills >= kills and not counts.violations:
            self.path.replace(self.path.with_name("earlier.jsonl"))
            self.events.clear()

    def counts(self) -> Counts:
        """The sums of the rounds that ended without a violation, and the violations."""
        total = Counts()
        for event in self.events:
            if event.kind in ("round", "violation"):
                found = event.about["counts"]
                assert isinstance(found, dict)
                total = total.plus(Counts(**{name: int(str(number)) for name, number in found.items()}))
        return total

    def killed(self) -> Counter[str]:
        """The kills of the processes of each task."""
        return Counter(str(task) for event in self.events if event.kind == "kill" and (task := event.about.get("task")))

    def rounds(self) -> int:
        return sum(event.kind == "round" for event in self.events)

    def stuck(self) -> list[str]:
        """Why rounds did not end; the counts do not have their kills."""
        return [event.name for event in self.events if event.kind == "stuck"]

    def of_installation(self) -> list[Event]:
        """The events since the last start."""
        return last_installation(self.events)

    def coverage(self) -> dict[str, int]:
        """What the checker had to compare: the sums of the last quiet point of each installation."""
        last = list[dict[str, int]]()
        for event in self.events:
            found = event.about.get("coverage")
            if event.kind == "start":
                last.append({})
            elif isinstance(found, dict) and last:
                last[-1] = {name: int(str(number)) for name, number in found.items()}
        total = Counter[str]()
        for each in last:
            total.update(each)
        return dict(total)


def read(path: Path) -> list[Event]:
    """The events of a file; a line that a kill of this process has cut off is left out."""
    found = list[Event]()
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            found.append(Event(**json.loads(line)))
        except ValueError:
            break
    return found


def write(path: Path, events: Iterable[Event]) -> None:
    path.write_text("".join(json.dumps(event._asdict()) + "\n" for event in events), encoding="utf-8")


def last_installation(events: Sequence[Event]) -> list[Event]:
    """The events since the last start; all of them without one."""
    starts = [number for number, event in enumerate(events) if event.kind == "start"]
    return list(events[starts[-1] :] if starts else events)


def repeatable(events: Iterable[Event]) -> list[Event]:
    """The events that a replay does again, in their order."""
    return [event for event in events if event.kind in DONE and not event.about.get("quiet")]


def invariants(events: Iterable[Event]) -> set[str]:
    """The invariants of the violations that were found."""
    lists = [event.about.get("violations") for event in events if event.kind == "violation"]
    return {str(each[0]) for some in lists if isinstance(some, list) for each in some if isinstance(each, list)}


def related(events: Sequence[Event], subjects: Iterable[str]) -> list[Event]:
    """The actions that name a subject of a violation, or whose outcome does, and the kills and cuts near them.

    A subject is a run, a launch, a cohort or a player. Only the event after an action has the id of its run. A first
    guess at the shortest history, which needs no replay.
    """
    names = [subject for subject in subjects if subject]
    runs = [found.groups() for name in names if (found := _RUN_NAME.match(name))]
    texts = [*names, *(f'"cohort": "{cohort}", "threshold": {threshold}' for cohort, threshold in runs)]
    actions, times, last = list[Event](), list[float](), dict[str, Event]()
    for event in events:
        if event.kind == "action":
            last[event.name] = event
        if event.kind in ("action", "done") and any(text in json.dumps(event.about) for text in texts):
            times.append(event.at)
            if (action := last.get(event.name)) and action not in actions:
                actions.append(action)
    return [
        event
        for event in events
        if event in actions or (event.kind in ("kill", "cut") and any(abs(event.at - at) <= NEAR for at in times))
    ]


def shrink(events: Sequence[Event], shows: Callable[[Sequence[Event]], bool], tries: int) -> list[Event]:
    """The shortest history found within a number of tries that still shows the violation (delta debugging).

    :param shows: replays a history in a new installation; returns whether it shows the violation.
    """
    kept, parts = list(events), 2
    while len(kept) > 1 and tries > 0:
        size = -(-len(kept) // parts)
        for first in range(0, len(kept), size):
            rest = kept[:first] + kept[first + size :]
            if tries <= 0:
                return kept
            tries -= 1
            if rest and shows(rest):
                kept, parts = rest, max(parts - 1, 2)
                break
        else:
            if size == 1:
                return kept
            parts = min(parts * 2, len(kept))
    return kept
