"""The outputs of whole runs, as an earlier version of the data path wrote them: `witness/recorded/`.

A change of the engine keeps them: extracts, rejects and reports equal when parsed, segment files byte for byte, except
that a value that begins with `#` may be quoted (no layout accepts a carriage return). After an intended change, run
this test with `WITNESS=record` in the environment: it writes them again, and the difference is part of the review.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from cohort_flywheel.runs.report_operator import CohortReportOperator
from cohort_flywheel.segment.limits_operator import CohortLimitsOperator
from local.config import Config
from tests.cohort_flywheel.hooks.test_graphson import on_scratch, scratch
from tests.cohort_flywheel.pipeline_runs import LIMITS
from tests.cohort_flywheel.segment.witness import cases

__all__ = ["on_scratch", "scratch"]

RECORDED = Path(__file__).parent / "witness" / "recorded"
#: What follows from the bytes of a file, which is compared itself, or from the names of a test's buckets.
DERIVED = {"bytes", "sha256", "of", "url", "s3_key", "s3_url", "parts", "snapshot_key", "rejects_key"}
CONSENT = {"attribute": "emailConsent", "opted_in": ["yes", True], "opted_out": ["no"], "silence": "opted_in"}


class Pipeline:
    """Runs all tasks of a plan up to the report, and gives the text of each file by its name."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        fixture = request.getfixturevalue
        self.config: Config = fixture("fresh_config")
        self.extracted, self.enriched, self.context = fixture("extracted"), fixture("enriched"), fixture("context")
        self._aws = fixture("aws")("s3")

    def outputs(self, plan: dict[str, Any]) -> dict[str, str]:
        plan = plan | {"limits": LIMITS}
        its = self.context(task_id="check_limits")
        extract = self.extracted(plan)
        facts = {key: value for key, value in extract.items() if key != "shards"}
        parts = self.enriched(plan, extract)
        with DAG("a_dag", schedule=None):
            limits: Any = CohortLimitsOperator(
                task_id="check_limits", plan=plan, extract=facts, shards=extract["shards"],
                parts=parts, handle_empty_segment=lambda plan, settings: False,
            )  # fmt: skip
            limits >> EmptyOperator(task_id="create_import_job")
        its["task"] = limits
        segment = limits.execute(its)["segment"]
        report = self._report(plan, facts, its)
        rejects = self._aws.list_objects_v2(Bucket=self.config.state_bucket, Prefix=segment["rejects_key"])["Contents"]
        return {
            "extract.json": self._text(facts["s3_bucket"], facts["s3_key"]),
            "segment.csv": _joined([self._text(segment["s3_bucket"], part["s3_key"]) for part in segment["parts"]]),
            "rejects.csv": _joined([self._text(self.config.state_bucket, each["Key"]) for each in rejects]),
            "report.json": json.dumps(_without_derived(report), indent=1) + "\n",
        }

    def _report(self, plan: dict[str, Any], facts: dict[str, Any], context: Any) -> dict[str, Any]:
        ti = context["ti"]
        ti.task_id, ti.states = "report", dict.fromkeys(("plan", "extract", "check_limits"), "success")
        ti.xcoms["plan", "return_value"], ti.xcoms["extract", "facts"] = plan, facts
        now = datetime.fromisoformat(plan["as_of"]) + timedelta(hours=2)
        output = CohortReportOperator(task_id="report", clock=lambda: now).execute(context)
        key = output["report_url"].removeprefix(f"s3://{self.config.state_bucket}/")
        report: dict[str, Any] = json.loads(self._text(self.config.state_bucket, key))
        return report

    def _text(self, bucket: str, key: str) -> str:
        return str(self._aws.get_object(Bucket=bucket, Key=key)["Body"].read().decode())


def _joined(parts: list[str]) -> str:
    """Files with the same header as one."""
    end = "\r\n" if parts[0].partition("\n")[0].endswith("\r") else "\n"
    header = parts[0].partition(end)[0] + end
    return header + "".join(part.removeprefix(header) for part in parts)


def _without_derived(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_derived(each) for key, each in value.items() if key not in DERIVED}
    return [_without_derived(each) for each in value] if isinstance(value, list) else value


@pytest.fixture
def pipeline(request: pytest.FixtureRequest) -> Pipeline:
    return Pipeline(request)


def compare(case: str, outputs: dict[str, str]) -> None:
    """Compare the outputs of a case with its recorded ones."""
    folder = RECORDED / case
    if os.environ.get("WITNESS") == "record":
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in outputs.items():
            (folder / name).write_bytes(text.encode())
    for name, text in outputs.items():
        recorded = (folder / name).read_bytes().decode()
        if name == "segment.csv":
            lines = zip(text.split("\n"), recorded.split("\n"), strict=True)
            assert [pair for pair in lines if not _same_line(*pair)] == [], name
        elif name == "rejects.csv":
            assert _rows(text) == _rows(recorded), name
        else:
            assert json.loads(text) == json.loads(recorded), name


def _same_line(one: str, other: str) -> bool:
    if one == other:
        return True
    (row,) = _rows(other)
    return any(cell.startswith("#") for cell in row) and _rows(one) == [row]


def _rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def test_the_sample(pipeline: Pipeline, planned: Callable[..., dict[str, Any]]) -> None:
    for destination in ("pinpoint", "customer_profiles"):
        plan = planned(threshold=1, source="auto") | {"layout": destination}
        compare(f"sample_{destination}", pipeline.outputs(plan))


@pytest.mark.usefixtures("on_scratch")
def test_generated_cases(
    pipeline: Pipeline, planned: Callable[..., dict[str, Any]], scratch: Callable[[str], Any], dynamodb_client: Any,
    aws: Any,
) -> None:  # fmt: skip
    config = pipeline.config
    scratch("; ".join(f"scratch.addV('player'){steps}.iterate()" for steps in cases.vertices()) + "; 0")
    for record in cases.records():
        dynamodb_client.put_item(TableName=config.contacts_table, Item=record)
    listed = "\n".join(cases.LISTED) + "\n"
    aws("s3").put_object(Bucket=config.state_bucket, Key="do_not_contact.txt", Body=listed.encode())
    ours = {"contacts_table": config.contacts_table, "attributes": {"Level": "level"}}
    plan = (
        planned() | ours | {"score_column": "ea_atrisk", "where": {"status": {"one_of": ["Active", "Inactive", True]}}}
    )
    compare("generated", pipeline.outputs(plan))

    # the same day again from its snapshot, with all that leaves players out
    withhold = {"holdout_percent": 30, "placeholders": {"FirstName": None, "Level": "0"}}
    strict = (
        planned(source="snapshot")
        | ours
        | {"where": {"status": {"equals": "Active"}}, "consent": CONSENT, "layout": "ses"}
    )
    compare("generated_strict", pipeline.outputs(strict | {"withhold": withhold}))

    # several shards give the same
    several = pipeline.outputs(plan | {"shard_members": 60})
    for name in ("extract.json", "rejects.csv", "segment.csv"):
        assert several[name].encode() == (RECORDED / "generated" / name).read_bytes()
