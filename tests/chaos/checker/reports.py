"""The sums of reports: of runs, of engagement, of graph loads, and of what-if."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from tests.chaos.checker.world import STATE, Violation, World, rows

_READ = ("vertices", "vertices_not_beyond", "vertices_not_as_required", "vertices_erased")
_VERTICES = ("members", "merged", "vertices_without_playerId")
_EVENTS = ("events", "repeated", "late", "other_mails")

#: What a number is of, the number, and the sum of its parts.
type Sum = tuple[str, int, int]


def report_sums(world: World) -> Iterator[Violation]:
    """The sums of each report hold, and the report of a run says so itself."""
    for key, report in world.reports():
        yield from _unequal(key, _of_run(report), subjects_of(report))
        for fault in report["faults"]:
            yield Violation("report sums", f"{key}: {fault}", subjects_of(report))
    for key in world.below(STATE, "engagement/reports/", ".json"):
        yield from _unequal(key, _of_engagement(world.json(STATE, key)))
    for key in world.below(STATE, "staged/graph_loads/", "/report.json"):
        yield from _unequal(key, _of_graph_load(world.json(STATE, key)))
    for key in world.below(STATE, "what_if/", ".csv"):
        yield from _unequal(key, _of_what_if(rows(world.buckets[STATE][key])))


def subjects_of(report: Mapping[str, Any]) -> tuple[str, ...]:
    cohort = report["plan"]["cohort"] if report["plan"] else ""
    return (str(report["run"]["run_id"]), cohort)


def _unequal(key: str, sums: Iterable[Sum], subjects: tuple[str, ...] = ()) -> Iterator[Violation]:
    for what, number, parts in sums:
        if number != parts:
            yield Violation("report sums", f"{key}: {what} {number:,}, and the parts are {parts:,}", subjects)


def _of_run(report: Mapping[str, Any]) -> Iterator[Sum]:
    extract, segment, imported = report["extract"], report["segment"], report["imported"]
    if extract:
        yield "vertices read", extract["vertices_read"], sum(extract[name] for name in _READ)
        yield "vertices", extract["vertices"], sum(extract[name] for name in _VERTICES)
    if segment:
        yield "members", segment["members"], segment["rows"] + sum(segment["rejects"].values())
    if extract and segment:
        yield "members of the extract", extract["members"], segment["members"]
    if segment and imported:
        yield "the segment's size", imported["segment_size"], segment["rows"]
        yield "contacts", imported["segment_size"], imported["new_contacts"] + imported["already_on_list"]
    if launched := (report["campaign"] or {}).get("launched"):
        known = launched["sent"] + launched["in_doubt"]
        known += sum(launched["withdrawn"].values()) + sum(launched["refused"].values())
        yield "rows of the launch", launched["rows"], known
        if segment:
            yield "rows of the segment", segment["rows"], launched["rows"] + launched.get("left", 0)


def _of_engagement(report: Mapping[str, Any]) -> Iterator[Sum]:
    events = report["events"]
    yield "records", events["records"], sum(events[name] for name in _EVENTS) + sum(events["unknown_types"].values())
    for name, counts in report["launches"].items():
        yield f"messages of {name}", counts["messages"], sum(counts["states"].values())


def _of_graph_load(report: Mapping[str, Any]) -> Iterator[Sum]:
    for what, name in (("loaded records", "loaded"), ("duplicates", "duplicates")):
        yield what, report[name], sum(job["records" if name == "loaded" else name] for job in report["jobs"])


def _of_what_if(days: Iterable[Mapping[str, str]]) -> Iterator[Sum]:
    """Joined and left compare with the counted day before."""
    counted = [day for day in days if day["members"]]
    for before, day in pairwise(counted):
        parts = int(before["members"]) + int(day["joined"]) - int(day["left"])
        yield f"members of {day['as_of']}", int(day["members"]), parts


CHECKS = (report_sums,)
