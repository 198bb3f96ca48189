"""Load files into the graph with Neptune's bulk loader, one job for each, one after the other."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields
from airflow.providers.common.compat.sdk import conf
from airflow.sdk.exceptions import TaskDeferralError, TaskDeferralTimeout
from botocore.exceptions import BotoCoreError, ClientError

from cohort_flywheel.common.failures import RetryableError, describe_failure
from cohort_flywheel.common.records import AwsStructure, Json, Output
from cohort_flywheel.common.temporary_folder import TemporaryFolderMixin
from cohort_flywheel.config.variables import StateSettings, read_settings
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.graph_load.hook import NeptuneLoaderHook
from cohort_flywheel.graph_load.job import CANCELLED, JobStatus
from cohort_flywheel.graph_load.load_jobs_store import LoadJobs, StartRequest
from cohort_flywheel.graph_load.load_record import LoadSource, read_sources
from cohort_flywheel.graph_load.load_store import LoadStore
from cohort_flywheel.graph_load.triggers import NeptuneBulkLoadTrigger
from cohort_flywheel.hooks.neptune_connection import DEFAULT_CONN_NAME
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs import names
from cohort_flywheel.runs.schedule import Clock, utc_now

if TYPE_CHECKING:
    from airflow.sdk import Context

_RETRY_NOTE = "Clearing this task is safe: it goes on with the first file that is not loaded yet."
#: How many errors of a job the log lists; all are in the state bucket.
_LOGGED_ERRORS = 20


class NeptuneBulkLoadOperator(TemporaryFolderMixin, AwsBaseOperator[NeptuneLoaderHook]):
    """Load CSV files from S3 into Neptune: one job for each file, the next one once a job has completed.

    What is about to be started is recorded in the state bucket first. A later attempt adopts the job of an earlier one
    by source and start time, and repeats a lost request in mode RESUME, so each file is loaded once. A source that
    begins another key of the bucket is refused, as the loader would load both. In mode NEW, a job without a record
    fails. Returns (each also an XCom of its own) `jobs` (for each file `source`, `load_id`, `records`, `duplicates`,
    `adopted`), `records` and `duplicates`.

    :param sources: the files in the order of the load: S3 addresses, or mappings with the fields of LoadSource.
        (templated)
    :param iam_role_arn: the role with which Neptune reads the files; it must be added to the cluster. (templated)
    :param s3_bucket_region: the region of bucket and cluster; None for that of the AWS connection. (templated)
    :param mode: `NEW`, `AUTO` or `RESUME`. (templated)
    :param update_single_cardinality_properties: replace the value of a single property; else another one is an error.
        A list counts as on unless it is empty. (templated)
    :param parallelism: `LOW`, `MEDIUM`, `HIGH` or `OVERSUBSCRIBE`. (templated)
    :param fail_on_error: end a job at its first error.
    :param state_bucket: the bucket of the records; None for the Variable's. (templated)
    :param neptune_conn_id: the Airflow connection of the graph. (templated)
    :param cancel_on_kill: cancel the job when the task or its run is ended by a user.
    :param waiter_delay: the seconds between two requests for the status.
    :param waiter_max_attempts: the maximum number of requests for one job.
    :param deferrable: wait in the triggerer.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    :param clock: returns the current time, with its time zone.
    """

    aws_hook_class = NeptuneLoaderHook
    template_fields = aws_template_fields(
        "sources", "iam_role_arn", "s3_bucket_region", "mode", "update_single_cardinality_properties", "parallelism",
        "state_bucket", "neptune_conn_id",
    )  # fmt: skip
    ui_color = "#b7d7f0"

    def __init__(
        self,
        *,
        sources: Output,
        iam_role_arn: str,
        s3_bucket_region: str | None = None,
        mode: str = "NEW",
        update_single_cardinality_properties: bool | str | Sequence[str] = False,
        parallelism: str = "HIGH",
        fail_on_error: bool = True,
        state_bucket: str | None = None,
        neptune_conn_id: str = DEFAULT_CONN_NAME,
        cancel_on_kill: bool = True,
        waiter_delay: int = 10,
        waiter_max_attempts: int = 4320,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        clock: Clock = utc_now,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.sources = sources
        self.iam_role_arn = iam_role_arn
        self.s3_bucket_region = s3_bucket_region
        self.mode = mode
        self.update_single_cardinality_properties = update_single_cardinality_properties
        self.parallelism = parallelism
        self.fail_on_error = fail_on_error
        self.state_bucket = state_bucket
        self.neptune_conn_id = neptune_conn_id
        self.cancel_on_kill = cancel_on_kill
        self.waiter_delay = waiter_delay
        self.waiter_max_attempts = waiter_max_attempts
        self.deferrable = deferrable
        self.clock = clock
        self._load_id: str | None = None

    @property
    def _hook_parameters(self) -> dict[str, object]:
        return {**super()._hook_parameters, "neptune_conn_id": self.neptune_conn_id}

    def execute(self, context: Context) -> Json:
        return self._load_all(context, waited=set())

    def resume_execution(self, next_method: str, next_kwargs: dict[str, object] | None, context: Context) -> object:
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (TaskDeferralError, TaskDeferralTimeout):  # as Airflow ends a wait itself
            with describe_failure(_RETRY_NOTE):
                raise RetryableError("the wait for a load job was interrupted", Code.GRAPH_LOAD_PENDING) from None

    def execute_complete(self, context: Context, event: Json | None = None) -> Json:
        """Go on after the trigger has fired for a job."""
        fired = event or {}
        load_id = str(fired.get("load_id"))
        with describe_failure(_RETRY_NOTE) as side_effects:
            job = self.hook.job(load_id)
            if job and job.is_active:
                side_effects.append(f"load job {load_id} runs")
                if "max attempts" in str(fired.get("message")):
                    raise self._too_long(load_id)
                raise RetryableError(
                    f"the wait for load job {load_id} broke off: a later try waits on", Code.GRAPH_LOAD_PENDING
                )
        return self._load_all(context, waited={load_id})

    def on_kill(self) -> None:
        """Cancel the job that a worker has started or waits for."""
        super().on_kill()
        if self.cancel_on_kill and self._load_id:
            try:
                self.hook.cancel(self._load_id)
            except (BotoCoreError, ClientError) as error:
                self.log.warning("Load job %s could not be cancelled (%s)", self._load_id, type(error).__name__)

    def _load_all(self, context: Context, waited: set[str]) -> Json:
        with describe_failure(_RETRY_NOTE) as side_effects, self.temporary_folder() as folder:
            files = read_sources(self.sources)
            jobs = self._load_jobs(context, side_effects)
            if not waited:
                for source in files:  # before the first job begins
                    jobs.check(source)
            for source in files:
                self._load_id = load_id = jobs.active_job(source, waited)
                while load_id and not self.deferrable:
                    self._wait(load_id)
                    waited.add(load_id)
                    self._load_id = load_id = jobs.active_job(source, waited)
                if load_id:
                    break
                self._judge(jobs, source, folder)
            else:
                return self._result(jobs, files)
        self._defer(load_id)
        raise RuntimeError  # to defer is to raise

    def _load_jobs(self, context: Context, side_effects: list[str]) -> LoadJobs:
        """What starts or adopts the jobs; the records of a task's run are in one folder."""
        ti = context["ti"]
        task = ti.task_id if ti.map_index in (None, -1) else f"{ti.task_id}_{ti.map_index}"
        bucket = str(self.state_bucket or read_settings(StateSettings)["state_bucket"])
        s3 = S3Hook(aws_conn_id=self.aws_conn_id, region_name=self.region_name, verify=self.verify)
        request = StartRequest(
            iam_role_arn=self.iam_role_arn,
            s3_bucket_region=self.s3_bucket_region or self.hook.conn.meta.region_name,
            mode=str(self.mode).upper(),
            parallelism=str(self.parallelism).upper(),
            fail_on_error=self.fail_on_error,
            update_single_cardinality_properties=_is_on(self.update_single_cardinality_properties),
        )
        folder = names.graph_load_folder(ti.dag_id, context["dag_run"].run_id, task)
        return LoadJobs(s3, self.hook, LoadStore(s3, bucket, folder), request, self.clock, side_effects)

    def _wait(self, load_id: str) -> None:
        """Wait on the worker until a job has ended."""
        for _ in range(self.waiter_max_attempts):
            job = self.hook.job(load_id)
            if job is None or not job.is_active:
                return
            self.log.info("Load job %s is %s: %s records so far", load_id, job.status, f"{job.records:,}")
            time.sleep(self.waiter_delay)
        raise self._too_long(load_id)

    def _too_long(self, load_id: str) -> FlywheelError:
        seconds = self.waiter_delay * self.waiter_max_attempts
        what = (
            f"load job {load_id} has not ended after {seconds:,} s: look at its status, then clear this task to wait on"
        )
        return FlywheelError(what, Code.GRAPH_LOAD_PENDING)

    def _defer(self, load_id: str) -> None:
        self.defer(
            trigger=NeptuneBulkLoadTrigger(
                load_id=load_id,
                neptune_conn_id=self.neptune_conn_id,
                cancel_on_kill=self.cancel_on_kill,
                waiter_delay=self.waiter_delay,
                waiter_max_attempts=self.waiter_max_attempts,
                aws_conn_id=self.aws_conn_id,
                region_name=self.region_name,
                verify=self.verify,
                botocore_config=self.botocore_config,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=2 * self.waiter_delay * self.waiter_max_attempts + 600),
        )

    # --- what a job has done

    def _judge(self, jobs: LoadJobs, source: LoadSource, folder: Path) -> None:
        """Log what a job has loaded; raise FlywheelError if it has not loaded its file."""
        record, job = jobs.records[source.uri], jobs.ended.get(source.uri)
        if job is None:  # an earlier attempt has judged it
            self.log.info("%s is loaded already, by job %s", source.uri, record.load_id)
            return
        jobs.side_effects.append(f"load job {job.load_id} of {source.uri} ended as {job.status}")
        if job.errors or not job.is_completed:
            self._log_errors(jobs, source, job, folder)
        if not job.is_completed:
            raise _failure(job, source)
        if not job.records and record.mode == "NEW":
            raise FlywheelError(
                f"load job {job.load_id} of {source.uri} completed without a record: look at the file and the role's"
                " right to read it, then clear this task, which loads it again", Code.GRAPH_LOAD_NOTHING,
            )  # fmt: skip
        self.log.info(
            "Load job %s of %s completed: %s records, %s of them in the graph before", job.load_id, source.uri,
            f"{job.records:,}", f"{job.duplicates:,}",
        )  # fmt: skip
        if source.records is not None and record.mode == "NEW" and source.records != job.records:
            self.log.warning(
                "The loader has counted %s records of %s, and the validation %s", f"{job.records:,}", source.uri,
                f"{source.records:,}",
            )  # fmt: skip

    def _log_errors(self, jobs: LoadJobs, source: LoadSource, job: JobStatus, folder: Path) -> None:
        """Log code, file and record number of each error; the messages, which hold IDs, go to the state bucket."""
        codes: Counter[str] = Counter()

        def counted() -> Iterator[AwsStructure]:
            for error in self.hook.errors(job.load_id):
                code, number = str(error.get("errorCode")), error.get("recordNum")
                if codes.total() < _LOGGED_ERRORS:
                    self.log.warning("%s: record %s of %s", code, number, error.get("fileName"))
                codes[code] += 1
                yield error

        address = jobs.store.put_errors(source.uri, job.load_id, counted(), folder / "errors.jsonl")
        listed = ", ".join(f"{number:,} {code}" for code, number in codes.most_common())
        self.log.warning("Errors of load job %s: %s. Their messages are in %s", job.load_id, listed or "none", address)

    def _result(self, jobs: LoadJobs, files: list[LoadSource]) -> Json:
        records = [jobs.records[source.uri] for source in files]
        fields = {"source", "load_id", "records", "duplicates", "adopted"}
        return {
            "jobs": [record.model_dump(mode="json", include=fields) for record in records],
            "records": sum(record.records for record in records),
            "duplicates": sum(record.duplicates for record in records),
        }


def _failure(job: JobStatus, source: LoadSource) -> Exception:
    if job.may_resume:
        return RetryableError(
            f"load job {job.load_id} of {source.uri} ended as {job.status}: a later try resumes it",
            Code.GRAPH_LOAD_RESUMES,
        )
    if job.status == CANCELLED:
        return FlywheelError(
            f"load job {job.load_id} of {source.uri} was cancelled; what it had loaded stays: clear this task to load"
            " the file again",
            Code.GRAPH_LOAD_FAILED,
        )
    causes = "".join(f" ({status})" for status in sorted({*job.failed} - {job.status}))
    return FlywheelError(
        f"load job {job.load_id} of {source.uri} ended as {job.status}{causes}, with {job.errors:,} errors; what it"
        " had loaded stays: look at the codes above and the messages in the state bucket, correct the file or the role,"
        " then clear this task, which loads the file again",
        Code.GRAPH_LOAD_FAILED,
    )


def _is_on(value: bool | str | Sequence[str]) -> bool:
    """Whether a switch is on that may have been rendered from a template."""
    return str(value).lower() == "true" if isinstance(value, str | bool) else bool(value)
