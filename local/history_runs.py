"""The runs of the history: for each day the graph is set to the scores of that day, and the real operators run.

`local/history.py` starts it as a process of its own, with the settings of an Airflow in its environment. It needs no
metadata database: a context of the few things that the operators ask for takes its place, and the answer of an approver
goes to the approval operator's own `execute_complete`. The clock of each task is that of its day.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import boto3
import yaml
from gremlin_python.driver.driver_remote_connection import DriverRemoteConnection
from gremlin_python.driver.serializer import GraphBinarySerializersV1
from gremlin_python.process.anonymous_traversal import traversal
from gremlin_python.process.traversal import Cardinality

from local import sample
from local.aws_sessions import shared
from local.config import CONFIGURATION_SET, ROOT

COHORTS = ("ea_atrisk", "ea_malice", "ea_mischief")
#: The threshold of the launches, which gives more than a few players.
LAUNCH_THRESHOLD = 0
APPROVER = "ann"
#: The percentages of both holdouts of the first cohort, and the days after which a launch is measured.
HELD_OUT_PERCENT, EFFECT_DAYS = 20, 7
#: How many players of a hundred have another score than the day before.
CHANGES = 6
DAG_ID = "cohort_to_segment"

type Scores = dict[str, dict[str, int]]


def main(
    newest: datetime, graph_url: str, aws_url: str, days_ago: int, launched: list[int], *, is_counted_daily: bool
) -> None:
    """Run the days before `newest`, the oldest first; afterwards the graph and the emulated SES are as they were.

    :param days_ago: the number of days.
    :param launched: how many days before `newest` the first cohort is mailed.
    :param is_counted_daily: events are counted every day, not only after a launch.
    """
    for place, name, value in shared():
        setattr(place, name, value)
    players = sample.players()
    today: Scores = {cohort: {str(each["~id"]): int(each[cohort]) for each in players} for cohort in COHORTS}
    days = list(zip(range(1, days_ago + 1), _walk(today), strict=False))
    connection = DriverRemoteConnection(graph_url, "g", message_serializer=GraphBinarySerializersV1())
    with tempfile.TemporaryDirectory() as folder, closing(connection):
        g, ses, now = traversal().with_(connection), f"{aws_url}/cohort-flywheel/sesv2", today
        runs = Runs(Path(folder), aws_url)
        _tell(ses, template_seconds=0, max_send_rate=10_000, import_seconds=0)
        try:
            for back, scores in reversed(days):
                _set_scores(g, now, scores)
                now, as_of = scores, newest - timedelta(days=back)
                for cohort in runs.cohorts:
                    runs.day(as_of, cohort)
                if back in launched and runs.cohorts:
                    _tell(ses, mailed_at=(as_of + timedelta(hours=10)).timestamp())
                    conf = {"cohort": runs.cohorts[0], "threshold": LAUNCH_THRESHOLD, "campaign": "launch"}
                    runs.run(as_of, conf, as_of + timedelta(hours=9), "manual")
                    arrived = (as_of + timedelta(hours=13)).isoformat()
                    _tell(ses, write_events={"bucket": runs.event_bucket, "arrived": arrived, "faults": False})
                if back + 1 in launched or back == 1 or is_counted_daily:
                    runs.count_events(as_of)
        finally:
            _set_scores(g, now, today)
            _tell(ses, template_seconds=1, max_send_rate=14, import_seconds=None, mailed_at=None)


def _walk(today: Scores) -> Iterator[Scores]:
    """Yield the scores by cohort and vertex of one day before another."""
    rng, scores = random.Random(sample.SEED), today  # noqa: S311 - a sample, not a secret
    while True:
        scores = {cohort: dict(found) for cohort, found in scores.items()}
        for found in scores.values():
            for vertex, score in found.items():
                if rng.random() * 100 < CHANGES:
                    # a score of 0 stays there more often, so that a cohort was smaller the longer ago
                    found[vertex] = max(0, score + rng.choice((-1, -1, 1) if score > 1 else (0, 0, 1, -1)))
        yield scores


def _set_scores(g: Any, before: Scores, after: Scores) -> None:
    """Write the scores that differ, one request for each value of a property."""
    for name, scores in after.items():
        by_score: dict[int, list[str]] = {}
        for vertex, score in scores.items():
            if before[name][vertex] != score:
                by_score.setdefault(score, []).append(vertex)
        for score, vertices in sorted(by_score.items()):
            g.V(*vertices).property(Cardinality.single, name, score).count().next()


def _tell(url: str, **settings: Any) -> None:
    """Change the emulated SES."""
    request = urllib.request.Request(url, data=json.dumps(settings).encode())  # noqa: S310 - our own server
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(request, timeout=60).close()


class _TaskInstance:
    """What an operator asks its task instance for: the XComs of a run by task and key, the states of its tasks."""

    map_index = -1
    log_url = "http://localhost/"

    def __init__(self, dag_id: str, run_id: str) -> None:
        self.dag_id, self.run_id, self.task_id = dag_id, run_id, ""
        self.id = uuid5(NAMESPACE_OID, run_id)
        self.xcoms: dict[tuple[str, str], Any] = {}
        self.states: dict[str, str] = {}

    def xcom_push(self, key: str, value: Any, **_: Any) -> None:
        self.xcoms[self.task_id, key] = json.loads(json.dumps(value))  # as it comes back from a database

    def xcom_pull(self, task_ids: str, key: str = "return_value", **_: Any) -> Any:
        return self.xcoms.get((task_ids, key))

    def get_task_states(self, *_: Any, **__: Any) -> dict[str, dict[str, str]]:
        return {self.run_id: dict(self.states)}

    def get_dagrun_state(self, **_: Any) -> str:
        return "success"


def registry() -> dict[str, Any]:
    """Return the shipped registry; SES mails the first of the history's cohorts, and its launches are measured."""
    text: dict[str, Any] = yaml.safe_load((ROOT / "include" / "cohorts.yaml").read_text(encoding="utf-8"))
    text |= {"destination": "ses", "opt_outs": "none", "approval": {"approvers": [APPROVER], "hours": 12}}
    campaign = {
        "mode": "none", "template": "at_risk", "from": "Studio <play@studio.example>", "not_again_days": 30,
        "holdout_percent": HELD_OUT_PERCENT, "effect_days": EFFECT_DAYS,
    }  # fmt: skip
    for name in [each for each in COHORTS if each in text["cohorts"]][:1]:
        text["cohorts"][name] |= {"holdout_percent": HELD_OUT_PERCENT, "campaign": campaign}
    return text


class Runs:
    """Runs of the operators of `cohort_to_segment` and `engagement`, by a copy of the registry that mails by SES."""

    def __init__(self, folder: Path, aws_url: str) -> None:
        sys.path.insert(0, str(ROOT / "plugins"))
        from cohort_flywheel.config.params import RunParams
        from cohort_flywheel.config.registry import read_registry

        text = registry()
        self.cohorts = [name for name in COHORTS if name in text["cohorts"]]
        self._path = folder / "cohorts.yaml"
        self._path.write_text(yaml.safe_dump(text, sort_keys=False), encoding="utf-8")
        self._registry = read_registry(self._path)
        self._params = {name: field.default for name, field in RunParams.model_fields.items()}
        self.event_bucket = f"{os.environ['AIRFLOW_VAR_COHORT_FLYWHEEL_STATE_BUCKET']}-events"
        os.environ["AIRFLOW_VAR_COHORT_FLYWHEEL_EVENT_BUCKET"] = self.event_bucket
        os.environ["AIRFLOW_VAR_COHORT_FLYWHEEL_SES_CONFIGURATION_SET"] = CONFIGURATION_SET
        aws = json.loads(os.environ["AIRFLOW_CONN_AWS_DEFAULT"])
        self._s3 = boto3.client(
            "s3", endpoint_url=aws_url, region_name=aws["extra"]["region_name"], aws_access_key_id=aws["login"],
            aws_secret_access_key=aws["password"],
        )  # fmt: skip
        self._s3.create_bucket(Bucket=self.event_bucket)

    def day(self, as_of: datetime, cohort: str) -> None:
        """The scheduled run of a day; one that a limit stops is followed by a run of ana's that overrides it."""
        from cohort_flywheel.segment.limits_operator import StoppedByLimitError

        conf: dict[str, Any] = {"cohort": cohort}
        try:
            self.run(as_of, conf, as_of + timedelta(minutes=2), "scheduled")
        except StoppedByLimitError:
            conf |= {"override_limits": True, "override_reason": "The cohort is small: one record more is much."}
            self.run(as_of, conf, as_of + timedelta(hours=8), "manual")

    def run(self, as_of: datetime, conf: dict[str, Any], now: datetime, run_type: str) -> None:
        """A run of `cohort_to_segment`, with its tasks in the order of its file."""
        from cohort_flywheel.destinations import get_destination
        from cohort_flywheel.runs.lock_store import acquire_run_lock, acquire_run_lock_for_import
        from cohort_flywheel.runs.plan_operator import CohortPlanOperator
        from cohort_flywheel.runs.report_operator import CohortReportOperator
        from cohort_flywheel.runs.result_operator import CohortResultOperator
        from cohort_flywheel.segment.enrich_operator import DynamoDBEnrichOperator, enrich_arguments
        from cohort_flywheel.segment.extract_operator import CohortExtractOperator
        from cohort_flywheel.segment.limits_operator import CohortLimitsOperator

        registry, context = self._registry, self._context(DAG_ID, as_of, now, conf, run_type)
        ti, destination = context["ti"], get_destination(registry.destination)
        plan = self._done(context, CohortPlanOperator(
            task_id="plan", registry=self._path, schedule=registry.schedule, timezone=registry.timezone,
            destination=registry.destination, templates=ROOT / "include" / "email",
        ))  # fmt: skip
        shards = self._done(context, CohortExtractOperator(task_id="extract", plan=plan), lock=acquire_run_lock)
        facts, parts = ti.xcom_pull("extract", "facts"), []
        for shard in shards:
            enrich = DynamoDBEnrichOperator(task_id="enrich", shard=shard, **enrich_arguments(plan, facts))
            parts.append(self._done(context, enrich, lock=acquire_run_lock))
        limits = CohortLimitsOperator(
            task_id="check_limits", plan=plan, extract=facts, shards=shards, parts=parts,
            handle_empty_segment=destination.handle_empty_segment,
        )  # fmt: skip
        lock = acquire_run_lock_for_import
        checked = self._done(context, limits, lock=lock)
        created = self._done(context, destination.create_import_job(plan, checked, pre_execute=lock), lock=lock)
        if waiting := destination.wait_for_import_job(plan, created):
            waiting.deferrable, waiting.poke_interval = False, 0.2  # as in local/dag_runs.py
            self._done(context, waiting)
        verified = self._done(context, destination.verify_segment(plan, checked, created))
        record = CohortResultOperator(task_id="record_result", plan=plan, checked=checked, imported=verified)
        recorded, end = self._done(context, record, lock=lock), now + timedelta(minutes=4)
        if conf.get("campaign"):
            self._mail(context, plan, checked, recorded)
            end = now + timedelta(hours=2)
        self._done(context, CohortReportOperator(task_id="report"), now=end)

    def _mail(self, context: Any, plan: Any, checked: Any, recorded: Any) -> None:
        """Prepare the campaign, approve it, and launch it."""
        from airflow.sdk import Param
        from airflow.sdk.definitions.param import ParamsDict

        from cohort_flywheel.campaign.approval import approval_digest
        from cohort_flywheel.campaign.launch import PreparedCampaign
        from cohort_flywheel.campaign.operators import SHOWN, CampaignApprovalOperator
        from cohort_flywheel.destinations import get_destination
        from cohort_flywheel.runs.lock_store import acquire_run_lock

        ti, now, destination = context["ti"], context["dag_run"].run_after, get_destination(self._registry.destination)
        templates = ROOT / "include" / "email"
        prepared = self._done(context, destination.prepare_campaign(plan, checked, recorded, templates=templates))
        approve: Any = CampaignApprovalOperator(
            task_id="approve_campaign", plan=plan, checked=checked, verified=recorded, prepared=prepared, hours=12
        )
        digest = approval_digest(PreparedCampaign.of_output(prepared))
        approve.params = ParamsDict({SHOWN: Param(digest, type="string", const=digest)})
        ti.task_id = approve.task_id
        approve.execute_complete(context, {
            "chosen_options": [approve.APPROVE], "params_input": {SHOWN: digest}, "timedout": False,
            "responded_at": now + timedelta(minutes=40), "responded_by_user": {"id": "1", "name": APPROVER},
        })  # fmt: skip
        ti.states[approve.task_id] = "success"
        launch = destination.launch_campaign(
            plan, checked, prepared, approval=self._registry.approval, pre_execute=acquire_run_lock
        )
        self._done(context, launch, now=now + timedelta(hours=1), lock=acquire_run_lock)

    def count_events(self, as_of: datetime) -> None:
        """A run of `engagement`."""
        from cohort_flywheel.engagement import operators
        from cohort_flywheel.engagement.effect_operator import MeasureEffectOperator
        from cohort_flywheel.engagement.suppressions_operator import UpdateSuppressionsOperator

        now = as_of + timedelta(minutes=2)
        context, schedule = self._context("engagement", as_of, now, {}, "scheduled"), self._registry.schedule
        plan = self._done(context, operators.EngagementPlanOperator(task_id="plan", schedule=schedule))
        counts = self._done(context, operators.ReadEventsOperator(task_id="read_events", plan=plan))
        suppressions = self._done(context, UpdateSuppressionsOperator(
            task_id="update_suppressions", plan=plan, destination=self._registry.destination
        ))  # fmt: skip
        self._done(context, MeasureEffectOperator(task_id="measure_effect", plan=plan))
        self._done(context, operators.EngagementReportOperator(
            task_id="report", plan=plan, counts=counts, suppressions=suppressions
        ))  # fmt: skip
        for item in self._s3.list_objects_v2(Bucket=self.event_bucket).get("Contents", ()):
            self._s3.delete_object(Bucket=self.event_bucket, Key=item["Key"])  # as the bucket's rule does in time

    def _context(self, dag_id: str, as_of: datetime, now: datetime, conf: dict[str, Any], run_type: str) -> Any:
        from airflow.sdk.execution_time.context import OutletEventAccessors

        begin, is_scheduled = as_of - timedelta(days=1), run_type == "scheduled"
        run_id = f"{run_type}__{begin if is_scheduled else now:%Y-%m-%dT%H:%M:%S+00:00}"
        dag_run = SimpleNamespace(
            dag_id=dag_id, run_id=run_id, run_type=run_type, conf=conf, run_after=now, start_date=now,
            logical_date=begin if is_scheduled else None, data_interval_start=begin if is_scheduled else None,
            data_interval_end=as_of if is_scheduled else None,
            triggering_user_name=None if is_scheduled else "ana",
        )  # fmt: skip
        return {
            "params": self._params | conf, "dag": SimpleNamespace(params=self._params, task_ids=[]),
            "dag_run": dag_run, "run_id": run_id, "ti": _TaskInstance(dag_id, run_id),
            "outlet_events": OutletEventAccessors(),
        }  # fmt: skip

    def _done(
        self, context: Any, task: Any, *, now: datetime | None = None, lock: Callable[[Any], None] | None = None
    ) -> Any:
        """Execute a task; its return value, as a later task gets it."""
        instant, ti = now or context["dag_run"].run_after, context["ti"]
        ti.task_id, context["task"] = task.task_id, task
        if hasattr(task, "clock"):
            task.clock = lambda: instant
        if lock:
            lock(context)
        ti.xcom_push("return_value", task.execute(context))
        ti.states[task.task_id] = "success"
        return ti.xcom_pull(task.task_id)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("newest", type=datetime.fromisoformat)
    parser.add_argument("graph_url")
    parser.add_argument("aws_url")
    parser.add_argument("days", type=int)
    parser.add_argument("--launched", type=int, nargs="*", default=[])
    parser.add_argument("--counted-daily", action="store_true")
    _given = parser.parse_args()
    main(
        _given.newest.astimezone(UTC), _given.graph_url, _given.aws_url, _given.days, _given.launched,
        is_counted_daily=_given.counted_daily,
    )  # fmt: skip
