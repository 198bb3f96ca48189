"""The plan: all that later tasks need, and where a dry run writes."""

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pendulum
import pytest
from pydantic import ValidationError

from cohort_flywheel.campaign.settings import NONE, NoCampaign, RunCampaign
from cohort_flywheel.config.cohorts import Cohort, Consent, ThresholdFrom
from cohort_flywheel.config.data_schema import DataSchema
from cohort_flywheel.config.params import RunParams
from cohort_flywheel.config.registry_head import Tuning
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.runs.plan import Override, Plan, check_extract, make_plan

COHORT = Cohort.model_validate(
    {
        "name": "grumpy",
        "description": "Players of ill repute.",
        "property": "ea_reputation",
        "direction": "below",
        "threshold": -75,
        "threshold_range": {"min": -100, "max": 0},
        "floor": -50,
        "where": {"status": {"equals": "Active"}},
        "limits": {"min_members": 1, "max_members": 9, "max_change_percent": 50, "max_reject_percent": 30},
        "daily": False,
        "attributes": {"Level": "level"},
        "consent": {"attribute": "ok", "opted_in": ["yes", True], "opted_out": ["no"], "silence": "opted_out"},
    }
)
AS_OF = datetime(2026, 11, 22, tzinfo=UTC)
SETTINGS = {
    "export_bucket": "exports",
    "import_bucket": "imports",
    "state_bucket": "state",
    "contacts_table": "players",
}


PARAMS = {
    "cohort": "grumpy", "threshold": None, "source": "auto", "dry_run": False, "extract_only": False,
    "extract_uri": None, "override_limits": False, "override_reason": None,
}  # fmt: skip
URI = "s3://exports/dropped/theirs.json"
LAUNCH = RunCampaign(
    mode="launch", template="back", sender="Studio <play@studio.example>", not_again_days=30, test_addresses=[],
    approvers=["ann"],
)  # fmt: skip


def plan(
    cohort: Cohort = COHORT,
    settings: dict[str, str] = SETTINGS,
    as_of: datetime = AS_OF,
    run_type: str = "manual",
    user: str | None = "ana",
    extract_sha256: str | None = None,
    campaign: RunCampaign | NoCampaign = NONE,
    **params: Any,
) -> Plan:
    return make_plan(
        cohort, params=RunParams.model_validate(PARAMS | params), as_of=as_of, run_type=run_type, user=user,
        layout="pinpoint", schedule="0 0 * * *", settings=settings, extract_sha256=extract_sha256, campaign=campaign,
    )  # fmt: skip


def test_a_plan_freezes_the_cohort_and_every_name() -> None:
    name = "grumpy_-75_2026-11-22_00-00-00"
    assert plan().model_dump(mode="json") == {
        "name": name,
        "as_of": "2026-11-22T00:00:00+00:00",
        "schedule": "0 0 * * *",
        "timezone": "UTC",
        "cohort": "grumpy",
        "property": "ea_reputation",
        "direction": "below",
        "threshold": -75,
        "threshold_from": "registry",
        "floor": -50,
        "where": {"status": {"equals": "Active"}},
        "source": "auto",
        "extract_only": False,
        "extract_uri": None,
        "extract_sha256": None,
        "limits": {"min_members": 1, "max_members": 9, "max_change_percent": 50, "max_reject_percent": 30},
        "override": None,
        "dry_run": False,
        "attributes": {"Level": "level"},
        "score_column": None,
        "consent": {"attribute": "ok", "opted_in": ["yes", True], "opted_out": ["no"], "silence": "opted_out"},
        "campaign": {"mode": "none"},
        "withhold": {
            "holdout_percent": 0, "launch_holdout_percent": 0, "placeholders": {}, "template": None, "since": None,
            "suppressions": None,
        },
        "layout": "pinpoint",
        "contacts_table": "players",
        "export_bucket": "exports",
        "extract_bucket": "exports",
        "extract_key": f"export/{name}.json",
        "state_bucket": "state",
        "staged_folder": "staged/",
        "segment_bucket": "imports",
        "segment_folder": "segments/",
        "rejects_key": f"rejects/{name}.csv",
        "claim_key": f"claims/{name}.json",
        "report_folder": f"reports/{name}/",
        "do_not_contact_key": "do_not_contact.txt",
        "shard_members": None,
        "lookups_in_flight": None,
        "data_schema": DataSchema().model_dump(mode="json"),
        "connection": None,
        "may_be_empty": False,
        "sender_limits": None,
        "reads_engagement": False,
    }  # fmt: skip


def test_the_plan_has_the_studios_names_with_the_cohorts_label_and_its_paths_pass_through_xcom() -> None:
    cohort = COHORT.model_copy(
        update={
            "vertex_label": "guest", "connection": "neptune_reader", "may_be_empty": True,
            "attributes": {"Level": ("stats", "level")},
            "consent": Consent(
                attribute=("profile", "ok"), opted_in=["yes"], opted_out=["no"], silence="opted_out"
            ),
        }
    )  # fmt: skip
    schema = DataSchema.model_validate({"vertex_label": "customer", "address": ["profile", "email"]})
    made = make_plan(
        cohort, params=RunParams.model_validate(PARAMS), as_of=AS_OF, run_type="manual", user=None, layout="pinpoint",
        schedule="0 0 * * *", settings=SETTINGS, data_schema=schema,
    )  # fmt: skip
    assert made.data_schema == schema.model_copy(update={"vertex_label": "guest"})
    assert (made.connection, made.may_be_empty) == ("neptune_reader", True)
    output = json.loads(made.model_dump_json())
    assert output["attributes"] == {"Level": ["stats", "level"]}
    assert output["data_schema"]["address"] == ["profile", "email"]
    assert Plan.model_validate(output) == made


def test_a_plan_with_decimals_passes_through_xcom() -> None:
    churn = {"threshold": [{"from": date(2026, 1, 1), "threshold": -75.5}], "floor": -50.25}
    cohort = Cohort.model_validate(COHORT.model_dump(by_alias=True) | churn)
    made = plan(cohort=cohort)
    assert (made.threshold, made.floor) == (-75.5, -50.25)
    assert made.name == "grumpy_-75.5_2026-11-22_00-00-00"
    output = json.loads(json.dumps(made.model_dump(mode="json")))
    assert (output["threshold"], output["floor"]) == (-75.5, -50.25)
    assert Plan.model_validate(output) == made
    assert plan(cohort=cohort, threshold=-75.0).name == plan(threshold=-75).name


def test_a_plan_and_its_consent_pass_through_xcom() -> None:
    made = plan(campaign=LAUNCH, override_limits=True, override_reason="A raid.")
    output = made.model_dump(mode="json")
    assert json.loads(json.dumps(output)) == output
    assert output["campaign"]["from"] == LAUNCH.sender
    assert Plan.model_validate(output | {"import_bucket": "imports", "ses_topic": "news"}) == made
    assert made.consent == COHORT.consent


def test_the_plan_has_the_tuning_of_the_registry() -> None:
    made = make_plan(
        COHORT, params=RunParams.model_validate(PARAMS), as_of=AS_OF, run_type="manual", user=None, layout="pinpoint",
        schedule="0 0 * * *", settings=SETTINGS, tuning=Tuning(shard_members=2000, lookups_in_flight=9),
    )  # fmt: skip
    assert (made.shard_members, made.lookups_in_flight) == (2000, 9)


def test_a_plan_of_an_earlier_version_is_read() -> None:
    """As it was before Plan was a model, with what a campaign had besides: the run waits for its approval meanwhile."""
    made = plan(campaign=LAUNCH)
    output = made.model_dump(mode="json")
    for key in ("shard_members", "lookups_in_flight", "data_schema", "connection", "may_be_empty"):
        output.pop(key)
    earlier = output | {"campaign": output["campaign"] | {"self_approval": False}, "of_another_version": 1}
    assert Plan.model_validate(earlier) == made


def test_a_run_without_a_campaign_launches_none() -> None:
    assert plan(campaign=LAUNCH).require_campaign() == LAUNCH
    with pytest.raises(FlywheelError, match="this run has campaign=none: only campaign=launch mails players"):
        plan().require_campaign()


def test_a_plan_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        plan().name = "another"


def test_since_has_a_time_zone() -> None:
    """An as-of comes from Airflow's timetables as pendulum's, which loses the zone in a subtraction."""
    as_of = pendulum.datetime(2026, 11, 22, tz="UTC").astimezone(UTC)
    assert (as_of - timedelta(days=1)).tzinfo is None
    made = plan(as_of=as_of, campaign=LAUNCH)
    assert made.withhold.since == datetime(2026, 10, 23, tzinfo=UTC)
    assert made.model_dump(mode="json")["withhold"]["since"] == "2026-10-23T00:00:00+00:00"


def test_the_threshold_param_overrides_the_registry_and_is_recorded() -> None:
    made = plan(threshold=-80.0)
    assert (made.threshold, made.threshold_from) == (-80, "param")
    assert type(made.threshold) is int
    assert made.name == "grumpy_-80_2026-11-22_00-00-00"


def test_a_threshold_of_zero_is_a_threshold() -> None:
    assert (plan(threshold=0).threshold, plan(threshold=0).threshold_from) == (0, "param")


@pytest.mark.parametrize("threshold", [1, -101, -75.0000001, True])
def test_a_threshold_that_may_not_be_typed_is_refused(threshold: float) -> None:
    with pytest.raises(FlywheelError, match=r"^CF-PLAN-03: threshold "):
        plan(threshold=threshold)


HISTORY = COHORT.model_copy(
    update={
        "threshold": [
            ThresholdFrom.model_validate({"from": date(2026, 6, 1), "threshold": -80}),
            ThresholdFrom.model_validate({"from": date(2026, 11, 22), "threshold": -75}),
        ],
        "floor": None,
    }
)


@pytest.mark.parametrize(
    ("as_of", "threshold", "said"),
    [
        (AS_OF, -75, "registry, from 2026-11-22"),
        (AS_OF + timedelta(days=9), -75, "registry, from 2026-11-22"),
        (AS_OF - timedelta(seconds=1), -80, "registry, from 2026-06-01"),
    ],
)
def test_a_run_without_a_threshold_takes_the_one_in_force(as_of: datetime, threshold: int, said: str) -> None:
    made = plan(HISTORY, as_of=as_of)
    assert (made.threshold, made.threshold_from, made.floor) == (threshold, said, -75)
    assert made.name.startswith(f"grumpy_{threshold}_2026-")


def test_before_the_history_only_a_param_gives_a_threshold() -> None:
    early = datetime(2026, 5, 31, tzinfo=UTC)
    with pytest.raises(FlywheelError, match="no threshold in force at 2026-05-31"):
        plan(HISTORY, as_of=early)
    assert plan(HISTORY, as_of=early, threshold=-90).threshold_from == "param"


def test_a_dry_run_reads_and_writes_no_bucket_of_others() -> None:
    made = plan(dry_run=True)
    assert made.extract_bucket == made.state_bucket == "state"
    assert made.dry_run is True


def test_a_dry_run_does_not_share_names_with_real_runs() -> None:
    real, dry = plan(), plan(dry_run=True)
    for key in ("extract_key", "staged_folder", "rejects_key", "claim_key", "report_folder"):
        assert getattr(dry, key) == f"dry_run/{getattr(real, key)}"
    assert dry.do_not_contact_key == real.do_not_contact_key, "the one list binds every run"


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_live_run_does_not_share_names_with_canonical_runs(dry_run: bool) -> None:
    day, live = plan(dry_run=dry_run), plan(dry_run=dry_run, source="live")
    assert live.name == f"{day.name}_live"
    for key in ("extract_key", "rejects_key", "claim_key", "report_folder"):
        assert getattr(live, key) == getattr(day, key).replace(day.name, live.name)
        assert getattr(live, key) != getattr(day, key)


# --- extracts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dry_run", [False, True])
def test_an_uploaded_extract_has_its_own_names_and_its_copy_is_not_in_the_export_bucket(dry_run: bool) -> None:
    day, made = plan(dry_run=dry_run), plan(dry_run=dry_run, extract_uri=URI, extract_sha256="ab" * 32)
    assert made.name == f"{day.name}_extract_abababababababab"
    assert (made.source, made.extract_uri, made.extract_sha256) == ("extract", URI, "ab" * 32)
    for key in ("rejects_key", "claim_key", "report_folder"):
        assert getattr(made, key) == getattr(day, key).replace(day.name, made.name)
        assert getattr(made, key) != getattr(day, key)
    place = f"{'dry_run/' if dry_run else ''}staged/{made.name}.json"
    assert (made.extract_bucket, made.extract_key) == ("state", place)


def test_other_bytes_have_other_names_and_the_same_bytes_elsewhere_the_same() -> None:
    first, second = (plan(extract_uri=URI, extract_sha256=digest * 32).name for digest in ("ab", "cd"))
    assert first != second
    assert plan(extract_uri=URI + "2", extract_sha256="ab" * 32).name == first


def test_the_threshold_of_a_run_of_an_uploaded_extract() -> None:
    made = plan(extract_uri=URI, extract_sha256="ab" * 32)
    assert (made.threshold, made.threshold_from) == (-75, "registry")
    assert made.where["status"].equals == "Active"


def test_an_extract_only_run_has_the_canonical_extract_name() -> None:
    day, only = plan(), plan(extract_only=True)
    assert only == day.model_copy(update={"extract_only": True})


def test_a_field_of_the_form_that_was_emptied_is_empty() -> None:
    assert plan(extract_uri="") == plan()


@pytest.mark.parametrize(
    ("params", "run_type", "sentence"),
    [
        ({"extract_only": True, "extract_uri": URI}, "manual", "nothing would be done; remove one"),
        ({"extract_only": True, "override_limits": True}, "manual", "before its limits are evaluated: leave overr"),
        ({"extract_uri": URI, "source": "live"}, "manual", "source=live both choose where the members come from"),
        ({"extract_uri": URI, "source": "snapshot"}, "manual", "source=snapshot both choose where the members come"),
        ({"extract_uri": URI}, "backfill", "a backfill cannot use extract_uri, because one extract is not for"),
    ],
)
def test_params_of_an_extract_that_contradict_each_other(params: Any, run_type: str, sentence: str) -> None:
    with pytest.raises(FlywheelError, match=sentence):
        check_extract(RunParams.model_validate(PARAMS | params), run_type)


@pytest.mark.parametrize(
    ("params", "run_type"),
    [
        ({}, "backfill"),
        ({"extract_only": True}, "scheduled"),
        ({"extract_only": True}, "backfill"),
        ({"extract_only": True, "source": "live", "dry_run": True}, "manual"),
        ({"extract_uri": URI, "dry_run": True, "override_limits": True, "override_reason": "A raid."}, "manual"),
    ],
)
def test_params_of_an_extract_that_go_together(params: Any, run_type: str) -> None:
    check_extract(RunParams.model_validate(PARAMS | params), run_type)


# --- overrides -------------------------------------------------------------------------------------------


def test_an_override_records_user_and_reason() -> None:
    assert plan(override_limits=True, override_reason=" A raid. ").override == Override(by="ana", reason="A raid.")
    made = plan(override_limits=True, override_reason="A raid.", user=None)
    assert made.override == Override(by="unknown", reason="A raid.")


@pytest.mark.parametrize("reason", [None, "", "  \n"])
@pytest.mark.parametrize("run_type", ["manual", "scheduled"])
def test_an_override_needs_a_reason(reason: str | None, run_type: str) -> None:
    with pytest.raises(FlywheelError, match="override_limits needs an override_reason: write why"):
        plan(override_limits=True, override_reason=reason, run_type=run_type)


def test_a_reason_without_an_override_is_refused() -> None:
    with pytest.raises(FlywheelError, match="override_reason is given without override_limits: switch it on"):
        plan(override_reason="A raid.")


@pytest.mark.parametrize("reason", [None, "A raid."])
def test_a_backfill_cannot_override(reason: str | None) -> None:
    with pytest.raises(FlywheelError, match="a backfill cannot override the limits.*trigger a run for the day"):
        plan(override_limits=True, override_reason=reason, run_type="backfill")
    assert plan(run_type="backfill").override is None


@pytest.mark.parametrize("pair", [("export", "import"), ("import", "state"), ("export", "state")])
def test_one_bucket_for_two_purposes_is_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(FlywheelError, match=r"export, import and state buckets must be three, not .*shared"):
        plan(settings=SETTINGS | {f"{role}_bucket": "shared" for role in pair})


def test_the_score_column_and_consent_none() -> None:
    made = plan(cohort=COHORT.model_copy(update={"score_as": "Reputation", "consent": "none"}))
    assert (made.score_column, made.consent) == ("Reputation", None)
