"""What goes and what stays, of whole runs on the emulated S3 and Pinpoint."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from cohort_flywheel.campaign.launch_store import put_sample
from cohort_flywheel.destinations.pinpoint.destination import PinpointCleanup
from cohort_flywheel.destinations.pinpoint.layout import CHANNEL
from cohort_flywheel.governance import cleanup_operator, recipients_store
from cohort_flywheel.governance.artifacts_store import REMOVED_KEY, read_artifacts
from cohort_flywheel.governance.cleanup import RunArtifacts
from cohort_flywheel.governance.cleanup_operator import CohortCleanupOperator
from cohort_flywheel.hooks.s3 import S3Hook, delete_version
from cohort_flywheel.runs.lock_store import acquire
from cohort_flywheel.runs.names import endpoint_id
from cohort_flywheel.runs.plan import Plan
from local.config import ROOT
from tests.cohort_flywheel.conftest import NEWEST
from tests.cohort_flywheel.memory_limits import MemoryLimits, tuned
from tests.cohort_flywheel.pipeline_runs import Runs

ANN, BOB, CYD, DAN = "ann", "bob", "cyd", "dan"
OLD, LATER = NEWEST - timedelta(days=100), NEWEST - timedelta(days=95)
KNOWN = {"cohort": None, "keep_days": 90, "dry_run": True}

CleanUp = Callable[..., dict[str, Any]]


@pytest.fixture
def runs(request: pytest.FixtureRequest) -> Iterator[Runs]:
    made = Runs(request)
    made.add_contacts(ANN, BOB, CYD, DAN)
    yield made
    made.remove_all()


def its(context: Any, **params: Any) -> Any:
    found = context(params, task_id="clean_up", dag_id="cohort_cleanup", run_id="manual__cleanup", run_after=NEWEST)
    return found | {"params": KNOWN | params, "dag": SimpleNamespace(params=KNOWN)}


@pytest.fixture
def clean_up(runs: Runs, context: Any) -> CleanUp:
    def run(destination: str = "pinpoint", **params: Any) -> dict[str, Any]:
        return CohortCleanupOperator(task_id="clean_up", destination=destination).execute(its(context, **params))

    return run


def endpoint(runs: Runs, player: str) -> Any:
    return runs.endpoint(endpoint_id(CHANNEL, player))


def of(runs: Runs, name: str) -> set[str]:
    """The folders that have files of a name, claims and reports aside."""
    return {key.partition("/")[0] for key in runs.keys() if name in key} - {"claims", "reports"}  # noqa: SIM118 - a method of ours


KINDS = {"export", "segments", "staged", "rejects", "last_runs"}


def test_an_expired_run_is_removed_and_the_newest_kept(
    runs: Runs, clean_up: CleanUp, capfd: pytest.CaptureFixture[str]
) -> None:
    old, newest = runs.run(OLD, {ANN: 3, BOB: 3}), runs.run(LATER, {BOB: 3, CYD: 3})
    name, staying = old["plan"]["name"], newest["plan"]["name"]
    before = runs.keys()
    assert of(runs, name) == of(runs, staying) == KINDS

    dry = clean_up()
    assert (dry["past_keep_by"], dry["kept"]) == (1, 1)
    assert (dry["segments"], dry["recipients"], dry["objects"]) == (1, 1, 5)
    assert dry["bytes"] > 0
    log = capfd.readouterr().out
    assert f"of 2 run names 1 were last reported before {NEWEST - timedelta(days=90):%Y-%m-%d %H:%M} UTC" in log
    assert f"segment       {name} ({old['imported']['segment_id']})" in log
    assert "Would be removed:" in log
    assert f"rejects       {staying}" not in log
    assert runs.keys() == before
    assert runs.segments() == {name, staying}

    assert clean_up(dry_run=False) == dry
    stays = {key for key in before if name not in key or key.startswith(("reports/", "claims/"))}
    assert runs.keys() == stays | {REMOVED_KEY}
    assert of(runs, staying) == KINDS
    assert runs.segments() == {staying}
    assert endpoint(runs, ANN) is None
    assert endpoint(runs, BOB)["User"]["UserId"] == BOB
    assert endpoint(runs, CYD)
    assert runs.claims() == {}
    assert not [player for player in (ANN, BOB, CYD) if f"{player}@" in capfd.readouterr().out]

    again = clean_up(dry_run=False)
    assert (again["segments"], again["recipients"], again["objects"], again["bytes"]) == (0, 0, 0, 0)
    assert (again["past_keep_by"], again["kept"], again["removed_before"]) == (0, 1, 1)
    assert of(runs, staying) == KINDS


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the reports and results that are read."""
    found: list[str] = []

    def note(s3: S3Hook, bucket: str, key: str) -> RunArtifacts | None:
        found.append(key)
        return read_artifacts(s3, bucket, key)

    monkeypatch.setattr(cleanup_operator, "read_artifacts", note)
    return found


def test_what_a_cleanup_has_removed_is_not_read_again(runs: Runs, clean_up: CleanUp, reads: list[str]) -> None:
    """A cleanup does not become slower by the age of the installation."""
    old, newest = runs.run(OLD, {ANN: 3}), runs.run(LATER, {BOB: 3})
    name, staying = old["plan"]["name"], newest["plan"]["name"]
    clean_up()
    assert len([key for key in reads if name in key or f"{OLD:%Y-%m-%d}" in key]) == 2
    clean_up(cohort="ea_malice", dry_run=False)
    reads.clear()
    assert clean_up(dry_run=False)["removed_before"] == 0  # neither a dry run nor that of another cohort removed it
    assert len(reads) == 4
    reads.clear()
    assert clean_up()["removed_before"] == 1
    assert len(reads) == 2
    assert all(staying in key or f"{LATER:%Y-%m-%d}" in key for key in reads)
    assert clean_up(dry_run=False)["removed_before"] == 1
    assert clean_up()["removed_before"] == 1  # kept by a cleanup that removed nothing


@pytest.mark.parametrize("folder", ["reports", "results"])
def test_a_name_with_a_newer_report_or_result_is_read_again(
    runs: Runs, clean_up: CleanUp, reads: list[str], folder: str
) -> None:
    """Although it has no file: those of a cleared run may have expired before its segment."""
    name = runs.run(OLD, {ANN: 3})["plan"]["name"]
    runs.run(LATER, {BOB: 3})
    clean_up(dry_run=False)
    s3, bucket = runs.client("s3"), runs.config.state_bucket
    (key,) = {key for key in reads if key.startswith(folder) and f"{OLD:%Y-%m-%d}" in key}
    assert name not in runs.segments()
    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    time.sleep(1.1)  # S3 dates objects by the second
    s3.put_object(Bucket=bucket, Key=key, Body=body)
    reads.clear()
    found = clean_up(dry_run=False)
    assert (found["past_keep_by"], found["removed_before"], len(reads)) == (1, 0, 4)
    assert clean_up()["removed_before"] == 1


def test_a_segment_that_could_not_be_removed_is_not_forgotten(
    runs: Runs, clean_up: CleanUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = runs.run(OLD, {ANN: 3})["plan"]["name"]
    runs.run(LATER, {BOB: 3})
    for each in list(runs.versions()):
        if name in each.key and not each.key.startswith("reports/"):
            delete_version(S3Hook(), each)
    with monkeypatch.context() as refused:
        refused.setattr(PinpointCleanup, "remove_segment", lambda *_: 1 / 0)
        with pytest.raises(AirflowException, match="ZeroDivisionError"):
            clean_up(dry_run=False)
    found = clean_up(dry_run=False)
    assert (found["segments"], found["removed_before"]) == (1, 0)
    assert name not in runs.segments()


def test_a_segment_in_another_project_is_not_forgotten(
    runs: Runs, clean_up: CleanUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Variable names another project for a while: its files go, and its segment stays until it is there again."""
    name = runs.run(OLD, {ANN: 3})["plan"]["name"]
    runs.run(LATER, {BOB: 3})
    with monkeypatch.context() as wrong:
        wrong.setenv("AIRFLOW_VAR_COHORT_FLYWHEEL_PINPOINT_APPLICATION_ID", "0" * 32)
        assert clean_up(dry_run=False)["past_keep_by"] == 1
        assert clean_up()["removed_before"] == 1
    assert name in runs.segments()
    found = clean_up(dry_run=False)
    assert (found["segments"], found["removed_before"]) == (1, 0)
    assert name not in runs.segments()


def test_a_removed_run_that_was_cleared_since_is_read_again(runs: Runs, clean_up: CleanUp, reads: list[str]) -> None:
    """By its files, although its report is of the same second, or not written yet."""
    runs.run(OLD, {ANN: 3})
    runs.run(LATER, {BOB: 3})
    assert clean_up(dry_run=False)["segments"] == 1
    runs.run(OLD, {ANN: 3})
    reads.clear()
    found = clean_up(dry_run=False)
    assert (found["past_keep_by"], found["removed_before"], found["segments"], found["recipients"]) == (1, 0, 1, 1)
    assert len(reads) == 4
    assert clean_up()["removed_before"] == 1


def test_another_destination_reads_what_was_removed_at_the_first(runs: Runs, clean_up: CleanUp) -> None:
    """Its segments may be there still: the files went while another destination was configured."""
    old = runs.run(OLD, {ANN: 3})
    runs.run(LATER, {BOB: 3})
    assert clean_up("ses", dry_run=False)["past_keep_by"] == 1
    assert clean_up("ses")["removed_before"] == 1
    assert old["plan"]["name"] in runs.segments()
    found = clean_up(dry_run=False)
    assert (found["past_keep_by"], found["removed_before"], found["segments"]) == (1, 0, 1)
    assert clean_up("ses")["removed_before"] == clean_up()["removed_before"] == 1
    assert old["plan"]["name"] not in runs.segments()


@pytest.mark.parametrize("other", [{"places": ["pinpoint"]}, {"places": {"pinpoint": {"a": "2026-11-22T00:00:00"}}}])
def test_a_list_of_removed_names_of_another_version_is_ignored(
    runs: Runs, clean_up: CleanUp, other: dict[str, Any]
) -> None:
    runs.run(OLD, {ANN: 3})
    runs.run(LATER, {BOB: 3})
    runs.client("s3").put_object(Bucket=runs.config.state_bucket, Key=REMOVED_KEY, Body=json.dumps(other).encode())
    assert clean_up(dry_run=False)["past_keep_by"] == 1
    assert clean_up()["removed_before"] == 1


def test_what_is_no_report_and_no_result_is_not_read(runs: Runs, clean_up: CleanUp, reads: list[str]) -> None:
    """A sample mail, the report of a refused plan, and what a user has put beside the results."""
    old = runs.run(OLD, {ANN: 3})
    runs.run(LATER, {BOB: 3})
    assert put_sample(S3Hook(), Plan.model_validate(old["plan"]), "<p>Hi</p>").endswith(".html")
    result = f"{OLD:%Y-%m-%d_%H-%M-%S}.json"
    for key in ("reports/dag/dag__run.json", "dry_run/reports/dag/dag__run.json", f"results/ea_atrisk/old/{result}"):
        runs.client("s3").put_object(Bucket=runs.config.state_bucket, Key=key, Body=b"{")
    found = clean_up()
    assert (found["past_keep_by"], found["kept"], len(reads)) == (1, 1, 4)


def test_every_version_of_a_file_and_its_delete_markers_are_deleted(runs: Runs, clean_up: CleanUp) -> None:
    old = runs.run(OLD, {ANN: 3})
    runs.run(LATER, {BOB: 3})
    s3, key = runs.client("s3"), old["extract"]["s3_key"]
    s3.put_object(Bucket=runs.config.export_bucket, Key=key, Body=b"another")
    s3.delete_object(Bucket=runs.config.export_bucket, Key=key)
    assert len([v for v in runs.versions() if v.key == key]) == 3
    assert clean_up(dry_run=False)["objects"] == 7
    assert key not in runs.keys()  # noqa: SIM118 - a method of ours
    assert f'"{ANN}"'.encode() not in b"".join(
        s3.get_object(Bucket=v.bucket, Key=v.key, VersionId=v.id)["Body"].read()
        for v in runs.versions()
        if not v.is_marker and not v.key.startswith("snapshots")
    )


def test_opted_out_recipients_are_kept(runs: Runs, clean_up: CleanUp, capfd: pytest.CaptureFixture[str]) -> None:
    """An endpoint that an import creates again would not have it."""
    runs.run(OLD, {ANN: 3, BOB: 3})
    runs.run(LATER, {CYD: 3})
    runs.opt_out(endpoint_id(CHANNEL, ANN))
    assert clean_up(dry_run=False)["recipients"] == 1
    assert "they have opted out" in capfd.readouterr().out
    assert endpoint(runs, ANN)["OptOut"] == "ALL"
    assert endpoint(runs, BOB) is None
    runs.run(NEWEST, {ANN: 3})
    assert endpoint(runs, ANN)["OptOut"] == "ALL"


def test_snapshots_replace_expired_segment_files(runs: Runs, clean_up: CleanUp) -> None:
    runs.run(OLD, {ANN: 3, BOB: 3, DAN: 2})  # Dan is in the snapshot, and in no segment
    runs.run(LATER, {BOB: 3})
    runs.run(NEWEST, {DAN: 3})
    s3 = runs.client("s3")
    for version in runs.versions():
        if version.key.startswith("segments/"):
            s3.delete_object(Bucket=version.bucket, Key=version.key)
    found = clean_up(dry_run=False, keep_days=1)
    assert (found["segments"], found["recipients"]) == (2, 2)
    assert endpoint(runs, ANN) is endpoint(runs, BOB) is None
    assert endpoint(runs, DAN)


def test_a_snapshot_is_read_in_the_memory_of_the_tuning(
    runs: Runs, clean_up: CleanUp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.run(OLD, {ANN: 3})
    runs.run(LATER, {BOB: 3})
    limits = MemoryLimits(tmp_path / "limits", monkeypatch)
    with tuned():
        clean_up()
    assert limits.are_tuned()


def test_no_endpoint_is_deleted_if_the_members_of_a_kept_segment_are_unknown(
    runs: Runs, clean_up: CleanUp, capfd: pytest.CaptureFixture[str]
) -> None:
    old, newest = runs.run(OLD, {ANN: 3}), runs.run(LATER, {BOB: 3})
    for version in runs.versions():
        if newest["plan"]["name"] in version.key and version.key.startswith("segments/"):
            runs.client("s3").delete_object(Bucket=version.bucket, Key=version.key)
    runs.client("s3").delete_object(Bucket=runs.config.state_bucket, Key=newest["extract"]["snapshot_key"])
    found = clean_up(dry_run=False)
    assert (found["past_keep_by"], found["segments"], found["recipients"], found["objects"]) == (1, 0, 0, 0)
    said = f"the members of the segment of {newest['plan']['name']}, which is kept, are in no file and no snapshot"
    assert said in capfd.readouterr().out
    assert endpoint(runs, ANN)
    # the expired run stays whole: without its file nothing would name the endpoint
    assert runs.segments() == {old["plan"]["name"], newest["plan"]["name"]}
    assert of(runs, old["plan"]["name"]) == KINDS
    project, segment_id = runs.seeded.application_id, newest["imported"]["segment_id"]
    runs.client("pinpoint").delete_segment(ApplicationId=project, SegmentId=segment_id)
    found = clean_up(dry_run=False)
    assert (found["segments"], found["recipients"]) == (1, 1)
    assert endpoint(runs, ANN) is None
    assert (runs.segments(), of(runs, old["plan"]["name"])) == (set(), set())


def test_an_unreported_segment_file_and_its_players_are_kept(runs: Runs, clean_up: CleanUp) -> None:
    """Of a run that died before its report."""
    old = runs.run(OLD, {ANN: 3, BOB: 3})
    runs.run(LATER, {CYD: 3})
    s3, bucket = runs.client("s3"), runs.config.import_bucket
    (part,) = [v.key for v in runs.versions() if old["plan"]["name"] in v.key and v.key.startswith("segments/")]
    unknown = part.replace("ea_atrisk_2", "ea_duty_6")
    body = s3.get_object(Bucket=bucket, Key=part)["Body"].read().decode().splitlines(keepends=True)
    s3.put_object(Bucket=bucket, Key=unknown, Body="".join(x for x in body if BOB not in x).encode())
    s3.put_object(Bucket=bucket, Key="segments/other-owner.csv", Body=b"x")
    clean_up(dry_run=False)
    assert {unknown, "segments/other-owner.csv"} <= runs.keys()
    assert endpoint(runs, ANN)
    assert endpoint(runs, BOB) is None


def test_dry_runs_and_unverified_runs_are_removed(runs: Runs, clean_up: CleanUp) -> None:
    newest = runs.run(LATER, {ANN: 3})
    dry = runs.run(OLD, {ANN: 3}, dry_run=True)
    failed = runs.run(OLD + timedelta(days=1), {BOB: 3}, imports=False)
    assert "dry_run" in of(runs, dry["plan"]["name"])
    found = clean_up(dry_run=False)
    assert (found["past_keep_by"], found["segments"], found["recipients"]) == (2, 0, 0)
    assert of(runs, failed["plan"]["name"]) == set()
    assert not [key for key in runs.keys() if key.startswith(("dry_run/export", "dry_run/staged", "dry_run/rejects"))]  # noqa: SIM118 - a method of ours
    assert of(runs, newest["plan"]["name"]) == KINDS
    assert endpoint(runs, ANN)


def test_a_recently_reported_run_is_kept(runs: Runs, clean_up: CleanUp) -> None:
    runs.run(OLD, {ANN: 3}, days=99)
    runs.run(LATER, {BOB: 3})
    assert clean_up()["past_keep_by"] == 0


def test_nothing_is_removed_while_a_run_is_active(runs: Runs, clean_up: CleanUp, context: Any) -> None:
    runs.run(OLD, {ANN: 3})
    runs.run(LATER, {BOB: 3})
    other = context(run_id="scheduled__1")
    acquire(runs.state, "claims/one.json", "one", other)
    before = runs.keys()
    me = its(context, dry_run=False)
    me["ti"].runs["cohort_to_segment", "scheduled__1"] = "running"
    sentence = "run scheduled__1 of DAG cohort_to_segment is running, and nothing is removed while a run is active"
    with pytest.raises(AirflowFailException, match=sentence):
        CohortCleanupOperator(task_id="clean_up", destination="pinpoint").execute(me)
    assert runs.keys() == before
    assert clean_up()["objects"] == 5  # to look is allowed
    me["ti"].runs["cohort_to_segment", "scheduled__1"] = "failed"
    assert CohortCleanupOperator(task_id="clean_up", destination="pinpoint").execute(me)["objects"] == 5


def test_a_run_that_begins_meanwhile_keeps_the_remaining_endpoints(
    runs: Runs, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.run(OLD, {ANN: 3, BOB: 3, CYD: 3})
    runs.run(LATER, {DAN: 3})
    me, remove = its(context, dry_run=False), PinpointCleanup.remove_recipient

    def and_a_run_begins(leavings: Any, recipient: str) -> None:
        remove(leavings, recipient)
        acquire(runs.state, "claims/one.json", "one", context(run_id="scheduled__1"))
        me["ti"].runs["cohort_to_segment", "scheduled__1"] = "running"

    monkeypatch.setattr(recipients_store, "BATCH", 2)
    monkeypatch.setattr(PinpointCleanup, "remove_recipient", and_a_run_begins)
    with pytest.raises(
        AirflowFailException, match="scheduled__1 .* is running.*Changes made: 2 recipients were removed"
    ):
        CohortCleanupOperator(task_id="clean_up", destination="pinpoint").execute(me)
    assert len([player for player in (ANN, BOB, CYD) if endpoint(runs, player)]) == 1
    assert len(runs.segments()) == 2
    me["ti"].runs["cohort_to_segment", "scheduled__1"] = "success"
    assert CohortCleanupOperator(task_id="clean_up", destination="pinpoint").execute(me)["recipients"] == 1


def test_only_files_are_removed_if_the_destination_keeps_nothing(
    runs: Runs, clean_up: CleanUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SES: its contacts are kept, because SES knows which topics they have unsubscribed from."""
    monkeypatch.delenv("AIRFLOW_VAR_COHORT_FLYWHEEL_PINPOINT_APPLICATION_ID")
    old, _ = runs.run(OLD, {ANN: 3}), runs.run(LATER, {BOB: 3})
    folder = old["checked"]["segment"]["s3_key"].replace("segments/", "contacts/")
    runs.client("s3").put_object(Bucket=runs.config.import_bucket, Key=f"{folder}0000_0.csv", Body=b"emailAddress\n")
    found = clean_up("ses", dry_run=False)
    assert (found["segments"], found["recipients"], found["objects"]) == (0, 0, 6)
    assert old["plan"]["name"] in runs.segments()
    assert of(runs, old["plan"]["name"]) == set()


def test_an_unknown_param_is_refused_before_anything_is_read(runs: Runs, clean_up: CleanUp) -> None:
    with pytest.raises(AirflowFailException, match="this DAG has no param dry_rum"):
        clean_up(dry_rum=False)


def test_any_error_of_pinpoint_but_not_found_stops_the_task(runs: Runs, clean_up: CleanUp, pinpoint: Any) -> None:
    runs.run(OLD, {ANN: 3})
    runs.run(LATER, {BOB: 3})
    pinpoint(refuse={"code": "ForbiddenException", "status": 403, "operations": ["DeleteEndpoint"]})
    with pytest.raises(AirflowFailException, match="AWS answered DeleteEndpoint with ForbiddenException"):
        clean_up(dry_run=False)
    pinpoint(refuse=None)
    assert endpoint(runs, ANN)
    assert clean_up(dry_run=False)["recipients"] == 1
    assert endpoint(runs, ANN) is None
    assert runs.claims() == {}


def test_the_page_starts_the_two_dags_by_airflow_and_by_mwaa_alike(airflow_env: Any) -> None:
    from airflow.dag_processing.dagbag import DagBag

    page = (ROOT / "docs" / "how-to" / "cleanup.md").read_text(encoding="utf-8")
    for name in ("cohort_cleanup", "cohort_erasure"):
        params = DagBag(ROOT / "dags" / f"{name}.py").dags[name].params
        by_airflow = re.findall(rf"airflow dags trigger {name}(?: --conf '(.+)')? +#", page)
        by_mwaa = re.findall(rf"--path /dags/{name}/dagRuns (?:\\\n  )?--body '(.+)'", page)
        confs = [json.loads(conf or "{}") for conf in by_airflow]
        asked = [json.loads(body) for body in by_mwaa]
        assert [body.get("conf", {}) for body in asked] == confs
        assert [body["logical_date"] for body in asked] == [None, None]
        assert all(conf.keys() <= params.keys() for conf in confs)
        assert [(dict(params) | conf)["dry_run"] for conf in confs] == [True, False]
        assert f"--method PATCH --path /dags/{name} --body '{{\"is_paused\": false}}'" in page
