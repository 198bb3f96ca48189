"""Import a segment file as a segment of Amazon Pinpoint, and verify it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from cohort_flywheel.common.failures import RetryableError, describe_failure, unconfirmed
from cohort_flywheel.common.records import AwsStructure, Json
from cohort_flywheel.destinations.pinpoint.hook import PinpointHook
from cohort_flywheel.destinations.pinpoint.pinpoint_outputs import PinpointImport, PinpointImportJob
from cohort_flywheel.errors import Code, FlywheelError

if TYPE_CHECKING:
    from airflow.sdk import Context


class PinpointCreateImportJobOperator(AwsBaseOperator[PinpointHook]):
    """Create the import job of one S3 address, or adopt an existing one.

    Pinpoint's create call has no idempotency token, so the operator looks first: a job of exactly this address that
    has not FAILED, and is the latest of the segment, is adopted. Otherwise the segment of an earlier job of the same
    name is updated, so that there is one segment per name. Returns (each also as a separate XCom) `job_id` and
    `adopted`.

    :param application_id: the Pinpoint app. (templated)
    :param s3_url: the file, `s3://bucket/key`; its name should carry a digest of its bytes. (templated)
    :param role_arn: the role with which Pinpoint reads the file. (templated)
    :param segment_name: the segment's name. (templated)
    :param format: `CSV` or `JSON`.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    aws_hook_class = PinpointHook
    template_fields = aws_template_fields("application_id", "s3_url", "role_arn", "segment_name")
    ui_color = "#d5c7f2"

    def __init__(
        self,
        *,
        application_id: str,
        s3_url: str,
        role_arn: str,
        segment_name: str,
        format: str = "CSV",
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.application_id = application_id
        self.s3_url = s3_url
        self.role_arn = role_arn
        self.segment_name = segment_name
        self.format = format

    def execute(self, context: Context) -> Json:
        retry_note = "Clearing this task is safe: it looks for the job of this file before it creates one."
        with describe_failure(retry_note) as side_effects:
            adopted, segment_id = self._look()
            if adopted:
                self.log.info("adopted import job %s, which imports the same file", adopted)
                return PinpointImportJob(job_id=adopted, adopted=True).model_dump(mode="json")
            request = {
                "Format": self.format,
                "RoleArn": self.role_arn,
                "S3Url": self.s3_url,
                "DefineSegment": True,
                "RegisterEndpoints": True,
                "SegmentName": self.segment_name,
            }
            if segment_id:
                request["SegmentId"] = segment_id
            job_id = self._create(request, side_effects)
            self.log.info("created import job %s %s", job_id, f"of segment {segment_id}" if segment_id else "")
            return PinpointImportJob(job_id=job_id, adopted=False).model_dump(mode="json")

    def _create(self, request: AwsStructure, side_effects: list[str]) -> str:
        with unconfirmed(side_effects, f"an import job of {self.s3_url} may have been created"):
            return str(self.hook.create_import_job(self.application_id, request)["Id"])

    def _look(self) -> tuple[str | None, str | None]:
        """Return the job to adopt, or the segment to update.

        A job of this file is adopted only if no later one of the same segment has imported another file: the content
        may have changed and changed back.
        """
        jobs = sorted(
            (job for job in self.hook.import_jobs(self.application_id) if self._is_ours(job["Definition"])),
            key=lambda job: str(job["CreationDate"]),
            reverse=True,
        )
        segments = {job["Definition"]["SegmentId"]: None for job in jobs if job["Definition"].get("SegmentId")}
        segment_id = next((s for s in segments if self.hook.has_segment(self.application_id, s)), None)
        newest = next((job for job in jobs if job["JobStatus"] not in ("FAILING", "FAILED")), None)
        if newest:
            has_ended = newest["JobStatus"] == "COMPLETED"
            if newest["Definition"]["S3Url"] == self.s3_url and (segment_id or not has_ended):
                return newest["Id"], None
            if not has_ended:
                raise RetryableError(
                    f"import job {newest['Id']} of segment {self.segment_name} is still running with another file:"
                    " a later attempt updates its segment",
                    code=Code.BUSY,
                )
        return None, segment_id

    def _is_ours(self, definition: AwsStructure) -> bool:
        return bool(definition.get("SegmentName") == self.segment_name or definition.get("S3Url") == self.s3_url)


class PinpointVerifySegmentOperator(AwsBaseOperator[PinpointHook]):
    """Fail unless an import job accepted every row and its segment has the size of the file.

    A COMPLETED job can still have failed rows [Amazon Pinpoint: GetImportJob]. Returns (each also an XCom of its
    own) `job_id`, `segment_id`, `segment_version`, `segment_size`.

    :param application_id: the Pinpoint app. (templated)
    :param job_id: the import job. (templated)
    :param expected_size: the rows of the segment file. (templated)
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    aws_hook_class = PinpointHook
    template_fields = aws_template_fields("application_id", "job_id", "expected_size")
    ui_color = "#d5c7f2"

    def __init__(self, *, application_id: str, job_id: str, expected_size: int | str, **kwargs: Any) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.application_id = application_id
        self.job_id = job_id
        self.expected_size = expected_size

    def execute(self, context: Context) -> Json:
        with describe_failure("Clearing this task is safe: it only reads.") as side_effects:
            side_effects.append(f"import job {self.job_id} has ended")
            job = self.hook.get_import_job(self.application_id, self.job_id)
            expected, failures, pieces = (
                int(self.expected_size),
                job.get("TotalFailures", 0),
                job.get("FailedPieces", 0),
            )
            if failures or pieces:
                raise FlywheelError(
                    f"import job {self.job_id} refused {failures} of {expected} rows and {pieces} pieces: do not send"
                    " to its segment; read the reasons with `aws pinpoint get-import-job`, correct the cause, delete"
                    " the segment (`aws pinpoint delete-segment`), and clear enrich with downstream",
                    code=Code.SEGMENT_WRONG,
                )
            segment_id = job["Definition"].get("SegmentId")
            if not segment_id:
                raise FlywheelError(
                    f"import job {self.job_id} ended without a segment: look at the job in Pinpoint",
                    code=Code.SEGMENT_WRONG,
                )
            segment = self.hook.get_segment(self.application_id, segment_id)
            size = segment.get("ImportDefinition", {}).get("Size")
            imported_from = segment.get("ImportDefinition", {}).get("S3Url")
            if imported_from != job["Definition"]["S3Url"]:
                raise FlywheelError(
                    f"segment {segment_id} was imported from {imported_from} since: another run has changed it; clear"
                    " enrich with downstream if this run's file should be imported",
                    code=Code.OVERTAKEN,
                )
            if size != expected:
                raise FlywheelError(
                    f"segment {segment_id} has {size} endpoints, but the file has {expected} rows: do not send to"
                    " it; an update that adds to a segment, instead of replacing it, does this",
                    code=Code.SEGMENT_WRONG,
                )
        self.log.info("segment %s has the %d endpoints of the file", segment_id, size)
        return PinpointImport(
            job_id=self.job_id, segment_id=segment_id, segment_version=segment.get("Version"), segment_size=size
        ).model_dump(mode="json")
