"""Whole runs of the shipped cohort into the emulated Pinpoint, task by task, each on a snapshot kept for it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import DownstreamTasksSkipped
from botocore.exceptions import ClientError

from cohort_flywheel.destinations.pinpoint.operators import (
    PinpointCreateImportJobOperator,
    PinpointVerifySegmentOperator,
)
from cohort_flywheel.destinations.pinpoint.sensors import PinpointImportJobSensor
from cohort_flywheel.hooks.s3 import S3Hook, Version, delete_version, versions
from cohort_flywheel.runs.lock_store import acquire
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.runs.report_operator import CohortReportOperator
from cohort_flywheel.runs.result_operator import CohortResultOperator
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.limits_operator import CohortLimitsOperator
from tests.cohort_flywheel.all_keys import check_all_keys
from tests.cohort_flywheel.segment.snapshots import players_of

#: Without a limit that a handful of players breaks.
LIMITS = {"min_members": 0, "max_members": 1000, "max_change_percent": 100_000, "max_reject_percent": 100}


def _imports_nothing(plan: Plan, settings: Mapping[str, Any]) -> bool:
    """The `handle_empty_segment` of a destination that need not remove former members."""
    return False


class Runs:
    """Three versioned buckets, a table of contacts and a Pinpoint project of their own; `run()` makes a run."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        fixture = request.getfixturevalue
        self.config, self.seeded, self.client = fixture("fresh_config"), fixture("fresh_seeded"), fixture("aws")
        self.context, self.planned, self.kept = fixture("context"), fixture("planned"), fixture("kept")
        self.extracted, self.enriched = fixture("extracted"), fixture("enriched")
        self._dynamodb = fixture("dynamodb_client")
        patch = fixture("monkeypatch")
        for name in ("export_bucket", "import_bucket", "state_bucket", "contacts_table"):
            patch.setenv(f"AIRFLOW_VAR_COHORT_FLYWHEEL_{name.upper()}", getattr(self.config, name))
        patch.setenv("AIRFLOW_VAR_COHORT_FLYWHEEL_PINPOINT_APPLICATION_ID", self.seeded.application_id)
        patch.setenv("AIRFLOW_VAR_COHORT_FLYWHEEL_PINPOINT_IMPORT_ROLE_ARN", self.seeded.role_arn)
        fixture("pinpoint")(import_seconds=0)
        self.s3 = S3Hook()
        self.state = State(self.s3, self.config.state_bucket)
        self.buckets = [self.config.export_bucket, self.config.import_bucket, self.config.state_bucket]
        for bucket in self.buckets:
            self.client("s3").put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        self.client("s3").put_object(Bucket=self.config.state_bucket, Key="do_not_contact.txt", Body=b"")

    def add_contacts(self, *players: str) -> None:
        """Give each a record with an address of their own and a yes."""
        for player in players:
            record = {"playerId": player, "email": f"{player}@example.com", "firstName": "Jo", "lastName": "O",
                      "favoriteRole": "Tank", "emailConsent": "yes"}  # fmt: skip
            item = {name: {"S": value} for name, value in record.items()}
            self._dynamodb.put_item(TableName=self.config.contacts_table, Item=item)

    def run(
        self, as_of: datetime, scores: dict[str, int], *, days: float = 0.1, imports: bool = True, **params: Any
    ) -> dict[str, Any]:
        """A run of a day whose final snapshot has these scores, reported so many days after it."""
        self.kept(as_of, scores, final=True)
        plan = self.planned(as_of, **params) | {"limits": LIMITS, "contacts_table": self.config.contacts_table}
        its = self.context(task_id="check_limits", run_id=f"manual__{plan['name']}")
        acquire(self.state, plan["claim_key"], plan["name"], its)
        extract = self.extracted(plan, hours=2)
        facts = {key: value for key, value in extract.items() if key != "shards"}
        states, imported = {"plan": "success", "extract": "success", "check_limits": "success"}, None
        checked = self._checked(plan, facts, extract["shards"], its)
        if imports and not plan["dry_run"]:
            imported = self._imported(plan, checked, its)
            states["record_result"] = "success"
        self._reported(plan, facts, its, imported, states, as_of + timedelta(days=days))
        check_all_keys(self.client("s3"), self.config)
        return {"plan": plan, "extract": facts, "checked": checked, "imported": imported}

    def _checked(self, plan: Any, facts: Any, shards: Any, context: Any) -> Any:
        with DAG("a_dag", schedule=None):
            limits: Any = CohortLimitsOperator(
                task_id="check_limits", plan=plan, extract=facts, shards=shards,
                parts=self.enriched(plan, facts | {"shards": shards}), handle_empty_segment=_imports_nothing,
            )  # fmt: skip
            limits >> EmptyOperator(task_id="create_import_job")
        context["task"] = limits
        try:
            return limits.execute(context)
        except DownstreamTasksSkipped:
            return context["ti"].xcoms["check_limits", "return_value"]

    def _imported(self, plan: dict[str, Any], checked: dict[str, Any], context: Any) -> dict[str, Any]:
        app = self.seeded.application_id
        created = PinpointCreateImportJobOperator(
            task_id="create", application_id=app, role_arn=self.seeded.role_arn, s3_url=checked["s3_url"],
            segment_name=plan["name"],
        ).execute({})  # fmt: skip
        PinpointImportJobSensor(
            task_id="wait", application_id=app, job_id=created["job_id"], poke_interval=0.1, max_attempts=300,
            deferrable=False,
        ).execute({})  # fmt: skip
        verified = PinpointVerifySegmentOperator(
            task_id="verify", application_id=app, job_id=created["job_id"], expected_size=checked["rows"]
        ).execute({})
        result: dict[str, Any] = CohortResultOperator(
            task_id="record_result", plan=plan, checked=checked, imported=verified
        ).execute(context)
        return result

    def _reported(
        self, plan: Any, facts: Any, context: Any, imported: Any, states: dict[str, str], now: datetime
    ) -> None:
        ti = context["ti"]
        ti.task_id, ti.states = "report", states
        ti.xcoms["plan", "return_value"], ti.xcoms["extract", "facts"] = plan, facts
        ti.xcoms["record_result", "return_value"] = imported
        CohortReportOperator(
            task_id="report", clock=lambda: now
        ).execute(context)  # fmt: skip

    # --- what there is

    def versions(self) -> Iterator[Version]:
        for bucket in self.buckets:
            yield from versions(self.s3, bucket, "")

    def keys(self) -> set[str]:
        """Of all three buckets, the keys that have a version or a delete marker."""
        return {version.key for version in self.versions()}

    def bodies(self) -> bytes:
        """The bytes of every version of everything; of a snapshot, its playerIds too, which are compressed."""
        s3 = self.client("s3")
        found = []
        for v in self.versions():
            if not v.is_marker:
                found.append(body := s3.get_object(Bucket=v.bucket, Key=v.key, VersionId=v.id)["Body"].read())
                found += [f'"{player}"'.encode() for player in players_of(body)] if v.key.endswith(".parquet") else []
        return b"\n".join(found)

    def endpoint(self, endpoint_id: str) -> dict[str, Any] | None:
        try:
            answer = self.client("pinpoint").get_endpoint(
                ApplicationId=self.seeded.application_id, EndpointId=endpoint_id
            )
        except ClientError as error:
            assert error.response["Error"]["Code"] == "NotFoundException"
            return None
        return dict(answer["EndpointResponse"])

    def opt_out(self, endpoint_id: str) -> None:
        """What an unsubscribe leaves in Pinpoint."""
        self.client("pinpoint").update_endpoint(
            ApplicationId=self.seeded.application_id, EndpointId=endpoint_id, EndpointRequest={"OptOut": "ALL"}
        )

    def segments(self) -> set[str]:
        """The names of the segments in Pinpoint."""
        answer = self.client("pinpoint").get_segments(ApplicationId=self.seeded.application_id, PageSize="100")
        return {item["Name"] for item in answer["SegmentsResponse"]["Item"]}

    def claims(self) -> dict[str, Any]:
        s3, found = self.client("s3"), {}
        for item in s3.list_objects_v2(Bucket=self.config.state_bucket, Prefix="claims/").get("Contents", ()):
            body = s3.get_object(Bucket=self.config.state_bucket, Key=item["Key"])["Body"].read()
            found[item["Key"]] = json.loads(body)
        return found

    def remove_all(self) -> None:
        for version in list(self.versions()):
            delete_version(self.s3, version)

    def remove_snapshots(self) -> None:
        for version in list(self.versions()):
            if version.key.startswith(("snapshots/", "snapshots_pending/")):
                delete_version(self.s3, version)
