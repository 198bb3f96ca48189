"""Delete segments, recipients and files past their retention that this package's reports and results name."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import closing
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from pydantic import BaseModel, JsonValue

from cohort_flywheel.common.failures import RetryableError, describe_failure
from cohort_flywheel.common.progress import Progress
from cohort_flywheel.common.records import Json
from cohort_flywheel.common.temporary_folder import TemporaryFolderMixin
from cohort_flywheel.config.params import refuse_unknown_params
from cohort_flywheel.config.variables import DeploymentSettings, read_settings
from cohort_flywheel.destinations import get_destination
from cohort_flywheel.destinations.base import Destination, DestinationCleanup
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.governance import cleanup
from cohort_flywheel.governance.artifacts_store import (
    Listed,
    list_reports_and_results,
    put_removed,
    read_artifacts,
    read_removed,
)
from cohort_flywheel.governance.cleanup import DRY_RUN, CleanupOutput, InventoryRow, RunArtifacts
from cohort_flywheel.governance.recipients_store import Recipients
from cohort_flywheel.hooks.s3 import S3Hook, Version, delete_version, keys, lines, versions
from cohort_flywheel.runs import names
from cohort_flywheel.runs.lock_store import ACTIVE_STATES, acquire, state_of, this_run
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.members import is_beyond
from cohort_flywheel.segment.snapshot import read_vertices

if TYPE_CHECKING:
    from airflow.sdk import Context

#: The folders of the files of runs: the setting of the bucket, and the folder. Files are removed in this order, because
#: the last run of a name decides whether its files are stale.
PLACES = (
    ("export_bucket", "export/"), ("import_bucket", names.SEGMENT_FOLDER), ("import_bucket", "contacts/"),
    ("state_bucket", "staged/"), ("state_bucket", "rejects/"), ("state_bucket", f"{DRY_RUN}export/"),
    ("state_bucket", f"{DRY_RUN}staged/"), ("state_bucket", f"{DRY_RUN}rejects/"),
    ("state_bucket", names.LAST_RUNS_FOLDER), ("state_bucket", DRY_RUN + names.LAST_RUNS_FOLDER),
)  # fmt: skip

#: The place of the segments of a destination that has none to delete.
_NO_PLACE = "none"

Files = Mapping[str, Mapping[str, Sequence[Version]]]


class CleanupParams(BaseModel):
    """The params of `cohort_cleanup`; Airflow has checked them against their JSON schema."""

    keep_days: float
    cohort: str | None
    dry_run: bool


class CohortCleanupOperator(TemporaryFolderMixin, BaseOperator):
    """Remove the artifacts of runs last reported more than `keep_days` before this one, or list them in a dry run.

    Keeps what no report or result names, the newest verified as-of of each cohort and threshold, and all snapshots,
    results and reports; and, while the members of a kept segment are unknown, runs with a segment or its file. Params:
    `keep_days`, `cohort` (None: all), `dry_run`. Returns (each also as a separate XCom) the numbers of run names
    `past_keep_by`, `kept` and `removed_before` (by earlier cleanups, and not read again), and the removed `segments`,
    `recipients`, `objects` (each version counts) and `bytes`.

    :param destination: the name of a destination.
    :param memory_mb: the limit of DuckDB, in MiB; None for its default.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    ui_color = "#e3d9c6"

    def __init__(
        self,
        *,
        destination: str,
        memory_mb: int | None = None,
        aws_conn_id: str | None = "aws_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.destination = destination
        self.memory_mb = memory_mb
        self.aws_conn_id = aws_conn_id

    def execute(self, context: Context) -> Json:
        retry_note = "Clearing this task is safe: it lists what is there again, and continues."
        with describe_failure(retry_note) as side_effects, self.temporary_folder() as folder:
            self.folder = folder
            refuse_unknown_params(context)
            params = CleanupParams.model_validate(context["params"])
            destination = get_destination(self.destination)
            self.settings = read_settings(DeploymentSettings, destination.cleanup_settings)
            self.deployment = DeploymentSettings.model_validate(self.settings)
            self.s3 = S3Hook(aws_conn_id=self.aws_conn_id)
            at_destination = destination.cleanup(self.settings, self.aws_conn_id)
            if not params.dry_run:
                refuse_active_runs(self.s3, self.deployment.state_bucket, context)
            files, listed = self._files(), list_reports_and_results(self.s3, self.deployment.state_bucket)
            # a file of a removed name is that of a run that was cleared since
            place = _place(destination, self.settings) if at_destination else _NO_PLACE
            removed = read_removed(self.s3, self.deployment.state_bucket, place, listed) - files.keys()
            artifacts = self._artifacts(listed, removed)
            keep_by = context["dag_run"].run_after - timedelta(days=params.keep_days)
            due = cleanup.expired(artifacts, keep_by, params.cohort)
            segments = [
                (one, each)
                for one in due
                for each in one.imported
                if at_destination and at_destination.has_segment(each)
            ]
            with closing(Recipients(folder)) as recipients:
                past_keep_by, rows = len(due), list[InventoryRow]()
                with_segment = {one.name for one, _ in segments}
                if at_destination:
                    rows, waiting = self._find(recipients, at_destination, artifacts, due, with_segment, files)
                    due = [one for one in due if one.name not in waiting]
                    segments = [(one, each) for one, each in segments if one.name not in waiting]
                inventory = [InventoryRow("segment", f"{one.name} ({each.segment_id})", 1) for one, each in segments]
                inventory += [*_file_rows(due, files), *rows]
                self.log.info(
                    "of %s run names %s were last reported before %s; earlier cleanups have removed %s others. %s\n%s",
                    f"{len(artifacts):,}", f"{past_keep_by:,}", f"{keep_by:%Y-%m-%d %H:%M} UTC", f"{len(removed):,}",
                    "Would be removed:" if params.dry_run else "Removing:", cleanup.table(inventory),
                )  # fmt: skip
                if not params.dry_run:
                    to_remove = [one.name for one in due if one.name in files or one.name in with_segment]
                    for name in to_remove:
                        acquire(self._state(), _claim_key(name), name, context)
                    if at_destination:
                        self._remove_recipients(recipients, at_destination, files, context, side_effects)
                        for _, each in segments:
                            at_destination.remove_segment(each)
                            side_effects.append(f"segment {each.segment_id} was removed")
                    self._remove_files(to_remove, files, context, side_effects)
                    removed_now = removed.union(one.name for one in due)
                    put_removed(self.s3, self.deployment.state_bucket, place, removed_now, listed)
        output = CleanupOutput(
            past_keep_by=past_keep_by,
            kept=len(artifacts) - past_keep_by,
            removed_before=len(removed),
            **cleanup.sums(inventory),
        )
        return output.model_dump(mode="json")

    def _state(self) -> State:
        return State(self.s3, self.deployment.state_bucket)

    # --- the artifacts

    def _artifacts(self, listed: Listed, skipped: Set[str]) -> list[RunArtifacts]:
        """The artifacts of the reports and results of each name, sorted by name."""
        bucket, progress, found = self.deployment.state_bucket, Progress(self.log, "reports and results read"), []
        for key in [each.key for name in listed if name not in skipped for each in listed[name]]:
            if one := read_artifacts(self.s3, bucket, key):
                found.append(one)
            progress.add(1)
        return cleanup.by_name(found)

    def _files(self) -> Files:
        """Every version of every file, by run name and kind."""
        found: dict[str, dict[str, list[Version]]] = defaultdict(lambda: defaultdict(list))
        for setting, folder in PLACES:
            for version in versions(self.s3, str(self.settings[setting]), folder):
                if read := cleanup.read_key(version.key):
                    found[read[1]][read[0]].append(version)
        return found

    # --- recipients: each may be in the segments of many runs

    def _find(
        self, recipients: Recipients, at_destination: DestinationCleanup, artifacts: Iterable[RunArtifacts],
        due: Iterable[RunArtifacts], with_segment: Iterable[str], files: Files,
    ) -> tuple[list[InventoryRow], Set[str]]:  # fmt: skip
        """Find the recipients that are in no kept segment; none if the members of a kept segment are unknown.

        Returns the rows, and the run names that must stay while those members are unknown: their files name the
        recipients that a later cleanup removes.
        """
        known, where = {one.name: one for one in artifacts}, "in no kept segment"
        to_remove = {one.name for one in due}
        candidates = to_remove.intersection(chain(with_segment, (n for n in files if "segment file" in files[n])))
        for name in candidates:
            recipients.add(self._recipients_of(name, known[name], at_destination, files) or ())
        if not recipients:
            return [], frozenset()
        for name in sorted((known.keys() | files.keys()) - to_remove):
            one = known.get(name)
            its = None if name.startswith(DRY_RUN) else self._recipients_of(name, one, at_destination, files)
            if its is None and one and any(at_destination.has_segment(each) for each in one.imported):
                why = (
                    f"the members of the segment of {name}, which is kept, are in no file and no snapshot; expired runs"
                    " with a segment or its file stay until you remove that segment"
                )
                recipients.clear()
                return [InventoryRow("recipients", where, 0, why=why)], candidates
            recipients.remove(its or ())
        opted_out = 0
        for batch in recipients.batches():
            answers = [(each, at_destination.is_deletable(each)) for each in batch]
            recipients.remove(each for each, deletable in answers if not deletable)
            opted_out += sum(deletable is False for _, deletable in answers)
        found = [InventoryRow("recipients", where, len(recipients))] if recipients else []
        if opted_out:
            found.append(InventoryRow("recipients", where, opted_out, why="they have opted out"))
        return found, frozenset()

    def _recipients_of(
        self, name: str, one: RunArtifacts | None, at_destination: DestinationCleanup, files: Files
    ) -> Iterator[str] | None:
        """The recipients of a name, with duplicates, and possible recipients; None if they are unknown.

        A part of the file may have expired before the others, so the players of the snapshots are added.
        """
        parts = [v for v in files.get(name, {}).get("segment file", ()) if v.is_latest and not v.is_marker]
        bucket = self.deployment.state_bucket
        snapshots = [key for key in sorted(one.snapshots if one else ()) if self.s3.check_for_key(key, bucket)]
        if not parts and not snapshots:
            return None
        return chain(
            chain.from_iterable(self._in_file(part, at_destination.column) for part in parts),
            (at_destination.recipient(player) for key in snapshots for player in self._in_snapshot(key, one)),
        )

    def _in_file(self, part: Version, column: str) -> Iterator[str]:
        rows = csv.reader(line.decode() for line in lines(self.s3, part.bucket, part.key))
        header = next(rows, [])
        if column in header:
            yield from (row[header.index(column)] for row in rows)

    def _in_snapshot(self, key: str, one: RunArtifacts | None) -> Iterator[str]:
        path = self.folder / "snapshot.parquet"
        self._state().fetch_snapshot(key, path)
        for vertex in read_vertices(path, self.memory_mb):
            is_member = not one or not one.direction or is_beyond(vertex.score, one.direction, one.threshold)
            if vertex.player_id and is_member:
                yield vertex.player_id

    # --- the removal

    def _remove_recipients(
        self,
        recipients: Recipients,
        at_destination: DestinationCleanup,
        files: Files,
        context: Context,
        side_effects: list[str],
    ) -> None:
        removed, seen = 0, {each.key for kinds in files.values() for each in kinds.get("segment file", ())}
        for batch in recipients.batches():
            refuse_active_runs(self.s3, self.deployment.state_bucket, context)
            now = keys(self.s3, self.deployment.import_bucket, names.SEGMENT_FOLDER)
            if any(key not in seen and cleanup.read_key(key) for key in now):  # it began and ended meanwhile
                raise RetryableError(
                    "a run has put a segment file meanwhile: a later attempt reads which players it has", code=Code.BUSY
                )
            for each in batch:
                if at_destination.is_deletable(each):  # it may have opted out meanwhile
                    at_destination.remove_recipient(each)
                    removed += 1
            side_effects[:] = [f"{removed:,} recipients were removed"]

    def _remove_files(self, to_remove: Iterable[str], files: Files, context: Context, side_effects: list[str]) -> None:
        """The lock of a name is released once all of its files are removed."""
        state = self._state()
        for name in to_remove:
            for version in chain.from_iterable(files.get(name, {}).values()):
                delete_version(self.s3, version)
            side_effects.append(f"the files of {name} were removed")
            state.release_lock(_claim_key(name), this_run(context))


def refuse_active_runs(s3: S3Hook, bucket: str, context: Context) -> None:
    """Raise FlywheelError while another active run holds a lock: it may import any player."""
    for key in chain(keys(s3, bucket, names.CLAIMS_FOLDER), keys(s3, bucket, DRY_RUN + names.CLAIMS_FOLDER)):
        claim = State(s3, bucket).lock_holder(key)
        if claim and claim[0] != this_run(context) and (state := state_of(context["ti"], claim[0])) in ACTIVE_STATES:
            raise FlywheelError(
                f"run {claim[0].run_id} of DAG {claim[0].dag_id} is {state}, and nothing is removed while a run"
                " is active: wait for its end, then clear this task",
                code=Code.STILL_RUNNING,
            )


def _place(destination: Destination, settings: Mapping[str, JsonValue]) -> str:
    """Where the segments of a destination are: its name, and the settings that its cleanup reads."""
    return " ".join([destination.name, *(str(settings[each]) for each in destination.cleanup_settings.model_fields)])


def _file_rows(due: Iterable[RunArtifacts], files: Files) -> list[InventoryRow]:
    """One row for each kind of file of each name."""
    return [
        InventoryRow(what, one.name, len(found), sum(version.bytes for version in found))
        for one in due
        for what, found in files.get(one.name, {}).items()
    ]


def _claim_key(name: str) -> str:
    return DRY_RUN * name.startswith(DRY_RUN) + names.claim_key(name.removeprefix(DRY_RUN))
