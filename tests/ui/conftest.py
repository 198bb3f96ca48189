"""One Airflow whose users log in, as on MWAA, with the history of `make up` and three runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from tests.airflow_up import DAG_ID, FIGURES_DAG, Up, running, wait_until
from tests.approval.conftest import FAB
from tests.e2e.test_runs import page, players  # noqa: F401 - fixtures

FIGURES_ID = FIGURES_DAG.stem
#: Each user and their role; pia gets the role Producer too.
ROLES = {"root": "Admin", "pia": "User", "vic": "Viewer"}
#: As docs/how-to/pages.md gives them.
PRODUCER = (
    "roles create Producer",
    "roles add-perms Producer --resource Plugins --action can_read",
    "users add-role --username pia --role Producer",
)


@pytest.fixture(scope="package")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """Airflow as its admin has it."""
    with running(tmp_path_factory.mktemp("up"), FIGURES_DAG, auth_manager=FAB, with_history=True) as made:
        create = "users create --username {0} --password {0} --email {0}@studio.example --firstname {0} --lastname {0}"
        for each in [made.cli(*create.format(name).split(), "--role", role) for name, role in ROLES.items()]:
            ended(each)
        for command in PRODUCER:
            ended(made.cli(*command.split()))
        root = made.login("root", "root")
        for dag_id in (DAG_ID, FIGURES_ID):
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
    """A count of the history first; then the newest day is run, which is counted without being asked."""
    up.end(up.trigger({}, dag_id=FIGURES_ID), dag_id=FIGURES_ID)
    up.unpause(DAG_ID)
    imported = up.trigger({"cohort": "ea_malice"})
    failed = up.trigger({"cohort": "ea_reputation", "threshold": 50})
    dry = up.trigger({"cohort": "ea_duty", "dry_run": True})
    up.end(imported)
    up.end(failed, "failed")
    up.end(dry)

    newest = up.report(imported)["plan"]["as_of"]
    wait_until(lambda: counted_as_of(up, "ea_malice") == newest, "the result has started a count", up)
    return Runs(imported, failed, dry)


def counted_as_of(up: Up, cohort: str) -> str | None:
    """The as-of of a cohort's newest result, by the newest count that was started by a result."""
    counts = up.get(f"/dags/{FIGURES_ID}/dagRuns", state="success", run_type="asset_triggered", order_by="-end_date")
    for run in counts["dag_runs"][:1]:
        entries = f"/dags/{FIGURES_ID}/dagRuns/{run['dag_run_id']}/taskInstances/count_figures/xcomEntries/overview"
        for entry in up.get(entries)["value"]["cohorts"]:
            if entry["cohort"] == cohort and entry["day"]:
                return str(entry["day"]["as_of"])
    return None
