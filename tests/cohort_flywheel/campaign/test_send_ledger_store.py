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

from cohort_flywheel.campaign.send_ledger import Header, ledger_key
from cohort_flywheel.campaign.send_ledger_store import LASTS, find_ledger, load_ledger, load_recently_mailed, put_ledger
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook

NOON = datetime.now(UTC).replace(microsecond=0)  # S3 tells when an object was put by its own clock


class Ledgers:
    def __init__(self, bucket: str, folder: Path) -> None:
        self.s3, self.bucket, self.folder = S3Hook(), bucket, folder

    def put(self, name: str, *players: str, **changes: Any) -> Header:
        header = Header(name, "at_risk", "ab", "ses", NOON, len(players))._replace(**changes)
        return put_ledger(self.s3, self.bucket, header, iter(players), self.folder)

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


def test_a_second_try_continues_with_what_the_first_put(ledgers: Ledgers) -> None:
    """Also where it counts others, as another launch has mailed some meanwhile."""
    first = ledgers.put("one", "wayne96", "xortiz")
    assert ledgers.put("one", "wayne96", launched_at=NOON + timedelta(hours=1)) == first
    assert ledgers.players("one") == ["wayne96", "xortiz"]


@pytest.mark.parametrize("change", [{"segment_sha256": "cd"}, {"destination": "customer_profiles"}])
def test_another_launch_of_the_same_result_is_refused(ledgers: Ledgers, change: dict[str, str]) -> None:
    ledgers.put("one", "wayne96")
    with pytest.raises(FlywheelError, match=r"one was launched already, at \S+ by ses with template at_risk") as raised:
        ledgers.put("one", "msmith", **change)
    assert "wayne96" not in str(raised.value)
    assert ledgers.players("one") == ["wayne96"]


def test_a_put_whose_answer_was_lost_is_ours(ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_an_error_of_s3_is_not_taken_for_a_ledger(ledgers: Ledgers) -> None:
    ledgers.bucket += "-that-is-not-there"
    with pytest.raises(ClientError, match="NoSuchBucket"):
        ledgers.put("one", "wayne96")
    with pytest.raises(ClientError, match="NoSuchBucket"):
        find_ledger(ledgers.s3, ledgers.bucket, "at_risk", "one")


def test_a_header_is_read_whole_however_long_the_list(ledgers: Ledgers) -> None:
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


def test_a_launch_counts_from_its_instant_on(ledgers: Ledgers) -> None:
    """And a day on: its last mail may have been sent so much later."""
    ledgers.put("before", "wayne96", launched_at=NOON - LASTS - timedelta(seconds=1))
    ledgers.put("at", "xortiz", launched_at=NOON - LASTS)
    assert ledgers.mailed(NOON) == ["xortiz"]


def test_a_ledger_that_was_put_long_before_is_not_opened(ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch) -> None:
    ledgers.put("old", "wayne96")
    opened: list[str] = []

    def nothing(_s3: Any, _bucket: str, key: str) -> Iterator[bytes]:
        opened.append(key)
        return iter(())

    monkeypatch.setattr("cohort_flywheel.campaign.send_ledger_store.lines", nothing)
    assert ledgers.mailed(NOON + timedelta(days=2)) == []
    assert opened == []
    with pytest.raises(FlywheelError, match="is no send ledger"):
        ledgers.mailed(NOON - timedelta(days=1))
    assert opened == [ledger_key("at_risk", "old")]


def test_what_is_no_ledger_stops_a_launch(ledgers: Ledgers) -> None:
    """Somebody could be mailed again."""
    ledgers.s3.get_conn().put_object(Bucket=ledgers.bucket, Key="sends/at_risk/x.jsonl", Body=b"wayne96\n")
    with pytest.raises(FlywheelError, match=r"s3://\S+/sends/at_risk/x.jsonl is no send ledger"):
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
