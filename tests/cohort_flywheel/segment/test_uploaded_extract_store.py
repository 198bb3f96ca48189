"""A run of an uploaded extract: validated first, under its own names, and not canonical."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from cohort_flywheel.config.cohorts import Limits
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.lock_store import acquire
from cohort_flywheel.runs.plan_operator import CohortPlanOperator
from cohort_flywheel.runs.result_operator import CohortResultOperator
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment import uploaded_extract_store as dropped_extract
from cohort_flywheel.segment.extract_operator import CohortExtractOperator
from cohort_flywheel.segment.limits_operator import CohortLimitsOperator
from local import seed
from local.config import ROOT

NEWEST = datetime(2026, 11, 22, tzinfo=UTC)
#: Three who are members of the shipped cohort, one of them twice; one whose score is not beyond 2; one without an id.
RECORDS = [
    {"playerId": ["xortiz"], "ea_atrisk": [3]},
    {"playerId": ["msmith"], "ea_atrisk": [3]},
    {"playerId": ["msmith"], "ea_atrisk": [4]},
    {"playerId": ["wayne96"], "ea_atrisk": [9]},
    {"playerId": ["ada12"], "ea_atrisk": [2]},
    {"ea_atrisk": [5]},
]


@pytest.fixture
def drop(aws: Any, fresh_config: Any) -> Callable[..., str]:
    """Drops a file; gives its address."""

    def put(body: bytes | list[Any] = RECORDS, name: str = "theirs.json") -> str:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        aws("s3").put_object(Bucket=fresh_config.export_bucket, Key=f"dropped/{name}", Body=text)
        return f"s3://{fresh_config.export_bucket}/dropped/{name}"

    return put


@pytest.fixture
def fresh_plan(
    airflow_env: Any, fresh_config: Any, aws: Any, context: Any, config: Any, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """Plans a run by its operator, in the fresh buckets."""
    for role in ("export", "import", "state"):
        monkeypatch.setenv(
            f"AIRFLOW_VAR_COHORT_FLYWHEEL_{role.upper()}_BUCKET", getattr(fresh_config, f"{role}_bucket")
        )
    aws("s3").put_object(Bucket=fresh_config.state_bucket, Key=seed.DO_NOT_CONTACT, Body=b"")

    def make(run_type: str = "manual", **params: Any) -> dict[str, Any]:
        its = context(task_id="plan", run_type=run_type)
        its["params"] |= params
        return CohortPlanOperator(
            task_id="plan", registry=ROOT / "include" / "cohorts.yaml", schedule="0 0 * * *", destination="pinpoint",
            clock=lambda: NEWEST + timedelta(hours=15),
        ).execute(its)  # fmt: skip

    return make


def keys(aws: Any, bucket: str) -> list[str]:
    return [item["Key"] for item in aws("s3").list_objects_v2(Bucket=bucket).get("Contents", ())]


def refused(make: Callable[..., Any], **params: Any) -> str:
    with pytest.raises(AirflowFailException) as raised:
        make(**params)
    text = str(raised.value)
    assert "Changes made: none." in text
    assert not any(player in text for player in ("wayne96", "msmith", "xortiz", "ada12"))
    return text


# --- the plan ------------------------------------------------------------------------------------------------


def test_the_plan_reads_the_extract_to_its_end(fresh_plan: Any, drop: Any, fresh_config: Any, no_graph: None) -> None:
    uri = drop()
    made = fresh_plan(extract_uri=uri)
    digest = hashlib.sha256(json.dumps(RECORDS).encode()).hexdigest()
    assert made["name"] == f"ea_atrisk_2_2026-11-22_00-00-00_extract_{digest[:16]}"
    assert (made["source"], made["extract_uri"], made["extract_sha256"]) == ("extract", uri, digest)
    assert json.loads(json.dumps(made)) == made, "fit for an XCom"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "is truncated after 0 records: upload the whole file again; a file without players is []"),
        (b'[{"playerId": ["wayne96"], "ea_atrisk": [3]},\n {"playerId": ["msmith"]}]', "record 2 of s3://"),
        (b'[{"playerId": ["wayne96"], "ea_atrisk": [3]},\n {"playerId": ["msmith"]}]', "on line 2, has no list of fin"),
        (b'playerId,ea_atrisk\nwayne96,3\n', "line 1 of s3://"),
        (b"\x1f\x8bwayne96", "is not UTF-8 after line 1"),
    ],
)  # fmt: skip
def test_an_invalid_extract_is_refused_before_anything_is_changed(
    fresh_plan: Any, drop: Any, aws: Any, fresh_config: Any, body: bytes, sentence: str
) -> None:
    uri = drop(body)
    assert sentence in refused(fresh_plan, extract_uri=uri)
    assert keys(aws, fresh_config.state_bucket) == [seed.DO_NOT_CONTACT]
    assert keys(aws, fresh_config.export_bucket) == ["dropped/theirs.json"]


def test_a_missing_extract_and_other_addresses_are_refused(fresh_plan: Any, fresh_config: Any, config: Any) -> None:
    bucket = fresh_config.export_bucket
    missing = refused(fresh_plan, extract_uri=f"s3://{bucket}/dropped/no.json")
    assert f"s3://{bucket}/dropped/no.json does not exist: upload the file first" in missing
    for elsewhere in (f"s3://{bucket}/export/a.json", f"s3://{config.export_bucket}/dropped/a.json"):
        assert f"extract_uri is not a file below s3://{bucket}/dropped/" in refused(fresh_plan, extract_uri=elsewhere)


@pytest.mark.parametrize(
    ("run_type", "params", "sentence"),
    [
        ("manual", {"extract_only": True}, "extract_only ends a run at the extract, and extract_uri begins with one"),
        ("manual", {"source": "live"}, "extract_uri and source=live both choose where the members come from"),
        ("backfill", {}, "a backfill cannot use extract_uri"),
    ],
)
def test_params_that_contradict_extract_uri_are_refused(
    fresh_plan: Any, drop: Any, run_type: str, params: dict[str, Any], sentence: str
) -> None:
    assert sentence in refused(fresh_plan, run_type=run_type, extract_uri=drop(), **params)


def test_a_too_large_extract_is_not_read(fresh_plan: Any, drop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropped_extract, "MAX_BYTES", 100)
    assert "bytes, and an uploaded extract may have 100: upload it in parts" in refused(fresh_plan, extract_uri=drop())


def test_a_refused_read_names_the_missing_permission(airflow_env: Any, fresh_config: Any, drop: Any) -> None:
    uri, s3 = drop(), S3Hook()
    client = s3.get_conn()

    def deny(**_: Any) -> None:
        from botocore.exceptions import ClientError

        raise ClientError({"Error": {"Code": "AccessDenied", "Message": ""}}, "GetObject")

    client.meta.events.register("before-call.s3.GetObject", deny)  # what the local S3 does not do
    with pytest.raises(FlywheelError, match="is refused .AccessDenied.: grant the execution role s3:GetObject on it"):
        dropped_extract.stream_uploaded_extract(
            s3, uri, fresh_config.export_bucket, list, property="ea_atrisk", direction="above", required=()
        )


# --- the extract ---------------------------------------------------------------------------------------------


def test_its_members_are_merged_sorted_and_beyond_the_threshold(
    fresh_plan: Any, drop: Any, extracted: Any, aws: Any, fresh_config: Any, state: State, no_graph: None
) -> None:
    uri = drop()
    plan = fresh_plan(extract_uri=uri)
    output = extracted(plan)
    body = aws("s3").get_object(Bucket=output["s3_bucket"], Key=output["s3_key"])["Body"].read()
    assert json.loads(body) == [
        {"playerId": ["msmith"], "ea_atrisk": [4]},
        {"playerId": ["wayne96"], "ea_atrisk": [9]},
        {"playerId": ["xortiz"], "ea_atrisk": [3]},
    ]
    counted = ("vertices_read", "vertices_not_beyond", "vertices", "merged", "vertices_without_playerId", "members")
    assert [output[name] for name in counted] == [6, 1, 5, 1, 1, 3]
    assert (output["source"], output["snapshot"], output["snapshot_key"]) == ("extract", None, None)
    uploaded_at = aws("s3").head_object(Bucket=fresh_config.export_bucket, Key="dropped/theirs.json")["LastModified"]
    assert output["read_at"] == uploaded_at.isoformat()
    # our copy does not trigger listeners of the export bucket
    assert (output["s3_bucket"], output["s3_key"]) == (fresh_config.state_bucket, f"staged/{plan['name']}.json")
    assert keys(aws, fresh_config.export_bucket) == ["dropped/theirs.json"]
    assert state.snapshot_days("ea_atrisk") == []


def test_the_required_properties_of_the_cohort_apply(drop: Any, planned: Any, extracted: Any) -> None:
    records = [
        {"playerId": ["ann"], "ea_atrisk": [3], "status": ["Active"]},
        {"playerId": ["bob"], "ea_atrisk": [3], "status": ["Inactive"]},
    ]
    digest = hashlib.sha256(json.dumps(records).encode()).hexdigest()
    cohort = {"where": {"status": {"equals": "Active"}}}
    output = extracted(planned(cohort=cohort, extract_uri=drop(records), extract_sha256=digest))
    assert (output["members"], output["vertices_not_as_required"]) == (1, 1)


def test_an_extract_changed_after_the_plan_is_refused(fresh_plan: Any, drop: Any, extracted: Any, aws: Any) -> None:
    plan = fresh_plan(extract_uri=drop())
    drop(RECORDS[:2])
    assert "has changed since this run was planned, and its names have the earlier" in refused(lambda: extracted(plan))


def test_a_dry_run_writes_to_the_dry_run_folder(fresh_plan: Any, drop: Any, extracted: Any, fresh_config: Any) -> None:
    output = extracted(fresh_plan(extract_uri=drop(), dry_run=True))
    assert output["s3_bucket"] == fresh_config.state_bucket
    assert output["s3_key"].startswith("dry_run/staged/")


# --- the rest of the run -------------------------------------------------------------------------------------


def test_its_segment_is_imported_under_its_own_name_and_is_not_a_result(
    fresh_plan: Any, drop: Any, extracted: Any, enriched: Any, context: Any, state: State, aws: Any, fresh_config: Any,
    no_graph: None, kept: Any,
) -> None:  # fmt: skip
    pending = kept(NEWEST, {"ada12": 3})
    plan = fresh_plan(extract_uri=drop())
    its = context(task_id="check_limits")
    acquire(state, plan["claim_key"], plan["name"], its)
    checked = _checked(plan, extracted(plan), enriched, its)
    assert (checked["snapshot"], checked["previous"]) == (None, None)
    parts = [part["s3_key"] for part in checked["segment"]["parts"]]
    assert parts == keys(aws, fresh_config.import_bucket)
    assert all(key.startswith(f"segments/{plan['name']}_") for key in parts)
    imported = {"segment_id": "s1", "segment_size": 3}
    result = CohortResultOperator(task_id="record_result", plan=plan, checked=checked, imported=imported).execute(its)
    assert result["result_key"] is None
    assert state.previous_result("ea_atrisk", 2, NEWEST + timedelta(days=1)) is None
    assert state.final_snapshot("ea_atrisk", NEWEST) is None
    assert [s.key for s in state.snapshots("ea_atrisk", NEWEST)] == [pending]
    assert state.lock_holder(plan["claim_key"]) is None


def test_the_limits_of_the_cohort_apply_and_its_change_is_compared_with_the_previous_result(
    planned: Any, drop: Any, extracted: Any, enriched: Any, context: Any, kept: Any, no_graph: None
) -> None:
    kept(NEWEST - timedelta(days=1), {"ann": 3}, final=True)
    digest = hashlib.sha256(json.dumps(RECORDS).encode()).hexdigest()
    limits = Limits(min_members=0, max_members=99, max_change_percent=100, max_reject_percent=100)
    plan = planned(cohort={"limits": limits}, extract_uri=drop(), extract_sha256=digest)
    with pytest.raises(AirflowException, match="max_change_percent is 100, and there are 3 members after 1"):
        _checked(plan, extracted(plan), enriched, context(task_id="check_limits"))


def _checked(plan: dict[str, Any], extract: dict[str, Any], enriched: Any, its: Any) -> dict[str, Any]:
    parts = enriched(plan, extract)
    shards = extract.pop("shards")
    with DAG("a_dag", schedule=None):
        task = CohortLimitsOperator(
            task_id="check_limits", plan=plan, extract=extract, shards=shards, parts=parts,
            handle_empty_segment=lambda _plan, _settings: False,
        )  # fmt: skip
        EmptyOperator(task_id="create")
    return task.execute(its | {"task": task})


# --- a run that ends at its extract --------------------------------------------------------------------------


def test_an_extract_only_run_ends_at_the_days_own_extract(
    fresh_plan: Any, context: Any, state: State, aws: Any, fresh_config: Any
) -> None:
    plan, its = fresh_plan(extract_only=True), context(task_id="extract")
    acquire(state, plan["claim_key"], plan["name"], its)
    clock = NEWEST + timedelta(hours=15)
    shards = CohortExtractOperator(task_id="extract", plan=plan, clock=lambda: clock).execute(its)
    assert shards == [], "nothing to map over, so Airflow skips what follows"
    facts = its["ti"].xcoms["extract", "facts"]
    assert facts["s3_key"] == "export/ea_atrisk_2_2026-11-22_00-00-00.json" == its["ti"].xcoms["extract", "s3_key"]
    assert facts["members"] == 3
    assert keys(aws, fresh_config.export_bucket) == [facts["s3_key"]]
    (snapshot,) = state.snapshots("ea_atrisk", NEWEST)
    assert not snapshot.final
    assert state.lock_holder(plan["claim_key"]) is None, "the lock is released"


def test_an_extract_only_run_needs_nothing_of_the_destination(fresh_plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_VAR_COHORT_FLYWHEEL_PINPOINT_APPLICATION_ID")
    assert "not set: cohort_flywheel_pinpoint_application_id" in refused(fresh_plan)
    assert fresh_plan(extract_only=True)["extract_only"] is True


def test_an_extract_only_run_evaluates_no_limits(fresh_plan: Any) -> None:
    sentence = "extract_only ends a run before its limits are evaluated: leave override_limits out"
    assert sentence in refused(fresh_plan, extract_only=True, override_limits=True, override_reason="A raid.")
