"""Evaluate the limits, make the snapshot final, and copy the segment file to the import bucket."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.utils.skipmixin import SkipMixin
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.common.records import Json
from cohort_flywheel.common.temporary_folder import TemporaryFolderMixin
from cohort_flywheel.config.decimals import number_text
from cohort_flywheel.destinations import get_destination
from cohort_flywheel.errors import Code
from cohort_flywheel.hooks.s3 import S3Hook, copy_unless_equal
from cohort_flywheel.runs.lock_store import release
from cohort_flywheel.runs.names import rejects_folder, segment_part_key
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.runs.schedule import Schedule, schedule_in_force
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.do_not_contact_store import count_matched
from cohort_flywheel.segment.enrich_operator import DynamoDBEnrichOperator, enrich_arguments
from cohort_flywheel.segment.extract_operator import CohortExtractOperator
from cohort_flywheel.segment.limits import (
    check_consent_attribute,
    check_record_attributes,
    describe_violations,
    evaluate_limits,
)
from cohort_flywheel.segment.members import Members, is_beyond
from cohort_flywheel.segment.outputs import (
    CheckedSegment,
    Extract,
    JudgedSegment,
    LimitsOverride,
    PartFile,
    Previous,
    Segment,
    SegmentPart,
    Shard,
)
from cohort_flywheel.segment.segment_file import combine
from cohort_flywheel.segment.snapshot import Snapshot

if TYPE_CHECKING:
    from airflow.sdk import Context


class StoppedByLimitError(AirflowFailException):
    """A run is outside the limits of its cohort, without an override."""


class CohortLimitsOperator(TemporaryFolderMixin, BaseOperator, SkipMixin):
    """Fail for a run outside its limits; else make its snapshot final, and release its segment file.

    The parts of the segment file are combined first. A read of the graph without vertices remains pending: a later run
    of the as-of reads again. If another run of the as-of has made its snapshot final, the extract and the segment file
    are made again from that one. A dry run ends here, and so does an empty cohort unless the destination imports it:
    the downstream tasks are skipped. Returns (each also an XCom of its own)
    `limits` (verdicts), `previous`, `override`, `snapshot` (the key, or None), the current `extract` and `segment`,
    and of the segment file `s3_url` and `rows`.

    :param plan: the output of CohortPlanOperator. (templated)
    :param extract: the facts of CohortExtractOperator. (templated)
    :param shards: its output. (templated)
    :param parts: the outputs of DynamoDBEnrichOperator, one per shard. (templated)
    :param handle_empty_segment: the destination's method, called with the plan and the settings if the segment
        file has no rows. If it returns True, the empty segment file is imported.
    :param memory_mb: the limit of DuckDB, in MiB; None for its default.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    template_fields = ("plan", "extract", "shards", "parts")
    ui_color = "#f7d9a8"
    #: Makes the scheduler skip a cleared task again, by this task's XCom [NotPreviouslySkippedDep].
    inherits_from_skipmixin = True

    def __init__(
        self,
        *,
        plan: Json,
        extract: Json,
        shards: Sequence[Json],
        parts: Sequence[Json],
        handle_empty_segment: Callable[[Plan, Json], bool],
        memory_mb: int | None = None,
        aws_conn_id: str | None = "aws_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.plan = plan
        self.extract = extract
        self.shards = shards
        self.parts = parts
        self.handle_empty_segment = handle_empty_segment
        self.memory_mb = memory_mb
        self.aws_conn_id = aws_conn_id

    def execute(self, context: Context) -> Json:
        retry_note = "Clearing this task is safe: it evaluates the limits again, and writes the same file."
        ti = context["ti"]
        with describe_failure(retry_note) as side_effects, self.temporary_folder() as folder:
            s3 = S3Hook(aws_conn_id=self.aws_conn_id)
            plan = Plan.model_validate(self.plan)
            state = State(s3, plan.state_bucket)
            extract = Extract.model_validate(self.extract)
            shards = [Shard.model_validate(shard) for shard in self.shards]
            segment = self._combine(plan, s3, folder, map(SegmentPart.model_validate, self.parts), shards)
            judged = self._judge(plan, state, folder, extract, segment, context)
            final = self._make_final(plan, state, folder, judged, side_effects)
            if final and extract.snapshot_key and not final.is_of(extract.snapshot_key):
                schedule = schedule_in_force(context, plan)
                extract, segment = self._make_again(plan, s3, folder, side_effects, final.key, schedule)
                judged = self._judge(plan, state, folder, extract, segment, context)
            imports = not plan.dry_run
            if imports and not segment.rows:
                imports = self.handle_empty_segment(plan, self.plan)
            if imports:
                segment = self._release(plan, s3, segment, side_effects)
            else:
                release(state, plan, context)
            judged = judged.model_copy(update={"segment": segment})
            ti.xcom_push(
                key="judged", value=judged.model_dump(mode="json")
            )  # with the segment file's place as it is now
            snapshot = final.key if final else extract.snapshot_key
            checked = CheckedSegment(**judged.model_dump(), snapshot=snapshot, s3_url=segment.s3_url, rows=segment.rows)
            output = checked.model_dump(mode="json")
        if not imports:
            ti.xcom_push(key="return_value", value=output)  # because skip raises
            downstream = [t for t in context["task"].get_direct_relatives(upstream=False) if not t.is_teardown]
            self.skip(ti=ti, tasks=downstream)
        return output

    def _judge(
        self, plan: Plan, state: State, folder: Path, extract: Extract, segment: Segment, context: Context
    ) -> JudgedSegment:
        """Evaluate the limits of the run; raises StoppedByLimitError. The results are an XCom in any case."""
        previous = self._previous(plan, state, folder)
        results = evaluate_limits(
            plan.limits.model_dump(), members=segment.members, rejects=segment.rejects, previous=previous
        )
        for result in results:
            status = "holds" if result.holds else "DOES NOT HOLD"
            self.log.info(
                "%s %s %s: %s (%s)", result.limit, f"{result.allowed:,}", status,
                "not evaluated" if result.found is None else result.found, result.sentence,
            )  # fmt: skip
        override = None
        if plan.override:
            broken = [result.limit for result in results if not result.holds]
            override = LimitsOverride(by=plan.override.by, reason=plan.override.reason, limits=broken)
        judged = JudgedSegment(limits=results, previous=previous, override=override, extract=extract, segment=segment)
        # a stopped run has no other output
        context["ti"].xcom_push(key="judged", value=judged.model_dump(mode="json"))
        check_consent_attribute(plan.consent, segment)
        if not plan.override:
            check_record_attributes(plan.data_schema, plan.attributes, segment)
        if why := self._stops(plan, judged):
            raise StoppedByLimitError(f"{Code.OUTSIDE_LIMITS}: {why}")
        return judged

    def _previous(self, plan: Plan, state: State, folder: Path) -> Previous | None:
        """The previous members: of the last verified segment, else of the last final snapshot at this threshold."""
        if result := state.previous_result(plan.cohort, plan.threshold, plan.as_of):
            return Previous(members=result.members, what=f"the segment of {result.as_of.isoformat()}")
        for day in reversed([day for day in state.snapshot_days(plan.cohort) if day < plan.as_of]):
            snapshot = state.final_snapshot(plan.cohort, day)
            if snapshot and not snapshot.header.incompatibility(
                property=plan.property,
                direction=plan.direction,
                threshold=plan.threshold,
                required=plan.where,
                schema=plan.data_schema,
            ):
                path = folder / "previous.parquet"
                state.fetch_snapshot(snapshot.key, path)
                with Members(
                    folder,
                    direction=plan.direction,
                    threshold=plan.threshold,
                    where=plan.where,
                    memory_mb=self.memory_mb,
                ) as members:
                    members.add_snapshot(path)
                    return Previous(members=members.counts().members, what=f"the snapshot of {day.isoformat()}")
        return None

    def _stops(self, plan: Plan, judged: JudgedSegment) -> str | None:
        why = describe_violations(judged.limits)
        if why is None:
            return None
        if override := judged.override:
            self.log.warning("Limits overridden by %s (%s): %s", override.by, override.reason, why)
            return None
        milder = is_beyond(plan.floor, plan.direction, plan.threshold)
        from_it = judged.extract.snapshot_key and not milder
        same = " source=snapshot (these figures, unless the graph was read again since)," if from_it else ""
        return (
            f"{plan.name} is outside the limits of its cohort: {why}; nothing is imported, and its own snapshot remains"
            " pending. Look at the graph and at the contacts; if the figures are right, trigger a new run with"
            f" cohort={plan.cohort}, threshold={number_text(plan.threshold)},{same} override_limits and"
            " override_reason, and, once a later day is complete, with the logical date"
            f" {plan.as_of + timedelta(minutes=1):%Y-%m-%dT%H:%M:%SZ} and no data interval (clearing this one keeps its"
            " params)"
        )

    def _make_final(
        self, plan: Plan, state: State, folder: Path, judged: JudgedSegment, side_effects: list[str]
    ) -> Snapshot | None:
        """Return the final snapshot of the as-of; None for a run without a snapshot, and where it remains pending."""
        key = judged.extract.snapshot_key
        if key is None or plan.dry_run:
            return None
        nothing = not judged.extract.vertices_read and not judged.override
        if nothing and not state.final_snapshot(plan.cohort, plan.as_of):
            # the cohort may be empty, or the graph not loaded yet, which must not become the final snapshot
            self.log.warning("Graph query returned no vertices beyond the floor; snapshot %s remains pending", key)
            return None
        final = state.make_final(plan.cohort, plan.as_of, key, folder)
        side_effects.append(f"the final snapshot is {final.key}")
        return final

    def _make_again(
        self, plan: Plan, s3: S3Hook, folder: Path, side_effects: list[str], snapshot: str, schedule: Schedule
    ) -> tuple[Extract, Segment]:
        """Make the extract and the segment file again from the final snapshot of another run."""
        self.log.info("another run has made snapshot %s final: making extract and segment file from it", snapshot)
        again = CohortExtractOperator(
            task_id="again", plan=self.plan, memory_mb=self.memory_mb, aws_conn_id=self.aws_conn_id
        )
        extract, shards = again.make(plan, folder, side_effects, schedule)
        arguments, parts = enrich_arguments(plan.model_dump(mode="json"), extract.model_dump(mode="json")), []
        for shard in shards:
            enrich = DynamoDBEnrichOperator(
                task_id="again",
                aws_conn_id=self.aws_conn_id,
                shard=shard.model_dump(mode="json"),
                in_flight=plan.lookups_in_flight,
                **arguments,
            )
            with TemporaryDirectory(dir=folder) as own:
                parts.append(SegmentPart.model_validate(enrich.make(Path(own), side_effects)))
        return extract, self._combine(plan, s3, folder, parts, shards)

    def _combine(
        self, plan: Plan, s3: S3Hook, folder: Path, parts: Iterable[SegmentPart], shards: Sequence[Shard]
    ) -> Segment:
        layout = get_destination(plan.layout).layout
        bucket, key = plan.state_bucket, f"{plan.staged_folder}{plan.name}/"
        combined = combine(parts, shards, layout.max_bytes)
        with closing(sqlite3.connect(folder / "matched.sqlite")) as listed:
            matched = count_matched(s3, bucket, combined.matched_keys, listed)
        return Segment(
            **combined.model_dump(), do_not_contact_matched=matched, s3_bucket=bucket, s3_key=key,
            s3_url=f"s3://{bucket}/{key}", rejects_key=rejects_folder(plan.rejects_key, shards[0].of, shards[0].size),
        )  # fmt: skip

    def _release(self, plan: Plan, s3: S3Hook, segment: Segment, side_effects: list[str]) -> Segment:
        """Copy the parts from the state bucket to where the destination reads: only here can it import them."""
        bucket, parts = plan.segment_bucket, []
        side_effects.append(f"parts of the segment file may be in {bucket}")
        for index, part in enumerate(segment.parts):
            key = segment_part_key(plan.segment_folder, plan.name, segment.sha256, index)
            copy_unless_equal(s3, (plan.state_bucket, part.s3_key), (bucket, key), part.sha256)
            parts.append(PartFile(s3_key=key, sha256=part.sha256))
        key = parts[0].s3_key.rpartition("/")[0] + "/"
        url = f"s3://{bucket}/{key}"
        side_effects[-1] = f"the segment file was put at {url}"
        return segment.model_copy(update={"s3_bucket": bucket, "s3_key": key, "s3_url": url, "parts": parts})
