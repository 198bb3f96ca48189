"""One Airflow whose users log in, as on MWAA, with the history of `make up` and three runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cohort_flywheel.engagement.event_objects import launch_effect_key
from tests.airflow_up import DAG_ID, FIGURES_DAG, Up, running, wait_until
from tests.approval.conftest import FAB, replace
from tests.e2e.test_runs import page, players  # noqa: F401 - fixtures

FIGURES_ID = FIGURES_DAG.stem
ENGAGEMENT_ID = "engagement"
#: Each user and their role; pia gets the role Producer too.
ROLES = {"root": "Admin", "pia": "User", "vic": "Viewer"}
#: As docs/how-to/pages.md gives them.
PRODUCER = (
    "roles create Producer",
    "roles add-perms Producer --resource Plugins --action can_read",
    "users add-role --username pia --role Producer",
)


def prepare(folder: Path) -> None:
    """A registry by which the DAG engagement exists."""
    changes = ("destination: pinpoint", "destination: pinpoint\nengagement: {read_events: true}")
    replace(folder / "include" / "cohorts.yaml", changes)


@pytest.fixture(scope="package")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """Airflow as its admin has it."""
    folder = tmp_path_factory.mktemp("up")
    with running(folder, FIGURES_DAG, auth_manager=FAB, with_history=True, before=prepare) as made:
        create = "users create --username {0} --password {0} --email {0}@studio.example --firstname {0} --lastname {0}"
        for each in [made.cli(*create.format(name).split(), "--role", role) for name, role in ROLES.items()]:
            ended(each)
        for command in PRODUCER:
            ended(made.cli(*command.split()))
        root = made.login("root", "root")
        for dag_id in (DAG_ID, FIGURES_ID, ENGAGEMENT_ID):
            wait_until(lambda dag_id=dag_id: root.rest("GET", f"/dags/{dag_id}").status_code == 200, dag_id, root)  # type: ignore[misc]  # mypy takes no lambda with a default
        yield root


def ended(process: Any) -> None:
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output


@dataclasses.dataclass(frozen=True)
class Runs:
    """The ids of a run of each end."""

    imported: str
    failed: str
    dry: str


@pytest.fixture(scope="package")
def runs(up: Up) -> Runs:
    """A count of the history first; then the newest day is run, which is counted without being asked.

    The scheduled run of engagement measures the effect of the first launch of the history again.
    """
    up.end(up.trigger({}, dag_id=FIGURES_ID), dag_id=FIGURES_ID)
    measure(up)
    up.unpause(DAG_ID)
    imported = up.trigger({"cohort": "ea_malice"})
    failed = up.trigger({"cohort": "ea_reputation", "threshold": 50})
    dry = up.trigger({"cohort": "ea_atrisk", "dry_run": True})
    up.end(imported)
    up.end(failed, "failed")
    up.end(dry)

    newest = up.report(imported)["plan"]["as_of"]
    wait_until(lambda: counted_as_of(up, "ea_malice") == newest, "the result has started a count", up)
    return Runs(imported, failed, dry)


def measure(up: Up) -> None:
    """Switch engagement on; its scheduled run has no event to read."""
    bucket, s3 = f"{up.config.state_bucket}-events", up.client("s3")
    s3.create_bucket(Bucket=bucket)
    about = {"key": "cohort_flywheel_event_bucket", "value": bucket}
    assert up.rest("POST", "/variables", about).status_code == 201
    for key in up.keys(up.config.state_bucket, launch_effect_key("").removesuffix(".json")):
        s3.delete_object(Bucket=up.config.state_bucket, Key=key)
    up.unpause(ENGAGEMENT_ID)
    wait_until(lambda: bool(up.runs(ENGAGEMENT_ID)), "engagement, once switched on, has a scheduled run", up)
    up.end(up.runs(ENGAGEMENT_ID)[0]["dag_run_id"], dag_id=ENGAGEMENT_ID)


def counted_as_of(up: Up, cohort: str) -> str | None:
    """The as-of of a cohort's newest result, by the newest count that was started by a result."""
    counts = up.get(f"/dags/{FIGURES_ID}/dagRuns", state="success", run_type="asset_triggered", order_by="-end_date")
    for run in counts["dag_runs"][:1]:
        entries = f"/dags/{FIGURES_ID}/dagRuns/{run['dag_run_id']}/taskInstances/count_figures/xcomEntries/overview"
        for entry in up.get(entries)["value"]["cohorts"]:
            if entry["cohort"] == cohort and entry["day"]:
                return str(entry["day"]["as_of"])
    return None
