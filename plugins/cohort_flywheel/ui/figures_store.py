"""Count the figures of the pages from the results, snapshots and reports of the state bucket.

What was counted is kept beside the results, so that a run counts only what is new, and a cleaned Airflow database loses
nothing: `results/<cohort>/figures.json`, `results/overview.json` and `results/launches.json`. They hold no player.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from pydantic import Field

from cohort_flywheel.common.progress import Progress
from cohort_flywheel.common.records import Record, read_kept
from cohort_flywheel.config.cohorts import Cohort
from cohort_flywheel.config.decimals import Number, number_text, parse_number
from cohort_flywheel.config.registry import Registry
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook, get_json, objects, put_json
from cohort_flywheel.runs import names
from cohort_flywheel.runs.result import Result
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.members import Members
from cohort_flywheel.ui.figures import (
    MAX_DAYS,
    CohortFigures,
    CohortSummary,
    Day,
    Launches,
    Overlap,
    Stayed,
    ThresholdCounts,
    count_thresholds,
    day_of,
    earlier_days,
    threshold_counts,
    threshold_in_force,
)
from cohort_flywheel.ui.launches_store import read_launches
from cohort_flywheel.what_if.counts import joined_and_left

OVERVIEW_KEY = "results/overview.json"
#: The members of other cohorts that one run compares with; cohorts beyond it have no overlap.
MAX_COMPARED = 2_000_000


class KeptFigures(Record):
    """A cohort's figures, and by as-of the ETags of the results that its day was made from."""

    figures: CohortFigures
    read: dict[str, str] = Field(default_factory=dict)


class KeptOverview(Record):
    """The entry of each cohort in the overview, and the digest of the results that it was counted from, by its name."""

    cohorts: dict[str, CohortSummary] = Field(default_factory=dict)
    digests: dict[str, str] = Field(default_factory=dict)


class _Listed(NamedTuple):
    threshold: Number
    key: str
    etag: str
    written: datetime


class FiguresStore:
    """Read and write the figures in the state bucket; one run at a time writes them.

    :param s3: the S3 hook.
    :param bucket: the name of the bucket.
    :param registry: has the studio's names in the graph, the zone of its dates and the limit of DuckDB.
    :param folder: a folder for temporary files, which hold players.
    :param progress: counts the vertices that are read.
    """

    def __init__(self, s3: S3Hook, bucket: str, registry: Registry, folder: Path, progress: Progress) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._state = State(s3, bucket)
        self._schema = registry.data_schema
        self._zone = ZoneInfo(registry.timezone)
        self._memory_mb = registry.tuning.memory_mb
        self._folder = folder
        self._progress = progress

    def overview(self) -> KeptOverview:
        """The overview as it was written last."""
        return read_kept(KeptOverview, self._get(OVERVIEW_KEY)) or KeptOverview()

    def put_overview(self, overview: KeptOverview) -> None:
        self._put(OVERVIEW_KEY, overview)

    def digest(self, cohort: str) -> str:
        """A digest of the results of a cohort, without reading them: another one means that a result is new."""
        listed = sorted(each for found in self._results(cohort).values() for each in found)
        return hashlib.sha256(repr(listed).encode()).hexdigest()[:16]

    # --- a cohort

    def count(self, cohort: Cohort, others: Mapping[str, tuple[Cohort, Day]]) -> CohortFigures:
        """Count what is new of a cohort, keep its figures, and return them.

        :param others: the other cohorts, each with the day of its newest result.
        """
        key = names.figures_key(cohort.name)
        kept = read_kept(KeptFigures, self._get(key))
        before = {day.as_of: day for day in kept.figures.days} if kept else {}
        days, read, changed = list[Day](), dict[str, str](), set[datetime]()
        for as_of, listed in sorted(self._results(cohort.name).items())[-MAX_DAYS:]:
            etags = " ".join(f"{number_text(each.threshold)}:{each.etag}" for each in sorted(listed))
            read[as_of.isoformat()] = etags
            if kept and as_of in before and kept.read.get(as_of.isoformat()) == etags:
                days.append(before[as_of])
            else:
                day = day_of(self._read_results(listed), threshold_in_force(cohort, as_of, self._zone))
                written = next(each.written for each in listed if each.threshold == day.threshold)
                days.append(day.model_copy(update={"recorded": written}))
                changed.add(as_of)
        for index, (earlier, later) in enumerate(pairwise(days), start=1):
            if {earlier.as_of, later.as_of} & changed:
                found = self._compare(cohort, earlier, cohort, later)
                joined, left = found or (None, None)
                days[index] = later.model_copy(update={"joined": joined, "left": left})
        figures = CohortFigures(
            cohort=cohort.name,
            description=cohort.description,
            property=cohort.property,
            direction=cohort.direction,
            threshold=cohort.thresholds()[-1],
            lowest_threshold=cohort.threshold_range.min,
            highest_threshold=cohort.threshold_range.max,
            days=days,
        )
        if days:
            figures = figures.model_copy(update=self._count_newest(cohort, days, others))
        self._put(key, KeptFigures(figures=figures, read=read))
        return figures

    def _results(self, cohort: str) -> dict[datetime, list[_Listed]]:
        """The results of each as-of, without reading them."""
        found: dict[datetime, list[_Listed]] = {}
        prefix = f"results/{cohort}/"
        for each in objects(self._s3, self._bucket, prefix):
            threshold, _, name = each.key.removeprefix(prefix).partition("/")
            instant = name.removesuffix(".json")
            if names.is_instant(instant):
                found.setdefault(names.from_instant(instant), []).append(_Listed(parse_number(threshold), *each))
        return found

    def _read_results(self, listed: Iterable[_Listed]) -> dict[Number, Result]:
        found = ((each.threshold, get_json(self._s3, self._bucket, each.key)) for each in listed)
        return {threshold: Result.model_validate(each[0]) for threshold, each in found if each}

    def _count_newest(
        self, cohort: Cohort, days: list[Day], others: Mapping[str, tuple[Cohort, Day]]
    ) -> dict[str, object]:
        """What the figures have of the newest day only."""
        newest = days[-1]
        result = self._state.result(cohort.name, newest.threshold, newest.as_of)
        stayed = []
        for number, then in earlier_days(days, self._zone).items():
            if found := self._compare(cohort, then, cohort, newest):
                stayed.append(Stayed(days=number, members=newest.members - found[0]))
        overlaps, compared = [], 0
        for name, (other, its_day) in sorted(others.items(), key=lambda each: (each[1][1].members, each[0])):
            compared += its_day.members
            if compared > MAX_COMPARED:
                break
            if found := self._compare(other, its_day, cohort, newest):
                overlaps.append(Overlap(cohort=name, members=newest.members - found[0]))
        return {
            "limits": result.limits if result else [],
            "thresholds": self._count_thresholds(cohort, newest.as_of),
            "stayed": stayed,
            "overlaps": sorted(overlaps, key=lambda each: (-each.members, each.cohort)),
        }

    def _count_thresholds(self, cohort: Cohort, as_of: datetime) -> ThresholdCounts | None:
        """The members by threshold, from the final snapshot of an as-of; None without one that can be used."""
        try:
            snapshot = self._state.final_snapshot(cohort.name, as_of)
            floor = snapshot.header.floor if snapshot else 0
            if not (members := self._members(cohort, as_of, floor)):
                return None
            with members:
                self._progress.add(members.counts().vertices_read)
                counts = count_thresholds(members.count_scores(), cohort, floor)
        except FlywheelError as error:
            if error.code is Code.WORKER_FULL:
                raise
            return None
        return threshold_counts(counts, cohort, floor, as_of)

    def _compare(self, one: Cohort, day: Day, another: Cohort, its_day: Day) -> tuple[int, int] | None:
        """How many members are only of the second, and only of the first; None where a snapshot cannot be used."""
        first, second = self._player_ids(one, day), self._player_ids(another, its_day)
        return joined_and_left(self._folder, first, second, self._memory_mb) if first and second else None

    def _player_ids(self, cohort: Cohort, day: Day) -> Path | None:
        """A file of the members of a day; None where its snapshot is gone or of another form."""
        path = self._folder / f"members_{names.run_name(cohort.name, day.threshold, day.as_of)}.parquet"
        if path.exists():
            path.touch()
        else:
            try:
                if not (members := self._members(cohort, day.as_of, day.threshold)):
                    return None
                with members:
                    self._progress.add(members.counts().vertices_read)
                    members.write_player_ids(path)
            except FlywheelError as error:
                if error.code is Code.WORKER_FULL:
                    raise
                return None
            # keep the two files that were used last: all days of a year may not fit a worker's disk
            for earlier in sorted(self._folder.glob("members_*"), key=lambda file: file.stat().st_mtime_ns)[:-2]:
                earlier.unlink()
        return path

    def _members(self, cohort: Cohort, as_of: datetime, threshold: Number) -> Members | None:
        """The members of a day, which the caller closes; None without a snapshot that can be used."""
        snapshot = self._state.final_snapshot(cohort.name, as_of)
        if snapshot is None or snapshot.header.incompatibility(
            property=cohort.property,
            direction=cohort.direction,
            threshold=threshold,
            required=cohort.where,
            schema=cohort.schema_of(self._schema),
        ):
            return None
        path = self._folder / "snapshot.parquet"
        self._state.fetch_snapshot(snapshot.key, path)
        members = Members(
            self._folder,
            direction=cohort.direction,
            threshold=threshold,
            where=cohort.where,
            memory_mb=self._memory_mb,
        )
        members.add_snapshot(path)
        return members

    def launches(self) -> Launches:
        """Read the launches, keep them, and return them."""
        return read_launches(self._s3, self._bucket)

    def _get(self, key: str) -> object:
        found = get_json(self._s3, self._bucket, key)
        return found[0] if found else None

    def _put(self, key: str, value: Record) -> None:
        put_json(self._s3, self._bucket, key, value.model_dump(mode="json"))
