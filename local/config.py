"""Ports, names and made-up credentials of the local servers, from the repository's `.env`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENV_FILE = ROOT / ".env"
CACHE = ROOT / ".cache"
RUN_DIR = ROOT / ".local"
#: Of SES: an account has one contact list.
CONTACT_LIST, TOPIC = "players", "Cohorts"
#: The configuration set of SES, which publishes the events of campaigns.
CONFIGURATION_SET, UNTRACKED_SET = "cohort-flywheel", "cohort-flywheel-untracked"
#: Of Customer Profiles.
PROFILES_DOMAIN = "players"
#: Campaigns: the verified sender domain of SES, and the unsubscribe page of Connect's e-mails.
SENDER_DOMAIN, UNSUBSCRIBE_URL = "studio.example", "https://studio.example/unsubscribe"

# In a developer's shell these may be real secrets, which must not reach a local server or one of our files.
FROM_FILE_ONLY = frozenset({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"})


class LocalError(Exception):
    """An error of the local servers that is reported to the user in one sentence."""


@dataclass(frozen=True)
class Config:
    """The settings of `.env`; every name in `local/` comes from here."""

    gremlin_port: int
    dynamodb_port: int
    aws_port: int
    airflow_port: int
    gremlin_jars: str
    gremlin_java_options: str
    dynamodb_java_options: str
    access_key_id: str
    secret_access_key: str
    region: str
    export_bucket: str
    import_bucket: str
    state_bucket: str
    contacts_table: str
    application_name: str
    import_role_name: str


KEYS = {
    "gremlin_port": "GREMLIN_PORT",
    "dynamodb_port": "DYNAMODB_PORT",
    "aws_port": "AWS_PORT",
    "airflow_port": "AIRFLOW_PORT",
    "gremlin_jars": "GREMLIN_JARS",
    "gremlin_java_options": "GREMLIN_JAVA_OPTIONS",
    "dynamodb_java_options": "DYNAMODB_JAVA_OPTIONS",
    "access_key_id": "AWS_ACCESS_KEY_ID",
    "secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "region": "AWS_DEFAULT_REGION",
    "export_bucket": "EXPORT_BUCKET",
    "import_bucket": "IMPORT_BUCKET",
    "state_bucket": "STATE_BUCKET",
    "contacts_table": "CONTACTS_TABLE",
    "application_name": "PINPOINT_APPLICATION_NAME",
    "import_role_name": "PINPOINT_IMPORT_ROLE_NAME",
}


def works(tool: str) -> bool:
    """Whether a tool is installed and runs; a placeholder script that only prints an error does not count."""
    try:
        run = subprocess.run([tool, "--version"], capture_output=True, timeout=60, check=False)
    except OSError:
        return False
    return run.returncode == 0


def postgresql() -> Path | None:
    """The folder of PostgreSQL's programs, the newest that runs; Debian does not put them on the PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    return next((folder for folder in reversed(folders) if works(str(folder / "postgres"))), None)


def read_env_file(path: Path = ENV_FILE) -> dict[str, str]:
    """The `KEY=value` lines of a file that docker-compose reads too: no quotes, no substitution."""
    values: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not equals or not key.strip():
            raise LocalError(f"{path.name}, line {number}: expected KEY=value.")
        values[key.strip()] = value.strip()
    return values


def load(path: Path = ENV_FILE, environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration: the file's values, each under a variable of the same name in the environment."""
    values = read_env_file(path)
    for key in KEYS.values():
        if key in environ and key not in FROM_FILE_ONLY:
            values[key] = environ[key]
    missing = [key for key in KEYS.values() if not values.get(key)]
    if missing:
        raise LocalError(f"{path.name} has no value for {', '.join(missing)}: add a line KEY=value.")
    text = {name: values[key] for name, key in KEYS.items() if not name.endswith("_port")}
    ports = {name: _port(key, values[key], path) for name, key in KEYS.items() if name.endswith("_port")}
    return Config(**ports, **text)  # type: ignore[arg-type]  # KEYS has the fields


def _port(key: str, value: str, path: Path) -> int:
    if not value.isascii() or not value.isdigit() or not 0 < int(value) < 65536:
        raise LocalError(f"{key} in {path.name} is not a port: write a number from 1 to 65535.")
    return int(value)
