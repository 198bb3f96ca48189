"""The send ledger's file: what is written is what is read."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cohort_flywheel.campaign.send_ledger import (
    LASTS,
    Header,
    is_holdout,
    is_ledger_of,
    ledger_folder,
    ledger_key,
    read_ledger,
    run_of_ledger,
    write_ledger,
)
from cohort_flywheel.errors import FlywheelError

HEADER = Header("ea_atrisk_2_x", "at_risk", "ab" * 32, "ses", datetime(2026, 11, 22, 9, tzinfo=UTC), 3)
PLAYERS = ["wayne96", "xortiz", '{"name": "msmith"} ü']


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    write_ledger(path, HEADER, iter(PLAYERS))
    first, *rest = path.read_text(encoding="utf-8").splitlines()
    assert rest == PLAYERS
    assert '"launched_at": "2026-11-22T09:00:00+00:00"' in first
    header, players = read_ledger(path.read_bytes().splitlines(), "s3://state/x")
    assert (header, list(players)) == (HEADER, PLAYERS)


@pytest.mark.parametrize("suffix", ["", ".2", ".launch_holdout", ".global_holdout"])
def test_the_run_of_each_ledger_is_found(suffix: str) -> None:
    name = "churn_0.75_2026-11-22_00-00-00"
    assert run_of_ledger(f"{name}{suffix}.jsonl") == name
    key = f"sends/at_risk/{name}{suffix}.jsonl"
    assert is_ledger_of(key, "at_risk", name) is not is_holdout(key)


def test_an_empty_ledger(tmp_path: Path) -> None:
    write_ledger(tmp_path / "ledger", HEADER._replace(players=0), [])
    header, players = read_ledger((tmp_path / "ledger").read_bytes().splitlines(), "x")
    assert (header.players, list(players)) == (0, [])


def test_an_erasure_may_have_removed_a_player(tmp_path: Path) -> None:
    write_ledger(tmp_path / "ledger", HEADER, PLAYERS)
    first, _, *others = (tmp_path / "ledger").read_bytes().splitlines()
    _, players = read_ledger([first, *others], "x")
    assert list(players) == PLAYERS[1:]


@pytest.mark.parametrize("players", [PLAYERS[:2], [*PLAYERS, "d"]])
def test_a_ledger_with_another_number_of_players_is_refused(tmp_path: Path, players: list[str]) -> None:
    with pytest.raises(FlywheelError, match="players are to be mailed, and 3 were counted before"):
        write_ledger(tmp_path / "ledger", HEADER, players)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"wayne96",
        b"[]",
        b"{}",
        b'{"launched_at": "yesterday"}',
        b"\xff",
        b'{"launched_at": 3}',
        b"3",
        b'{"name": "x", "template": "at_risk", "segment_sha256": "ab", "destination": "ses", "players": 1,'
        b' "launched_at": "2026-11-22T09:00:00"}',
    ],
)
def test_an_invalid_ledger_is_refused_with_its_address(line: bytes) -> None:
    with pytest.raises(
        FlywheelError, match="s3://state/sends/at_risk/x.jsonl is not a send ledger: restore it"
    ) as raised:
        read_ledger([line], "s3://state/sends/at_risk/x.jsonl")
    assert "wayne96" not in str(raised.value)


def test_the_keys_of_ledgers() -> None:
    assert ledger_key("at_risk", "ea_atrisk_2_x") == "sends/at_risk/ea_atrisk_2_x.jsonl"
    assert ledger_key("at_risk", "x").startswith(ledger_folder("at_risk"))
    assert not ledger_key("at_risk_2", "x").startswith(ledger_folder("at_risk"))


def test_the_end_of_a_ledger_is_read_back_and_defaults_to_a_day(tmp_path: Path) -> None:
    until = HEADER.launched_at + timedelta(hours=2)
    write_ledger(tmp_path / "ledger", HEADER._replace(mails_until=until), PLAYERS)
    header, _ = read_ledger((tmp_path / "ledger").read_bytes().splitlines(), "x")
    assert (header.mails_until, header.last_mail) == (until, until)
    assert HEADER.last_mail == HEADER.launched_at + LASTS == datetime(2026, 11, 23, 9, tzinfo=UTC)


@pytest.mark.parametrize("field", ["launched_at", "mails_until"])
def test_a_time_without_a_zone_is_not_compared(field: str) -> None:
    """It could be read as hours earlier, and a player mailed again by as much too soon."""
    times = {"launched_at": "2026-11-22T09:00:00+00:00", field: "2026-11-22T09:00:00"}
    about = HEADER._asdict() | {"mails_until": "2026-11-22T10:00:00+00:00"} | times
    with pytest.raises(FlywheelError, match="x is not a send ledger"):
        read_ledger([json.dumps(about).encode()], "x")


def test_the_ledgers_of_a_launch_are_recognized_by_their_keys() -> None:
    own = [ledger_key("at_risk", "ea_2.5_x", number) for number in (1, 2, 10)]
    assert own == [f"sends/at_risk/ea_2.5_x{number}.jsonl" for number in ("", ".2", ".10")]
    assert all(is_ledger_of(key, "at_risk", "ea_2.5_x") for key in own)
    others = [ledger_key("at_risk", "ea_2.5_x2"), ledger_key("at_risk", "ea_2x5_x"), ledger_key("at", "ea_2.5_x")]
    assert not any(is_ledger_of(key, "at_risk", "ea_2.5_x") for key in others)


@pytest.mark.parametrize("name", ["ea_atrisk_2_2026-11-22_00-00-00", "churn_0.75_2026-11-22_00-00-00"])
@pytest.mark.parametrize("number", [1, 2, 10])
def test_a_ledger_has_the_name_of_its_run(name: str, number: int) -> None:
    key = ledger_key("at_risk", name, number)
    assert run_of_ledger(key.removeprefix(ledger_folder("at_risk"))) == name
    assert is_ledger_of(key, "at_risk", name)
