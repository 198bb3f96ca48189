"""Fix what a run of the DAG graph_load loads: the registry's load, its files as they are now, the settings."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from pydantic import BaseModel

from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.common.records import Json
from cohort_flywheel.config.graph_loads import FILE_ENDINGS, MAX_FILES, GraphLoad
from cohort_flywheel.config.params import refuse_unknown_params
from cohort_flywheel.config.registry import read_registry
from cohort_flywheel.config.setting_types import BucketName, RoleArn
from cohort_flywheel.config.variables import StateSettings, read_settings
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.graph_load.load_plan import GraphLoadPlan, PlannedFile
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs import names

if TYPE_CHECKING:
    from airflow.sdk import Context


class _BucketSetting(BaseModel):
    graph_load_bucket: BucketName


class _RoleSetting(BaseModel):
    graph_load_role_arn: RoleArn


class GraphLoadPlanOperator(BaseOperator):
    """Find the files of a graph load, and refuse what cannot be loaded.

    The loader takes the address of a file for a prefix, so a key that begins another key of the bucket is refused.
    Params: `load`, a name of the registry's `graph_loads`, and `dry_run`. Returns a GraphLoadPlan.

    :param registry: the path of cohorts.yaml.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    ui_color = "#e3d9c6"

    def __init__(self, *, registry: Path, aws_conn_id: str | None = "aws_default", **kwargs: Any) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.registry = registry
        self.aws_conn_id = aws_conn_id

    def execute(self, context: Context) -> Json:
        with describe_failure("Clearing this task is safe: it only reads."):
            refuse_unknown_params(context)
            params = context["params"]
            load = read_registry(Path(self.registry)).graph_load(params["load"])
            settings = _settings(load)
            s3 = S3Hook(aws_conn_id=self.aws_conn_id)
            bucket = load.bucket or settings["graph_load_bucket"]
            ti = context["ti"]
            plan = GraphLoadPlan(
                load=load.name,
                bucket=bucket,
                files=list(_files(s3, bucket, load)),
                in_order=load.files is not None,
                mode=load.mode.upper(),
                single=load.single,
                self_contained=load.self_contained,
                parallelism=load.parallelism.upper(),
                max_findings=load.max_findings,
                iam_role_arn=load.role or settings["graph_load_role_arn"],
                region=load.region or s3.get_conn().meta.region_name,
                dry_run=params["dry_run"],
                folder=names.graph_load_folder(ti.dag_id, context["dag_run"].run_id, "load_files"),
                state_bucket=settings["state_bucket"],
            )
        self.log.info(
            "Load %s: %s files of %s bytes in s3://%s%s", load.name, len(plan.files),
            f"{sum(file.bytes for file in plan.files):,}", bucket, "; a dry run" if plan.dry_run else "",
        )  # fmt: skip
        return plan.model_dump(mode="json")


def _settings(load: GraphLoad) -> dict[str, str]:
    """The Variables that the load needs and the registry does not give."""
    models: list[type[BaseModel]] = [StateSettings]
    models += [_BucketSetting] if not load.bucket else []
    models += [_RoleSetting] if not load.role else []
    return {name: str(value) for name, value in read_settings(*models).items()}


def _files(s3: S3Hook, bucket: str, load: GraphLoad) -> Iterator[PlannedFile]:
    if load.prefix:
        yield from _below(s3, bucket, load.prefix)
        return
    for key in load.file_keys():
        found = _listed(s3, bucket, key, 2)
        if key not in [file.key for file in found]:
            raise FlywheelError(
                f"s3://{bucket}/{key}, which the load {load.name} names, does not exist: put the file there, or correct"
                " its name in cohorts.yaml",
                Code.GRAPH_LOAD_FILES,
            )
        if len(found) > 1:
            raise _begins_another(bucket, key, found[1].key)
        yield found[0]


def _below(s3: S3Hook, bucket: str, prefix: str) -> list[PlannedFile]:
    """Every file below a prefix, by key."""
    found = [file for file in _listed(s3, bucket, prefix, MAX_FILES + 1) if not file.key.endswith("/")]
    if not found:
        raise FlywheelError(f"s3://{bucket}/{prefix} has no files: put them there", Code.GRAPH_LOAD_FILES)
    if len(found) > MAX_FILES:
        raise FlywheelError(
            f"s3://{bucket}/{prefix} has more than {MAX_FILES:,} files: divide it into several loads",
            Code.GRAPH_LOAD_FILES,
        )
    for file, following in pairwise(found):
        if following.key.startswith(file.key):
            raise _begins_another(bucket, file.key, following.key)
    if other := next((file.key for file in found if not file.key.endswith(FILE_ENDINGS)), None):
        raise FlywheelError(
            f"s3://{bucket}/{other} is not a CSV file, whose name ends with {', '.join(FILE_ENDINGS)}: remove it from"
            " the folder",
            Code.GRAPH_LOAD_FILES,
        )
    return found


def _begins_another(bucket: str, key: str, other: str) -> FlywheelError:
    return FlywheelError(
        f"the loader takes s3://{bucket}/{key} for a prefix, and would load {other} with it: rename one of the two",
        Code.GRAPH_LOAD_FILES,
    )


def _listed(s3: S3Hook, bucket: str, prefix: str, limit: int) -> list[PlannedFile]:
    pages = s3.get_conn().get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix=prefix, PaginationConfig={"MaxItems": limit, "PageSize": min(limit, 1000)}
    )  # fmt: skip
    items = [item for page in pages for item in page.get("Contents", ())]
    return [PlannedFile(key=item["Key"], etag=item["ETag"], bytes=item["Size"]) for item in items]
