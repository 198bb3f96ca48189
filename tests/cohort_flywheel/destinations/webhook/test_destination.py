"""Whole runs of the DAG with destination webhook, against the emulated receiver."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cohort_flywheel.destinations import get_destination
from cohort_flywheel.destinations.webhook import layout
from cohort_flywheel.destinations.webhook.destination import DESTINATION
from local.servers import control
from local.webhook.receiver import TOKEN
from tests.cohort_flywheel.dag_simulator import TODAY, YESTERDAY, DagSimulator
from tests.cohort_flywheel.memory_limits import MEMORY_MB, MemoryLimits

PLAYERS = [f"player-{number:02d}" for number in range(20)]
#: Yesterday has all but the last five, today all but the first five.
DAYS = {YESTERDAY: set(PLAYERS[:15]), TODAY: set(PLAYERS[5:])}
SEGMENT = "ea_atrisk_2"


class Receiver(DagSimulator):
    """Twenty players with two days of snapshots, and the receiver."""

    def __init__(self, *where: Any) -> None:
        super().__init__("webhook", *where)
        self.contacts(PLAYERS)
        for day, players in DAYS.items():
            self.snapshot(day, dict.fromkeys(players, 3))

    def control(self, **settings: Any) -> Any:
        return control(self.servers, "webhook", settings)

    def ends(self, day: Any, outcome: str = "imported", **how: Any) -> dict[str, Any]:
        report = self.simulate(day, **how)
        assert (report["outcome"], report["faults"], report["errors"]) == (outcome, [], {})
        return report

    @property
    def members(self) -> set[str]:
        return set(self.control()["segments"][SEGMENT]["members"])


@pytest.fixture
def receiver(
    airflow_env: Any, servers: Any, fresh_config: Any, seeded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Receiver]:
    control(servers, "webhook", {"reset": True})
    yield Receiver(servers, fresh_config, seeded, tmp_path, monkeypatch)
    control(servers, "webhook", {"reset": True})


def test_the_destination_is_registered() -> None:
    assert get_destination("webhook") is DESTINATION
    assert not DESTINATION.has_campaigns
    assert DESTINATION.wait_for_import_job(None, None) is None


def test_members_joiners_and_leavers_of_two_days(receiver: Receiver) -> None:
    for day, players in DAYS.items():
        report = receiver.ends(day)
        assert receiver.members == players == {row["playerId"] for row in receiver.rows(report)}
        assert report["segment"]["rows"] == report["imported"]["segment_size"] == len(players)
        assert "wait_for_import_job" not in report["states"]
    assert (report["imported"]["set_in"], report["imported"]["set_out"]) == (15, 5)
    assert report["imported"]["segment_id"] == SEGMENT
    assert receiver.control()["segments"][SEGMENT]["upload"] == 2
    texts = json.dumps([report, {task: repr(each) for task, each in receiver.run.outputs.items()}])
    for secret in (TOKEN, "@example.com", "player-"):
        assert secret not in texts
    log = receiver.run.log.read_text(encoding="utf-8")
    assert TOKEN not in log
    assert "@example.com" not in log


def test_the_dag_gives_each_task_the_memory_of_the_tuning(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.edit("opt_outs: none\n", f"opt_outs: none\ntuning: {{memory_mb: {MEMORY_MB}}}\n")
    limits = MemoryLimits(tmp_path / "limits", monkeypatch)
    receiver.ends(TODAY)
    assert limits.are_tuned()


def test_a_verified_import_is_not_sent_again(receiver: Receiver) -> None:
    first = receiver.ends(TODAY)
    before = receiver.control()["applied"]
    again = receiver.ends(TODAY)
    assert again["imported"]["import_id"] == first["imported"]["import_id"]
    assert (receiver.control()["applied"], receiver.control()["repeated"]) == (before, 0)


def test_content_that_changed_and_changed_back_is_applied_again(receiver: Receiver) -> None:
    receiver.ends(TODAY)
    receiver.contacts(PLAYERS[10:11], emailConsent="no")
    receiver.ends(TODAY)
    assert receiver.members == DAYS[TODAY] - {PLAYERS[10]}
    receiver.contacts(PLAYERS[10:11])
    receiver.ends(TODAY)
    assert receiver.members == DAYS[TODAY]
    assert receiver.control()["segments"][SEGMENT]["upload"] == 3


def test_lost_answers_and_413_end_in_the_same_members(receiver: Receiver) -> None:
    receiver.ends(YESTERDAY)
    receiver.control(max_bytes=1_000, lose_next_answers=3)
    report = receiver.ends(TODAY)
    assert receiver.members == DAYS[TODAY]
    assert receiver.run.outputs["create_import_job"]["batches"] > 1
    assert report["imported"]["segment_size"] == 15
    assert receiver.control()["repeated"] == 3


def test_a_message_that_is_too_large_alone_is_an_error(receiver: Receiver) -> None:
    receiver.control(max_bytes=10)
    report = receiver.simulate(TODAY)
    assert "the receiver refuses a single message as too large (413)" in report["errors"]["create_import_job"]
    assert receiver.control()["segments"] == {}


def test_leavers_of_a_failed_import_are_sent_by_the_next(receiver: Receiver) -> None:
    """The failed import sent some members, who are not rows of the next run."""
    receiver.control(reject_next=1)
    report = receiver.simulate(YESTERDAY)
    assert "the receiver took 14 of 15 messages of batch 0" in report["errors"]["create_import_job"]
    assert receiver.members < DAYS[YESTERDAY]
    receiver.ends(TODAY)
    assert receiver.members == DAYS[TODAY]


def test_an_empty_segment_makes_every_member_a_leaver(receiver: Receiver) -> None:
    receiver.ends(YESTERDAY)
    receiver.contacts(PLAYERS, emailConsent="no")
    report = receiver.ends(TODAY, override_limits=True, override_reason="A test.")
    assert report["segment"]["rows"] == report["imported"]["segment_size"] == 0
    assert receiver.members == set()


def test_a_segment_that_another_sender_changed_is_not_verified(receiver: Receiver) -> None:
    def other_sender() -> None:
        from cohort_flywheel.destinations.webhook.hook import WebhookHook

        body = layout.leaver_message(PLAYERS[10])
        WebhookHook().send_batch(SEGMENT, "theirs", 9, 1, layout.Batch(0, 1, body))

    report = receiver.simulate(TODAY, before={"verify_segment": other_sender})
    assert "as the last of segment ea_atrisk_2: another sender has changed it" in report["errors"]["verify_segment"]
    receiver.ends(TODAY)
    assert receiver.members == DAYS[TODAY]
    assert receiver.control()["segments"][SEGMENT]["upload"] == 10


def test_a_wrong_token_fails_the_plan_before_anything_is_written(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = json.dumps({"conn_type": "http", "host": f"{receiver.servers.aws_url}/webhook"})
    monkeypatch.setenv("AIRFLOW_CONN_WEBHOOK_DEFAULT", text)
    report = receiver.simulate(TODAY)
    assert "answered 401: correct the login and password" in report["errors"]["plan"]
    assert receiver.control()["segments"] == {}


def test_an_erasure_is_a_message_and_is_counted(receiver: Receiver) -> None:
    receiver.ends(TODAY)
    players = [PLAYERS[10], "unknown"]
    found = [DESTINATION.erase({}, players, set(), dry, None) for dry in (True, False, True)]
    assert [[(line.what, line.number) for line in lines] for lines in found] == [[("player", 1)], [("player", 1)], []]
    assert receiver.members == DAYS[TODAY] - {PLAYERS[10]}
    assert PLAYERS[10] not in receiver.control()["players"]


def test_the_record_of_members_loses_its_leavers_once_verified(receiver: Receiver) -> None:
    receiver.ends(YESTERDAY)
    receiver.ends(TODAY)
    key = layout.members_key("webhook_default", SEGMENT)
    first, *players = receiver.read(receiver.config.state_bucket, key).splitlines()
    assert set(players) == DAYS[TODAY]
    assert json.loads(first)["upload"] == 2
