"""One Airflow whose users log in, as on MWAA, and runs that wait for an answer at the same time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.airflow_up import DAG_ID, Up, running, wait_until
from tests.e2e.test_runs import page, players  # noqa: F401 - fixtures

#: Each user and their role. Airflow lets all of them answer; ann and ana are approvers, and ana triggers the runs.
ROLES = {"root": "Admin", "bob": "Op", "ann": "User", "ana": "User"}
#: The states of a task that waits for an answer: today's, and that of 3.2.1.
WAITS = ("awaiting_input", "deferred")
FAB = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"


def prepare(folder: Path) -> None:
    """A registry of launches by SES; the question of a scheduled run waits for seconds, not for hours."""
    replace(
        folder / "include" / "cohorts.yaml",
        ("destination: pinpoint", "destination: ses\nopt_outs: none"),
        ("approvers: []", "approvers: [ann, ana]"),
        ("campaign:\n      mode: none", "campaign: &campaign\n      mode: launch"),
        ("    consent: *consent", "    consent: *consent\n    campaign: *campaign"),
    )
    soon = """pre_execute=lambda context: (
                    context["dag_run"].run_type == "scheduled"
                    and setattr(context["task"], "response_timeout", pendulum.duration(seconds=10).as_timedelta())
                ),"""
    hours = "hours=registry.approval.hours,"
    replace(folder / "dags" / "cohort_to_segment.py", (hours, f"{hours}\n{' ' * 16}{soon}"))


def replace(file: Path, *changes: tuple[str, str]) -> None:
    text = file.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file.write_text(text, encoding="utf-8")


@pytest.fixture(scope="package")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """Airflow as its admin has it."""
    with running(tmp_path_factory.mktemp("up"), auth_manager=FAB, before=prepare) as made:
        command = "users create --username {0} --password {0} --email {0}@studio.example --firstname {0} --lastname {0}"
        created = [made.cli(*command.format(name).split(), "--role", role) for name, role in ROLES.items()]
        for process in created:
            output, _ = process.communicate(timeout=120)
            assert process.returncode == 0, output
        root = made.login("root", "root")
        wait_until(lambda: root.rest("GET", f"/dags/{DAG_ID}").status_code == 200, "the DAG is listed", root)
        yield root


@pytest.fixture(scope="package")
def users(up: Up) -> dict[str, Up]:
    """The same Airflow as each of them has it."""
    return {name: up.login(name, name) for name in ROLES}


@dataclasses.dataclass(frozen=True)
class Runs:
    """The ids of runs that were started together, by ana but for the scheduled one."""

    approved: str
    contested: str
    changed: str
    unanswered: str


@pytest.fixture(scope="package")
def runs(up: Up, users: dict[str, Up]) -> Runs:
    """All runs wait for approval; the scheduled one gets no answer."""
    up.unpause(DAG_ID)
    approved, contested, changed = (
        users["ana"].trigger({"cohort": name, "threshold": number, "campaign": "launch"})
        for name, number in (("ea_atrisk", 1), ("ea_malice", 1), ("ea_reputation", -75))
    )
    wait_until(lambda: bool(up.runs(run_type="scheduled")), "the DAG, once switched on, has a scheduled run", up)
    unanswered = up.runs(run_type="scheduled")[0]["dag_run_id"]
    for run_id in (approved, contested, changed):
        asks(up, run_id)
    # before the template is changed
    wait_until(lambda: up.tasks(unanswered).get("prepare_campaign") == "success", "its mail is prepared", up)
    return Runs(approved, contested, changed, unanswered)


@pytest.fixture(scope="package")
def retried_run(up: Up, users: dict[str, Up], runs: Runs) -> str:
    """The mail changes while a run waits, and ann says yes all the same; the id of a new run of the same result."""
    subject = up.registry.parent / "email" / "at_risk" / "subject.txt"
    subject.write_text("A safety note for you, {{FirstName|player}}\n", encoding="utf-8")
    clear(users["ana"], runs.changed, "plan", "prepare_campaign")
    wait_until(
        lambda: prepared(up, runs.changed)["message"]["subject"] == "A safety note for you, Sam",
        "the new mail is prepared",
        up,
    )
    answer(users["ann"], runs.changed, "Approve")
    up.end(runs.changed, "failed")
    return users["ana"].trigger({"cohort": "ea_reputation", "threshold": -75, "campaign": "launch"})


# --- what a user does


def asks(up: Up, run_id: str) -> None:
    """Wait until the run asks, and Airflow can take an answer.

    One that comes before the scheduler has heard of the end of the process that asked would fail the task.
    """

    def asked() -> dict[str, Any]:
        found: dict[str, Any] = up.get(task(run_id, "approve_campaign"))
        return found

    wait_until(lambda: asked()["state"] in (*WAITS, "failed", "upstream_failed"), f"{run_id} asks", up)
    assert asked()["state"] in WAITS, up.failure_logs(run_id)
    ended = f"task_id='approve_campaign', run_id='{run_id}', try_number={asked()['try_number']},"
    log = up.run_dir / "airflow.log"
    wait_until(
        lambda: any("executor event" in line and ended in line for line in log.read_text().splitlines()),
        f"the scheduler knows that {run_id} has asked",
        up,
    )


def question(up: Up, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = up.get(_question(run_id))
    return found


def answer(up: Up, run_id: str, option: str) -> None:
    """As the UI does it: the hidden field of the question goes back with the answer."""
    fields = {name: field["value"] for name, field in question(up, run_id)["params"].items()}
    said = up.rest("PATCH", _question(run_id), {"chosen_options": [option], "params_input": fields})
    assert said.status_code == 200, said.text


def clear(up: Up, run_id: str, *task_ids: str, downstream: bool = False) -> None:
    what = {"dag_run_id": run_id, "task_ids": task_ids, "include_downstream": downstream}
    cleared = up.rest("POST", f"/dags/{DAG_ID}/clearTaskInstances", {"dry_run": False, "only_failed": False, **what})
    assert cleared.status_code == 200, cleared.text


def _question(run_id: str) -> str:
    return f"{task(run_id, 'approve_campaign')}/-1/hitlDetails"


def task(run_id: str, task_id: str) -> str:
    return f"/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/{task_id}"


def prepared(up: Up, run_id: str) -> dict[str, Any]:
    """What the run has prepared, as it is now."""
    found = up.rest("GET", f"{task(run_id, 'prepare_campaign')}/xcomEntries/return_value")
    return found.json()["value"] if found.status_code == 200 else {"message": {"subject": None}}
