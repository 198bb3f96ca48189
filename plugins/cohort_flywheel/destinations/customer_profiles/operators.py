"""Whom a segment file names is set `in` in Customer Profiles, and whoever an earlier upload set `in` goes `out`."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields
from airflow.sdk.exceptions import AirflowException, AirflowSkipException
from botocore.exceptions import ClientError

from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.common.temporary_folder import TemporaryFolderMixin
from cohort_flywheel.destinations.customer_profiles import layout
from cohort_flywheel.destinations.customer_profiles.hook import CustomerProfilesHook
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook, keys, lines, put_unless_equal
from cohort_flywheel.runs.lock_store import acquire, this_run
from cohort_flywheel.runs.names import claim_key
from cohort_flywheel.runs.newest_store import skip_unless_newest
from cohort_flywheel.runs.schedule import Clock, utc_now
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.segment_file import digest

if TYPE_CHECKING:
    from airflow.sdk import Context

_ENDED_BADLY = ("PARTIALLY_SUCCEEDED", "FAILED", "STOPPED")


class CustomerProfilesCreateUploadJobsOperator(TemporaryFolderMixin, AwsBaseOperator[CustomerProfilesHook]):
    """Start the upload jobs that make a cohort's membership the one of a segment file, or adopt those that are there.

    Its rows are set `in`, and everybody whom an upload may have set `in` before and who is no row goes `out`. Who may
    be `in` is recorded in the state bucket before a job is created. The uploads of a membership are numbered, so that
    a job's name is had once; a job of exactly the same file of the same upload is adopted, or gone on with where it
    was not started, and after one that ended badly all files are uploaded again. One run at a time changes a
    membership, from here to its verified segment. An older as-of's run is skipped here. Returns (each also an XCom of
    its own) `job_ids`, and how many players were `set_in` and `set_out`.

    :param plan: the output of CohortPlanOperator. (templated)
    :param segment: the segment file, as CohortLimitsOperator released it. (templated)
    :param domain: the domain of Customer Profiles. (templated)
    :param data_expiry: days until the profiles of this upload expire, if no later one renews them. (templated)
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    :param clock: gives the time, with its zone.
    """

    aws_hook_class = CustomerProfilesHook
    template_fields = aws_template_fields("plan", "segment", "domain", "data_expiry")
    ui_color = "#d5c7f2"

    def __init__(
        self, *, plan: Any, segment: Any, domain: Any, data_expiry: Any, clock: Clock = utc_now, **kwargs: Any
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.plan, self.segment, self.domain, self.data_expiry = plan, segment, domain, data_expiry
        self.clock = clock

    def execute(self, context: Context) -> dict[str, Any]:
        retry_note = "Clearing this task is safe: it goes on with the jobs of the same files."
        with describe_failure(retry_note) as side_effects, self.temporary_folder() as folder:
            s3 = S3Hook(aws_conn_id=self.aws_conn_id, region_name=self.region_name)
            state = State(s3, self.plan["state_bucket"])
            membership = Membership(s3, self.plan, self.domain)
            self._check_newest(state, membership, context)
            membership.acquire(state, context)
            self._check_newest(state, membership, context)  # as it is while no other run can change it
            return self._upload(s3, membership, folder, side_effects)

    def _check_newest(self, state: State, membership: Membership, context: Context) -> None:
        """Skip the run, too, where an upload of a newer as-of was recorded, whatever the schedule is now."""
        record = membership.read()
        imported = datetime.fromisoformat(record.as_of) if record and record.as_of else None
        try:
            skip_unless_newest(self.plan, state, context, self.clock, self.log, imported)
        except AirflowSkipException:
            membership.end_hold(state, context)
            raise

    def _upload(self, s3: S3Hook, membership: Membership, folder: Path, side_effects: list[str]) -> dict[str, Any]:
        record, content = membership.read(), content_of(self.plan, self.segment)
        if record and record.same_verified(content):
            self.log.info("upload %s of %s has made this very segment", record.upload, membership.name)
            return {"job_ids": record.job_ids, "set_in": record.set_in, "set_out": record.set_out}
        jobs = self._jobs(membership.name)
        upload = self._upload_number(record, content, jobs)
        with closing(_Players(folder)) as players:
            rows = segment_rows(s3, self.segment)
            header = layout.upload_header(next(rows), membership.name)
            ins = _Files(folder, layout.IN, header)
            players.add_recorded(membership.players())
            players.add_rows(_written(rows, ins))
            ins.close()
            outs = _Files(folder, layout.OUT, layout.out_header(membership.name))
            for player_id in players.leavers():
                outs.add(layout.out_row(player_id))
            outs.close()
            files = self._named(membership.name, upload, outs, ins)  # who has said no goes first
            self._leave_alone(jobs, files, side_effects)
            begun = Record(content, upload, ins.rows, outs.rows, as_of=self.plan["as_of"])
            if record != begun:
                membership.write(folder, begun, players.all())
                side_effects.append(f"upload {upload} of {membership.name} was recorded")
        job_ids = [self._job(name, file, jobs, side_effects) for name, file in files.items()]
        self.log.info(
            "%s: %s are set in and %s out by upload jobs %s",
            membership.name, f"{ins.rows:,}", f"{outs.rows:,}", ", ".join(job_ids) or "(none is needed)",
        )  # fmt: skip
        return {"job_ids": job_ids, "set_in": ins.rows, "set_out": outs.rows}

    def _jobs(self, name: str) -> list[_Job]:
        """The jobs of all uploads of this membership; those that go on, or ended well, first."""
        found = [
            _Job(item["JobId"], item["DisplayName"], upload, item["Status"])
            for item in self.hook.upload_jobs(self.domain)
            if (upload := layout.upload_of(item["DisplayName"], name)) is not None
        ]
        return sorted(found, key=lambda job: job.status == "CREATED")

    def _upload_number(self, record: Record | None, content: Mapping[str, str], jobs: Iterable[_Job]) -> int:
        """The number of the upload that is under way with this content, or the next."""
        last = record.upload if record else 0
        if record and record.content == content:
            if not any(job.upload == last and self._ended_badly(job) for job in jobs):
                return last
            self.log.info("a job of upload %s has ended badly: all is uploaded again", last)
        return max([last, *(job.upload for job in jobs)]) + 1

    def _ended_badly(self, job: _Job) -> bool:
        if job.status != "SUCCEEDED":
            return job.status in _ENDED_BADLY
        summary = self.hook.get_upload_job(self.domain, job.id).get("ResultsSummary", {})
        return bool(summary.get("FailedRecords"))

    def _named(self, name: str, upload: int, *kinds: _Files) -> dict[str, _File]:
        as_of = datetime.fromisoformat(self.plan["as_of"])
        return {
            layout.upload_job_name(name, as_of, upload, files.kind, index, digest(path)): _File(path, files.header)
            for files in kinds
            for index, path in enumerate(files.paths)
        }

    def _leave_alone(self, jobs: Iterable[_Job], files: Mapping[str, _File], side_effects: list[str]) -> None:
        """See to it that no job of another file changes the membership any more."""
        for job in jobs:
            if job.name in files:
                continue
            if job.status == "IN_PROGRESS" or (job.status == "CREATED" and not self._stop(job.id, side_effects)):
                raise AirflowException(
                    f"upload job {job.id} is under way with another file of the same membership: a later try follows it"
                )

    def _stop(self, job_id: str, side_effects: list[str]) -> bool:
        """Stop a job that an earlier run created and did not start, so that it never begins; False where it has."""
        try:
            self.hook.stop_upload_job(self.domain, job_id)
        except ClientError as error:
            if error.response["Error"]["Code"] != "BadRequestException":
                raise
            if self.hook.get_upload_job(self.domain, job_id)["Status"] != "CREATED":
                return False
            self.log.warning("upload job %s was never started, and cannot be stopped: it is left as it is", job_id)
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
        side_effects.append(f"upload job {job_id} may have been started")
        try:
            self.hook.start_upload_job(self.domain, job_id)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:  # a refusal: nothing was started
                side_effects[-1] = f"upload job {job_id} has its file and was not started"
            raise
        side_effects[-1] = f"upload job {job_id} was started"
        return job_id

    def _create(self, name: str, header: Sequence[str], side_effects: list[str]) -> str:
        request = {
            "DisplayName": name, "Fields": layout.fields(header), "UniqueKey": layout.UNIQUE_KEY,
            "DataExpiry": int(self.data_expiry),
        }  # fmt: skip
        side_effects.append("another upload job may have been created")
        try:
            job_id = self.hook.create_upload_job(self.domain, request)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:  # a refusal: nothing was created
                side_effects.pop()
            raise
        side_effects[-1] = f"upload job {job_id} was created"
        return job_id


class CustomerProfilesVerifySegmentOperator(TemporaryFolderMixin, AwsBaseOperator[CustomerProfilesHook]):
    """Fail unless the segment of a cohort and threshold has as many profiles as the segment file has rows.

    Its definition is made once, and adopted from then on. The record of who may be `in` becomes the rows alone, and
    the next run may change the membership. Returns (each also an XCom of its own) `job_ids`, `domain`, `segment_name`,
    `segment_id` (its ARN), `segment_size`, how many were `set_in` and `set_out`, and of the jobs' records how
    many profiles were `created` and `updated`.

    :param plan: the output of CohortPlanOperator. (templated)
    :param segment: the segment file, as CohortLimitsOperator released it. (templated)
    :param domain: the domain of Customer Profiles. (templated)
    :param job_ids: the upload jobs. (templated)
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    aws_hook_class = CustomerProfilesHook
    template_fields = aws_template_fields("plan", "segment", "domain", "job_ids")
    ui_color = "#d5c7f2"

    def __init__(self, *, plan: Any, segment: Any, domain: Any, job_ids: Any, **kwargs: Any) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.plan, self.segment, self.domain, self.job_ids = plan, segment, domain, job_ids

    def execute(self, context: Context) -> dict[str, Any]:
        retry_note = "Clearing this task is safe: it reads, and records the same again."
        with describe_failure(retry_note) as side_effects, self.temporary_folder() as folder:
            s3 = S3Hook(aws_conn_id=self.aws_conn_id, region_name=self.region_name)
            state = State(s3, self.plan["state_bucket"])
            membership = Membership(s3, self.plan, self.domain)
            membership.acquire(state, context)
            record = self._record(membership)
            counts = self._counts()
            side_effects.append(f"upload jobs {', '.join(self.job_ids) or '(none was needed)'} have ended")
            arn = self._definition(membership.name, side_effects)
            size = self._size(membership.name)
            membership.write(folder, record.verified_by(list(self.job_ids)), self._player_ids(s3))
            side_effects.append(f"the rows were recorded as the members of {membership.name}")
            membership.end_hold(state, context)
        self.log.info("segment %s has the %s profiles of the file", membership.name, f"{size:,}")
        return {
            "job_ids": list(self.job_ids), "domain": self.domain, "segment_name": membership.name, "segment_id": arn,
            "segment_size": size, "set_in": record.set_in, "set_out": record.set_out, **counts,
        }  # fmt: skip

    def _record(self, membership: Membership) -> Record:
        record = membership.read()
        if record is None or record.content != content_of(self.plan, self.segment):
            raise FlywheelError(
                f"the last upload of {membership.name} is not this run's: another run has changed the membership since;"
                " clear enrich and what follows it, which asks for consent again, if this run shall be the one"
            )
        return record

    def _counts(self) -> dict[str, int]:
        """What the jobs did; raises FlywheelError unless they all SUCCEEDED, as the record depends on it."""
        counts = {"created": 0, "updated": 0}
        for job_id in self.job_ids:
            job = self.hook.get_upload_job(self.domain, job_id)
            if job["Status"] != "SUCCEEDED" or job.get("ResultsSummary", {}).get("FailedRecords"):
                raise FlywheelError(
                    f"upload job {job_id} is {job['Status']}: clear wait_for_import_job and what follows it"
                )
            counts["created"] += job.get("ResultsSummary", {}).get("CreatedRecords", 0)
            counts["updated"] += job.get("ResultsSummary", {}).get("UpdatedRecords", 0)
        return counts

    def _definition(self, name: str, side_effects: list[str]) -> str:
        """The ARN of the segment's definition, made unless it is there; it can never be changed."""
        groups = layout.segment_groups(name)
        found = self.hook.segment_definition(self.domain, name)
        if found is None:
            side_effects.append(f"the definition of segment {name} may have been created")
            arn = self.hook.create_segment_definition(self.domain, name, groups)
            side_effects[-1] = f"the definition of segment {name} was created"
            return arn
        if not layout.is_same_segment(found.get("SegmentGroups"), groups):
            raise FlywheelError(
                f"segment {name} of domain {self.domain} is defined otherwise than by attribute {name} being"
                f" {layout.IN}: it is none of ours; delete it (aws customer-profiles delete-segment-definition), or"
                " rename the cohort, then clear this task"
            )
        return str(found["SegmentDefinitionArn"])

    def _size(self, name: str) -> int:
        size, rows = self.hook.estimate(self.domain, layout.segment_groups(name)), self.segment["rows"]
        if size != rows:
            raise AirflowException(
                f"segment {name} has {size:,} profiles, but the file has {rows:,} rows: do not send to it. A later try"
                " asks again, as the service may be behind; if it stays so, profiles were merged (identity resolution"
                " of the domain), deleted, or changed by somebody else"
            )
        return size

    def _player_ids(self, s3: S3Hook) -> Iterator[str]:
        """The rows' playerIds; raises FlywheelError where they are not as many as were released."""
        rows = segment_rows(s3, self.segment)
        next(rows)
        number = 0
        for row in rows:
            number += 1
            yield row[1]
        if number != self.segment["rows"]:
            raise FlywheelError(
                f"{self.segment['s3_url']} has {number:,} rows, but {self.segment['rows']:,} were released: it has"
                " changed since; clear check_limits with downstream"
            )


class Record(NamedTuple):
    """What is recorded of a membership beside its players."""

    content: Mapping[str, str]  #: of the last upload: the run's name and the digest of its segment file
    upload: int
    set_in: int
    set_out: int
    job_ids: list[str] | None = None  #: once the segment was verified
    as_of: str | None = None  #: of the last upload

    def same_verified(self, content: Mapping[str, str]) -> bool:
        return self.job_ids is not None and self.content == content

    def verified_by(self, job_ids: list[str]) -> Record:
        return self._replace(job_ids=job_ids)


class Membership:
    """Who may be `in` the segment of a cohort and threshold: whom an upload that was started may have set so.

    A file in the state bucket, a line of JSON (Record) and a playerId a line. It is there before a job is created,
    and loses those who are no row only when the jobs have succeeded.

    :param s3: the hook to reach it with.
    :param plan: the output of CohortPlanOperator.
    :param domain: the domain of Customer Profiles.
    """

    def __init__(self, s3: S3Hook, plan: Mapping[str, Any], domain: str) -> None:
        self.name = layout.membership_name(plan["cohort"], plan["threshold"])
        self._s3, self._bucket = s3, plan["state_bucket"]
        self._key = layout.membership_key(domain, self.name)
        self._claim_key = claim_key(f"customer_profiles_{domain}_{self.name}")

    def acquire(self, state: State, context: Context) -> None:
        """From a run's first look to its verified segment no other run may change the membership."""
        try:
            acquire(state, self._claim_key, f"membership {self.name}", context)
        except FlywheelError:
            raise AirflowException(f"another run is changing membership {self.name}: a later try follows it") from None

    def end_hold(self, state: State, context: Context) -> None:
        state.release_lock(self._claim_key, this_run(context))

    def read(self) -> Record | None:
        first = next(self._lines(), None)
        return Record(**json.loads(first)) if first else None

    def players(self) -> Iterator[str]:
        found = self._lines()
        next(found, None)
        return (line.decode() for line in found)

    def write(self, folder: Path, record: Record, player_ids: Iterable[str]) -> None:
        path = folder / "membership.txt"
        with path.open("w", encoding="utf-8", newline="") as file:
            file.write(f"{json.dumps(record._asdict(), sort_keys=True)}\n")
            file.writelines(f"{player_id}\n" for player_id in player_ids)
        put_unless_equal(self._s3, path, self._bucket, self._key, digest(path))

    def _lines(self) -> Iterator[bytes]:
        if self._key in keys(self._s3, self._bucket, self._key):
            yield from lines(self._s3, self._bucket, self._key)


def content_of(plan: Mapping[str, Any], segment: Mapping[str, Any]) -> dict[str, str]:
    """What tells one upload from another: the run's name and what its segment file holds."""
    return {"name": plan["name"], "sha256": segment["sha256"]}


def segment_rows(s3: S3Hook, segment: Mapping[str, Any]) -> Iterator[list[str]]:
    """The header of a segment file, then its rows, streamed."""
    for index, part in enumerate(segment["parts"]):
        rows = csv.reader(line.decode() for line in lines(s3, segment["s3_bucket"], part["s3_key"]))
        header = next(rows)
        yield from chain([] if index else [header], rows)


def _written(rows: Iterable[list[str]], files: _Files) -> Iterator[str]:
    for row in rows:
        files.add(layout.upload_row(row))
        yield row[1]


class _Job(NamedTuple):
    id: str
    name: str
    upload: int
    status: str


class _File(NamedTuple):
    path: Path
    header: list[str]


class _Players:
    """Who is recorded and who is a row, on disk: both may be more than a worker's memory takes."""

    def __init__(self, folder: Path) -> None:
        self._db = sqlite3.connect(folder / "players.sqlite")
        self._db.execute("CREATE TABLE player (id TEXT PRIMARY KEY, is_row INT) WITHOUT ROWID")

    def close(self) -> None:
        self._db.close()

    def add_recorded(self, player_ids: Iterable[str]) -> None:
        self._db.executemany("INSERT OR IGNORE INTO player VALUES (?, 0)", ((each,) for each in player_ids))

    def add_rows(self, player_ids: Iterable[str]) -> None:
        self._db.executemany("INSERT OR REPLACE INTO player VALUES (?, 1)", ((each,) for each in player_ids))

    def leavers(self) -> Iterator[str]:
        """Who is recorded and no row."""
        return (each for (each,) in self._db.execute("SELECT id FROM player WHERE NOT is_row ORDER BY id"))

    def all(self) -> Iterator[str]:
        return (each for (each,) in self._db.execute("SELECT id FROM player ORDER BY id"))


class _Files:
    """The files of uploads, each with as many rows as a job takes; none where there is no row."""

    def __init__(self, folder: Path, kind: str, header: list[str]) -> None:
        self._folder, self.kind, self.header = folder, kind, header
        self.paths: list[Path] = []
        self.rows = 0
        self._file: IO[bytes] | None = None
        self._bytes = 0
        self._line = csv.writer(_Encoded(), lineterminator="\n").writerow  # returns what `write` does

    def add(self, row: list[str]) -> None:
        line = self._line(row)
        if self._file is None or self._bytes + len(line) > layout.MAX_UPLOAD_BYTES:
            self.close()
            self.paths.append(self._folder / f"{self.kind}_{len(self.paths):04d}.csv")
            self._file = self.paths[-1].open("wb")
            self._bytes = self._file.write(self._line(self.header))
        self._bytes += self._file.write(line)
        self.rows += 1

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class _Encoded:
    def write(self, text: str) -> bytes:
        return text.encode()
