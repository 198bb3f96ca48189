"""The jobs of one task's load: recorded in the state bucket, then started at the loader, or adopted."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus

from botocore.exceptions import ClientError
from pydantic import BaseModel, ConfigDict

from cohort_flywheel.common.failures import RetryableError
from cohort_flywheel.common.records import AwsStructure
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.graph_load.hook import NeptuneLoaderHook
from cohort_flywheel.graph_load.job import CANCELLED, RESUMABLE, JobStatus
from cohort_flywheel.graph_load.load_record import LoadRecord, LoadSource
from cohort_flywheel.graph_load.load_store import LoadStore
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.schedule import Clock


class StartRequest(BaseModel):
    """What all requests of a load have in common."""

    model_config = ConfigDict(frozen=True)

    iam_role_arn: str
    s3_bucket_region: str
    mode: str
    parallelism: str
    fail_on_error: bool
    update_single_cardinality_properties: bool

    def of(self, source: str, mode: str) -> AwsStructure:
        """The arguments of StartLoaderJob. It may be queued: another load must not make this one fail."""
        return {
            "source": source,
            "format": "csv",
            "iamRoleArn": self.iam_role_arn,
            "s3BucketRegion": self.s3_bucket_region,
            "mode": mode,
            "parallelism": self.parallelism,
            "failOnError": self.fail_on_error,
            "updateSingleCardinalityProperties": self.update_single_cardinality_properties,
            "queueRequest": True,
        }


class LoadJobs:
    """Start the job of each file once.

    :param s3: the S3 hook.
    :param hook: the loader.
    :param store: the records.
    :param request: the arguments of each request.
    :param clock: returns the current time, with its time zone.
    :param side_effects: the changes that the task has made.
    """

    def __init__(
        self,
        s3: S3Hook,
        hook: NeptuneLoaderHook,
        store: LoadStore,
        request: StartRequest,
        clock: Clock,
        side_effects: list[str],
    ) -> None:
        self._s3 = s3
        self._hook = hook
        self.store = store
        self._request = request
        self._clock = clock
        self._log = hook.log
        self.side_effects = side_effects
        #: the records of the files that were looked at, by their address, and the jobs that ended in this attempt
        self.records: dict[str, LoadRecord] = {}
        self.ended: dict[str, JobStatus] = {}

    def check(self, source: LoadSource) -> None:
        """Raise FlywheelError for a file that is not loaded yet and cannot be loaded."""
        if not _is_done(self.store.read(source.uri), source):
            self.find(source)

    def find(self, source: LoadSource) -> str:
        """Return the ETag of a file; raise FlywheelError if it cannot be loaded alone, or is another one than before.

        The loader takes the source for a prefix, so it would load `user_old.csv` with `user`.
        """
        bucket, key = source.place
        found = self._s3.get_conn().list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=2).get("Contents", ())
        keys = [item["Key"] for item in found]
        if key not in keys and source.etag is None:
            raise FlywheelError(f"{source.uri} does not exist: put the file there", Code.GRAPH_LOAD_FILES)
        if len(keys) > 1:
            raise FlywheelError(
                f"the loader takes {source.uri} for a prefix, and would load {keys[1]} with it: rename one of the two",
                Code.GRAPH_LOAD_FILES,
            )
        etag = str(found[0]["ETag"]) if key in keys else ""
        if source.etag not in (None, etag):
            raise FlywheelError(
                f"{source.uri} is gone or has changed since it was validated: clear the first task of the run, with"
                " downstream",
                Code.GRAPH_LOAD_FILES,
            )
        return etag

    def active_job(self, source: LoadSource, waited: set[str]) -> str | None:
        """Return the active job of a file, which is started if needed; None once it has ended.

        `waited` are the jobs whose end this attempt has seen. Any other job that was cancelled is started again.
        """
        record = self.store.read(source.uri)
        if record and _is_done(record, source):
            self.records[source.uri] = record
            return None
        if record is None or record.refused:
            record = self._start(source, self._request.mode)
        elif record.has_ended:
            record = self._start(source, "RESUME" if record.status in RESUMABLE else self._request.mode)
        elif record.load_id is None:
            record = self._recover(source, record)
        return self._look(source, record, waited)

    def _look(self, source: LoadSource, record: LoadRecord, waited: set[str]) -> str | None:
        load_id = str(record.load_id)
        job = self._hook.job(load_id)
        if job is None:
            self.store.write(record.model_copy(update={"status": "UNKNOWN"}))
            raise FlywheelError(
                f"the loader no longer knows load job {load_id} of {source.uri}, so its end is unknown: compare the"
                " graph with the file, then clear this task, which loads the file again",
                Code.GRAPH_LOAD_FAILED,
            )
        if job.is_active:
            self.records[source.uri] = record
            return load_id
        if job.status == CANCELLED and load_id not in waited:
            self._log.info("Load job %s of %s was cancelled: starting it again", load_id, source.uri)
            return self._look(source, self._start(source, self._request.mode), waited)
        if record.recovers and job.is_completed and (not job.records or load_id in record.known_ids):
            return self._look(source, self._after_resuming(source, record), waited)
        record = record.ended(job)
        self.store.write(record)
        if job.status != CANCELLED and source.etag not in (None, record.etag):
            self._log.info("Load job %s has loaded an earlier version of %s: starting it again", load_id, source.uri)
            return self._look(source, self._start(source, self._request.mode), waited)
        self.records[source.uri], self.ended[source.uri] = record, job
        return None

    # --- requests whose answer was lost

    def _recover(self, source: LoadSource, record: LoadRecord) -> LoadRecord:
        """Adopt the job of a request whose answer was lost, or repeat the request so that nothing is loaded twice."""
        if adopted := self._adopt(record):
            return adopted
        if record.mode != "NEW":  # in these modes the loader itself loads nothing twice
            return self._start(source, record.mode)
        # The job may not be listed yet. Resumed, the loader loads what it had not loaded before, and nothing else; the
        # job is queued behind the one that is looked for, which is listed once this one has ended.
        record = record.model_copy(update={"recovers": True})
        self.store.write(record)
        try:
            return self._send(record, "RESUME")
        except FlywheelError as error:
            if error.code is not Code.GRAPH_LOAD_NOTHING:
                raise
            self._log.info("The loader knows no load of %s: starting it", source.uri)
            return self._start(source, record.mode)

    def _after_resuming(self, source: LoadSource, record: LoadRecord) -> LoadRecord:
        """What to do once a resumed job has loaded nothing: an earlier job has loaded the file, this run's or not."""
        if adopted := self._adopt(record):
            return adopted
        self._log.info("No job of this run has loaded %s: starting it", source.uri)
        return self._start(source, self._request.mode)

    def _adopt(self, record: LoadRecord) -> LoadRecord | None:
        jobs = list(self._new_jobs(record))
        if found := record.find_own(jobs):
            self._log.info("Adopted load job %s of %s, which is %s", found.load_id, record.source, found.status)
            record = record.with_job(found.load_id, adopted=True).model_copy(update={"recovers": False})
            self.store.write(record)
            return record
        if any(job.is_active and job.source is None for job in jobs):
            raise RetryableError(
                f"a load job is queued whose source the loader does not tell yet; it may be that of {record.source}: a"
                " later try looks again",
                Code.GRAPH_LOAD_QUEUE,
            )
        return None

    def _new_jobs(self, record: LoadRecord) -> Iterator[JobStatus]:
        """The jobs that were not known before a request, newest first."""
        for load_id in self._hook.job_ids():
            if load_id not in record.known_ids and (job := self._hook.job(load_id)):
                yield job

    # --- requests

    def _start(self, source: LoadSource, mode: str) -> LoadRecord:
        """Record that a job is about to be started, then start it."""
        record = LoadRecord(
            source=source.uri, etag=self.find(source), mode=mode, intended_at=self._clock(),
            known_ids=self._hook.job_ids(),
        )  # fmt: skip
        self.store.write(record)
        return self._send(record, mode)

    def _send(self, record: LoadRecord, mode: str) -> LoadRecord:
        self.side_effects.append(f"a load job of {record.source} may have been started")
        try:
            load_id = self._hook.start(self._request.of(record.source, mode))
        except (FlywheelError, RetryableError):
            self._note_refusal(record)
            raise
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] < HTTPStatus.INTERNAL_SERVER_ERROR:
                self._note_refusal(record)
            raise
        self.side_effects[-1] = f"load job {load_id} of {record.source} was started"
        self._log.info("Started load job %s of %s in mode %s", load_id, record.source, mode)
        record = record.with_job(load_id, adopted=False)
        self.store.write(record)
        return record

    def _note_refusal(self, record: LoadRecord) -> None:
        """Nothing was started: a later attempt need not look for a job."""
        self.side_effects.pop()
        if not record.recovers:
            self.store.write(record.model_copy(update={"refused": True}))


def _is_done(record: LoadRecord | None, source: LoadSource) -> bool:
    """Whether a file was loaded by this run, and is still the one that was validated."""
    return (
        record is not None
        and record.source == source.uri
        and source.etag in (None, record.etag)
        and record.status == "LOAD_COMPLETED"
        and (record.records > 0 or record.mode != "NEW")
    )
