"""The send ledger in the state bucket: put once, continued by its own launch, read by all others."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cohort_flywheel.campaign.send_ledger import LASTS, Header, ledger_key, write_ledger
from cohort_flywheel.campaign.send_ledger_store import (
    close_ledger,
    extend_ledger,
    find_ledger,
    ledgers_of,
    load_ledger,
    load_recently_mailed,
    put_ledger,
    take_out,
)
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook

NOON = datetime.now(UTC).replace(microsecond=0)  # S3 dates an object by its own clock


class Ledgers:
    def __init__(self, bucket: str, folder: Path) -> None:
        self.s3, self.bucket, self.folder = S3Hook(), bucket, folder

    def put(self, name: str, *players: str, number: int = 1, **changes: Any) -> Header:
        header = Header(name, "at_risk", "ab", "ses", NOON, len(players))._replace(**changes)
        return put_ledger(self.s3, self.bucket, header, iter(players), self.folder, number)

    def players(self, name: str, template: str = "at_risk") -> list[str]:
        with closing(sqlite3.connect(":memory:")) as found:
            load_ledger(self.s3, self.bucket, template, name, found)
            return [each for (each,) in found.execute("SELECT text FROM launched ORDER BY text")]

    def mailed(self, since: datetime, own_name: str = "own", template: str = "at_risk") -> list[str]:
        with closing(sqlite3.connect(":memory:")) as found:
            number = load_recently_mailed(self.s3, self.bucket, template, since, own_name, found)
            listed = [each for (each,) in found.execute("SELECT text FROM mailed ORDER BY text")]
        assert number == len(listed)
        return listed


@pytest.fixture
def ledgers(airflow_env: Any, fresh_config: Any, tmp_path: Path) -> Iterator[Ledgers]:
    yield Ledgers(fresh_config.state_bucket, tmp_path)


def test_a_launch_puts_its_ledger_once(ledgers: Ledgers) -> None:
    assert find_ledger(ledgers.s3, ledgers.bucket, "at_risk", "one") is None
    put = ledgers.put("one", "wayne96", "xortiz")
    assert put == Header("one", "at_risk", "ab", "ses", NOON, 2)
    assert find_ledger(ledgers.s3, ledgers.bucket, "at_risk", "one") == put
    assert ledgers.players("one") == ["wayne96", "xortiz"]


def test_held_out_players_count_as_mailed_with_their_launch(ledgers: Ledgers) -> None:
    """Not before its send ledger is there, and not for their own launch."""
    header = Header("one", "at_risk", "ab", "ses", NOON, 1)
    for holdout, player in (("launch_holdout", "held"), ("global_holdout", "never")):
        write_ledger(ledgers.folder / "list", header, [player])
        body = (ledgers.folder / "list").read_bytes()
        ledgers.s3.get_conn().put_object(Bucket=ledgers.bucket, Key=f"sends/at_risk/one.{holdout}.jsonl", Body=body)
    assert ledgers.mailed(NOON) == []
    ledgers.put("one", "wayne96")
    assert ledgers.mailed(NOON) == ["held", "never", "wayne96"]
    assert ledgers.mailed(NOON, own_name="one") == []
    assert ledgers.mailed(NOON + LASTS + timedelta(seconds=1)) == []
    assert list(ledgers_of(ledgers.s3, ledgers.bucket, "at_risk", "one")) == ["sends/at_risk/one.jsonl"]


def test_a_second_try_continues_with_what_the_first_put(ledgers: Ledgers) -> None:
    """Also where it counts others, as another launch has mailed some meanwhile."""
    first = ledgers.put("one", "wayne96", "xortiz")
    assert ledgers.put("one", "wayne96", launched_at=NOON + timedelta(hours=1)) == first
    assert ledgers.players("one") == ["wayne96", "xortiz"]


@pytest.mark.parametrize("change", [{"segment_sha256": "cd"}, {"destination": "customer_profiles"}])
def test_another_launch_of_the_same_result_is_refused(ledgers: Ledgers, change: dict[str, Any]) -> None:
    ledgers.put("one", "wayne96")
    with pytest.raises(FlywheelError, match=r"one was launched already, at \S+ by ses with template at_risk") as raised:
        ledgers.put("one", "msmith", **change)
    assert "wayne96" not in str(raised.value)
    assert ledgers.players("one") == ["wayne96"]


def test_a_put_with_a_lost_answer_counts_as_ours(ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's second try meets the object of its first."""
    client = ledgers.s3.get_conn()
    put = client.put_object

    def twice(**request: Any) -> Any:
        put(**request)
        request["Body"].seek(0)
        return put(**request)

    monkeypatch.setattr(client, "put_object", twice)
    assert ledgers.put("one", "wayne96").players == 1
    assert ledgers.players("one") == ["wayne96"]


def test_an_error_of_s3_is_not_a_ledger(ledgers: Ledgers) -> None:
    ledgers.bucket += "-that-is-not-there"
    with pytest.raises(ClientError, match="NoSuchBucket"):
        ledgers.put("one", "wayne96")
    with pytest.raises(ClientError, match="NoSuchBucket"):
        find_ledger(ledgers.s3, ledgers.bucket, "at_risk", "one")


def test_only_the_header_of_a_long_ledger_is_read(ledgers: Ledgers) -> None:
    many = [f"player-{number:06d}" for number in range(10_000)]
    put = ledgers.put("one", *many)
    assert find_ledger(ledgers.s3, ledgers.bucket, "at_risk", "one") == put
    assert ledgers.players("one") == many


# --- who was mailed recently


def test_players_of_all_other_launches_of_the_template(ledgers: Ledgers) -> None:
    """Whatever their cohort, threshold, as-of and destination; a player of two is one."""
    ledgers.put("ea_atrisk_1_yesterday", "wayne96", "xortiz")
    ledgers.put("toxic_75_today", "msmith", destination="customer_profiles")
    ledgers.put("toxic_76_today", "msmith")
    ledgers.put("own", "ann")
    ledgers.put("other_template", "bob", template="at_risk_2")
    assert ledgers.mailed(NOON - timedelta(days=30)) == ["msmith", "wayne96", "xortiz"]
    assert ledgers.mailed(NOON - timedelta(days=30), own_name="toxic_75_today") == [
        "ann",
        "msmith",
        "wayne96",
        "xortiz",
    ]
    assert ledgers.mailed(NOON - timedelta(days=30), template="at_risk_2") == ["bob"]
    assert ledgers.mailed(NOON - timedelta(days=30), template="toxic") == []


def test_a_launch_counts_up_to_the_last_mail_that_its_ledger_allows(ledgers: Ledgers) -> None:
    """A day after it began where it does not say."""
    ledgers.put("before", "wayne96", launched_at=NOON - LASTS - timedelta(seconds=1))
    ledgers.put("at", "xortiz", launched_at=NOON - LASTS)
    ledgers.put("closed before", "ann", launched_at=NOON - LASTS, mails_until=NOON - timedelta(seconds=1))
    ledgers.put("closed at", "msmith", launched_at=NOON - LASTS, mails_until=NOON)
    assert ledgers.mailed(NOON) == ["msmith", "xortiz"]


def test_a_launch_that_was_continued_counts_by_each_of_its_ledgers(ledgers: Ledgers) -> None:
    """25 days later it may have mailed the players that were left; the others have had their mail for a month."""
    began, later = NOON - timedelta(days=30), NOON - timedelta(days=5)
    ledgers.put("one", "ann", "bob", "cat", launched_at=began, mails_until=began)
    ledgers.put("one", "cat", number=2, launched_at=later, mails_until=later)
    assert ledgers.mailed(NOON - timedelta(days=28)) == ["cat"]
    assert ledgers.mailed(NOON - timedelta(days=30)) == ["ann", "bob", "cat"]
    assert ledgers.mailed(NOON - timedelta(days=4)) == []
    assert ledgers.mailed(NOON - timedelta(days=30), own_name="one") == []


def test_a_ledger_is_closed_and_extended_and_keeps_its_players(ledgers: Ledgers) -> None:
    hour, key = timedelta(hours=1), ledger_key("at_risk", "one")
    ledgers.put("one", "ann", "bob", mails_until=NOON + hour)

    def until(change: Any, instant: datetime) -> datetime:
        change(ledgers.s3, ledgers.bucket, key, instant, ledgers.folder)
        found = find_ledger(ledgers.s3, ledgers.bucket, "at_risk", "one")
        assert found is not None
        assert ledgers.players("one") == ["ann", "bob"]
        return found.last_mail

    assert until(close_ledger, NOON + 2 * hour) == NOON + hour, "never later by being closed"
    assert until(close_ledger, NOON) == NOON
    assert until(extend_ledger, NOON - hour) == NOON, "never earlier by being extended"
    assert until(extend_ledger, NOON + 3 * hour) == NOON + 3 * hour


def test_a_player_is_taken_out_of_all_ledgers_of_a_launch(ledgers: Ledgers) -> None:
    ledgers.put("one", "ann", "bob", "cat")
    ledgers.put("one", "bob", "cat", number=2)
    ledgers.put("one_2", "cat")
    assert len(ledgers_of(ledgers.s3, ledgers.bucket, "at_risk", "one")) == 2
    take_out(ledgers.s3, ledgers.bucket, "at_risk", "one", ["cat"], ledgers.folder)
    assert ledgers.mailed(NOON, own_name="one_2") == ["ann", "bob"]
    assert ledgers.mailed(NOON, own_name="one") == ["cat"]


def test_a_ledger_that_was_put_long_before_is_not_opened(ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch) -> None:
    ledgers.put("old", "wayne96")
    opened: list[str] = []

    def nothing(_s3: Any, _bucket: str, key: str) -> Iterator[bytes]:
        opened.append(key)
        return iter(())

    monkeypatch.setattr("cohort_flywheel.campaign.send_ledger_store.lines", nothing)
    with pytest.raises(FlywheelError, match="is not a send ledger"):
        ledgers.mailed(NOON - timedelta(days=1))
    with pytest.raises(FlywheelError, match="is not a send ledger"):  # which S3's clock has not reached
        ledgers.mailed(NOON + timedelta(days=9))
    assert opened == [ledger_key("at_risk", "old")] * 2
    monkeypatch.setattr("cohort_flywheel.campaign.send_ledger_store.LASTS", -timedelta(hours=3))  # two hours ago
    assert ledgers.mailed(NOON - timedelta(hours=1)) == []
    assert len(opened) == 2


def test_an_invalid_ledger_stops_a_launch(ledgers: Ledgers) -> None:
    """A player could be mailed again."""
    ledgers.s3.get_conn().put_object(Bucket=ledgers.bucket, Key="sends/at_risk/x.jsonl", Body=b"wayne96\n")
    with pytest.raises(FlywheelError, match=r"s3://\S+/sends/at_risk/x.jsonl is not a send ledger"):
        ledgers.mailed(NOON - timedelta(days=1))


def test_ledgers_on_many_pages_are_all_read(ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        ledgers.put(f"launch-{number}", f"player-{number}")
    client = ledgers.s3.get_conn()
    listing, pages = client.list_objects_v2, []

    def by_two(**asked: Any) -> Any:
        pages.append(asked)
        return listing(**asked | {"MaxKeys": 2})

    monkeypatch.setattr(client, "list_objects_v2", by_two)
    assert len(ledgers.mailed(NOON - timedelta(days=1))) == 5
    assert len(pages) == 3
