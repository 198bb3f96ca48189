"""The lists of a launch with a holdout: written before its send ledger, and treated as it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from cohort_flywheel.campaign import holdout_store
from cohort_flywheel.campaign.send_ledger_store import load_recently_mailed
from cohort_flywheel.destinations.ses.campaign import ses_launch_operator
from tests.cohort_flywheel.destinations.ses.campaign.launches import Launch
from tests.cohort_flywheel.engagement.event_days import killed_at_write

HELD = [f"held-{number}" for number in range(6)]
NAMES = ["mailed.txt", "holdout.json", "cohort.launch_holdout.jsonl", "cohort.global_holdout.jsonl", "cohort.jsonl"]


@pytest.fixture
def held(launch: Launch) -> Launch:
    """A launch of 25 players that holds out four, and never mails two."""
    bucket, key = launch.account.config.state_bucket, "rejects/cohort/"
    rejects = {"launch_holdout": HELD[:4], "holdout": HELD[4:], "no_record": ["gone"]}
    for index, (reason, players) in enumerate(rejects.items()):
        body = "playerId,reason,column\r\n" + "".join(f"{player},{reason},\r\n" for player in players)
        launch.account.s3.put_object(Bucket=bucket, Key=f"{key}{index:04d}.csv", Body=body.encode())
    counts = {reason: len(players) for reason, players in rejects.items()}
    launch.segment |= {"rejects": counts, "rejects_key": key, "members": launch.segment["rows"] + sum(counts.values())}
    launch.plan["campaign"] |= {"holdout_percent": 10, "effect_days": 7}
    launch.plan["withhold"] = launch.plan["withhold"] | {"holdout_percent": 5, "launch_holdout_percent": 10}
    return launch


def listed(launch: Launch, name: str) -> list[str]:
    return launch.account.read(f"sends/at_risk/cohort{name}.jsonl").splitlines()[1:]


def header(launch: Launch, name: str) -> dict[str, Any]:
    return dict(json.loads(launch.account.read(f"sends/at_risk/cohort{name}.jsonl").splitlines()[0]))


def files(launch: Launch) -> dict[str, str]:
    """The lists of the launch; not the batches, and not the approval."""
    names = {key: f"launches/cohort/{key}" for key in NAMES[:2]} | {key: f"sends/at_risk/{key}" for key in NAMES[2:]}
    there = {*launch.account.state_keys(), *launch.account.state_keys("sends/")}
    return {name: launch.account.read(key) for name, key in names.items() if name in there}


def test_the_lists_are_those_of_the_launch_and_end_with_its_send_ledger(held: Launch) -> None:
    held.run()
    assert listed(held, ".launch_holdout") == HELD[:4]
    assert listed(held, ".global_holdout") == HELD[4:]
    assert held.account.read("launches/cohort/mailed.txt").splitlines() == held.names == listed(held, "")
    facts = json.loads(held.account.read("launches/cohort/holdout.json"))
    assert (facts["mailed"], facts["launch_holdout"], facts["global_holdout"]) == (25, 4, 2)
    ends = {header(held, name)["mails_until"] for name in ("", ".launch_holdout", ".global_holdout")}
    assert len(ends) == 1, "the held out may be mailed again when the mailed may"


def test_a_launch_without_a_holdout_writes_none_of_them(launch: Launch) -> None:
    launch.plan["withhold"] = launch.plan["withhold"] | {"holdout_percent": 5}  # as before there was effect_days
    launch.run()
    assert sorted(files(launch)) == ["cohort.jsonl"]


def test_held_out_players_that_another_launch_has_mailed_are_in_neither_list(
    held: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = load_recently_mailed

    def also(s3: Any, bucket: str, template: str, since: Any, name: str, players: Any) -> int:
        number = load(s3, bucket, template, since, name, players)
        players.executemany("INSERT INTO mailed VALUES (?)", [(HELD[0],), (held.names[0],)])
        return number

    monkeypatch.setattr(ses_launch_operator, "load_recently_mailed", also)
    held.run()
    assert listed(held, ".launch_holdout") == HELD[1:4]
    assert held.account.read("launches/cohort/mailed.txt").splitlines() == held.names[1:]


def test_rejects_that_have_changed_stop_the_launch_before_it_begins(held: Launch) -> None:
    held.segment["rejects"]["launch_holdout"] = 5
    with pytest.raises(AirflowFailException, match=r"CF-STATE-02: .*has 4 players held out .* the segment 5"):
        held.run()
    assert held.account.mails == []
    assert "cohort.jsonl" not in files(held)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(1, 5))
def test_a_launch_killed_while_it_writes_its_lists_writes_them_again(
    held: Launch, number: int, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The four writes are two lists of held-out players, that of the mailed, and the facts."""
    with killed_at_write(holdout_store, number, monkeypatch, after=after):
        held.run()
    assert held.account.mails == []
    assert "cohort.jsonl" not in files(held), "without it the lists count for no launch"
    assert held.run()["sent"] == 25
    assert sorted(files(held)) == sorted(NAMES)
    assert (listed(held, ".launch_holdout"), listed(held, ".global_holdout")) == (HELD[:4], HELD[4:])


def test_a_launch_that_is_continued_keeps_its_lists(held: Launch) -> None:
    refusal = {"code": "AccountSuspendedException", "status": 400, "operations": ["SendEmail"], "after": 14}
    held.account.control(refuse=refusal)
    with pytest.raises(AirflowFailException, match="AccountSuspendedException"):
        held.run()
    before = files(held)
    held.account.control(refuse=None)
    assert held.run(hours=16)["sent"] == 25
    now = files(held)
    assert {name: now[name] for name in before} == before, "also who was not mailed yet counts as mailed"
