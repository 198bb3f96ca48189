"""Rounds of measurements: every peer's every stage, each in a fresh process, one after the other, and checked."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local import seed
from local.config import ROOT, Config
from local.servers import Servers, airflow_environment
from tests.benchmarks import data, environments

#: In the order of the first round.
STAGES = {
    "ours": ["graph", "enrich", "release"],
    "seeds": ["graph", "enrich"],
    "wrangler": ["graph", "enrich"],
    "tinkerpop": ["graph"],
    "floor": ["graph", "enrich"],
    "drained": ["graph", "enrich"],
}
PROJECTION = ["playerId", "email", "firstName", "lastName", "favoriteRole", "emailConsent"]
TIMEOUT_SECONDS = 3 * 3600


class WrongResultError(Exception):
    """A peer did not make what it had to; the comparison does not count."""


class PeerFailedError(Exception):
    """A peer's process ended with an error; the text is the end of what it said."""


@dataclass
class Bench:
    """Servers with the data of one size, and where measurements leave their files."""

    servers: Servers
    config: Config
    n: int
    property: str
    folder: Path
    ids: list[str] = field(default_factory=list)
    bytes_read: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ids = data.player_ids(self.n)
        (self.folder / "ids.txt").write_text("\n".join(self.ids), encoding="utf-8")
        self.members, self.rows = _digest(self.ids), _digest(map(",".join, data.expected_rows(self.ids)))

    def job(self, peer: str, stages: list[str], **more: Any) -> dict[str, Any]:
        servers, config = self.servers, self.config
        return {
            "peer": peer, "stages": stages, "n": self.n, "property": self.property, "folder": str(self.folder),
            "gremlin_url": servers.gremlin_url, "gremlin_host": servers.host, "gremlin_port": servers.gremlin_port,
            "dynamodb_url": servers.dynamodb_url, "region": config.region, "table": config.contacts_table,
            "access_key_id": config.access_key_id, "secret_access_key": config.secret_access_key,
            "projection": PROJECTION,
            "buckets": {"export": config.export_bucket, "import": config.import_bucket, "state": config.state_bucket},
        } | more  # fmt: skip

    def environment(self, peer: str) -> dict[str, str]:
        """Nothing of the caller's but where its programs are."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        paths = [str(ROOT), str(ROOT / "plugins")]
        if peer == "tinkerpop":
            paths.insert(0, str(environments.tinkerpop_path()))
        return kept | airflow_environment(self.servers, self.config, "none", "none") | {
            "PYTHONPATH": os.pathsep.join(paths),
            "AIRFLOW_HOME": str(self.folder / "airflow"),
            "AWS_ACCESS_KEY_ID": self.config.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.config.secret_access_key,
            "AWS_DEFAULT_REGION": self.config.region,
            "AWS_ENDPOINT_URL_S3": self.servers.aws_url,
            "AWS_ENDPOINT_URL_DYNAMODB": self.servers.dynamodb_url,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "*",
        }  # fmt: skip


@contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        yield Path(folder)


def run(bench: Bench, peer: str, stages: list[str], *, profile: bool = False) -> dict[str, Any]:
    """Measure some stages of a peer in one fresh process, and check what they made."""
    python = environments.wrangler_python() if peer == "wrangler" else Path(sys.executable)
    job_file, answer, log = (bench.folder / f"{peer}.{ending}" for ending in ("job", "answer", "log"))
    answer.unlink(missing_ok=True)
    job_file.write_text(json.dumps(bench.job(peer, stages, answer=str(answer), profile=profile)), encoding="utf-8")
    with log.open("wb") as output:
        process = subprocess.run(
            [str(python), "-m", "tests.benchmarks.child", str(job_file)],
            cwd=ROOT, env=bench.environment(peer), stdout=output, stderr=subprocess.STDOUT, timeout=TIMEOUT_SECONDS,
            check=False,
        )  # fmt: skip
    if process.returncode or not answer.exists():
        end = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
        raise PeerFailedError(f"{peer} {'+'.join(stages)} ended with {process.returncode}: {' | '.join(end)}")
    found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    for stage, measured in found.items():
        check(bench, f"{peer} {stage}", measured["outcome"])
    return found


def check(bench: Bench, what: str, outcome: dict[str, Any]) -> None:
    """Raise WrongResultError unless the members, or the rows, are those that were loaded."""
    s3 = seed.client("s3", bench.servers, bench.config)
    if "bytes" in outcome:  # the floor and the limit read the same
        stage = what.split()[-1]
        if outcome["bytes"] != bench.bytes_read.setdefault(stage, outcome["bytes"]):
            raise WrongResultError(f"{what}: {outcome['bytes']:,} bytes, not {bench.bytes_read[stage]:,}")
    if where := outcome.get("members"):
        found = _lines(bench, where) if "file" in where else _members(s3, where)
        if _digest(found) != bench.members:
            raise WrongResultError(f"{what}: the members are not the {bench.n:,} that were loaded")
    if where := outcome.get("rows"):
        rows = _lines(bench, where) if "file" in where else _rows(s3, where)
        if _digest(rows) != bench.rows:
            raise WrongResultError(f"{what}: the rows are not those of the {bench.n:,} contacts that were loaded")


def empty_buckets(bench: Bench) -> None:
    """So that each run puts what it makes; the empty do-not-contact list stays."""
    s3 = seed.client("s3", bench.servers, bench.config)
    for bucket in (bench.config.export_bucket, bench.config.import_bucket, bench.config.state_bucket):
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for item in page.get("Contents", ()):
                if item["Key"] != seed.DO_NOT_CONTACT:
                    s3.delete_object(Bucket=bucket, Key=item["Key"])


def _members(s3: Any, where: dict[str, Any]) -> Iterable[str]:
    body = s3.get_object(Bucket=where["bucket"], Key=where["key"])["Body"].read()
    if where["format"] == "json":
        return [record["playerId"][0] for record in json.loads(body)]
    return [row["playerId"] for row in csv.DictReader(io.StringIO(body.decode()))]


def _rows(s3: Any, places: list[dict[str, Any]]) -> Iterator[str]:
    for where in places:
        body = s3.get_object(Bucket=where["bucket"], Key=where["key"])["Body"].read()
        for row in csv.DictReader(io.StringIO(body.decode(), newline="")):
            yield f"{row['User.UserId']},{row['Address']}"


def _lines(bench: Bench, where: dict[str, Any]) -> list[str]:
    return (bench.folder / where["file"]).read_text(encoding="utf-8").split("\n")


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
