"""Whole runs that mail: each player once, not again by another threshold, cohort or destination."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.serde import serialize

from cohort_flywheel.destinations.customer_profiles.layout import player_key
from cohort_flywheel.engagement.suppressions import ListState
from cohort_flywheel.engagement.suppressions_store import put_state
from cohort_flywheel.governance.tombstones_store import make_salt
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.names import SUPPRESSIONS_KEY
from cohort_flywheel.segment.contacts import is_held_out
from tests.cohort_flywheel.dag_simulator import TODAY, YESTERDAY, DagSimulator, serialized_classes
from tests.cohort_flywheel.destinations.customer_profiles.connect_account import Connect
from tests.cohort_flywheel.destinations.ses.ses_account import Account
from tests.cohort_flywheel.suppressed import suppress

NAMES = ("ses", "customer_profiles")
PLAYERS = [f"player-{number:02d}" for number in range(12)]
#: Beyond 2, and beyond 1 alone.
STRICT, MILD = PLAYERS[:6], PLAYERS[6:]
HELD = {player for player in PLAYERS if is_held_out(player, 20)}


class Studio(DagSimulator):
    """Twelve players, six beyond the stricter threshold, today and yesterday; and the mailed players."""

    def __init__(self, name: str, connect: Connect, *where: Any) -> None:
        super().__init__(name, *where)
        self.connect, self.account = connect, Account(self.servers, self.config)
        self.account.control(template_seconds=0, max_send_rate=10_000, verify=["studio.example"])
        self.edit("holdout_percent: 0", "holdout_percent: 20")
        self.contacts(PLAYERS)

    def text(self, key: str) -> str:
        """An object of the state bucket."""
        return self.read(self.config.state_bucket, key)

    def mailed(self) -> Counter[str]:
        """How often each player was mailed, by what reached them."""
        if self.name == "ses":
            found = [address for mail in self.account.state["mails"] for address in mail["delivered"]]
            return Counter(address.partition("@")[0] for address in found)
        by_key = {player_key(player): player for player in PLAYERS}
        return Counter(by_key[key] for key in self.connect.mailed)

    def launch(self, outcome: str = "launched", **how: Any) -> dict[str, Any]:
        report = self.simulate(TODAY, campaign="launch", **how)
        assert (report["outcome"], report["faults"]) == (outcome, []), report["errors"]
        return report


@pytest.fixture
def house(
    airflow_env: Any, servers: Any, fresh_config: Any, seeded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Makes the house of a destination; the snapshots are the state bucket's, so of all of them."""
    connect = Connect(servers, fresh_config, tmp_path)
    ours = seeded._replace(connect_instance_id=connect.instance, knowledge_base_id=connect.base)
    made: list[Studio] = []

    def make(name: str) -> Studio:
        made.append(Studio(name, connect, servers, fresh_config, ours, tmp_path, monkeypatch))
        if len(made) == 1:
            for day in (YESTERDAY, TODAY):
                made[0].snapshot(day, dict.fromkeys(STRICT, 3) | dict.fromkeys(MILD, 2))
            made[0].snapshot(TODAY, dict.fromkeys([STRICT[0], MILD[0]], 9), cohort="ea_malice")
        return made[-1]

    yield make
    Account(servers, fresh_config).control(reset=True)
    connect.control(reset=True)
    connect.campaign_control(reset=True)
    connect.template_control(reset=True)


@pytest.mark.parametrize("name", NAMES)
def test_no_player_is_mailed_again_by_another_threshold_cohort_or_destination(
    house: Callable[[str], Studio], name: str
) -> None:
    one = house(name)
    first = one.launch()
    mailed = set(STRICT) - HELD
    assert one.mailed() == Counter(mailed)
    assert first["campaign"]["answer"] | {"at": "", "digest": ""} == {
        "approved": True, "by": "ann", "timed_out": False, "at": "", "digest": "",
    }  # fmt: skip
    assert first["campaign"]["rows"] == len(mailed) == first["segment"]["rows"]

    milder = one.launch(threshold=1)
    assert one.rejected(milder)["recently_mailed"] == mailed
    assert one.mailed() == Counter(set(PLAYERS) - HELD), "those who are new, once, and none twice"

    again = one.launch()  # the same three are one result, which is launched once
    assert again["segment"]["sha256"] == first["segment"]["sha256"]
    assert one.mailed() == Counter(set(PLAYERS) - HELD)

    one.edit("  ea_malice:\n", f"  ea_malice:\n    campaign: {campaign()}\n")
    other = one.simulate(TODAY, cohort="ea_malice", campaign="launch")
    assert one.rejected(other)["recently_mailed"] == {STRICT[0], MILD[0]} - HELD
    assert one.mailed() == Counter(set(PLAYERS) - HELD)

    elsewhere = house(next(each for each in NAMES if each != name))
    report = elsewhere.simulate(TODAY, threshold=1, campaign="draft")
    assert elsewhere.rejected(report)["recently_mailed"] >= mailed


@pytest.mark.parametrize("name", NAMES)
def test_a_launch_records_the_players_that_it_holds_out_and_no_other_mails_them(
    house: Callable[[str], Studio], name: str
) -> None:
    one = house(name)
    run = f"ea_atrisk_1_{TODAY:%Y-%m-%d_%H-%M-%S}"
    drawn = {percent: {p for p in PLAYERS if is_held_out(p, percent, run)} - HELD for percent in range(1, 100)}
    percent, held = next((percent, players) for percent, players in drawn.items() if len(players) > 1)
    one.edit("not_again_days: 30", f"not_again_days: 30\n      holdout_percent: {percent}\n      effect_days: 7")
    first = one.launch(threshold=1)
    assert one.rejected(first)["launch_holdout"] == held
    assert one.rejected(first)["holdout"] == HELD
    assert one.mailed() == Counter(set(PLAYERS) - HELD - held)

    lists = {
        f"sends/at_risk/{run}.launch_holdout.jsonl": held,
        f"sends/at_risk/{run}.global_holdout.jsonl": HELD,
        f"sends/at_risk/{run}.jsonl": set(PLAYERS) - HELD - held,
    }
    for key, players in lists.items():
        assert set(one.text(key).splitlines()[1:]) == players, key
    assert set(one.text(f"launches/{run}/mailed.txt").splitlines()) == set(PLAYERS) - HELD - held
    facts = json.loads(one.text(f"launches/{run}/holdout.json"))
    numbers = (facts["mailed"], facts["launch_holdout"], facts["global_holdout"])
    assert numbers == (len(PLAYERS) - len(HELD | held), len(held), len(HELD))
    assert (facts["launch"], facts["effect_days"], facts["holdout_percent"]) == (run, 7, percent)
    assert (facts["global_holdout_percent"], facts["threshold"], facts["template"]) == (20, 1, "at_risk")

    other = one.simulate(TODAY, campaign="launch")
    assert one.rejected(other)["recently_mailed"] == set(STRICT), "held out or mailed, all count as mailed"
    assert one.mailed() == Counter(set(PLAYERS) - HELD - held)


def test_with_engagement_a_run_waits_for_the_suppressions_and_goes_on_without(house: Callable[[str], Studio]) -> None:
    one, (who, *others) = house("ses"), [player for player in STRICT if player not in HELD]
    one.edit("approval:", "engagement: {read_events: true}\napproval:")
    bucket = one.config.state_bucket

    def come(as_of: datetime) -> None:
        put_state(S3Hook(), bucket, ListState(as_of=as_of))

    make_salt(S3Hook(), bucket)
    one.s3.put_object(Bucket=bucket, Key=SUPPRESSIONS_KEY, Body=b"")
    come(YESTERDAY - timedelta(days=1))
    late = one.launch("failed")
    assert late["suppressions"] == {"as_of": (YESTERDAY - timedelta(days=1)).isoformat(), "in_time": False}
    assert (late["states"]["enrich"], late["segment"]["rows"]) == ("success", len(others) + 1)
    assert "CF-CAMPAIGN-16: " in late["errors"]["prepare_campaign"]
    assert "engagement has not read those of this as-of" in one.log

    def read() -> None:
        suppress(bucket, "player", who)
        come(TODAY)

    found = one.launch(before={"wait_for_suppressions": read})
    assert found["suppressions"] == {"as_of": TODAY.isoformat(), "in_time": True}
    assert one.rejected(found)["complained"] == {who}
    assert one.mailed() == Counter(others)


@pytest.mark.parametrize("name", NAMES)
def test_no_xcom_of_a_run_holds_a_serialized_class(house: Callable[[str], Studio], name: str) -> None:
    """Airflow does not read a model of this package from an XCom, so tasks return JSON (also `simulate` checks it)."""
    one = house(name)
    one.launch()
    assert {"plan", "extract", "enrich_0", "check_limits", "verify_segment", "launch_campaign"} < set(one.run.stored)
    assert one.run.stored["plan"]["as_of"] == TODAY.isoformat()
    assert one.run.stored["check_limits"]["judged"]["segment"]["rows"]
    assert list(serialized_classes(one.run.stored)) == []
    assert json.loads(json.dumps(one.run.stored)) == one.run.outputs


def test_a_serialized_class_is_found() -> None:
    marked: Any = serialize((1, 2))
    assert list(serialized_classes({"plan": {"a": [1.5, None, "x"], "b": [{}, marked]}})) == [".plan.b[1]"]


def campaign() -> str:
    return "{template: at_risk, from: play@studio.example, not_again_days: 30}"


def test_a_player_who_unsubscribes_before_the_launch_is_not_mailed_by_any_destination(
    house: Callable[[str], Studio],
) -> None:
    """After the segment was verified, and approved."""
    ses, who = house("ses"), next(player for player in STRICT if player not in HELD)
    report = ses.launch(before={"launch_campaign": lambda: ses.account.unsubscribe(f"{who}@example.com")})
    assert ses.mailed() == Counter(set(STRICT) - HELD - {who})
    assert report["campaign"]["launched"]["sent"] == len(set(STRICT) - HELD), "SES accepts it, and delivers none"

    connect = house("customer_profiles")
    mild = set(MILD) - HELD
    who = min(mild)
    report = connect.simulate(
        TODAY, threshold=1, campaign="launch",
        before={"launch_campaign": lambda: connect.contacts([who], emailConsent="no")},
    )  # fmt: skip
    assert report["outcome"] == "failed"
    assert "1 of " in report["errors"]["launch_campaign"]
    assert "may not be mailed any more (opted_out 1)" in report["errors"]["launch_campaign"]
    assert connect.mailed() == Counter()
    assert connect.launch(threshold=1)["segment"]["rows"] == len(mild) - 1
    assert connect.mailed() == Counter(mild - {who})
