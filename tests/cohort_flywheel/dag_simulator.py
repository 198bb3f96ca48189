"""The real DAG of a destination, run task by task and day by day over snapshots and contacts of a test's own."""

from __future__ import annotations

import csv
import json
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag

from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.snapshot import Header
from local import seed
from local.config import ROOT, Config
from local.seed import Seeded
from local.servers import Servers, airflow_environment
from tests.cohort_flywheel.all_keys import check_all_keys
from tests.cohort_flywheel.segment.snapshots import keep_snapshot
from tests.faults import simulate
from tests.faults.simulate import Run

DAG_ID = "cohort_to_segment"
#: A campaign's schedule is held against the machine's clock, so the newest day is today.
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
YESTERDAY = TODAY - timedelta(days=1)


#: The keys by which Airflow marks a serialized class in an XCom [airflow.sdk.serde].
CLASS_MARKS = {"__classname__", "__version__", "__data__", "__type", "__var"}


def serialized_classes(value: Any, place: str = "") -> Iterator[str]:
    """The places of an XCom that hold a serialized class, which Airflow may refuse to read, or are not JSON."""
    if isinstance(value, dict):
        if CLASS_MARKS & value.keys() or not all(isinstance(key, str) for key in value):
            yield place
        for key, each in value.items():
            yield from serialized_classes(each, f"{place}.{key}")
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from serialized_classes(each, f"{place}[{index}]")
    elif json.loads(json.dumps(value)) != value:
        yield place


@dataclass
class Watched(Run):
    """A run in which something happens outside before a task begins, or one that was triggered for another day."""

    before: Mapping[str, Callable[[], None]] = field(default_factory=dict)
    logical_date: datetime | None = None

    def _context(self, task: Any, index: int, number: int) -> Any:
        context = super()._context(task, index, number)
        if self.logical_date:  # Airflow gives a manual run the last complete interval of the schedule
            run, midnight = context["dag_run"], self.logical_date.replace(hour=0, minute=0)
            run.logical_date = context["logical_date"] = self.logical_date
            run.data_interval_start, run.data_interval_end = midnight - timedelta(days=1), midnight
        return context

    def _all_tried(self, task: Any) -> str:
        self.before.get(task.task_id, lambda: None)()
        return super()._all_tried(task)


class DagSimulator:
    """A studio with one destination: a copy of the DAG files and the registry."""

    def __init__(
        self, name: str, servers: Servers, config: Config, seeded: Seeded, folder: Path, patch: pytest.MonkeyPatch
    ) -> None:
        # no fault holds up a job here, so a wait is long only where the machine is busy
        patch.setattr(simulate, "TRIGGER_SECONDS", 40)
        self.name, self.servers, self.config, self.folder = name, servers, config, folder / name
        self.s3 = seed.client("s3", servers, config)
        for each in ("dags", "include"):
            shutil.copytree(ROOT / each, self.folder / each, ignore=shutil.ignore_patterns("__pycache__"))
        self.edit("destination: pinpoint\n", f"destination: {name}\nopt_outs: none\n")
        self.edit("approvers: []", "approvers: [ann]")
        patch.setenv("AIRFLOW__API__BASE_URL", "http://localhost:8080")  # which a link to the question begins with
        for variable, value in airflow_environment(servers, config, *seeded).items():
            patch.setenv(variable, value)

    def edit(self, before: str, after: str) -> None:
        """Change the first place of the registry that reads so."""
        registry = self.folder / "include" / "cohorts.yaml"
        text = registry.read_text(encoding="utf-8")
        assert before in text
        registry.write_text(text.replace(before, after, 1), encoding="utf-8")

    def contacts(self, players: Iterable[str], **changes: str) -> None:
        defaults = {"firstName": "Jo", "lastName": "O'Neil", "favoriteRole": "healer", "emailConsent": "yes"}
        records = [{"playerId": each, "email": f"{each}@example.com"} | defaults | changes for each in players]
        seed.load_contacts(self.servers, self.config, records)

    def snapshot(self, day: datetime, scores: Mapping[str, int], cohort: str = "ea_atrisk") -> None:
        """Have a day's graph hold these players."""
        header = Header(
            cohort=cohort, as_of=day, property=cohort, direction="above", floor=0, required=[],
            read_at=day + timedelta(minutes=3),
        )  # fmt: skip
        keep_snapshot(State(S3Hook(), self.config.state_bucket), header, scores, final=True)

    def simulate(
        self,
        day: datetime,
        before: Mapping[str, Callable[[], None]] | None = None,
        logical_date: datetime | None = None,
        **conf: Any,
    ) -> dict[str, Any]:
        """A run of that day, five minutes after it is complete; gives its report, with `states` of the tasks."""
        log = StringIO()
        with warnings.catch_warnings(), redirect_stderr(log):
            warnings.simplefilter("ignore")
            dag = DagBag(self.folder / "dags" / f"{DAG_ID}.py").dags[DAG_ID]
        self.run = Watched(
            dag, {"cohort": "ea_atrisk"} | conf, day + timedelta(minutes=5), self.folder / "run.log",
            before=before or {}, logical_date=logical_date,
        )  # fmt: skip
        self.run.go()
        self.run.load()
        assert list(serialized_classes(self.run.stored)) == []
        check_all_keys(self.s3, self.config)
        states, errors = self.run.states, self.run.errors
        found = self.s3.list_objects_v2(Bucket=self.config.state_bucket, Prefix="reports/").get("Contents", ())
        newest = max(found, key=lambda item: item["LastModified"])["Key"]
        report: dict[str, Any] = json.loads(self.read(self.config.state_bucket, newest))
        return report | {"states": dict(states), "errors": dict(errors)}

    # --- what there is

    @property
    def log(self) -> str:
        """The log of all runs so far, without the simulator's own lines, which have the paths of requests."""
        lines = (self.folder / "run.log").read_text(encoding="utf-8").splitlines()
        return "\n".join(line for line in lines if not line.startswith("--- "))

    def read(self, bucket: str, key: str) -> str:
        return str(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode())

    def rows(self, report: Mapping[str, Any]) -> list[dict[str, str]]:
        """The rows of a run's segment file, with `playerId` and `address` whatever the layout."""
        bucket, found = report["segment"]["url"].removeprefix("s3://").partition("/")[0], []
        for part in report["segment"]["parts"]:
            for row in csv.DictReader(StringIO(self.read(bucket, part["s3_key"]))):
                row["playerId"] = row.get("playerId") or row["User.UserId"]
                row["address"] = row.get("emailAddress") or row["Address"]
                found.append(row)
        return found

    def rejected(self, report: Mapping[str, Any]) -> dict[str, set[str]]:
        """The players of a run who are no row, by reason."""
        folder, found = report["segment"]["rejects_key"], dict[str, set[str]]()
        listed = self.s3.list_objects_v2(Bucket=self.config.state_bucket, Prefix=folder).get("Contents", ())
        for item in listed:
            for row in csv.DictReader(StringIO(self.read(self.config.state_bucket, item["Key"]))):
                found.setdefault(row["reason"], set()).add(row["playerId"])
        return found
