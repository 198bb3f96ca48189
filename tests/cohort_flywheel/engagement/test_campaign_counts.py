"""What Amazon Connect counts of the launches that it mails: the request, its answers, and the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from botocore.exceptions import ClientError

from cohort_flywheel.destinations import get_destination
from cohort_flywheel.destinations.customer_profiles.campaign import metrics_hook
from cohort_flywheel.destinations.customer_profiles.campaign.metrics_hook import ConnectMetricsHook
from cohort_flywheel.engagement.campaign_counts import CampaignCounts, CountedCampaigns, counted_names, with_names
from cohort_flywheel.engagement.campaign_counts_operator import CountCampaignsOperator
from cohort_flywheel.engagement.operators import EngagementReportOperator
from cohort_flywheel.runs.names import instant
from local import seed
from tests.cohort_flywheel.destinations.customer_profiles.connect_account import NO_MORE, NOW, TODAY, Connect

TOMORROW = TODAY + timedelta(days=1)
NAME = f"ea_atrisk_2_{instant(TODAY)}"
PLAYERS = ("ann", "bob", "cat", "dan", "eve", "fay", "gus")
#: By the emulation: each fifth e-mail bounces, and each third is opened once.
COUNTS = CampaignCounts(
    targeted=7, send_attempts=7, delivery_attempts={"Bounced": 1, "Delivered": 6}, interactions=3, excluded=0
)


@pytest.fixture
def connect(airflow_env: Any, servers: Any, fresh_config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    made = Connect(servers, fresh_config, tmp_path)
    for name, value in (
        ("CONNECT_INSTANCE_ID", made.instance), ("QCONNECT_KNOWLEDGE_BASE_ID", made.base), ("UNSUBSCRIBE_URL", NO_MORE)
    ):  # fmt: skip
        monkeypatch.setenv(f"AIRFLOW_VAR_COHORT_FLYWHEEL_{name}", value)
    yield made
    made.control(reset=True)
    made.campaign_control(reset=True)
    made.template_control(reset=True)


@pytest.fixture
def launched(connect: Connect, context: Callable[..., Any]) -> str:
    """The id of a campaign that has mailed, and the service's clock in two days."""
    plan, run = connect.launch_plan(name=NAME), context()
    segment = connect.imported(plan, run, *PLAYERS)
    found = connect.launch(plan, segment, connect.prepare(plan, segment, run), run)
    connect.campaign_control(clock_ahead_seconds=2 * 86_400)
    return str(found["campaign_id"])


def arn(campaign_id: str) -> str:
    return f"arn:aws:connect-campaigns:us-east-1:123456789012:campaign/{campaign_id}"


@pytest.fixture
def count(connect: Connect, context: Callable[..., Any]) -> Callable[..., CountedCampaigns]:
    def run(as_of: datetime = TOMORROW) -> CountedCampaigns:
        plan = {"as_of": as_of.isoformat(), "event_bucket": "events", "state_bucket": connect.config.state_bucket}
        found = CountCampaignsOperator(task_id="count_campaigns", plan=plan, destination="customer_profiles").execute(
            context()
        )
        return CountedCampaigns.model_validate(found)

    return run


def test_the_launches_of_30_days_are_counted_by_their_run_names(
    connect: Connect, launched: str, count: Callable[..., CountedCampaigns], monkeypatch: pytest.MonkeyPatch
) -> None:
    for dimension in ("id", "arn"):  # which of them Connect answers with is not documented
        connect.campaign_control(campaign_dimension=dimension)
        assert count() == CountedCampaigns(launches={NAME: COUNTS})
    assert count(TODAY) == CountedCampaigns(launches={NAME: CampaignCounts()}), "nothing was mailed before midnight"
    assert count(TODAY - timedelta(days=1)) == CountedCampaigns()
    # a page of one row, a request that is throttled, and an answer that is lost
    monkeypatch.setattr(metrics_hook, "_PAGE", 1)
    connect.campaign_control(
        refuse={"code": "ThrottlingException", "status": 429, "operations": ["GetMetricDataV2"], "times": 1},
        lose_next_answers=1,
        lose_operations=["GetMetricDataV2"],
    )
    before = connect.campaign_control()["calls"]["GetMetricDataV2"]
    assert ConnectMetricsHook().counts(connect.instance, [arn(launched)], TOMORROW) == {launched: COUNTS}
    assert connect.campaign_control()["calls"]["GetMetricDataV2"] == before + 3 + 2


def test_the_report_has_the_counts_and_what_cannot_be_counted_is_named(
    connect: Connect, launched: str, count: Callable[..., CountedCampaigns], context: Callable[..., Any]
) -> None:
    bucket = connect.config.state_bucket
    plan = {"as_of": TOMORROW.isoformat(), "event_bucket": "events", "state_bucket": bucket}
    EngagementReportOperator(
        task_id="report", plan=plan, counts={"objects": 0}, suppressions={}, campaigns=count().model_dump()
    ).execute(context())
    body = connect.s3.get_object(Bucket=bucket, Key=f"engagement/reports/{instant(TOMORROW)}.json")["Body"].read()
    report = json.loads(body)["campaigns"]
    assert report == {"launches": {NAME: COUNTS.model_dump()}, "deleted": 0}
    connect.campaign_control(refuse={"code": "AccessDeniedException", "status": 403, "operations": ["GetMetricDataV2"]})
    with pytest.raises(AirflowFailException, match=r"CF-SET-04: .* grant the execution role connect:GetMetricDataV2"):
        count()
    connect.campaigns.delete_campaign(id=launched)
    assert count() == CountedCampaigns(deleted=1), "a campaign that is deleted is not asked for"
    record = json.dumps({"sent": 7}).encode()  # of SES
    connect.s3.put_object(Bucket=bucket, Key=f"launches/{NAME}/launch.json", Body=record)
    assert count() == CountedCampaigns()
    assert get_destination("ses").campaign_counts({}, ["a"], TODAY, None) == {}


def test_what_connect_refuses_is_raised(connect: Connect, launched: str, servers: Any) -> None:
    right = {"instance_id": connect.instance, "campaigns": [arn(launched)], "until": TOMORROW}
    for changes, code in (
        ({"until": NOW + timedelta(days=9)}, "InvalidParameterException"),  # in the future
        ({"until": NOW - timedelta(days=90)}, "InvalidParameterException"),  # more than three months ago
        ({"instance_id": "0" * 8}, "ResourceNotFoundException"),
        ({"campaigns": [arn("gone")]}, "ResourceNotFoundException"),
    ):
        with pytest.raises(ClientError) as error:
            ConnectMetricsHook().counts(**(right | changes))
        assert error.value.response["Error"]["Code"] == code, changes
    # what our hook does not send
    request = metrics_hook._request(connect.instance, [arn(launched)], TOMORROW) | {
        "Groupings": ["CAMPAIGN"], "Metrics": [{"Name": "RECIPIENTS_TARGETED"}],
    }  # fmt: skip
    client = _unchecked(seed.client("connect", servers, connect.config))
    (found,) = client.get_metric_data_v2(**request)["MetricResults"]
    assert found["Collections"][0]["Value"] == 7.0
    violations: tuple[dict[str, Any], ...] = (
        {"StartTime": TOMORROW - timedelta(days=35)},
        {"StartTime": TOMORROW},
        {"Groupings": []},
        {"Groupings": ["CAMPAIGN", "CAMPAIGN_DELIVERY_EVENT_TYPE"]},
        {"Metrics": [{"Name": "CONTACTS_HANDLED"}]},
        {"Metrics": [{"Name": "RECIPIENTS_TARGETED", "MetricId": "x"}]},
        {"Metrics": []},
        {"Filters": [{"FilterKey": "QUEUE", "FilterValues": ["q"]}]},
        {"Filters": [{"FilterKey": "CAMPAIGN", "FilterValues": [arn(launched)] * 101}]},
        {"Interval": {"IntervalPeriod": "DAY"}},
        {"MaxResults": 101},
        {"NextToken": "x"},
    )
    for wrong in violations:
        with pytest.raises(ClientError) as error:
            client.get_metric_data_v2(**(request | wrong))
        assert error.value.response["Error"]["Code"] == "InvalidParameterException", wrong


def _unchecked(client: Any) -> Any:
    """The client without boto3's own check of parameters."""
    client._serializer = getattr(client._serializer, "_serializer", client._serializer)
    return client


def test_more_than_100_campaigns_are_several_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class Client:
        def get_metric_data_v2(self, **request: Any) -> dict[str, Any]:
            asked.append(len(request["Filters"][0]["FilterValues"]))
            assert request["EndTime"] - request["StartTime"] < timedelta(days=35)
            return {"MetricResults": []}

    monkeypatch.setattr(ConnectMetricsHook, "_patient", Client())
    found = ConnectMetricsHook().counts("i", [arn(str(number)) for number in range(150)], TOMORROW)
    assert (len(found), asked) == (150, [100, 100, 50, 50])


def test_names_and_counts_meet() -> None:
    as_of = datetime(2026, 11, 22, tzinfo=UTC)
    days = {day: f"ea_atrisk_2_{instant(as_of - timedelta(days=day))}" for day in (-1, 0, 29, 30)}
    assert counted_names([*days.values(), "readme"], as_of) == sorted([days[0], days[29]])
    one = CampaignCounts(targeted=1)
    assert with_names({"a": one}, {"x": "a", "y": "b"}) == CountedCampaigns(launches={"x": one}, deleted=1)
