"""Copies of vertex files whose headers say which properties are single."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.common.records import Json, Output
from cohort_flywheel.common.temporary_folder import TemporaryFolderMixin
from cohort_flywheel.graph_load.load_plan import GraphLoadPlan, PreparedFile, ValidatedFile
from cohort_flywheel.graph_load.single_headers import with_single_headers
from cohort_flywheel.graph_load.validate_files_operator import open_object
from cohort_flywheel.hooks.s3 import S3Hook, put_unless_equal
from cohort_flywheel.runs import names
from cohort_flywheel.segment.segment_file import digest

if TYPE_CHECKING:
    from airflow.sdk import Context


class GraphFilesCopyOperator(TemporaryFolderMixin, BaseOperator):
    """Copy each vertex file to the state bucket, with `(single)` in the header of the properties that are single.

    Without single properties, and for edge files, the file itself is loaded. Returns `files`, a PreparedFile for each
    in the order of the load, and `sources`, what NeptuneBulkLoadOperator takes.

    :param plan: the output of GraphLoadPlanOperator. (templated)
    :param files: the files of GraphFilesValidateOperator. (templated)
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    template_fields = ("plan", "files")
    ui_color = "#b7d7f0"

    def __init__(self, *, plan: Output, files: Output, aws_conn_id: str | None = "aws_default", **kwargs: Any) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.plan = plan
        self.files = files
        self.aws_conn_id = aws_conn_id

    def execute(self, context: Context) -> Json:
        retry_note = "Clearing this task is safe: it puts the same copies at the same places."
        with describe_failure(retry_note) as side_effects, self.temporary_folder() as folder:
            plan, s3 = GraphLoadPlan.model_validate(self.plan), S3Hook(aws_conn_id=self.aws_conn_id)
            prepared = []
            for each in self.files:
                file = ValidatedFile.model_validate(each)
                if plan.single and file.elements == "vertices":
                    prepared.append(self._copy(s3, plan, file, folder, side_effects))
                else:
                    prepared.append(
                        PreparedFile(uri=plan.uri(file.key), etag=file.etag, records=file.records, is_copy=False)
                    )
        return {
            "files": [file.model_dump(mode="json") for file in prepared],
            "sources": [file.source().model_dump(mode="json") for file in prepared],
        }

    def _copy(
        self, s3: S3Hook, plan: GraphLoadPlan, file: ValidatedFile, folder: Path, side_effects: list[str]
    ) -> PreparedFile:
        bucket, path = plan.state_bucket, folder / "copy"
        key = names.graph_file_copy_key(plan.load, plan.uri(file.key), file.etag, plan.single)
        with closing(open_object(s3, plan.bucket, file.key, file.etag)) as stream, path.open("wb") as target:
            for part in with_single_headers(stream, file.key, plan.single):
                target.write(part)
        put_unless_equal(s3, path, bucket, key, digest(path))
        side_effects.append(f"a copy of {file.key} was put at s3://{bucket}/{key}")
        etag = s3.get_conn().head_object(Bucket=bucket, Key=key)["ETag"]
        return PreparedFile(uri=f"s3://{bucket}/{key}", etag=etag, records=file.records, is_copy=True)
