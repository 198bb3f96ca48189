"""`.env` is read as docker-compose reads it, and says what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.config import ENV_FILE, Config, LocalError, load


def test_the_environment_wins_but_for_credentials() -> None:
    config = load(environ={"AWS_PORT": "6000", "AWS_SECRET_ACCESS_KEY": "a real one", "CONTACTS_TABLE": "players"})
    assert (config.aws_port, config.contacts_table, config.secret_access_key) == (6000, "players", "local-only")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("AWS_PORT", "line 1: expected KEY=value"),
        ("AWS_PORT=high", "AWS_PORT in .env is not a port: write a number from 1 to 65535"),
        ("AWS_PORT=0", "AWS_PORT in .env is not a port"),
        ("EXPORT_BUCKET=", "has no value for EXPORT_BUCKET"),
    ],
)
def test_a_wrong_line_is_an_error(tmp_path: Path, line: str, sentence: str) -> None:
    key = line.partition("=")[0]
    others = [other for other in ENV_FILE.read_text().splitlines() if not other.startswith(f"{key}=")]
    file = tmp_path / ".env"
    file.write_text("\n".join([line, *others]))
    with pytest.raises(LocalError, match=sentence):
        load(file, environ={})


def test_every_key_is_read(config: Config) -> None:
    keys = {line.partition("=")[0] for line in ENV_FILE.read_text().splitlines() if line and not line.startswith("#")}
    from local.config import KEYS

    assert keys == set(KEYS.values())
