"""Validate the files of a graph load before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.utils.skipmixin import SkipMixin
from airflow.sdk import BaseOperator
from botocore.exceptions import ClientError

from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.common.records import Json, Output
from cohort_flywheel.common.temporary_folder import TemporaryFolderMixin
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.graph_load.compression import ByteStream
from cohort_flywheel.graph_load.findings import Validation
from cohort_flywheel.graph_load.id_sets import MEMORY_MB
from cohort_flywheel.graph_load.load_plan import GraphLoadPlan, PlannedFile, ValidatedFile
from cohort_flywheel.graph_load.validation import GraphFile, validate
from cohort_flywheel.hooks.neptune import NeptuneGremlinHook
from cohort_flywheel.hooks.neptune_connection import DEFAULT_CONN_NAME
from cohort_flywheel.hooks.s3 import S3Hook, put_json
from cohort_flywheel.runs import names

if TYPE_CHECKING:
    from airflow.sdk import Context


class GraphFilesValidateOperator(TemporaryFolderMixin, BaseOperator, SkipMixin):
    """Read every file of a load as the loader would, and fail if one of them has errors.

    The findings, which hold no value of a file, are logged and put into the state bucket. Ends of edges that are not in
    the files are looked up in the graph, unless the load is self-contained. A dry run ends here: what follows is
    skipped. Returns `files`, a ValidatedFile for each in the order of the load, `records` and `findings`, the number of
    each kind.

    :param plan: the output of GraphLoadPlanOperator. (templated)
    :param memory_mb: the limit of DuckDB, in MiB; less than MEMORY_MB, and None, are MEMORY_MB.
    :param neptune_conn_id: the Airflow connection of the graph.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    template_fields = ("plan",)
    ui_color = "#f7d9a8"
    #: Has the scheduler skip a cleared task again, by this task's XCom [NotPreviouslySkippedDep].
    inherits_from_skipmixin = True

    def __init__(
        self,
        *,
        plan: Output,
        memory_mb: int | None = None,
        neptune_conn_id: str = DEFAULT_CONN_NAME,
        aws_conn_id: str | None = "aws_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.plan = plan
        self.memory_mb = memory_mb
        self.neptune_conn_id = neptune_conn_id
        self.aws_conn_id = aws_conn_id

    def execute(self, context: Context) -> Json:
        with (
            describe_failure("Clearing this task is safe: it reads the files again."),
            self.temporary_folder() as folder,
        ):
            plan = GraphLoadPlan.model_validate(self.plan)
            found = self._validate(plan, folder)
            self._tell(plan, found)
            by_key = {file.file: file for file in found.files}
            files = [
                ValidatedFile(
                    key=file.key, etag=file.etag, elements=by_key[file.key].elements or "", rows=by_key[file.key].rows,
                    records=by_key[file.key].records,
                )
                for file in plan.files
            ]  # fmt: skip
            if not plan.in_order:
                files.sort(key=lambda file: file.elements != "vertices")
            output = {
                "files": [file.model_dump(mode="json") for file in files],
                "records": found.records,
                "findings": {str(kind): number for kind, number in found.counts.items()},
            }
        if plan.dry_run:
            ti = context["ti"]
            ti.xcom_push(key="return_value", value=output)  # to skip what follows is to raise
            self.skip(ti=ti, tasks=context["task"].get_direct_relatives(upstream=False))
        return output

    def _validate(self, plan: GraphLoadPlan, folder: Path) -> Validation:
        s3 = S3Hook(aws_conn_id=self.aws_conn_id)
        return validate(
            [GraphFile(file.key, _opener(s3, plan, file)) for file in plan.files],
            folder=folder,
            single=plan.single,
            self_contained=plan.self_contained,
            in_order=plan.in_order,
            find_in_graph=None if plan.self_contained else self._find_in_graph,
            max_findings=plan.max_findings,
            memory_mb=max(self.memory_mb or 0, MEMORY_MB),
        )

    def _find_in_graph(self, ids: list[str]) -> Iterable[str]:
        from gremlin_python.process.graph_traversal import GraphTraversalSource  # heavy: not for a DAG's parse
        from gremlin_python.process.traversal import TraversalStrategies
        from gremlin_python.structure.graph import Graph

        hook = NeptuneGremlinHook(self.neptune_conn_id, self.aws_conn_id)
        traversal = GraphTraversalSource(Graph(), TraversalStrategies()).V(*ids).id_()
        for attempt in hook.retrying():
            with attempt:
                found = [str(row) for batch in hook.stream(traversal) for row in batch]
        return found

    def _tell(self, plan: GraphLoadPlan, found: Validation) -> None:
        """Log the findings and keep them; raise FlywheelError if one of them is an error."""
        for finding in found.findings:
            self.log.warning("%s: %s", finding.severity, finding)
        for kind, number in found.unlisted.items():
            self.log.warning("%s more of the kind %s", f"{number:,}", kind)
        if found.ends_unchecked:
            self.log.warning("%s ends of edges were not checked", f"{found.ends_unchecked:,}")
        for file in found.files:
            self.log.info("%s: %s %s, %s records", file.file, f"{file.rows:,}", file.elements, f"{file.records:,}")
        key = names.findings_key(plan.folder)
        put_json(S3Hook(aws_conn_id=self.aws_conn_id), plan.state_bucket, key, found.model_dump(mode="json"))
        if errors := found.errors:
            raise FlywheelError(
                f"the files of the load {plan.load} have {len(errors):,} errors or more, the first in {errors[0]}; the"
                f" others are in the log and in s3://{plan.state_bucket}/{key}: correct the files, then clear the first"
                " task of the run, with downstream",
                Code.GRAPH_LOAD_FINDINGS,
            )


def _opener(s3: S3Hook, plan: GraphLoadPlan, file: PlannedFile) -> Callable[[], ByteStream]:
    return lambda: open_object(s3, plan.bucket, file.key, file.etag)


def open_object(s3: S3Hook, bucket: str, key: str, etag: str) -> Any:
    """The bytes of an object as they arrive; raises FlywheelError if it is not the one of the ETag any more."""
    try:
        return s3.get_conn().get_object(Bucket=bucket, Key=key, IfMatch=etag)["Body"]
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("PreconditionFailed", "412", "NoSuchKey", "404"):
            raise
        raise FlywheelError(
            f"s3://{bucket}/{key} is gone or has changed since it was listed: clear the first task of the run, with"
            " downstream",
            Code.GRAPH_LOAD_FILES,
        ) from None
