"""The plan refuses what must not run, with a sentence, before anything outside is touched."""

from __future__ import annotations

import json
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from botocore.session import Session

from cohort_flywheel.campaign.email_template import read_template, template_digest
from cohort_flywheel.destinations import get_destination
from cohort_flywheel.runs.plan_operator import CohortPlanOperator
from local import seed
from local.config import ROOT
from tests.cohort_flywheel.destinations.ses.ses_account import Account

REGISTRY = ROOT / "include" / "cohorts.yaml"


NEWEST = datetime(2026, 11, 22, tzinfo=UTC)


def plan(registry: Path = REGISTRY, clock: datetime = NEWEST + timedelta(hours=15)) -> CohortPlanOperator:
    return CohortPlanOperator(
        task_id="plan", registry=registry, schedule="0 0 * * *", destination="pinpoint", clock=lambda: clock
    )


def refused(context: Any, registry: Path = REGISTRY, clock: datetime = NEWEST + timedelta(hours=15)) -> str:
    with pytest.raises(AirflowFailException) as raised:
        plan(registry, clock).execute(context)
    text = str(raised.value)
    assert "Changes made: none. Correct it and clear this task" in text
    return text


def test_freezes_the_definition_and_all_names(airflow_env: Any, context: Any, config: Any) -> None:
    made = plan().execute(context())
    assert made["as_of"] == "2026-11-22T00:00:00+00:00"
    assert made["name"] == "ea_atrisk_2_2026-11-22_00-00-00"
    assert made["extract_key"] == "export/ea_atrisk_2_2026-11-22_00-00-00.json"
    assert (made["extract_bucket"], made["segment_bucket"]) == (config.export_bucket, config.import_bucket)
    assert (made["direction"], made["threshold"], made["threshold_from"]) == ("above", 2, "registry")
    assert json.loads(json.dumps(made)) == made  # fit for an XCom


def test_a_dry_run_writes_to_the_state_bucket_only(airflow_env: Any, context: Any, config: Any) -> None:
    made = plan().execute(context({"dry_run": True}))
    assert made["extract_bucket"] == config.state_bucket
    for key in ("extract_key", "staged_folder", "rejects_key", "claim_key", "report_folder"):
        assert made[key].startswith("dry_run/")


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        (
            {"dry_rum": True},
            "this DAG has no param dry_rum: the params are cohort, threshold, source, dry_run, extract_only,"
            " extract_uri, override_limits, override_reason, campaign; correct the name",
        ),
        ({"cohort": "ea_atrsk"}, r"no cohort 'ea_atrsk' \(did you mean ea_atrisk\?\)"),
        ({"threshold": 2.0000001}, "2.0000001 is not a whole number"),
        ({"threshold": "2"}, "'2' is not a whole number"),
        ({"threshold": True}, "True is not a whole number"),
        ({"override_limits": True}, "override_limits needs an override_reason: write why"),
        ({"override_limits": True, "override_reason": " "}, "override_limits needs an override_reason"),
        ({"override_reason": "A raid."}, "override_reason is given without override_limits: switch it on"),
        ({"cohort": "ea_reputation", "threshold": 2}, "outside the range of cohort ea_reputation, which looks below"),
    ],
)
def test_params(params: dict[str, Any], sentence: str, airflow_env: Any, context: Any) -> None:
    assert re.search(sentence, refused(context(params)))


def test_a_whole_float_is_a_whole_number(airflow_env: Any, context: Any) -> None:
    """JSON Schema lets 2.0 pass as an integer: it must not become another name."""
    assert plan().execute(context({"threshold": 2.0}))["name"] == "ea_atrisk_2_2026-11-22_00-00-00"


@pytest.mark.parametrize(
    ("run", "sentence"),
    [
        ({"data_interval_end": datetime(2099, 1, 1, tzinfo=UTC)}, "is in the future"),
        ({"data_interval_end": datetime(2026, 11, 20, 7, tzinfo=UTC)}, "is not an instant of the schedule"),
        ({"logical_date": datetime(2026, 10, 1, 5, tzinfo=UTC)}, "means the as-of 2026-10-01"),
        ({"logical_date": datetime(2026, 10, 1, tzinfo=UTC)}, "takes the place of that day's scheduled run"),
    ],
)
def test_dates(run: dict[str, Any], sentence: str, airflow_env: Any, context: Any) -> None:
    assert sentence in refused(context(**run))


def test_a_scheduled_run_takes_the_end_of_its_interval(airflow_env: Any, context: Any) -> None:
    day = datetime(2026, 10, 1, tzinfo=UTC)
    run = {"run_type": "scheduled", "logical_date": day, "data_interval_end": datetime(2026, 10, 2, tzinfo=UTC)}
    made = plan(clock=datetime(2026, 10, 2, 7, tzinfo=UTC)).execute(context(**run))
    assert made["as_of"] == "2026-10-02T00:00:00+00:00"


def test_the_table_has_the_key_and_the_graph_the_connection_that_the_registry_names(
    airflow_env: Any, context: Any, tmp_path: Path
) -> None:
    shutil.copytree(REGISTRY.parent / "email", tmp_path / "email")
    registry = tmp_path / "cohorts.yaml"
    text = REGISTRY.read_text(encoding="utf-8")
    registry.write_text(text.replace("\napproval:", "\nschema: {contacts_key: player_id}\napproval:"), encoding="utf-8")
    assert (
        "must have player_id as its partition key, of type text, and no sort key: correct"
        " cohort_flywheel_contacts_table, or schema.contacts_key in cohorts.yaml"
    ) in refused(context(), registry)
    registry.write_text(text.replace("    property:", "    connection: neptune_reader\n    property:", 1), "utf-8")
    assert "there is no Airflow connection neptune_reader, or Airflow cannot read it" in refused(context(), registry)


@pytest.mark.parametrize(("kind", "sort"), [("N", []), ("S", [("level", "RANGE", "N")])])
def test_a_table_with_another_key_is_refused(
    airflow_env: Any, context: Any, servers: Any, config: Any, monkeypatch: pytest.MonkeyPatch, kind: str,
    sort: list[tuple[str, str, str]],
) -> None:  # fmt: skip
    table, keys = f"{config.contacts_table}-of-{kind}", [("playerId", "HASH", kind), *sort]
    seed.client("dynamodb", servers, config).create_table(
        TableName=table,
        KeySchema=[{"AttributeName": name, "KeyType": key} for name, key, _ in keys],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": type_} for name, _, type_ in keys],
        BillingMode="PAY_PER_REQUEST",
    )
    monkeypatch.setenv("AIRFLOW_VAR_COHORT_FLYWHEEL_CONTACTS_TABLE", table)
    text = refused(context())
    assert text.startswith(f"CF-SET-03: table {table} must have playerId as its partition key, of type text, and no")


def test_a_plan_makes_one_client_of_s3(airflow_env: Any, context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each further one takes 20 ms."""
    made: list[str] = []
    create = Session.create_client

    def noted(session: Session, service_name: str, *arguments: Any, **options: Any) -> Any:
        made.append(service_name)
        return create(session, service_name, *arguments, **options)

    monkeypatch.setattr(Session, "create_client", noted)
    plan().execute(context())
    assert (made.count("s3"), made.count("dynamodb")) == (1, 1)


# --- overrides, and the threshold ------------------------------------------------------------------------


def test_an_override_has_the_name_of_the_triggering_user(airflow_env: Any, context: Any) -> None:
    params = {"override_limits": True, "override_reason": "A raid."}
    assert plan().execute(context(params))["override"] == {"by": "ana", "reason": "A raid."}
    made = plan().execute(context(params, triggering_user_name=None))
    assert made["override"] == {"by": "unknown", "reason": "A raid."}


def test_a_backfill_cannot_override(airflow_env: Any, context: Any) -> None:
    run = {"run_type": "backfill", "logical_date": NEWEST - timedelta(days=1), "data_interval_end": NEWEST}
    params = {"override_limits": True, "override_reason": "A raid."}
    assert "a backfill cannot override the limits" in refused(context(params, **run))
    assert plan().execute(context(**run))["override"] is None


@pytest.mark.parametrize(("day", "threshold", "since"), [(22, 3, "2026-11-22"), (21, 2, "2026-06-01")])
def test_a_run_takes_the_threshold_in_force_at_its_as_of(
    airflow_env: Any, context: Any, tmp_path: Path, day: int, threshold: int, since: str
) -> None:
    """As-of 2026-11-22 00:00 is the run that Airflow lists under the 21st."""
    registry = tmp_path / "cohorts.yaml"
    history = "threshold:\n      - {from: 2026-06-01, threshold: 2}\n      - {from: 2026-11-22, threshold: 3}\n"
    registry.write_text(REGISTRY.read_text().replace("threshold: 2\n", history, 1))
    as_of = datetime(2026, 11, day, tzinfo=UTC)
    run = {"run_type": "scheduled", "logical_date": as_of - timedelta(days=1), "data_interval_end": as_of}
    made = plan(registry, as_of + timedelta(hours=1)).execute(context(**run))
    assert (made["threshold"], made["threshold_from"]) == (threshold, f"registry, from {since}")
    assert made["name"] == f"ea_atrisk_{threshold}_2026-11-{day}_00-00-00"
    assert plan(registry, as_of + timedelta(hours=1)).execute(context({"threshold": 9}, **run))["threshold_from"] == (
        "param"
    )


# --- the past comes from the past ------------------------------------------------------------------------


@pytest.fixture
def past(airflow_env: Any, fresh_config: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A backfill's run of a day that is long past, with an empty state bucket."""
    monkeypatch.setenv("AIRFLOW_VAR_COHORT_FLYWHEEL_STATE_BUCKET", fresh_config.state_bucket)
    day = NEWEST - timedelta(days=10)
    return {"run_type": "backfill", "logical_date": day - timedelta(days=1), "data_interval_end": day}


def test_a_past_day_without_a_snapshot_is_refused_in_the_plan(past: Any, context: Any, kept: Any) -> None:
    kept(NEWEST - timedelta(days=12), {"ann": 3})
    text = refused(context(**past))
    assert (
        "cohort ea_atrisk has no snapshot of 2026-11-12 00:00 UTC (the nearest others are of 2026-11-10 00:00 UTC):"
        " run with source=live to use the current graph, under a separate name"
    ) in text
    assert "Changes made: none" in text


def test_the_source_snapshot_is_refused_even_on_the_newest_day(past: Any, context: Any) -> None:
    assert "no snapshot of 2026-11-22 00:00 UTC" in refused(context({"source": "snapshot"}))


def test_a_past_day_below_the_floor_of_its_snapshot_is_refused_in_the_plan(past: Any, context: Any, kept: Any) -> None:
    kept(NEWEST - timedelta(days=10), {"ann": 3}, floor=2, final=True)
    assert plan().execute(context(**past))["threshold"] == 2
    assert "has the floor 2, and the threshold 1 is looser" in refused(context({"threshold": 1}, **past))


def test_a_live_run_has_its_own_name(past: Any, context: Any) -> None:
    made = plan().execute(context({"source": "live"}, **past))
    name = "ea_atrisk_2_2026-11-12_00-00-00_live"
    assert (made["name"], made["source"]) == (name, "live")
    for key in ("extract_key", "rejects_key", "claim_key", "report_folder"):
        assert name in made[key]


def test_a_cohort_that_is_written_wrongly_fails_with_its_line(airflow_env: Any, context: Any, tmp_path: Path) -> None:
    registry = tmp_path / "cohorts.yaml"
    registry.write_text(REGISTRY.read_text().replace("    property: ea_duty", "    propery: ea_duty"))
    line = 1 + registry.read_text().splitlines().index("    propery: ea_duty")
    text = refused(context({"cohort": "ea_duty"}), registry)
    assert f"cohort ea_duty in cohorts.yaml, line {line}: propery is not a known key (did you mean property?)" in text
    assert plan(registry).execute(context())["cohort"] == "ea_atrisk"


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("EXPORT_BUCKET", "no-such-bucket", "bucket no-such-bucket does not exist"),
        ("IMPORT_BUCKET", "no-such-bucket", "correct cohort_flywheel_import_bucket"),
        ("STATE_BUCKET", "no-such-bucket", "bucket no-such-bucket does not exist"),
        ("CONTACTS_TABLE", "no_such_table", "table no_such_table does not exist"),
        ("PINPOINT_APPLICATION_ID", "0" * 32, "cannot be used (NotFoundException)"),
        ("PINPOINT_IMPORT_ROLE_ARN", "arn:aws:iam::123456789012:role/missing", "role/missing cannot be used"),
    ],
)
def test_missing_resources_are_named(
    variable: str, value: str, sentence: str, airflow_env: Any, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"AIRFLOW_VAR_COHORT_FLYWHEEL_{variable}", value)
    assert sentence in refused(context())


@pytest.fixture
def no_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test in which a call of AWS fails."""

    def called(*_: Any, **__: Any) -> Any:
        raise AssertionError("AWS was called")

    monkeypatch.setattr("botocore.client.BaseClient._make_api_call", called)


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("EXPORT_BUCKET", "s3://cohorts", "'s3://cohorts': write the name of the bucket alone, without s3://"),
        ("IMPORT_BUCKET", "cohorts/", "'cohorts/': write the name of the bucket alone"),
        ("STATE_BUCKET", "cohorts\n", r"'cohorts\n': write the name of the bucket alone"),
        (
            "CONTACTS_TABLE",
            "arn:aws:dynamodb:eu-west-1:123456789012:table/userdata",
            "write the name of the table alone",
        ),
        ("PINPOINT_APPLICATION_ID", "CohortModelerPinpoint", "write the id of the Pinpoint project alone"),
        ("PINPOINT_IMPORT_ROLE_ARN", "PinpointSegmentImport", "write arn:aws:iam::<account>:role/<name>"),
    ],
)
def test_a_setting_of_a_wrong_form_is_refused_before_anything_is_called(
    variable: str, value: str, sentence: str, airflow_env: Any, context: Any, no_calls: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv(f"AIRFLOW_VAR_COHORT_FLYWHEEL_{variable}", value)
    text = refused(context())
    assert text.startswith(f"CF-SET-01: cohort_flywheel_{variable.lower()} is ")
    assert sentence in text


def test_all_wrong_settings_are_named_at_once(
    airflow_env: Any, context: Any, no_calls: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_COHORT_FLYWHEEL_EXPORT_BUCKET", "s3://cohorts")
    monkeypatch.setenv("AIRFLOW_VAR_COHORT_FLYWHEEL_CONTACTS_TABLE", "user data")
    monkeypatch.setenv("AIRFLOW_VAR_COHORT_FLYWHEEL_PINPOINT_APPLICATION_ID", "x")
    monkeypatch.delenv("AIRFLOW_VAR_COHORT_FLYWHEEL_STATE_BUCKET")
    monkeypatch.setenv("AIRFLOW_CONN_NEPTUNE_DEFAULT", "gremlin://ws://graph:8182/gremlin?batch_size=0")
    text = refused(context())
    for name in ("export_bucket is", "contacts_table is", "pinpoint_application_id is", "set: cohort_flywheel_state"):
        assert name in text
    assert "the Airflow connection neptune_default has wrong fields: host is 'ws://graph': write" in text
    assert "batch_size is '0': write" in text


@pytest.mark.parametrize("params", [{}, {"source": "live"}, {"dry_run": True}, {"extract_only": True}])
def test_the_connection_of_the_graph_is_checked_by_a_run_that_may_read_it(
    params: dict[str, Any], airflow_env: Any, context: Any, no_calls: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_NEPTUNE_DEFAULT", "gremlin://graph:8182/http")
    assert "neptune_default has wrong fields: schema is 'http': write wss or ws" in refused(context(params))
    monkeypatch.delenv("AIRFLOW_CONN_NEPTUNE_DEFAULT")
    assert "there is no Airflow connection neptune_default" in refused(context(params))


def test_a_run_that_cannot_read_the_graph_needs_no_connection(
    airflow_env: Any, context: Any, kept: Any, fresh_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_COHORT_FLYWHEEL_STATE_BUCKET", fresh_config.state_bucket)
    monkeypatch.delenv("AIRFLOW_CONN_NEPTUNE_DEFAULT")
    for day in (NEWEST, NEWEST - timedelta(days=1)):
        kept(day, {"ann": 3}, final=True)
    assert plan().execute(context({"source": "snapshot"}))["as_of"] == NEWEST.isoformat()
    older = {"run_type": "scheduled", "logical_date": NEWEST - timedelta(days=2)}
    made = plan().execute(context(**older, data_interval_end=NEWEST - timedelta(days=1)))
    assert made["as_of"] == (NEWEST - timedelta(days=1)).isoformat()


def test_a_missing_setting_is_named_with_all_its_places(
    airflow_env: Any, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_VAR_COHORT_FLYWHEEL_STATE_BUCKET")
    text = refused(context())
    assert "not set: cohort_flywheel_state_bucket" in text
    assert "AIRFLOW_VAR_COHORT_FLYWHEEL_STATE_BUCKET" in text
    assert "secrets backend" in text


def test_three_buckets_must_be_three(
    airflow_env: Any, context: Any, config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_COHORT_FLYWHEEL_EXPORT_BUCKET", config.import_bucket)
    assert "must be three" in refused(context())


def test_without_a_do_not_contact_list_the_run_fails(
    airflow_env: Any, context: Any, config: Any, servers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3 = boto3.client("s3", endpoint_url=servers.aws_url, region_name=config.region,
                      aws_access_key_id="local", aws_secret_access_key="local")  # fmt: skip
    s3.create_bucket(Bucket="a-state-bucket-without-a-list")
    monkeypatch.setenv("AIRFLOW_VAR_COHORT_FLYWHEEL_STATE_BUCKET", "a-state-bucket-without-a-list")
    assert "the do-not-contact list s3://a-state-bucket-without-a-list/do_not_contact.txt does not exist" in refused(
        context()
    )


@pytest.mark.parametrize(("name", "entries", "written", "passes"), [
    ("pinpoint", "", "", True), ("ses", "\n", "", False), ("customer_profiles", "", "", False),
    ("ses", "", "opt_outs: none", True), ("ses", "ann@example.com", "", True),
])  # fmt: skip
def test_a_destination_without_earlier_opt_outs_requires_the_list(
    airflow_env: Any, context: Any, fresh_config: Any, servers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    name: str, entries: str, written: str, passes: bool,
) -> None:  # fmt: skip
    s3 = seed.client("s3", servers, fresh_config)
    s3.put_object(Bucket=fresh_config.state_bucket, Key="do_not_contact.txt", Body=entries.encode())
    monkeypatch.setenv("AIRFLOW_VAR_COHORT_FLYWHEEL_STATE_BUCKET", fresh_config.state_bucket)
    asked: list[str] = []
    monkeypatch.setattr(get_destination(name), "check", lambda *_: asked.append(name))
    registry = tmp_path / "cohorts.yaml"
    registry.write_text(REGISTRY.read_text(encoding="utf-8") + f"\n{written}\n", encoding="utf-8")
    task = plan(registry)
    task.destination = name
    if passes:
        task.execute(context())
        assert asked == [name]
        return
    with pytest.raises(AirflowFailException, match=f"is empty, and {name} does not have the opt-outs"):
        task.execute(context())
    assert asked == []
    task.execute(context({"dry_run": True}))


def test_a_refused_line_of_the_list_is_reported_by_its_number(
    airflow_env: Any, context: Any, fresh_config: Any, servers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3 = seed.client("s3", servers, fresh_config)
    s3.put_object(Bucket=fresh_config.state_bucket, Key="do_not_contact.txt", Body=b"\n\n@example.com\nann\n")
    monkeypatch.setenv("AIRFLOW_VAR_COHORT_FLYWHEEL_STATE_BUCKET", fresh_config.state_bucket)
    monkeypatch.setattr(get_destination("ses"), "check", lambda *_: None)
    task = plan()
    task.destination = "ses"
    with pytest.raises(AirflowFailException, match="line 3 of the do-not-contact list is not an address or a playerId"):
        task.execute(context())


def test_a_dry_run_needs_nothing_of_the_destination(
    airflow_env: Any, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pinpoint may be gone from an account: a dry run still shows what would be imported."""
    monkeypatch.delenv("AIRFLOW_VAR_COHORT_FLYWHEEL_PINPOINT_APPLICATION_ID")
    assert plan().execute(context({"dry_run": True}))["dry_run"]


def test_a_throttling_destination_is_retried(airflow_env: Any, context: Any, pinpoint: Any) -> None:
    pinpoint(refuse={"code": "TooManyRequestsException", "status": 429, "operations": ["GetApp"]})
    with pytest.raises(AirflowException, match="GetApp with TooManyRequestsException") as raised:
        plan().execute(context())
    assert not isinstance(raised.value, AirflowFailException)


# --- campaigns -------------------------------------------------------------------------------------------


@pytest.fixture
def mailing(airflow_env: Any, fresh_config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the plan task of a registry with an approver: `mailing("ses", mode="launch")`, at the newest as-of."""
    monkeypatch.setenv("AIRFLOW_VAR_COHORT_FLYWHEEL_STATE_BUCKET", fresh_config.state_bucket)
    monkeypatch.setenv("AIRFLOW_VAR_COHORT_FLYWHEEL_IMPORT_BUCKET", fresh_config.import_bucket)

    def make(name: str, **campaign: Any) -> CohortPlanOperator:
        registry = tmp_path / "include" / "cohorts.yaml"
        if not registry.exists():
            shutil.copytree(REGISTRY.parent, registry.parent)
        text = REGISTRY.read_text(encoding="utf-8").replace("approvers: []", "approvers: [ann]")
        for key, value in campaign.items():
            key = key.replace("sender", "from")
            text, number = re.subn(rf"(?m)^(      {key}:) .+$", rf"\1 {value}", text)
            assert number == 1, key
        registry.write_text(f"{text}\nopt_outs: none\n", encoding="utf-8")
        task = plan(registry)
        task.destination = name
        return task

    return make


@pytest.mark.parametrize("name", ["ses", "customer_profiles"])
def test_a_plan_freezes_its_campaign_and_mail(mailing: Any, context: Any, name: str) -> None:
    made = mailing(name).execute(context({"campaign": "launch"}))["campaign"]
    template = read_template(REGISTRY.parent / "email", "at_risk")
    assert made == {
        "mode": "launch", "template": "at_risk", "from": "Studio <play@studio.example>", "not_again_days": 30,
        "test_addresses": ["qa@studio.example"], "approvers": ["ann"], "template_digest": template_digest(template),
        "placeholders": {"FirstName": "player"}, "reply_to": None, "tracking": "all", "tracking_consent": None,
        "holdout_percent": 0, "effect_days": None,
    }  # fmt: skip
    assert mailing(name).execute(context())["campaign"] == {"mode": "none"}
    assert mailing(name, mode="draft").execute(context())["campaign"]["mode"] == "draft"


@pytest.mark.parametrize("name", ["ses", "customer_profiles"])
def test_a_backfill_and_an_older_day_have_no_campaign(mailing: Any, context: Any, kept: Any, name: str) -> None:
    for day in (NEWEST, NEWEST - timedelta(days=1)):
        kept(day, {"ann": 3}, final=True)
    backfill = {"run_type": "backfill", "logical_date": NEWEST - timedelta(days=1), "data_interval_end": NEWEST}
    older = {"run_type": "scheduled", "logical_date": NEWEST - timedelta(days=2)}
    older |= {"data_interval_end": NEWEST - timedelta(days=1)}
    for run, what in ((backfill, "a backfill"), (older, "a run of an older day than")):
        assert mailing(name, mode="launch").execute(context(**run))["campaign"] == {"mode": "none"}
        with pytest.raises(AirflowFailException, match=f"campaign=launch is for .* newest .* and this is {what}"):
            mailing(name).execute(context({"campaign": "launch"}, **run))


def test_pinpoint_has_no_campaigns(mailing: Any, context: Any) -> None:
    with pytest.raises(AirflowFailException, match="campaign=draft, but pinpoint has no campaigns: set"):
        mailing("pinpoint", mode="draft").execute(context())
    assert mailing("pinpoint").execute(context())["campaign"] == {"mode": "none"}


@pytest.mark.parametrize("name", ["ses", "customer_profiles"])
def test_a_sender_that_is_not_verified_is_refused_by_the_plan(mailing: Any, context: Any, name: str) -> None:
    for mode in ("draft", "test", "launch"):
        with pytest.raises(AirflowFailException, match="the sender play@other.example is not verified: verify"):
            mailing(name, sender="play@other.example").execute(context({"campaign": mode}))
    assert mailing(name, sender="play@other.example").execute(context())["campaign"] == {"mode": "none"}


def test_an_account_in_its_sandbox_is_refused_by_the_plan(
    mailing: Any, context: Any, servers: Any, fresh_config: Any
) -> None:
    account = Account(servers, fresh_config)
    account.control(production_access=False)
    try:
        with pytest.raises(AirflowFailException, match="the SES account is in the sandbox"):
            mailing("ses").execute(context({"campaign": "launch"}))
    finally:
        account.control(production_access=True)


@pytest.mark.parametrize(
    ("variable", "sentence"),
    [
        (
            "CONNECT_INSTANCE_ID",
            "outbound campaigns of Connect instance 0000.* do not exist .*: enable or create them",
        ),
        ("QCONNECT_KNOWLEDGE_BASE_ID", "message templates of knowledge base 0000.* correct cohort_flywheel_qconnect_"),
    ],
)
def test_missing_resources_of_connect_are_refused_by_the_plan(
    mailing: Any, context: Any, monkeypatch: pytest.MonkeyPatch, variable: str, sentence: str
) -> None:
    monkeypatch.setenv(f"AIRFLOW_VAR_COHORT_FLYWHEEL_{variable}", "00000000-0000-0000-0000-000000000000")
    with pytest.raises(AirflowFailException, match=sentence):
        mailing("customer_profiles").execute(context({"campaign": "launch"}))
    monkeypatch.delenv(f"AIRFLOW_VAR_COHORT_FLYWHEEL_{variable}")
    with pytest.raises(AirflowFailException, match=f"not set: cohort_flywheel_{variable.lower()}"):
        mailing("customer_profiles").execute(context({"campaign": "launch"}))
    assert mailing("customer_profiles").execute(context())["campaign"] == {"mode": "none"}


def test_the_plan_refuses_a_placeholder_without_a_column(mailing: Any, context: Any) -> None:
    task = mailing("ses")
    subject = task.templates / "at_risk" / "subject.txt"
    subject.write_text("Level {{Level}}", encoding="utf-8")
    with pytest.raises(AirflowFailException, match="names Level, which is not a column of the segment"):
        task.execute(context({"campaign": "test"}))
    subject.unlink()
    with pytest.raises(AirflowFailException, match=r"mail template at_risk has no subject\.txt"):
        task.execute(context({"campaign": "test"}))
    with pytest.raises(AirflowFailException, match="no mail template 'other' in include/email"):
        mailing("ses", template="other").execute(context({"campaign": "test"}))
