"""`make up` and `make down`: the servers and a real Airflow with its UI, seeded, to outlive the command."""

from __future__ import annotations

import fcntl
import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from local import airflow, config, history, seed, servers
from local.config import LocalError

DAG_ID, FIGURES_ID = "cohort_to_segment", "cohort_figures"
#: How long `up` waits for the figures of the pages; they may come later.
FIGURES_SECONDS = 120
NEXT = f"""
Airflow          {{url}}
login            not needed: all users of this machine are admins

Next:
  1. Open {{url}}/plugin/cohorts (a made-up history of 30 days), then {{url}}/dags/{DAG_ID}
  2. Switch the DAG on (it starts paused): its run of the newest complete day begins at once.
  3. Press Trigger and choose a cohort for a run of your own; the report is in the log of its last task.
  The registry is include/cohorts.yaml: an edit is in the form within half a minute.
  `make down` stops all of it; Airflow keeps its runs in {{home}}, the servers keep nothing.
"""


def up(
    run_dir: Path = config.RUN_DIR,
    dags: Path = config.ROOT / "dags",
    database_url: str | None = None,
    *,
    with_history: bool = True,
) -> None:
    """Start what does not run yet, seeded; return when the DAG can be triggered."""
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:5.1f} s] {text}", flush=True)

    settings = config.load()
    home = run_dir / "airflow"
    url = f"http://{servers.HOST}:{settings.airflow_port}"
    had_servers, had_airflow = _servers_run(run_dir), bool(servers.pid_if_alive(run_dir, "airflow"))
    if had_servers and had_airflow:
        print("Both run already.", NEXT.format(url=url, home=_short(home)), sep="\n")
        return
    if had_airflow:  # the servers it was started with are gone, and so are their ids
        _stop_airflow(run_dir)
    if not servers.is_free(settings.airflow_port):
        raise LocalError(
            f"Port {settings.airflow_port} is in use: stop its process, or set AIRFLOW_PORT in .env to another port."
        )
    try:
        with ThreadPoolExecutor(1) as pool:
            say("making Airflow's metadata database; starting Gremlin Server, DynamoDB Local, the AWS endpoint ...")
            database = pool.submit(airflow.migrate, airflow.environment(home, {}, database_url=database_url))
            run_dir.mkdir(parents=True, exist_ok=True)
            addresses = servers.start_detached(settings, run_dir / "servers")
            say("loading the sample: 1,000 player vertices and their contacts ...")
            variables = servers.airflow_environment(addresses, settings, *seed.seed(addresses, settings))
            servers.write_environment(variables, run_dir / "servers.env")
            database.result()
            if with_history:
                say("writing a history of 30 days (the first one of a day takes two minutes) ...")
                past = pool.submit(history.write, addresses, settings, variables)
            environ = airflow.environment(
                home, variables, port=settings.airflow_port, dags=dags, database_url=database_url
            )
            _start_airflow(run_dir, environ, say)
            if with_history:
                _await_history(past, say)
                _count_figures(url, run_dir / "airflow.log", say)
    except BaseException:
        _stop_airflow(run_dir)
        if not had_servers:
            servers.stop_detached(run_dir / "servers")
        raise
    say("ready")
    print(NEXT.format(url=url, home=_short(home)))


def down(run_dir: Path = config.RUN_DIR) -> None:
    """Stop Airflow and the servers, whatever state an earlier command, or a crash, left them in."""
    stopped = ["airflow"] if _stop_airflow(run_dir) else []
    stopped += servers.stop_detached(run_dir / "servers")
    print(f"Stopped {', '.join(stopped)}." if stopped else "Nothing was running.")


def _start_airflow(run_dir: Path, environ: dict[str, str], say: Callable[[str], None]) -> None:
    say("starting Airflow: api-server, scheduler, dag-processor, triggerer (half a minute or more) ...")
    log = run_dir / "airflow.log"
    log.unlink(missing_ok=True)
    # As with the servers: Airflow's processes inherit the lock and hold it for as long as they live.
    with servers.pid_file(run_dir, "airflow").open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        process = airflow.start(environ, log, pass_fds=(file.fileno(),))
        file.write(str(process.pid))
    url = environ["AIRFLOW__API__BASE_URL"]
    airflow.wait_until_ready(url, process, log, say=say)
    say(f"waiting for the DAG {DAG_ID} ...")
    airflow.wait_until_listed(url, DAG_ID, log)


def _await_history(past: Future[None], say: Callable[[str], None]) -> None:
    """Wait for the history; say what failed, as Airflow runs without it too."""
    while not past.done():
        say("still writing the history ...")
        wait([past], timeout=15)
    try:
        past.result()
    except (LocalError, subprocess.TimeoutExpired) as error:
        say(str(error))


def _count_figures(url: str, log: Path, say: Callable[[str], None]) -> None:
    """Have Airflow count the history, so that the pages have something to show."""
    airflow.wait_until_listed(url, FIGURES_ID, log)
    say("counting the figures of the pages ...")
    runs = f"{url}/api/v2/dags/{FIGURES_ID}/dagRuns"
    body = json.dumps({"logical_date": None}).encode()
    request = urllib.request.Request(runs, data=body, headers={"Content-Type": "application/json"})  # noqa: S310 - ours
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as answer:
            run_id = json.load(answer)["dag_run_id"]
    except urllib.error.HTTPError as error:
        if error.code != 401:
            raise
        say(f"a login is required: trigger {FIGURES_ID} for the figures of the pages")
        return
    end = time.monotonic() + FIGURES_SECONDS
    while time.monotonic() < end:
        run = airflow.get_json(f"{runs}/{run_id}")
        if run and run.get("state") in ("success", "failed"):
            return
        time.sleep(1)


def _stop_airflow(run_dir: Path) -> bool:
    pid = servers.pid_if_alive(run_dir, "airflow")
    if pid:
        airflow.stop(pid)
    servers.pid_file(run_dir, "airflow").unlink(missing_ok=True)
    return bool(pid)


def _servers_run(run_dir: Path) -> bool:
    return all(servers.pid_if_alive(run_dir / "servers", name) for name in servers.KEYS)


def _short(path: Path) -> Path:
    return path.relative_to(config.ROOT) if path.is_relative_to(config.ROOT) else path
