"""What a graph load has changed: the loader's records beside the expected ones, and counts by label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.common.records import Json, Output
from cohort_flywheel.graph_load.count_labels_operator import count_labels
from cohort_flywheel.graph_load.load_plan import GraphLoadPlan, PreparedFile
from cohort_flywheel.graph_load.load_record import LoadSource
from cohort_flywheel.hooks.neptune import NeptuneGremlinHook
from cohort_flywheel.hooks.neptune_connection import DEFAULT_CONN_NAME
from cohort_flywheel.hooks.s3 import S3Hook, delete_version, put_json, versions
from cohort_flywheel.runs import names

if TYPE_CHECKING:
    from airflow.sdk import Context


class GraphLoadCheckOperator(BaseOperator):
    """Report a load that has completed, and remove the copies that were made for it.

    A load that found fewer records than expected is a warning: Neptune counts them, and the graph is loaded. Returns
    `expected`, `loaded` and `duplicates` (records), and `vertices` and `edges`: each label to its number before and
    after.

    :param plan: the output of GraphLoadPlanOperator. (templated)
    :param files: the files of GraphFilesCopyOperator. (templated)
    :param before: the output of GraphCountLabelsOperator. (templated)
    :param loaded: the output of NeptuneBulkLoadOperator. (templated)
    :param neptune_conn_id: the Airflow connection of the graph.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    template_fields = ("plan", "files", "before", "loaded")
    ui_color = "#f7d9a8"

    def __init__(
        self,
        *,
        plan: Output,
        files: Output,
        before: Output,
        loaded: Output,
        neptune_conn_id: str = DEFAULT_CONN_NAME,
        aws_conn_id: str | None = "aws_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.plan = plan
        self.files = files
        self.before = before
        self.loaded = loaded
        self.neptune_conn_id = neptune_conn_id
        self.aws_conn_id = aws_conn_id

    def execute(self, context: Context) -> Json:
        retry_note = "Clearing this task is safe: it counts again, and removes what is left of the copies."
        with describe_failure(retry_note) as side_effects:
            plan, s3 = GraphLoadPlan.model_validate(self.plan), S3Hook(aws_conn_id=self.aws_conn_id)
            files = [PreparedFile.model_validate(file) for file in self.files]
            after = count_labels(NeptuneGremlinHook(self.neptune_conn_id, self.aws_conn_id))
            result = {
                "expected": sum(file.records for file in files),
                "loaded": self.loaded["records"],
                "duplicates": self.loaded["duplicates"],
            } | {kind: compared(self.before[kind], after[kind]) for kind in ("vertices", "edges")}
            self.log.info("\n".join(_table(files, self.loaded, result)))
            report = result | {"load": plan.load, "mode": plan.mode, "jobs": self.loaded["jobs"]}
            put_json(s3, plan.state_bucket, names.load_report_key(plan.folder), report)
            for file in files:
                if file.is_copy:
                    bucket, key = LoadSource(uri=file.uri).place
                    for version in versions(s3, bucket, key):
                        delete_version(s3, version)
                    side_effects.append(f"the copy {file.uri} was removed")
        return result


def compared(before: Mapping[str, int] | None, after: Mapping[str, int] | None) -> dict[str, dict[str, int | None]]:
    """Each label to its numbers before and after; None where the graph was not counted."""
    labels = sorted({*(before or ()), *(after or ())})
    return {
        label: {
            "before": None if before is None else before.get(label, 0),
            "after": None if after is None else after.get(label, 0),
        }
        for label in labels
    }


def _table(files: list[PreparedFile], loaded: Json, result: Json) -> Iterator[str]:
    yield f"{'file':<60} {'expected':>12} {'loaded':>12} {'duplicates':>12}"
    for file, job in zip(files, loaded["jobs"], strict=True):
        name = file.uri.rpartition("/")[2]
        yield f"{name:<60} {file.records:>12,} {job['records']:>12,} {job['duplicates']:>12,}"
    for kind in ("vertices", "edges"):
        yield f"{kind + ' by label':<60} {'before':>12} {'after':>12}"
        for label, number in result[kind].items():
            yield f"{label:<60} {_text(number['before']):>12} {_text(number['after']):>12}"


def _text(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"
