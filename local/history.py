"""A history for `make up`: 30 days of three cohorts and two launches, as the operators leave them (`history_runs.py`).

The scores of the sample players walk back from today's, so the history ends where the sample begins. The newest day
has no result: the first run of the DAG makes it from the graph. The objects of the history are kept in `.cache`, and
are made once for each day and each version of the code.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from local import airflow, seed
from local.config import CACHE, ROOT, Config, LocalError
from local.servers import Servers

DAYS = 30
#: How many days before the newest one the first cohort was mailed.
LAUNCHED = (26, 5)
SECONDS = 1_800
#: The header of an entry of the archive that has the metadata of its object, as JSON.
METADATA = "COHORT_FLYWHEEL.metadata"
#: What the history depends on.
SOURCES = ("include", "plugins/cohort_flywheel", "local/sesv2")
FILES = ("history.py", "history_runs.py", "sample.py", "seed.py")


def write(
    servers: Servers,
    config: Config,
    environment: Mapping[str, str],
    *,
    now: datetime | None = None,
    days: int = DAYS,
    launched: tuple[int, ...] = LAUNCHED,
    is_counted_daily: bool = False,
    cache: Path = CACHE / "history",
) -> None:
    """Write the history into the three buckets, unless the state bucket has results already.

    :param environment: the connections and variables of Airflow, as `servers.airflow_environment` gives them.
    :param is_counted_daily: events are counted every day, not only after a launch.
    :param cache: the folder of histories that were made before.

    Raises LocalError with the end of the log if a run fails.
    """
    s3 = seed.client("s3", servers, config)
    if s3.list_objects_v2(Bucket=config.state_bucket, Prefix="results/").get("KeyCount"):
        return
    newest = (now or datetime.now(UTC)).replace(hour=0, minute=0, second=0, microsecond=0)
    buckets = (config.export_bucket, config.import_bucket, config.state_bucket)
    parts = (newest.isoformat(), *buckets, str(days), str(launched), str(is_counted_daily))
    file = cache / f"{_digest(parts)}.tar"
    if file.exists():
        _restore(s3, file)
        return
    seed.make_configuration_sets(servers, config)
    with tempfile.TemporaryDirectory() as home:
        environ = airflow.environment(Path(home), environment) | {"AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING"}
        arguments = [newest.isoformat(), servers.gremlin_url, servers.aws_url, str(days), "--launched"]
        arguments += [*map(str, launched), *(["--counted-daily"] if is_counted_daily else [])]
        run = subprocess.run(
            [sys.executable, "-m", "local.history_runs", *arguments],
            cwd=ROOT, env=environ, capture_output=True, text=True, timeout=max(SECONDS, 30 * days), check=False,
        )  # fmt: skip
    if run.returncode:
        raise LocalError(f"The history was not written: {(run.stderr.strip() or run.stdout.strip())[-2000:]}")
    _keep(s3, buckets, file)


def _digest(parts: tuple[str, ...]) -> str:
    found = hashlib.sha256("\n".join(parts).encode())
    files = [path for folder in SOURCES for path in (ROOT / folder).rglob("*") if path.is_file()]
    for path in sorted([*files, *(ROOT / "local" / name for name in FILES)]):
        if "__pycache__" not in path.parts:
            found.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return found.hexdigest()[:16]


def _keep(s3: Any, buckets: tuple[str, ...], file: Path) -> None:
    """Keep all objects of the buckets in a file, and no earlier history."""
    file.parent.mkdir(parents=True, exist_ok=True)
    for other in file.parent.glob("*.tar*"):
        other.unlink()
    part = file.with_suffix(".tar.part")
    with tarfile.open(part, "w") as archive, ThreadPoolExecutor(4) as pool:
        places = list(_keys(s3, buckets))
        for (bucket, key), kept in zip(places, pool.map(lambda place: _object(s3, *place), places), strict=True):
            body, metadata = kept
            entry = tarfile.TarInfo(f"{bucket}/{key}")
            entry.size = len(body)
            entry.pax_headers = {METADATA: json.dumps(metadata)}
            archive.addfile(entry, BytesIO(body))
    part.rename(file)


def _keys(s3: Any, buckets: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for bucket in buckets:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for item in page.get("Contents", ()):
                if item["Key"] != seed.DO_NOT_CONTACT:
                    yield bucket, item["Key"]


def _object(s3: Any, bucket: str, key: str) -> tuple[bytes, dict[str, str]]:
    """The body and the metadata, in which a snapshot has its header."""
    found = s3.get_object(Bucket=bucket, Key=key)
    return found["Body"].read(), found["Metadata"]


def _restore(s3: Any, file: Path) -> None:
    def put(entry: tuple[str, bytes, dict[str, str]]) -> None:
        name, body, metadata = entry
        bucket, _, key = name.partition("/")
        s3.put_object(Bucket=bucket, Key=key, Body=body, Metadata=metadata)

    with tarfile.open(file) as archive, ThreadPoolExecutor(4) as pool:
        entries = [
            (each.name, found.read(), json.loads(each.pax_headers[METADATA]))
            for each in archive
            if (found := archive.extractfile(each))
        ]
        list(pool.map(put, entries))
