"""Shards over Celery workers: one worker against two, 1, 2 and 4 shards. `python -m tests.benchmarks.width`

A real CeleryExecutor with redis-server and PostgreSQL, and two workers that do one task at a time each. A DAG maps our
own DynamoDBEnrichOperator over the shards of one extract. Beside it, in the same rounds, what two processes can gain on
this machine at all: two that only reckon, and two that do the same shards without Airflow.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from local import airflow, sample, seed
from local import config as local_config
from local.config import ROOT
from local.servers import airflow_environment
from tests.airflow_up import ends_with_us, free_ports
from tests.benchmarks import data, environments, results, rounds, servers
from tests.benchmarks.__main__ import PROPERTY, load, say
from tests.postgresql import postgresql

sys.path.insert(0, str(ROOT / "plugins"))

PLAYERS = 100_000
SHARDS = (1, 2, 4)
ROUNDS = 5
RUN_SECONDS = 300
#: Worker `a` takes from both queues, worker `b` from the second alone.
QUEUES = {"a": "one,both", "b": "both"}
WORKERS = {1: "one", 2: "both"}
DAG_FILE = """
import json
from pathlib import Path

from airflow.sdk import DAG

from cohort_flywheel.segment.enrich_operator import DynamoDBEnrichOperator

WIDTH = json.loads(Path(__file__).with_name("width.json").read_text())
for number, shards in WIDTH["shards"].items():
    for queue in ("one", "both"):
        with DAG(f"width_{number}_{queue}", schedule=None, is_paused_upon_creation=False):
            DynamoDBEnrichOperator.partial(task_id="enrich", queue=queue, **WIDTH["arguments"]).expand(shard=shards)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, default=results.FOLDER, help="the folder of results.json and RESULTS.md")
    parser.add_argument("--players", type=int, default=PLAYERS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--part", type=Path, help=argparse.SUPPRESS)  # of a process that this one starts
    arguments = parser.parse_args()
    if arguments.part:
        return part(json.loads(arguments.part.read_text(encoding="utf-8")))
    n, config = arguments.players, local_config.load(environ={})
    database = environments.FOLDER / f"dynamodb-{n}-{sample.SEED}"
    if not data.is_loaded(database, n):
        load(database, n, config)
    with rounds.scratch() as folder, servers.running(folder / "servers", database, config) as addresses:
        seed.make_buckets(addresses, config)
        bench = rounds.Bench(addresses, data.with_table(config, n), n, PROPERTY, folder / "work")
        shards, names = cut(bench), enrich_names(bench)
        found: dict[str, list[dict[str, Any]]] = {"spin": [], "plain": [], "celery": []}
        with celery(bench, folder, shards, names) as url:
            for number in SHARDS:  # not measured: what a worker imports first
                run(url, bench, number, 2)
            for turn in range(arguments.rounds):
                for kind in ("spin", "plain"):
                    found[kind].append(processes(bench, kind, shards[2], names))
                one = {f"{k} on {w}": run(url, bench, k, w) for k in SHARDS for w in (1, 2)[:: 1 if turn % 2 else -1]}
                found["celery"].append(one)
                say(f"round {turn + 1} of {arguments.rounds}: {found['spin'][-1]} {found['plain'][-1]} {one}")
    results.add_section("width", section(n, found), arguments.into)
    return 0


def cut(bench: rounds.Bench) -> dict[int, list[dict[str, Any]]]:
    """Put one extract of all players; by number, the shards that it is cut into."""
    from cohort_flywheel.segment.extract_file import write_extract
    from cohort_flywheel.segment.segment_file import digest

    made, path = {}, bench.folder / "extract.json"
    for number in SHARDS:
        size = -(-bench.n // number)
        with path.open("wb") as file:
            records = (json.dumps({"playerId": [each], PROPERTY: [data.SCORE]}) for each in bench.ids)
            shards = write_extract(records, file, size)
        made[number] = [shard.model_dump(mode="json") | {"of": digest(path)} for shard in shards]
    s3 = seed.client("s3", bench.servers, bench.config)
    extra = {"Metadata": {"sha256": digest(path)}}
    s3.upload_file(str(path), bench.config.export_bucket, "width.json", ExtraArgs=extra)
    return made


def enrich_names(bench: rounds.Bench) -> dict[str, Any]:
    """The operator's arguments but the shard; each run has files of its own."""
    from cohort_flywheel.segment.enrich_operator import enrich_arguments
    from tests.benchmarks.peers.ours import _plan

    extract = {"s3_bucket": bench.config.export_bucket, "s3_key": "width.json"}
    of_the_run = "width/{{ run_id | replace(':', '') | replace('+', '') }}"
    own = {"segment_folder": f"{of_the_run}/", "name": "part", "rejects_key": f"{of_the_run}/rejects"}
    return enrich_arguments(_plan(bench.job("ours", [])), extract) | own


# --- Airflow on Celery


@contextmanager
def celery(bench: rounds.Bench, folder: Path, shards: Any, names: dict[str, Any]) -> Iterator[str]:
    """An Airflow with two workers; its address."""
    redis = shutil.which("redis-server")
    if not redis:
        raise SystemExit("redis-server is missing: apt-get install redis-server")
    dags, home = folder / "dags", folder / "airflow"
    dags.mkdir()
    (dags / "width.json").write_text(json.dumps({"shards": shards, "arguments": names}), encoding="utf-8")
    (dags / "width_dags.py").write_text(DAG_FILE, encoding="utf-8")
    port, redis_port = free_ports(2)
    with ExitStack() as stack:
        database = stack.enter_context(postgresql())
        told = airflow_environment(bench.servers, bench.config, "none", "none")
        environ = airflow.environment(home, told, port=port, dags=dags, database_url=database) | {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CELERY__BROKER_URL": f"redis://127.0.0.1:{redis_port}/0",
            "AIRFLOW__CELERY__RESULT_BACKEND": database.replace("postgresql+", "db+postgresql+"),
            "AIRFLOW__CELERY__WORKER_CONCURRENCY": "1",
            "PYTHONPATH": os.pathsep.join([str(environments.celery_path()), str(ROOT)]),
        }
        command = [redis, "--port", str(redis_port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        stack.enter_context(process("redis", command, environ, folder))
        airflow.migrate(environ)
        url = stack.enter_context(airflow.running(environ, folder / "airflow.log"))
        for name, queues in QUEUES.items():
            worker = [airflow.AIRFLOW, "celery", "worker", "--concurrency=1", f"--queues={queues}", "--skip-serve-logs"]
            stack.enter_context(process(name, [*worker, f"--celery-hostname={name}@%h"], environ, folder))
        for number in SHARDS:
            for queue in WORKERS.values():
                airflow.wait_until_listed(url, f"width_{number}_{queue}", folder / "airflow.log")
        yield url


@contextmanager
def process(name: str, command: list[str], environ: dict[str, str], folder: Path) -> Iterator[None]:
    """A program that ends with the block, or with this process, with all that it started."""
    with (folder / f"{name}.log").open("wb") as log:
        started = subprocess.Popen(
            command, env=environ, cwd=folder, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    end = ["sh", "-c", f"pkill -TERM -s {started.pid}; sleep 2; pkill -KILL -s {started.pid}; exit 0"]
    with ends_with_us(end, dict(os.environ)):
        yield
    started.wait(timeout=30)


def run(url: str, bench: rounds.Bench, number: int, workers: int) -> float:
    """Seconds from the start of a run's first shard to the end of its last; what it made is checked."""
    dag_id = f"width_{number}_{WORKERS[workers]}"
    with httpx.Client(base_url=f"{url}/api/v2", timeout=60, trust_env=False) as client:
        made = client.post(f"/dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": {}}).raise_for_status()
        path = f"/dags/{dag_id}/dagRuns/{made.json()['dag_run_id']}"
        end = time.monotonic() + RUN_SECONDS
        while (state := client.get(path).raise_for_status().json()["state"]) not in ("success", "failed"):
            if time.monotonic() > end:
                raise rounds.PeerFailedError(f"{dag_id} did not end within {RUN_SECONDS} s: it is {state}")
            time.sleep(0.5)
        tasks = client.get(f"{path}/taskInstances").raise_for_status().json()["task_instances"]
    if state != "success" or len(tasks) != number:
        raise rounds.PeerFailedError(f"{dag_id}: {state}, {len(tasks)} tasks")
    hosts = {task["hostname"] for task in tasks}
    prefix = f"width/{made.json()['dag_run_id'].replace(':', '').replace('+', '')}/"
    s3 = seed.client("s3", bench.servers, bench.config)
    listed = s3.list_objects_v2(Bucket=bench.config.state_bucket, Prefix=prefix)["Contents"]
    parts = [{"bucket": bench.config.state_bucket, "key": each["Key"]} for each in listed
             if "rejects" not in each["Key"]]  # fmt: skip
    rounds.check(bench, f"{dag_id} on {hosts}", {"rows": parts})
    started, ended = (
        [datetime.fromisoformat(task[what]) for task in tasks] for what in ("start_date", "end_date")
    )  # fmt: skip
    return round((max(ended) - min(started)).total_seconds(), 2)


# --- the same without Airflow


def processes(bench: rounds.Bench, kind: str, shards: list[dict[str, Any]], names: dict[str, Any]) -> dict[str, float]:
    """Seconds of one process that does both halves of the work, and of two that do one each."""
    return {
        "1": side_by_side(bench, kind, [shards], names),
        "2": side_by_side(bench, kind, [[s] for s in shards], names),
    }


def side_by_side(bench: rounds.Bench, kind: str, work: list[list[Any]], names: dict[str, Any]) -> float:
    started = []
    for number, mine in enumerate(work):
        job = bench.folder / f"part-{number}.json"
        own = {"segment_folder": f"plain/{time.time_ns()}/", "rejects_key": f"plain/{time.time_ns()}"}
        job.write_text(json.dumps({"kind": kind, "shards": mine, "arguments": names | own}), encoding="utf-8")
        command = [sys.executable, "-m", "tests.benchmarks.width", "--part", str(job)]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(
            command, cwd=ROOT, env=bench.environment("ours"), stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL
        ))  # fmt: skip
    for each in started:
        while each.stdout and (line := each.stdout.readline()) and line != b"ready\n":
            pass
    began = time.monotonic()
    for each in started:  # all begin before the first is waited for
        if each.stdin:
            each.stdin.write(b"go\n")
            each.stdin.close()
    for each in started:
        if each.wait(timeout=RUN_SECONDS):
            raise rounds.PeerFailedError(f"a process of {kind} ended with {each.returncode}")
    return round(time.monotonic() - began, 2)


def part(job: dict[str, Any]) -> int:
    """In a process of `side_by_side`: ready, go, work, end."""
    if job["kind"] == "plain":
        from cohort_flywheel.segment.enrich_operator import DynamoDBEnrichOperator

    print("ready", flush=True)
    sys.stdin.readline()
    for shard in job["shards"]:
        if job["kind"] == "spin":
            sum(number * number for number in range(20_000_000))
            continue
        with TemporaryDirectory() as folder:
            DynamoDBEnrichOperator(task_id="enrich", shard=shard, **job["arguments"]).make(Path(folder), [])
    return 0


def section(n: int, found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians over the rounds, ratios of each round."""

    def row(name: str, ones: list[dict[str, Any]], one: str, two: str) -> list[str]:
        values = [statistics.median(each[key] for each in ones) for key in (one, two)]
        gain = statistics.median(each[one] / each[two] for each in ones)
        return [name, f"{values[0]:.1f}", f"{values[1]:.1f}", f"{gain:.2f}"]

    rows = [
        row("two processes that only reckon", found["spin"], "1", "2"),
        row("2 shards, processes without Airflow", found["plain"], "1", "2"),
        *(row(f"{k} shard{'s' if k > 1 else ''}, CeleryExecutor", found["celery"], f"{k} on 1", f"{k} on 2")
          for k in SHARDS),
    ]  # fmt: skip
    machine = results.machine()
    text = (
        f"{n:,} players, {len(found['celery'])} rounds, medians, {datetime.now(UTC):%Y-%m-%d}, {machine['cores']} cores"
        f" of {machine['cpu']}, which DynamoDB Local, moto, PostgreSQL, Redis and four processes of Airflow share. From"
        " the start of the first shard to the end of the last. *Reckon* is what the cores give two processes; *without"
        " Airflow* is what they, DynamoDB Local and our code give; what is missing to that with CeleryExecutor is"
        " Airflow's: a process a shard, and the time until a worker has the next."
    )
    return {"text": text, "header": ["", "one worker, s", "two workers, s", "gain"], "rows": rows, "raw": found}


if __name__ == "__main__":
    sys.exit(main())
