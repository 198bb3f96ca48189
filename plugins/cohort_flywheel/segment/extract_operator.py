"""Write the members of a run to a file in S3: from the graph, with a snapshot of the day, or from a snapshot."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

from cohort_flywheel.common.collector import seldom_collecting
from cohort_flywheel.common.failures import describe_aws_error, describe_failure
from cohort_flywheel.common.records import Json
from cohort_flywheel.common.temporary_folder import TemporaryFolderMixin
from cohort_flywheel.config.cohorts import loosest_threshold
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.governance.erasure import Tombstones
from cohort_flywheel.governance.tombstones_store import read_tombstones
from cohort_flywheel.hooks.neptune import GraphUnavailableError, NeptuneGremlinHook
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.lock_store import release
from cohort_flywheel.runs.names import unusable_vertices_key
from cohort_flywheel.runs.newest_store import newest_as_of
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.runs.schedule import Clock, Schedule, schedule_in_force, utc_now
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.graph_names_store import check_loaded, check_names
from cohort_flywheel.segment.gremlin_to_s3_operator import put_extract, read_graph
from cohort_flywheel.segment.members import Members, UnusableScoreError
from cohort_flywheel.segment.outputs import Extract, ExtractSource, Shard
from cohort_flywheel.segment.snapshot import Header, Snapshot, write_snapshot
from cohort_flywheel.segment.source import EXTRACT, choose_source, is_canonical_run
from cohort_flywheel.segment.unusable_scores_store import count_without_number, put_unusable_vertices
from cohort_flywheel.segment.uploaded_extract_store import stream_uploaded_extract

if TYPE_CHECKING:
    from airflow.sdk import Context


class CohortExtractOperator(TemporaryFolderMixin, BaseOperator):
    """Write the extract of a run; if the graph is read for the as-of, keep the read as a snapshot.

    The source is chosen when the task runs: a task that is cleared days later does not read the graph for its as-of.
    Returns the shards, to map over; none in a run that ends here, so that the downstream tasks are skipped. The XCom
    `facts` has the output of GremlinToS3Operator, `source` (`graph`, `snapshot`, or `extract` for an uploaded one),
    `read_at` (when the graph was read, or the extract uploaded), `snapshot_key` (None with source `live`, an uploaded
    extract, or a dry run) and `snapshot` (`pending`, `final` or None). `s3_bucket` and `s3_key` are separate XComs too.

    :param plan: the output of CohortPlanOperator. (templated)
    :param neptune_conn_id: the Airflow connection of the graph.
    :param memory_mb: the limit of DuckDB, in MiB; None for its default.
    :param aws_conn_id: the Airflow connection for S3 and for signing.
    :param clock: gives the time, with its zone.
    """

    template_fields = ("plan",)
    ui_color = "#b7d7f0"

    def __init__(
        self,
        *,
        plan: Json,
        neptune_conn_id: str = NeptuneGremlinHook.default_conn_name,
        memory_mb: int | None = None,
        aws_conn_id: str | None = "aws_default",
        clock: Clock = utc_now,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self.neptune_conn_id = neptune_conn_id
        self.memory_mb = memory_mb
        self.aws_conn_id = aws_conn_id
        self.clock = clock

    def execute(self, context: Context) -> list[Json]:
        retry_note = (
            "Clearing this task is safe: it reads the graph only for the newest as-of, else the snapshot; it reads an"
            " uploaded extract again."
        )
        with describe_failure(retry_note) as side_effects, self.temporary_folder() as folder:
            plan = Plan.model_validate(self.plan)
            facts, shards = self.make(plan, folder, side_effects, schedule_in_force(context, plan))
            if plan.extract_only:  # the run ends here
                release(State(S3Hook(aws_conn_id=self.aws_conn_id), plan.state_bucket), plan, context)
                shards = []
        ti = context["ti"]
        ti.xcom_push(key="facts", value=facts.model_dump(mode="json"))
        ti.xcom_push(key="s3_bucket", value=facts.s3_bucket)
        ti.xcom_push(key="s3_key", value=facts.s3_key)
        # Airflow maps over what a task returns, and over no other XCom
        return [shard.model_dump(mode="json") for shard in shards]

    @seldom_collecting()
    def make(
        self, plan: Plan, folder: Path, side_effects: list[str], schedule: Schedule
    ) -> tuple[Extract, list[Shard]]:
        """Choose the source, by the current schedule, and write the extract; return facts and shards.

        The changes are added to `side_effects`.
        """
        s3 = S3Hook(aws_conn_id=self.aws_conn_id)
        state = State(s3, plan.state_bucket)
        now = self.clock()
        snapshot = find_source(state, plan, now, schedule)
        erased = read_tombstones(s3, plan.state_bucket)
        with Members(
            folder,
            direction=plan.direction,
            threshold=plan.threshold,
            where=plan.where,
            erased=erased.__contains__ if erased else None,
            memory_mb=self.memory_mb,
        ) as members:
            if uri := plan.extract_uri:
                source = self._read_uploaded_extract(plan, uri, s3, members)
            elif snapshot:
                source = self._read_snapshot(state, snapshot, members, folder)
            else:
                source = self._read_graph(plan, state, now, schedule, members, erased, folder, side_effects)
            file, shards = put_extract(
                s3,
                members,
                plan.property,
                folder,
                plan.extract_bucket,
                plan.extract_key,
                side_effects,
                plan.shard_members,
            )
        counted = file.model_dump() | {
            "vertices_read": file.vertices_read + members.vertices_erased,
            "vertices_erased": members.vertices_erased,
        }
        return Extract(**counted, **source.model_dump()), shards

    def _read_uploaded_extract(self, plan: Plan, uri: str, s3: S3Hook, members: Members) -> ExtractSource:
        uploaded = stream_uploaded_extract(
            s3, uri, plan.export_bucket, members.add,
            property=plan.property, direction=plan.direction, required=list(plan.where),
        )  # fmt: skip
        if uploaded.sha256 != plan.extract_sha256:
            raise FlywheelError(
                f"{uri} has changed since this run was planned, and its names have the earlier digest:"
                " trigger a new run",
                code=Code.UPLOAD_CHANGED,
            )
        return ExtractSource(source=EXTRACT, read_at=uploaded.uploaded_at, snapshot_key=None, snapshot=None)

    def _read_snapshot(self, state: State, snapshot: Snapshot, members: Members, folder: Path) -> ExtractSource:
        self.log.info("reading the members from snapshot %s", snapshot.key)
        path = folder / "snapshot.parquet"
        state.fetch_snapshot(snapshot.key, path)
        members.add_snapshot(path)
        return ExtractSource(
            source="snapshot",
            read_at=snapshot.header.read_at.isoformat(),
            snapshot_key=snapshot.key,
            snapshot="final" if snapshot.final else "pending",
        )

    def _read_graph(
        self,
        plan: Plan,
        state: State,
        now: datetime,
        schedule: Schedule,
        members: Members,
        erased: Tombstones | None,
        folder: Path,
        side_effects: list[str],
    ) -> ExtractSource:
        as_of, names = plan.as_of, plan.data_schema
        # a dry run writes nothing that another run uses, and a live run reads another day than its as-of
        keeps = is_canonical_run(plan) and not plan.dry_run
        header = Header(
            cohort=plan.cohort,
            as_of=as_of,
            property=plan.property,
            direction=plan.direction,
            floor=plan.floor,
            required=list(plan.where),
            read_at=now,
            vertex_label=names.vertex_label,
            player_id=names.player_id,
        )
        hook = NeptuneGremlinHook(plan.connection or self.neptune_conn_id, self.aws_conn_id)
        threshold = loosest_threshold([plan.floor, plan.threshold], plan.direction) if keeps else plan.threshold
        try:
            read = read_graph(
                hook,
                members,
                property=plan.property,
                direction=plan.direction,
                threshold=threshold,
                required=header.required,
                label=names.vertex_label,
                player_id=names.player_id,
            )
        except UnusableScoreError as error:
            raise self._with_list(error, plan, hook, threshold, folder, erased, side_effects) from None
        if not read.with_id and not plan.may_be_empty:
            searched, named_by = (names.player_id, "schema.player_id") if read.number else (plan.property, "property")
            check_names(hook, names.vertex_label, searched, named_by, plan.cohort)
        elif not read.number:
            check_loaded(hook)
        if keeps and schedule.last(self.clock()) > as_of:
            raise FlywheelError(
                f"a newer as-of than {as_of:%Y-%m-%d %H:%M} UTC began before the graph was read to its end, so the read"
                " is not kept as a snapshot: use an earlier snapshot of the day, or source=live",
                code=Code.DAY_HAS_PASSED,
            )
        key = None
        if keeps:
            path = folder / "snapshot.parquet"
            write_snapshot(members, header, path)
            key = state.put_snapshot(path, header)
            side_effects.append(f"a snapshot was kept at {key}")
        # last: a slow count, or one that is killed, must not lose the read
        without_number = count_without_number(hook, property=plan.property, label=names.vertex_label)
        return ExtractSource(
            source="graph",
            read_at=now.isoformat(),
            snapshot_key=key,
            snapshot="pending" if key else None,
            vertices_without_number=without_number,
        )

    def _with_list(
        self,
        error: UnusableScoreError,
        plan: Plan,
        hook: NeptuneGremlinHook,
        threshold: float,
        folder: Path,
        tombstones: Tombstones | None,
        side_effects: list[str],
    ) -> FlywheelError:
        """Return the error with the place of a list of the vertices, which is written to the state bucket."""
        key = unusable_vertices_key(plan.rejects_key)
        place = f"the ids of the vertices are in s3://{plan.state_bucket}/{key}"
        try:
            put_unusable_vertices(
                hook,
                S3Hook(aws_conn_id=self.aws_conn_id),
                plan.state_bucket,
                key,
                folder,
                tombstones,
                property=plan.property,
                direction=plan.direction,
                threshold=threshold,
                label=plan.data_schema.vertex_label,
                player_id=plan.data_schema.player_id,
            )
            side_effects.append("a list of these vertices was put")
        except (GraphUnavailableError, FlywheelError) as other:
            place = f"their ids could not be listed: {other.message}"
        except (ClientError, BotoCoreError, Boto3Error) as other:
            place = f"their ids could not be listed: {describe_aws_error(other).sentence}"
        return FlywheelError(f"{error.message}; {place}", code=error.code)


def find_source(state: State, plan: Plan, now: datetime, schedule: Schedule) -> Snapshot | None:
    """Return the snapshot that a run reads, or None for the graph or an extract.

    `schedule` is the current one, which decides which as-of is the newest. Raises FlywheelError if the run must read a
    snapshot and no compatible one exists.
    """
    if not is_canonical_run(plan):
        return None
    as_of, newest = plan.as_of, newest_as_of(state, plan.cohort, schedule, now)
    if plan.source == "auto" and as_of >= newest:  # pending snapshots are not used
        final = state.final_snapshot(plan.cohort, as_of)
        snapshots = [final] if final else []
    else:
        snapshots = state.snapshots(plan.cohort, as_of)
    return choose_source(
        plan,
        newest=newest,
        snapshots=snapshots,
        days=lambda: state.snapshot_days(plan.cohort),
    )
