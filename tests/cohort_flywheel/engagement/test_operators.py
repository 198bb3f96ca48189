"""Whole days of events: from the objects of Firehose to the report of a launch, wherever a run is killed."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowFailException

from cohort_flywheel.campaign.mail_tags import launch_tag
from cohort_flywheel.engagement import events_store
from cohort_flywheel.hooks import s3
from local.config import ROOT
from tests.cohort_flywheel.engagement.event_days import NEWEST, Events, killed_at_write
from tests.cohort_flywheel.engagement.ses_events import ADDRESS, event, line, mail
from tests.cohort_flywheel.memory_limits import MemoryLimits, tuned

YESTERDAY = NEWEST - timedelta(days=1)
LAUNCH = launch_tag("ea_atrisk_2_2026-11-21_00-00-00")


@pytest.fixture
def events(airflow_env: Any, servers: Any, fresh_config: Any, context: Any, monkeypatch: pytest.MonkeyPatch) -> Events:
    return Events(servers, fresh_config, context, monkeypatch)


def sent(message_id: str, row: str, *kinds: str) -> bytes:
    of = mail(message_id, launch=LAUNCH, row=row)
    return line(event("Send", of), *(event(kind, of) for kind in kinds))


def test_the_events_of_two_days_are_counted_once_for_their_launch(events: Events) -> None:
    events.launched("ea_atrisk_2_2026-11-21_00-00-00", launch__json={})
    events.put(30, sent("m1", "0-1-0", "Delivery"), sent("m2", "0-1-1", "Bounce"))
    first = events.run(YESTERDAY)
    assert (first["events"]["objects"], first["events"]["events"], first["as_of"]) == (1, 4, YESTERDAY.isoformat())
    events.put(29, sent("m1", "0-1-0", "Open"), name="late")  # of the day before, delivered late, with a copy
    events.put(2, sent("m3", "0-1-2"), line(event("Send", mail("other", launch=None))), b"rubbish\n")
    second = events.run()
    assert second["events"] == first["events"] | {
        "objects": 2, "records": 4, "events": 2, "repeated": 1, "other_mails": 1, "unreadable": 1, "sent": 1,
        "bounced": 0,
    }  # fmt: skip
    (name,) = second["launches"]
    found = second["launches"][name]
    assert (name, found["messages"]) == ("ea_atrisk_2_2026-11-21_00-00-00", 3)
    assert found["states"] == {"delivered": 1, "bounced": 1, "sent": 1}
    assert (found["opened"], found["bounces"], second["unknown_launches"]) == (1, {"Permanent:General": 1}, 0)
    assert not any(ADDRESS.encode() in body for body in events.kept.values())


def test_a_replay_of_all_days_leaves_the_same(events: Events) -> None:
    for hours, number in ((30, 1), (28, 2), (5, 3)):
        events.put(hours, sent(f"m{number}", f"0-1-{number}", "Delivery", "Open"), sent("m1", "0-1-1", "Open"))
    for as_of in (YESTERDAY, NEWEST):
        events.run(as_of)
    before = events.kept
    events.put(1, sent("m9", "0-1-9"), name="after")  # came after the manifest: for the next as-of
    for as_of in (YESTERDAY, NEWEST, YESTERDAY):
        events.run(as_of)
    assert events.kept == before
    assert events.read(NEWEST + timedelta(days=1))["events"] == 1


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(1, 5))
def test_a_run_killed_at_any_write_leaves_what_an_undisturbed_one_leaves(
    events: Events, number: int, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The four writes are the manifest, the events, what they say of addresses, and their counts."""
    events.put(5, sent("m1", "0-1-1", "Delivery"))
    with killed_at_write(events_store, number, monkeypatch, after=after):
        events.read()
    assert events.read()["events"] == 2
    folders = sorted(key.partition("/")[2].partition("/")[0] for key in events.kept)
    assert folders == ["counts", "events", "feedback", "manifests"]


def test_a_manifest_whose_answer_was_lost_is_the_one_that_counts(
    events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    events.put(5, sent("m1", "0-1-1"))
    put = s3.put_json

    def twice(*arguments: Any, **conditions: Any) -> bool:
        put(*arguments, **conditions)
        return put(*arguments, **conditions)

    monkeypatch.setattr(events_store, "put_json", twice)
    assert events.read()["objects"] == 1


def test_events_that_have_expired_stay_counted_and_uncounted_ones_are_named(events: Events) -> None:
    events.put(5, sent("m1", "0-1-1"))
    first = events.read()
    before = events.kept
    (key,) = json.loads(before["engagement/manifests/2026-11-22_00-00-00.json"])["keys"]
    events.s3.delete_object(Bucket=events.bucket, Key=key)
    assert events.read() == first
    assert events.kept == before
    events.s3.delete_object(Bucket=events.state, Key="engagement/counts/2026-11-22_00-00-00.json")
    with pytest.raises(AirflowFailException, match=rf"CF-ENGAGE-01: s3://{events.bucket}/{key} is gone"):
        events.read()


def test_an_older_object_that_no_as_of_has_read_fails_with_its_key(events: Events) -> None:
    events.read(NEWEST - timedelta(days=3))
    events.put(50, sent("m1", "0-1-1"))
    with pytest.raises(AirflowFailException, match=r"events/2026/11/19/22/stream-1-a.gz is older than 48 hours"):
        events.read()
    assert events.read(YESTERDAY)["events"] == 1, "the as-of of its day reads it"
    assert events.read()["events"] == 0


def test_a_player_in_doubt_of_whose_mail_an_event_came_was_sent_it(events: Events) -> None:
    """In the report only: the records of the launch, by which no player is mailed again, stay as they are."""
    events.launched(
        "ea_atrisk_2_2026-11-21_00-00-00",
        in_doubt__txt=b"p1\np2\np3\n",
        **{
            "000000_1__intents__json": {"player_ids": ["p0", "p1", "", "p2"]},
            "000000_1__outcome__json": {"in_doubt": ["p1", "p2"], "sent": 1},
            "000001_2__intents__json": {"player_ids": ["p3"]},
            "000001_2__outcome__json": {"in_doubt": ["p3"], "sent": 0},
        },
    )
    events.put(
        5, sent("m0", "0-1-0"), sent("m1", "0-1-1"), line(event("Reject", mail("m3", launch=LAUNCH, row="1-2-0")))
    )
    found = events.run()["launches"]["ea_atrisk_2_2026-11-21_00-00-00"]
    assert (found["in_doubt"], found["in_doubt_sent"]) == (3, 1)


def test_the_mails_of_players_who_are_not_tracked_are_counted(events: Events) -> None:
    events.launched("ea_atrisk_2_2026-11-21_00-00-00", tracking__json={"sent": 3, "untracked": 2})
    events.put(5, sent("m1", "0-1-0"))
    assert events.run()["launches"]["ea_atrisk_2_2026-11-21_00-00-00"]["untracked"] == 2


def test_clicks_are_counted_by_the_links_of_the_launch_and_by_time(events: Events) -> None:
    link = "https://studio.example/play"
    events.launched("ea_atrisk_2_2026-11-21_00-00-00", launch__json={"links": [link]})
    clicks = [event("Click", mail(name, launch=LAUNCH, row="0-1-0"), link=f"{link}?p={name}") for name in ("m1", "m2")]
    clicks.append(event("Click", mail("m3", launch=LAUNCH, row="0-1-2"), link="https://studio.example/of/ann"))
    events.put(5, sent("m1", "0-1-0"), sent("m3", "0-1-2"), line(*clicks))
    found = events.run()["launches"]["ea_atrisk_2_2026-11-21_00-00-00"]["clicks"]
    assert (found["links"], found["other_links"]) == ({link: 2}, 1)
    assert sum(found["times"].values()) == 2, "no event says when m2 was sent"
    assert "engagement/launches/as_of=2026-11-22_00-00-00/launches.parquet" in events.kept


def test_messages_of_a_launch_without_records_are_counted_apart(events: Events) -> None:
    events.put(5, sent("m1", "0-1-1"), sent("m2", "0-1-2"))
    report = events.run()
    assert (report["launches"], report["unknown_launches"]) == ({}, 2)


def test_what_is_not_understood_is_logged_by_name_without_an_address(
    events: Events, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    events.put(5, line({"eventType": "Forwarded", "mail": mail()}, {"eventType": ADDRESS, "mail": mail()}))
    assert events.read()["unknown_types"] == {"(other)": 1, "Forwarded": 1}
    text = caplog.text + capsys.readouterr().out
    assert "not all events were understood" in text
    assert ADDRESS not in text


def test_a_destination_other_than_ses_has_no_topic(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_VAR_COHORT_FLYWHEEL_SES_TOPIC", raising=False)
    assert events.plan(NEWEST)["ses_topic"] == ""


def test_a_bucket_that_is_not_there_is_named_by_the_plan(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_COHORT_FLYWHEEL_EVENT_BUCKET", "no-such-bucket")
    with pytest.raises(AirflowFailException, match=r"bucket no-such-bucket does not exist: .*flywheel_event_bucket"):
        events.plan(NEWEST)


def test_the_events_are_in_the_memory_of_the_tuning(
    events: Events, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all four tasks: the report also looks for the e-mails that are in doubt."""
    in_doubt = {
        "000000_1__intents__json": {"player_ids": ["p0"]}, "000000_1__outcome__json": {"in_doubt": ["p0"], "sent": 0},
    }  # fmt: skip
    events.launched("ea_atrisk_2_2026-11-21_00-00-00", in_doubt__txt=b"p0\n", **in_doubt)
    events.put(5, sent("m1", "0-1-0", "Complaint"))
    limits = MemoryLimits(tmp_path / "limits", monkeypatch)
    with tuned():
        report = events.run()
    (launch,) = report["launches"].values()
    assert (launch["in_doubt_sent"], report["suppressions"]["feedback"]) == (1, 1)
    assert limits.are_tuned()


# --- the DAG


def test_the_counts_of_connect_are_in_the_dag_if_the_registry_asks_for_them(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "include", tmp_path / "include")
    (tmp_path / "dags").mkdir()
    shutil.copy(ROOT / "dags" / "engagement.py", tmp_path / "dags")
    registry = tmp_path / "include" / "cohorts.yaml"
    text = registry.read_text(encoding="utf-8")
    asked = "engagement: {read_events: true, campaign_counts: true, write_graph: true}\ntuning: {memory_mb: 77}"
    registry.write_text(f"{asked}\n{text}", encoding="utf-8")
    (dag,) = DagBag(tmp_path / "dags").dags.values()
    edges = {task.task_id: task.downstream_task_ids for task in dag.tasks}
    assert (edges["count_campaigns"], "count_campaigns" in edges["plan"]) == ({"report"}, True)
    with_duckdb = ["measure_effect", "read_events", "report", "update_suppressions", "write_graph"]
    assert {task.task_id: task.memory_mb for task in dag.tasks if hasattr(task, "memory_mb")} == dict.fromkeys(
        with_duckdb, 77
    )


@pytest.mark.parametrize("on", [False, True])
def test_the_dag_is_there_only_if_the_registry_switches_it_on(tmp_path: Path, on: bool) -> None:
    shutil.copytree(ROOT / "include", tmp_path / "include")
    (tmp_path / "dags").mkdir()
    shutil.copy(ROOT / "dags" / "engagement.py", tmp_path / "dags")
    registry = tmp_path / "include" / "cohorts.yaml"
    text = registry.read_text(encoding="utf-8")
    registry.write_text(f"engagement: {{read_events: {str(on).lower()}}}\n{text}", encoding="utf-8")
    bag = DagBag(tmp_path / "dags")
    assert not bag.import_errors
    assert list(bag.dags) == (["engagement"] if on else [])
    for dag in bag.dags.values():
        edges = {task.task_id: task.downstream_task_ids for task in dag.tasks}
        assert edges == {
            "plan": {"read_events", "update_suppressions", "measure_effect", "report"},
            "read_events": {"update_suppressions", "report"}, "update_suppressions": {"report"},
            "measure_effect": {"report"}, "report": set(),
        }  # fmt: skip
        assert (dag.max_active_runs, dag.catchup, dag.is_paused_upon_creation) == (1, False, True)
