"""This package, as its DAG runs it: the operators' own code, a task after the other."""

from __future__ import annotations

import gc
import importlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cohort_flywheel.segment.outputs import EnrichedFile

AS_OF = datetime(2026, 11, 22, tzinfo=UTC)


def graph(job: dict[str, Any]) -> Iterator[Any]:
    """The graph's answer becomes members, a snapshot and an extract."""
    for module in ("driver.client", "driver.aiohttp.transport", "driver.serializer", "process.graph_traversal"):
        _import(f"gremlin_python.{module}")
    _import("duckdb")
    _import()
    from cohort_flywheel.runs.plan import Plan
    from cohort_flywheel.runs.schedule import Schedule
    from cohort_flywheel.segment.extract_operator import CohortExtractOperator

    plan = _plan(job)
    operator = CohortExtractOperator(task_id="extract", plan=plan, clock=lambda: AS_OF + timedelta(hours=1))
    with TemporaryDirectory() as folder:
        yield
        facts, shards = operator.make(Plan.model_validate(plan), Path(folder), [], Schedule(plan["schedule"]))
        yield {"members": {"bucket": facts.s3_bucket, "key": facts.s3_key, "format": "json"}}
    kept = {"facts": facts.model_dump(mode="json"), "shards": [shard.model_dump(mode="json") for shard in shards]}
    _keep(job, "graph", {"plan": plan} | kept)


def enrich(job: dict[str, Any]) -> Iterator[Any]:
    """Each shard in turn, as one worker does them, whose every task is a process of its own: nothing is left of it."""
    _import()
    from cohort_flywheel.destinations import get_destination
    from cohort_flywheel.segment.enrich_operator import DynamoDBEnrichOperator, enrich_arguments

    before = _kept(job, "graph")
    arguments = enrich_arguments(before["plan"], before["facts"])
    get_destination(before["plan"]["layout"])  # imports its module, as the parse of the DAG does
    yield
    parts: list[EnrichedFile] = []
    for shard in before["shards"]:
        if parts:
            gc.collect()  # what is left of the shard before
        with TemporaryDirectory() as folder:
            parts.append(DynamoDBEnrichOperator(task_id="enrich", shard=shard, **arguments).make(Path(folder), []))
    rows = [{"bucket": part.s3_bucket, "key": part.s3_key} for part in parts]
    yield {"rows": rows, "segment_bytes": sum(part.bytes for part in parts)}
    _keep(job, "enrich", {"parts": [part.model_dump(mode="json") for part in parts]})


def release(job: dict[str, Any]) -> Iterator[Any]:
    """The parts are put together and copied to where they are imported."""
    _import()
    from cohort_flywheel.destinations import get_destination
    from cohort_flywheel.hooks.s3 import S3Hook
    from cohort_flywheel.runs.plan import Plan
    from cohort_flywheel.segment.limits_operator import CohortLimitsOperator
    from cohort_flywheel.segment.outputs import SegmentPart, Shard

    before, parts = _kept(job, "graph"), _kept(job, "enrich")["parts"]
    operator = CohortLimitsOperator(
        task_id="check_limits", plan=before["plan"], extract=before["facts"], shards=before["shards"], parts=parts,
        handle_empty_segment=lambda plan, settings: False,
    )  # fmt: skip
    get_destination(before["plan"]["layout"])
    yield
    plan, shards = Plan.model_validate(before["plan"]), [Shard.model_validate(shard) for shard in before["shards"]]
    given = [SegmentPart.model_validate(part) for part in parts]
    with TemporaryDirectory() as folder:
        segment = operator._combine(plan, S3Hook(), Path(folder), given, shards)
    segment = operator._release(plan, S3Hook(), segment, [])
    yield {"rows": [{"bucket": segment.s3_bucket, "key": part.s3_key} for part in segment.parts]}


def _import(module: str = "airflow.sdk.execution_time.supervisor") -> None:
    """Imports are not measured: what the code imports later, and by default what a process of a task begins with."""
    importlib.import_module(module)


def _plan(job: dict[str, Any]) -> dict[str, Any]:
    """A run of the shipped cohort, on the benchmark's property, buckets and table."""
    from cohort_flywheel.config.params import RunParams
    from cohort_flywheel.config.registry import read_registry
    from cohort_flywheel.runs.plan import make_plan

    cohort = read_registry(Path(__file__).parents[3] / "include" / "cohorts.yaml").cohort("ea_atrisk")
    params = RunParams(cohort="ea_atrisk", threshold=2)
    settings = {f"{role}_bucket": job["buckets"][role] for role in ("export", "import", "state")}
    settings |= {"contacts_table": job["table"]}
    plan = make_plan(
        cohort.model_copy(update={"property": job["property"]}), params=params, as_of=AS_OF, run_type="manual",
        user=None, layout="pinpoint", schedule="0 0 * * *", settings=settings,
    )  # fmt: skip
    return plan.model_dump(mode="json") | settings


def _keep(job: dict[str, Any], stage: str, facts: dict[str, Any]) -> None:
    Path(job["folder"], f"ours_{stage}.json").write_text(json.dumps(facts), encoding="utf-8")


def _kept(job: dict[str, Any], stage: str) -> Any:
    return json.loads(Path(job["folder"], f"ours_{stage}.json").read_text(encoding="utf-8"))
