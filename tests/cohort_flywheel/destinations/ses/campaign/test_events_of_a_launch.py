"""A launch, the events that the emulated SES publishes of it, and the report, against what the emulation knows."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from botocore.exceptions import ReadTimeoutError

from cohort_flywheel.campaign.launch_store import PARTIAL_OUTPUT
from cohort_flywheel.destinations.ses.hook import SesV2Hook
from local import seed
from local.config import CONFIGURATION_SET
from tests.cohort_flywheel.destinations.ses.campaign.launches import UNSUBSCRIBE, Campaign, Launch
from tests.cohort_flywheel.engagement.event_days import Events

BODY = f"<a href='https://studio.example/play?x=1'>Play</a><a ses:no-track href='{UNSUBSCRIBE}'>stop</a>"


@pytest.fixture
def account(account: Campaign) -> Campaign:
    seed.make_configuration_sets(account.servers, account.config)
    account.client.put_configuration_set_sending_options(ConfigurationSetName=CONFIGURATION_SET, SendingEnabled=True)
    account.write_template(body_html=BODY)
    account.add("p003@example.com", unsubscribed=True)
    return account


def messages(published: list[dict[str, Any]], kind: str, **about: Any) -> set[str]:
    """The messages with an event of a kind, by what the emulation has published."""
    return {
        each["mail"]["messageId"]
        for each in published
        if each["eventType"] == kind and all(each[kind.lower()].get(name) == value for name, value in about.items())
    }


def test_the_report_counts_what_the_readers_did(
    account: Campaign, launch: Launch, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = Events(account.servers, account.config, context, monkeypatch)
    send = SesV2Hook.send_email

    def lose(self: SesV2Hook, **request: Any) -> str:
        found = send(self, **request)
        if request["Destination"]["ToAddresses"] == ["p004@example.com"]:
            raise ReadTimeoutError(endpoint_url="lost by the test")
        return found

    monkeypatch.setattr(SesV2Hook, "send_email", lose)
    plan = launch.plan | {"ses_configuration_set": CONFIGURATION_SET}
    launch.prepared = account.prepare(plan, launch.segment, context())
    counts = launch.run()
    assert (counts["sent"], counts["in_doubt"]) == (24, 1)

    now = datetime.now(UTC)  # the emulated SES has no other clock
    account.control(write_events={"bucket": days.bucket, "arrived": now.isoformat()})
    as_of = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    report = days.run(as_of)
    published = account.state["events"]
    read = report["events"]
    assert (read["objects"], read["records"], read["events"]) == (2, len(published) + 1, len(published))
    assert (read["repeated"], read["unreadable"], read["late"], read["other_mails"]) == (1, 1, 0, 0)
    assert (read["unknown_types"], read["unknown_subtypes"]) == ({}, {})

    found = report["launches"]["cohort"]
    kinds = Counter(each["eventType"] for each in published)
    assert (found["messages"], kinds["Send"], kinds["Delivery"]) == (25, 25, 24)
    assert found["states"] == {"delivered": 24, "bounced": 1}
    assert found["opened"] == len(messages(published, "Open")) > 0
    assert found["opened_unlikely_bot"] == len(messages(published, "Open", isBotEvent="Unlikely")) > 0
    assert found["opened_no_flag"] == len(messages(published, "Open", isBotEvent=None))
    assert found["clicked"] == len(messages(published, "Click")) > 0
    assert found["clicked_unlikely_bot"] == len(messages(published, "Click", isBotEvent="Unlikely"))
    assert (found["in_doubt"], found["in_doubt_sent"]) == (1, 1)
    assert b"example.com" not in b"".join(days.kept.values())

    before = days.kept
    assert days.run(as_of) == report
    assert days.kept == before
    assert launch.run() == counts, "the records of the launch are as they were: no player is mailed again"


# --- the sender is protected


def test_a_launch_begins_only_below_the_rates_of_the_last_days(
    account: Campaign, launch: Launch, capsys: pytest.CaptureFixture[str]
) -> None:
    launch.plan["sender_limits"] = {"max_bounce_rate": 0.05, "max_complaint_rate": None, "min_sends": 100}
    for as_of, bounced in (("2026-11-15", 900), ("2026-11-16", 60), ("2026-11-22", 0), ("2026-11-23", 900)):
        body = json.dumps({"objects": 1, "sent": 1000 if bounced else 100, "bounced": bounced}).encode()
        key = f"engagement/counts/{as_of}_00-00-00.json"
        account.s3.put_object(Bucket=account.config.state_bucket, Key=key, Body=body)
    with pytest.raises(AirflowFailException, match=r"CF-CAMPAIGN-15: of 1,100 e-mails .* 60 bounced .* \(2 as-ofs\)"):
        launch.run()
    assert (account.mails, account.state_keys("sends/")) == ([], [])
    launch.plan["override"] = {"by": "ann", "reason": "the list is clean now"}
    assert launch.run()["sent"] == 25
    assert "60 bounced for good and 0 were complained about (2 as-ofs); the limits are overridden" in (
        capsys.readouterr().out
    )


def test_a_launch_under_way_is_stopped_by_pausing_its_configuration_set(
    account: Campaign, launch: Launch, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the documentation says; the rest stays unmailed and counted, and is mailed once the set sends again."""
    ours, sends = {"ConfigurationSetName": CONFIGURATION_SET}, Counter[str]()
    plan = launch.plan | {"ses_configuration_set": CONFIGURATION_SET}
    launch.prepared = account.prepare(plan, launch.segment, context())
    run, send = context(), SesV2Hook.send_email
    launch.context = lambda: run

    def pause(self: SesV2Hook, **request: Any) -> str:
        sends["all"] += 1
        if sends["all"] == 12:
            account.client.put_configuration_set_sending_options(**ours, SendingEnabled=False)
        return send(self, **request)

    monkeypatch.setattr(SesV2Hook, "send_email", pause)
    with pytest.raises(AirflowFailException, match="SES answers SendEmail with SendingPausedException"):
        launch.run()
    monkeypatch.setattr(SesV2Hook, "send_email", send)
    mailed = account.mailed
    assert 10 <= mailed.total() < 20, "eight are in flight"
    reached = run["ti"].xcoms[run["ti"].task_id, PARTIAL_OUTPUT]
    assert (reached["sent"], reached["in_doubt"], reached["left"]) == (mailed.total(), 0, 25 - mailed.total())
    account.client.put_configuration_set_sending_options(**ours, SendingEnabled=True)
    counts = launch.run()
    assert (counts["sent"], counts["in_doubt"], counts["rows"]) == (25, 0, 25)
    assert set(account.mailed.values()) == {1}, "no player was mailed twice"
