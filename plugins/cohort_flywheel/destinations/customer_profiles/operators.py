"""Upload the segment file to Customer Profiles: its players are set `in`, former members are set `out`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields
from airflow.sdk.exceptions import AirflowSkipException
from botocore.exceptions import ClientError

from cohort_flywheel.common.failures import RetryableError, describe_failure, unconfirmed
from cohort_flywheel.common.records import Json
from cohort_flywheel.common.temporary_folder import TemporaryFolderMixin
from cohort_flywheel.destinations.customer_profiles import layout
from cohort_flywheel.destinations.customer_profiles.hook import CustomerProfilesHook
from cohort_flywheel.destinations.customer_profiles.profiles_outputs import ProfilesImport, UploadJobs
from cohort_flywheel.destinations.customer_profiles.segment_membership_store import (
    SegmentMembershipRecord,
    SegmentMembershipStore,
)
from cohort_flywheel.destinations.customer_profiles.upload_files import UploadFiles
from cohort_flywheel.destinations.import_result import import_content
from cohort_flywheel.destinations.leavers import SegmentPlayers
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.newest_store import skip_unless_newest
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.runs.schedule import Clock, utc_now
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.outputs import Segment
from cohort_flywheel.segment.segment_file import digest
from cohort_flywheel.segment.segment_file_store import segment_rows

if TYPE_CHECKING:
    from airflow.sdk import Context

_ENDED_BADLY = ("PARTIALLY_SUCCEEDED", "FAILED", "STOPPED")


class CustomerProfilesCreateUploadJobsOperator(TemporaryFolderMixin, AwsBaseOperator[CustomerProfilesHook]):
    """Start the upload jobs that give a segment the members of a segment file, or adopt existing jobs.

    The rows are set `in`. Players that an earlier upload may have set `in` and that have no row are set `out`. The
    segment membership record is written before a job is created. The uploads of a segment are numbered, so that the
    name of a job is unique. A job of the same file and the same upload is adopted, and started if it was not. After a
    job that ended with errors, all files are uploaded again. One run at a time changes a segment, from this task to
    its verified segment. The run of an older as-of is skipped here. Returns (each also as a separate XCom) `job_ids`,
    and the numbers of players `set_in` and `set_out`.

    :param plan: the output of CohortPlanOperator. (templated)
    :param segment: the segment file, as CohortLimitsOperator released it. (templated)
    :param domain: the domain of Customer Profiles. (templated)
    :param data_expiry: days until the profiles of this upload expire, if no later one renews them. (templated)
    :param memory_mb: the limit of DuckDB, in MiB; None for its default.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    :param clock: returns the current time, with its zone.
    """

    aws_hook_class = CustomerProfilesHook
    template_fields = aws_template_fields("plan", "segment", "domain", "data_expiry")
    ui_color = "#d5c7f2"

    def __init__(
        self,
        *,
        plan: Json,
        segment: Json,
        domain: str,
        data_expiry: str | int,
        memory_mb: int | None = None,
        clock: Clock = utc_now,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.plan = plan
        self.segment = segment
        self.domain = domain
        self.data_expiry = data_expiry
        self.memory_mb = memory_mb
        self.clock = clock

    def execute(self, context: Context) -> Json:
        retry_note = "Clearing this task is safe: it continues with the jobs of the same files."
        with describe_failure(retry_note) as side_effects, self.temporary_folder() as folder:
            s3 = S3Hook(aws_conn_id=self.aws_conn_id, region_name=self.region_name)
            plan = Plan.model_validate(self.plan)
            state = State(s3, plan.state_bucket)
            store = SegmentMembershipStore(s3, plan, self.domain)
            self._check_newest(plan, state, store, context)
            store.acquire_lock(state, context)
            self._check_newest(plan, state, store, context)  # again, now that no other run can change it
            segment = Segment.model_validate(self.segment)
            return self._upload(plan, s3, store, segment, folder, side_effects).model_dump(mode="json")

    def _check_newest(self, plan: Plan, state: State, store: SegmentMembershipStore, context: Context) -> None:
        """Skip the run also where an upload of a newer as-of is recorded, whatever the current schedule."""
        record = store.read()
        imported = datetime.fromisoformat(record.as_of) if record and record.as_of else None
        try:
            skip_unless_newest(plan, state, context, self.clock, self.log, imported)
        except AirflowSkipException:
            store.release_lock(state, context)
            raise

    def _upload(
        self,
        plan: Plan,
        s3: S3Hook,
        store: SegmentMembershipStore,
        segment: Segment,
        folder: Path,
        side_effects: list[str],
    ) -> UploadJobs:
        record, content = store.read(), import_content(plan.name, segment)
        if record and record.same_verified(content):
            self.log.info("upload %s of segment %s was verified with the same content", record.upload, store.name)
            return UploadJobs(job_ids=record.job_ids or [], set_in=record.set_in, set_out=record.set_out)
        jobs = self._jobs(store.name)
        upload = self._upload_number(record, content, jobs)
        with closing(SegmentPlayers(folder, self.memory_mb)) as players:
            rows = segment_rows(s3, segment)
            header = layout.upload_header(next(rows), store.name)
            ins = UploadFiles(folder, layout.IN, header)
            players.add_recorded(store.players())
            players.add_rows(ins.write_members(rows))
            ins.close()
            outs = UploadFiles(folder, layout.OUT, layout.out_header(store.name))
            for player_id in players.leavers():
                outs.add(layout.out_row(player_id))
            outs.close()
            # first remove players, who may have withdrawn
            files = self._named(store.name, plan.as_of, upload, outs, ins)
            self._check_other_jobs(jobs, files, side_effects)
            begun = SegmentMembershipRecord(content, upload, ins.rows, outs.rows, as_of=plan.as_of.isoformat())
            if record != begun:
                store.write(folder, begun, players.all())
                side_effects.append(f"upload {upload} of {store.name} was recorded")
        job_ids = [self._job(name, file, jobs, side_effects) for name, file in files.items()]
        self.log.info(
            "segment %s: %s players are set in and %s out by upload jobs %s",
            store.name, f"{ins.rows:,}", f"{outs.rows:,}", ", ".join(job_ids) or "(none needed)",
        )  # fmt: skip
        return UploadJobs(job_ids=job_ids, set_in=ins.rows, set_out=outs.rows)

    def _jobs(self, name: str) -> list[_Job]:
        """The jobs of all uploads of this segment; jobs that were started come first."""
        found = [
            _Job(item["JobId"], item["DisplayName"], upload, item["Status"])
            for item in self.hook.upload_jobs(self.domain)
            if (upload := layout.upload_of(item["DisplayName"], name)) is not None
        ]
        return sorted(found, key=lambda job: job.status == "CREATED")

    def _upload_number(
        self, record: SegmentMembershipRecord | None, content: Mapping[str, str], jobs: Iterable[_Job]
    ) -> int:
        """The number of the upload in progress with this content, or the next number."""
        last = record.upload if record else 0
        if record and record.content == content:
            if not any(job.upload == last and self._ended_badly(job) for job in jobs):
                return last
            self.log.info("a job of upload %s ended with errors: all files are uploaded again", last)
        return max([last, *(job.upload for job in jobs)]) + 1

    def _ended_badly(self, job: _Job) -> bool:
        if job.status != "SUCCEEDED":
            return job.status in _ENDED_BADLY
        summary = self.hook.get_upload_job(self.domain, job.id).get("ResultsSummary", {})
        return bool(summary.get("FailedRecords"))

    def _named(self, name: str, as_of: datetime, upload: int, *kinds: UploadFiles) -> dict[str, _File]:
        return {
            layout.upload_job_name(name, as_of, upload, files.kind, index, digest(path)): _File(path, files.header)
            for files in kinds
            for index, path in enumerate(files.paths)
        }

    def _check_other_jobs(self, jobs: Iterable[_Job], files: Mapping[str, _File], side_effects: list[str]) -> None:
        """Check that no job of another file can still change the segment, and stop jobs that were never started."""
        for job in jobs:
            if job.name in files:
                continue
            if job.status == "IN_PROGRESS" or (job.status == "CREATED" and not self._stop(job.id, side_effects)):
                raise RetryableError(
                    f"upload job {job.id} is running with another file of the same segment: a later attempt follows it",
                    code=Code.BUSY,
                )

    def _stop(self, job_id: str, side_effects: list[str]) -> bool:
        """Stop a job that an earlier run created and did not start; returns False where it was started."""
        try:
            self.hook.stop_upload_job(self.domain, job_id)
        except ClientError as error:
            if error.response["Error"]["Code"] != "BadRequestException":
                raise
            if self.hook.get_upload_job(self.domain, job_id)["Status"] != "CREATED":
                return False
            self.log.warning("upload job %s was never started, and cannot be stopped: it is kept", job_id)
            return True
        side_effects.append(f"upload job {job_id} of an earlier file, which was never started, was stopped")
        return True

    def _job(self, name: str, file: _File, jobs: Iterable[_Job], side_effects: list[str]) -> str:
        """The job of a file, started."""
        found = next((job for job in jobs if job.name == name), None)
        if found and found.status != "CREATED":
            self.log.info("adopted upload job %s, which has the same file", found.id)
            side_effects.append(f"upload job {found.id} of this segment file was started before")
            return found.id
        job_id = found.id if found else self._create(name, file.header, side_effects)
        self.hook.put_upload(self.domain, job_id, file.path)
        refused = f"upload job {job_id} has its file and was not started"
        with unconfirmed(side_effects, f"upload job {job_id} may have been started", refused=refused):
            self.hook.start_upload_job(self.domain, job_id)
        side_effects[-1] = f"upload job {job_id} was started"
        return job_id

    def _create(self, name: str, header: Sequence[str], side_effects: list[str]) -> str:
        request = {
            "DisplayName": name, "Fields": layout.fields(header), "UniqueKey": layout.UNIQUE_KEY,
            "DataExpiry": int(self.data_expiry),
        }  # fmt: skip
        with unconfirmed(side_effects, "another upload job may have been created"):
            job_id = self.hook.create_upload_job(self.domain, request)
        side_effects[-1] = f"upload job {job_id} was created"
        return job_id


class CustomerProfilesVerifySegmentOperator(TemporaryFolderMixin, AwsBaseOperator[CustomerProfilesHook]):
    """Fail unless the segment of a cohort and threshold has as many profiles as the segment file has rows.

    The segment definition is created once, and adopted later. The segment membership record is reduced to the rows, and
    the next run may change the segment. Returns (each also as a separate XCom) `job_ids`, `domain`, `segment_name`,
    `segment_id` (its ARN), `segment_size`, the numbers of players `set_in` and `set_out`, and the numbers of profiles
    `created` and `updated` by the jobs.

    :param plan: the output of CohortPlanOperator. (templated)
    :param segment: the segment file, as CohortLimitsOperator released it. (templated)
    :param domain: the domain of Customer Profiles. (templated)
    :param job_ids: the upload jobs. (templated)
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    aws_hook_class = CustomerProfilesHook
    template_fields = aws_template_fields("plan", "segment", "domain", "job_ids")
    ui_color = "#d5c7f2"

    def __init__(
        self,
        *,
        plan: Json,
        segment: Json,
        domain: str,
        job_ids: Sequence[str],
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.plan = plan
        self.segment = segment
        self.domain = domain
        self.job_ids = job_ids

    def execute(self, context: Context) -> Json:
        retry_note = "Clearing this task is safe: it reads, and records the same again."
        with describe_failure(retry_note) as side_effects, self.temporary_folder() as folder:
            s3 = S3Hook(aws_conn_id=self.aws_conn_id, region_name=self.region_name)
            plan = Plan.model_validate(self.plan)
            state = State(s3, plan.state_bucket)
            store = SegmentMembershipStore(s3, plan, self.domain)
            self._segment = Segment.model_validate(self.segment)
            store.acquire_lock(state, context)
            record = self._record(plan, store)
            counts = self._counts()
            side_effects.append(f"upload jobs {', '.join(self.job_ids) or '(none was needed)'} have ended")
            arn = self._definition(store.name, side_effects)
            size = self._size(store.name)
            store.write(folder, record.verified_by(list(self.job_ids)), self._player_ids(s3))
            side_effects.append(f"the rows were recorded as the members of {store.name}")
            store.release_lock(state, context)
        self.log.info("segment %s has the %s profiles of the file", store.name, f"{size:,}")
        return ProfilesImport(
            job_ids=list(self.job_ids), domain=self.domain, segment_name=store.name, segment_id=arn,
            segment_size=size, set_in=record.set_in, set_out=record.set_out, **counts,
        ).model_dump(mode="json")  # fmt: skip

    def _record(self, plan: Plan, store: SegmentMembershipStore) -> SegmentMembershipRecord:
        record = store.read()
        if record is None or record.content != import_content(plan.name, self._segment):
            raise FlywheelError(
                f"the last upload of {store.name} is not this run's: another run has changed the segment since;"
                " clear enrich with downstream, which checks consent again, if this run should define the segment",
                code=Code.OVERTAKEN,
            )
        return record

    def _counts(self) -> dict[str, int]:
        """The profiles that the jobs changed; raises FlywheelError unless each job SUCCEEDED."""
        counts = {"created": 0, "updated": 0}
        for job_id in self.job_ids:
            job = self.hook.get_upload_job(self.domain, job_id)
            if job["Status"] != "SUCCEEDED" or job.get("ResultsSummary", {}).get("FailedRecords"):
                raise FlywheelError(
                    f"upload job {job_id} is {job['Status']}: clear wait_for_import_job with downstream",
                    code=Code.JOB_PENDING,
                )
            counts["created"] += job.get("ResultsSummary", {}).get("CreatedRecords", 0)
            counts["updated"] += job.get("ResultsSummary", {}).get("UpdatedRecords", 0)
        return counts

    def _definition(self, name: str, side_effects: list[str]) -> str:
        """The ARN of the segment definition, created if it does not exist; a definition cannot be changed."""
        groups = layout.segment_groups(name)
        found = self.hook.segment_definition(self.domain, name)
        if found is None:
            with unconfirmed(side_effects, f"the definition of segment {name} may have been created"):
                arn = self.hook.create_segment_definition(self.domain, name, groups)
            side_effects[-1] = f"the definition of segment {name} was created"
            return arn
        if not layout.is_same_segment(found.get("SegmentGroups"), groups):
            raise FlywheelError(
                f"segment {name} of domain {self.domain} is defined otherwise than by attribute {name} being"
                f" {layout.IN}, so this package did not create it; delete it (aws customer-profiles"
                " delete-segment-definition), or rename the cohort, then clear this task",
                code=Code.NOT_OURS,
            )
        return str(found["SegmentDefinitionArn"])

    def _size(self, name: str) -> int:
        size, rows = self.hook.estimate(self.domain, layout.segment_groups(name)), self._segment.rows
        if size != rows:
            raise RetryableError(
                f"segment {name} has {size:,} profiles, but the file has {rows:,} rows: do not send to it. A retry"
                " counts again, as the service may be behind; if the numbers still differ, profiles were merged"
                " (identity resolution of the domain), deleted, or changed outside this package",
                code=Code.COUNT_DIFFERS,
            )
        return size

    def _player_ids(self, s3: S3Hook) -> Iterator[str]:
        """The playerIds of the rows; raises FlywheelError where their number is not the released one."""
        rows = segment_rows(s3, self._segment)
        next(rows)
        number = 0
        for row in rows:
            number += 1
            yield row[1]
        if number != self._segment.rows:
            raise FlywheelError(
                f"{self._segment.s3_url} has {number:,} rows, but {self._segment.rows:,} were released: it has"
                " changed since; clear check_limits with downstream",
                code=Code.SEGMENT_FILE_CHANGED,
            )


class _Job(NamedTuple):
    id: str
    name: str
    upload: int
    status: str


class _File(NamedTuple):
    path: Path
    header: list[str]
