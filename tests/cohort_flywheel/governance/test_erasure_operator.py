"""After an erasure no byte of the player is in any version of any object, nor at the destination, nor comes back."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from cohort_flywheel.destinations.pinpoint.layout import CHANNEL
from cohort_flywheel.destinations.pinpoint.operators import PinpointCreateImportJobOperator
from cohort_flywheel.destinations.pinpoint.sensors import PinpointImportJobSensor
from cohort_flywheel.engagement.suppressions_store import SuppressionTable
from cohort_flywheel.governance.erasure import PLAYERS_KEY, SALT_KEY, TOMBSTONES_FOLDER
from cohort_flywheel.governance.erasure_operator import CohortErasureOperator
from cohort_flywheel.hooks.s3 import S3Hook, delete_version, put_instead
from cohort_flywheel.runs.lock_store import acquire
from cohort_flywheel.runs.names import SUPPRESSIONS_KEY, endpoint_id
from local.sample import KNOWN
from tests.cohort_flywheel.conftest import NEWEST
from tests.cohort_flywheel.destinations.customer_profiles.profiles_domain import Domain
from tests.cohort_flywheel.destinations.ses.ses_account import Account
from tests.cohort_flywheel.memory_limits import MemoryLimits, tuned
from tests.cohort_flywheel.pipeline_runs import Runs
from tests.cohort_flywheel.segment.snapshots import vertices_of
from tests.cohort_flywheel.suppressed import suppress

#: In no other name, digest or header: their bytes can be looked for.
ANN, BOB, CYD = "Ann-4711", "Bob-4712", "Cyd-4713"
MEMBERSHIP, LEDGER = "memberships/customer_profiles/domain/ea_atrisk_2.txt", "sends/template/n.jsonl"
BATCH = "launches/n/000001_1.intents.json"
#: Deleted whole: what is compressed, or knows the ids of vertices alone, is not searched.
GRAPH_LOAD_FILES = (
    "staged/graph_loads/cohort_modeler/0123/user_vertices.csv",
    "staged/graph_loads/cohort_modeler/4567/user_vertices.csv.gz",
    "staged/graph_loads/graph_load__r_load_files/0123456789abcdef_errors_ab-1.jsonl",
)
GRAPH_LOAD_RECORD = "staged/graph_loads/graph_load__r_load_files/0123456789abcdef.json"
YESTERDAY = NEWEST - timedelta(days=1)

Erase = Callable[..., dict[str, Any]]


@pytest.fixture
def runs(request: pytest.FixtureRequest) -> Iterator[Runs]:
    made = Runs(request)
    made.add_contacts(ANN, BOB)
    yield made
    made.remove_all()


def its(context: Any, **params: Any) -> Any:
    known = {"dry_run": True}
    found = context(params, task_id="erase", dag_id="cohort_erasure", run_id="manual__erasure")
    return found | {"params": known | params, "dag": SimpleNamespace(params=known)}


@pytest.fixture
def erase(runs: Runs, context: Any) -> Erase:
    """Runs the task: `erase(ANN, dry_run=False)`; without a player the list stays as it is."""

    def run(*players: str, destination: str = "pinpoint", **params: Any) -> dict[str, Any]:
        if players:
            put(runs, PLAYERS_KEY, "".join(f"{player}\n" for player in players))
        return CohortErasureOperator(task_id="erase", destination=destination).execute(its(context, **params))

    return run


def put(runs: Runs, key: str, text: str, bucket: str = "state_bucket") -> None:
    runs.client("s3").put_object(Bucket=getattr(runs.config, bucket), Key=key, Body=text.encode())


def read(runs: Runs, bucket: str, key: str) -> str:
    return str(runs.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read().decode())


def endpoint(runs: Runs, player: str) -> Any:
    return runs.endpoint(endpoint_id(CHANNEL, player))


def names(runs: Runs, player: str) -> bool:
    return player.lower() in runs.bodies().decode(errors="replace").lower()


@pytest.fixture
def history(runs: Runs) -> dict[str, Any]:
    """Two days with Ann and Bob, a dry run, an earlier read of the graph, earlier versions, and a deleted object."""
    everybody = {ANN: 3, BOB: 3, CYD: 3}  # Cyd has no record, and so is a reject
    runs.kept(YESTERDAY, everybody, minutes=1)
    yesterday = runs.run(YESTERDAY, everybody)
    newest = runs.run(NEWEST, everybody)
    runs.run(NEWEST, everybody, dry_run=True, threshold=1)
    s3, rejects = runs.client("s3"), newest["checked"]["segment"]["rejects_key"] + "0000.csv"
    put(runs, rejects, read(runs, runs.config.state_bucket, rejects))
    s3.delete_object(Bucket=runs.config.export_bucket, Key=yesterday["extract"]["s3_key"])
    put(runs, "dropped/team/all.json", json.dumps([{"playerId": [ANN]}, {"playerId": [BOB]}]), "export_bucket")
    put(runs, "contacts/n_0123456789abcdef/0000_0.csv", f"emailAddress\n{ANN}@Example.com\nx@y.z\n", "import_bucket")
    for key in (MEMBERSHIP, LEDGER):
        put(runs, key, f'{{"about": 1}}\n{ANN}\n{BOB}\n')
    put(runs, BATCH, json.dumps({"player_ids": [ANN, BOB]}))
    for name in GRAPH_LOAD_FILES:
        put(runs, name, f"~id,~label\nvertex-of-{ANN},player\n")
    put(runs, GRAPH_LOAD_RECORD, "{}")
    return newest


def test_no_byte_of_an_erased_player_is_left_anywhere(
    runs: Runs, erase: Erase, history: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    runs.opt_out(endpoint_id(CHANNEL, ANN))
    before = {(version.key, version.id) for version in runs.versions()}
    dry = erase(ANN)
    said = capfd.readouterr().out
    for kind in (
        "snapshot",
        "extract",
        "file of rows",
        "import file",
        "membership",
        "send ledger",
        "batch of a launch",
        "endpoint",
        "graph load file",
    ):
        assert f"\n{kind}  " in said, kind
    assert (dry["players"], dry["at_destination"], dry["stays"]) == (1, 1, 0)
    after = {(version.key, version.id) for version in runs.versions()}
    assert {key for key, _ in after - before} == {PLAYERS_KEY}, "a dry run changes nothing"
    assert endpoint(runs, ANN)

    assert erase(dry_run=False) == dry
    assert not names(runs, ANN)
    assert endpoint(runs, ANN) is None
    assert endpoint(runs, BOB)
    assert PLAYERS_KEY not in runs.keys()  # noqa: SIM118 - a method of ours
    assert not names_in_log(said + capfd.readouterr().out, ANN, BOB)

    # and all others are where they were
    state = runs.config.state_bucket
    assert [v.player_id for v in vertices_of(runs.state, history["extract"]["snapshot_key"])] == [BOB, CYD]
    (part,) = history["checked"]["segment"]["parts"]
    rows = list(csv.DictReader(io.StringIO(read(runs, runs.config.import_bucket, part["s3_key"]))))
    assert [row["User.UserId"] for row in rows] == [BOB]
    rejects = read(runs, state, history["checked"]["segment"]["rejects_key"] + "0000.csv")
    assert rejects == f"playerId,reason,column\r\n{CYD},no_record,\r\n"
    assert json.loads(read(runs, state, BATCH)) == {"player_ids": ["", BOB]}
    assert read(runs, state, MEMBERSHIP) == read(runs, state, LEDGER) == f'{{"about": 1}}\n{BOB}\n'
    assert read(runs, runs.config.import_bucket, "contacts/n_0123456789abcdef/0000_0.csv") == "emailAddress\nx@y.z\n"
    removed = ("export/", "dropped/", "dry_run/export/", *GRAPH_LOAD_FILES)
    assert not [v.key for v in runs.versions() if v.key.startswith(removed) and not v.is_marker]
    assert read(runs, state, GRAPH_LOAD_RECORD) == "{}"


def names_in_log(text: str, *players: str) -> list[str]:
    return [player for player in players if player.lower() in text.lower()]


def test_later_runs_exclude_an_erased_player(runs: Runs, erase: Erase, extracted: Any) -> None:
    """The graph still has them, and so may a restored snapshot."""
    runs.run(YESTERDAY, {ANN: 3, BOB: 3})
    erase(ANN, dry_run=False)
    again = runs.run(NEWEST, {ANN: 3, BOB: 3})
    assert (again["extract"]["vertices_read"], again["extract"]["vertices_erased"]) == (2, 1)
    assert (again["extract"]["vertices"], again["extract"]["members"]) == (1, 1)
    assert endpoint(runs, ANN) is None
    name = again["plan"]["name"]
    (key,) = [key for key in runs.keys() if key.startswith(f"reports/{name}/")]  # noqa: SIM118 - a method of ours
    report = json.loads(read(runs, runs.config.state_bucket, key))
    assert (report["extract"]["vertices_erased"], report["faults"]) == (1, [])


def test_erased_players_are_not_in_snapshot_and_extract_of_a_new_read(
    runs: Runs, erase: Erase, planned: Any, extracted: Any
) -> None:
    before = extracted(planned())
    assert before["vertices_erased"] == 0
    erase(next(iter(KNOWN)), "msmith", dry_run=False)  # who is two vertices
    runs.remove_snapshots()
    after = extracted(planned())
    assert (after["vertices_erased"], after["vertices_read"]) == (3, before["vertices_read"])
    assert after["members"] == before["members"] - 2
    assert after["snapshot_key"] != before["snapshot_key"]
    text = runs.bodies()
    assert b'"wayne96"' not in text
    assert b'"msmith"' not in text
    assert b'"xortiz"' in text


def test_tombstones_hold_no_player_and_are_put_once(runs: Runs, erase: Erase) -> None:
    erase(ANN, BOB, dry_run=False)
    salt = read(runs, runs.config.state_bucket, SALT_KEY)
    first = {key for key in runs.keys() if key.startswith(TOMBSTONES_FOLDER)}  # noqa: SIM118 - a method of ours
    assert len(first) == 2
    assert not names_in_log(" ".join(first) + salt, ANN, BOB)
    erase(BOB, dry_run=False)
    assert {key for key in runs.keys() if key.startswith(TOMBSTONES_FOLDER)} == first  # noqa: SIM118 - a method of ours
    assert read(runs, runs.config.state_bucket, SALT_KEY) == salt


def test_in_buckets_without_versions(runs: Runs, erase: Erase) -> None:
    for bucket in runs.buckets:
        runs.client("s3").put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    newest = runs.run(NEWEST, {ANN: 3, BOB: 3})
    erase(ANN, dry_run=False)
    assert not names(runs, ANN)
    assert [v.player_id for v in vertices_of(runs.state, newest["extract"]["snapshot_key"])] == [BOB]


def test_the_do_not_contact_list_is_not_changed(runs: Runs, erase: Erase, capfd: pytest.CaptureFixture[str]) -> None:
    put(runs, "do_not_contact.txt", f'"{ANN}",x\nAnn <{ANN}@EXAMPLE.com>\nbob@example.com\n')
    runs.run(NEWEST, {BOB: 3})
    found = erase(ANN, dry_run=False)
    assert found["stays"] == 2, "lines, however they are written"
    assert "remove it yourself: the tombstone is enough" in capfd.readouterr().out
    assert ANN in read(runs, runs.config.state_bucket, "do_not_contact.txt")


def test_a_suppressed_address_stays_suppressed_by_its_keyed_hash(runs: Runs, erase: Erase) -> None:
    """For another player who has it; the list names no player before and after."""
    bucket, address = runs.config.state_bucket, f"{ANN}@example.com"
    suppress(bucket, "address", address)
    suppress(bucket, "player", ANN)
    before = read(runs, bucket, SUPPRESSIONS_KEY)
    assert erase(ANN, dry_run=False)["players"] == 1
    assert read(runs, bucket, SUPPRESSIONS_KEY) == before
    assert not names(runs, ANN)
    with closing(sqlite3.connect(":memory:")) as listed:
        table = SuppressionTable(S3Hook(), bucket, SUPPRESSIONS_KEY, listed)
        table.refresh()
        assert (table.reason("address", address.upper()), table.reason("player", ANN)) == ("complained", "complained")


@pytest.mark.parametrize("line", [f"'{ANN}'", f"{ANN},1", f"<{ANN}>", f"{ANN}\u200b", f"{ANN}."])
def test_a_line_that_only_a_cleaned_form_would_match_is_refused_with_its_number(
    runs: Runs, erase: Erase, line: str
) -> None:
    before = runs.run(NEWEST, {ANN: 3, BOB: 3})
    with pytest.raises(AirflowFailException, match="line 2 of erasure/players.txt is more than a playerId") as raised:
        erase(BOB, line, dry_run=False)
    assert not names_in_log(str(raised.value), ANN)
    assert names(runs, ANN)
    assert [v.player_id for v in vertices_of(runs.state, before["extract"]["snapshot_key"])] == [ANN, BOB]


def test_while_a_run_is_active_nothing_is_removed_but_later_runs_exclude_the_players(
    runs: Runs, context: Any, extracted: Any
) -> None:
    newest = runs.run(NEWEST, {ANN: 3, BOB: 3})
    put(runs, PLAYERS_KEY, f"{ANN}\n")
    acquire(runs.state, "claims/one.json", "one", context(run_id="scheduled__1"))
    me = its(context, dry_run=False)
    me["ti"].runs["cohort_to_segment", "scheduled__1"] = "running"
    with pytest.raises(AirflowFailException, match="run scheduled__1 of DAG cohort_to_segment is running") as raised:
        CohortErasureOperator(task_id="erase", destination="pinpoint").execute(me)
    assert "Changes made: 1 tombstones were put" in str(raised.value)
    assert names(runs, ANN)
    assert extracted(newest["plan"])["vertices_erased"] == 1
    me["ti"].runs["cohort_to_segment", "scheduled__1"] = "success"
    CohortErasureOperator(task_id="erase", destination="pinpoint").execute(me)
    assert not names(runs, ANN)


@pytest.fixture
def begins(request: pytest.FixtureRequest, runs: Runs, context: Any) -> Iterator[Callable[..., str]]:
    """Begins a job of a run that has failed since: `begins("ses", seconds=60)` gives its id."""
    fixture = request.getfixturevalue
    made: list[Any] = []

    def pinpoint(seconds: float) -> str:
        fixture("pinpoint")(import_seconds=seconds)
        key, row = "segments/another/0000.csv", f"EMAIL,x@example.com,{endpoint_id(CHANNEL, ANN)}\n"
        put(runs, key, f"ChannelType,Address,Id\n{row}", "import_bucket")
        made = PinpointCreateImportJobOperator(
            task_id="create", application_id=runs.seeded.application_id, role_arn=runs.seeded.role_arn,
            s3_url=f"s3://{runs.config.import_bucket}/{key}", segment_name="another",
        ).execute({})  # fmt: skip
        return str(made["job_id"])

    def ses(seconds: float) -> str:
        made.append(Account(fixture("servers"), runs.config))
        made[-1].control(import_seconds=seconds)
        (job_id,) = made[-1].create(made[-1].segment("one", [f"{ANN}@example.com"]), context())["job_ids"]
        return str(job_id)

    def customer_profiles(seconds: float) -> str:
        made.append(Domain(fixture("servers"), runs.config))
        made[-1].control(job_seconds=seconds)
        (job_id,) = made[-1].create(made[-1].segment("one", [ANN]), context())["job_ids"]
        return str(job_id)

    by_name = {"pinpoint": pinpoint, "ses": ses, "customer_profiles": customer_profiles}
    yield lambda destination, seconds: by_name[destination](seconds)
    for each in made:
        each.control(reset=True)


@pytest.mark.parametrize("destination", ["pinpoint", "ses", "customer_profiles"])
def test_a_job_that_outlives_its_run_is_waited_for(
    runs: Runs, erase: Erase, begins: Callable[..., str], destination: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its run has ended, and the job would import the player again."""
    runs.run(NEWEST, {ANN: 3, BOB: 3})
    job_id = begins(destination, seconds=60)
    before = {version for version in runs.versions() if not version.key.startswith("erasure/")}
    assert erase(ANN, destination=destination)["stays"] == 1
    assert re.search(rf"{job_id} .* it has not ended: nothing is erased before", capfd.readouterr().out)
    with pytest.raises(
        AirflowFailException, match=rf"(import|upload) job {job_id} .* has not ended, .*: wait"
    ) as raised:
        erase(destination=destination, dry_run=False)
    assert "Changes made: 1 tombstones were put. Clearing this task is safe" in str(raised.value)
    assert before == {version for version in runs.versions() if not version.key.startswith("erasure/")}
    assert not names_in_log(str(raised.value), ANN)


def test_a_job_created_meanwhile_is_waited_for_too(
    runs: Runs, erase: Erase, begins: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.run(NEWEST, {ANN: 3, BOB: 3})

    jobs: list[str] = []

    def and_a_run_imports_and_dies(*arguments: Any) -> None:
        put_instead(*arguments)
        jobs.extend([begins("pinpoint", seconds=8)] if not jobs else ())

    with monkeypatch.context() as patch:
        patch.setattr("cohort_flywheel.governance.erasure_operator.put_instead", and_a_run_imports_and_dies)
        with pytest.raises(AirflowFailException, match="import job .* has not ended"):
            erase(ANN, dry_run=False)
    assert PLAYERS_KEY in runs.keys()  # noqa: SIM118 - a method of ours
    PinpointImportJobSensor(
        task_id="wait", application_id=runs.seeded.application_id, job_id=jobs[0], poke_interval=0.2,
        max_attempts=300, deferrable=False,
    ).execute({})  # fmt: skip
    assert endpoint(runs, ANN), "the job has created it again"
    erase(dry_run=False)
    assert endpoint(runs, ANN) is None


def test_a_file_written_meanwhile_is_detected_and_erased_by_the_next_attempt(
    runs: Runs, erase: Erase, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = runs.run(NEWEST, {ANN: 3, BOB: 3})
    where = {"Bucket": runs.config.state_bucket, "Key": newest["extract"]["snapshot_key"]}
    found = runs.client("s3").get_object(**where)
    where["Key"] = "snapshots/cohort=ea_atrisk/as_of=2026-01-01_00-00-00/snapshot.parquet"
    restored = where | {"Body": found["Body"].read(), "Metadata": found["Metadata"]}

    def and_another_is_restored(*arguments: Any) -> None:
        put_instead(*arguments)
        runs.client("s3").put_object(**restored)

    with monkeypatch.context() as patch:
        patch.setattr("cohort_flywheel.governance.erasure_operator.put_instead", and_another_is_restored)
        with pytest.raises(AirflowException, match="a file that names them was put meanwhile"):
            erase(ANN, dry_run=False)
    assert names(runs, ANN)
    erase(dry_run=False)
    assert not names(runs, ANN)


def test_a_destination_without_an_erase_reports_all(runs: Runs, erase: Erase, monkeypatch: pytest.MonkeyPatch) -> None:
    from cohort_flywheel.destinations.pinpoint.destination import PinpointDestination

    monkeypatch.delattr(PinpointDestination, "erase")
    assert erase(ANN, CYD) == {"players": 2, "objects": 0, "at_destination": 0, "stays": 2, "in_graph": 0}


@pytest.mark.parametrize(
    ("players", "sentence"),
    [("", "erasure/players.txt has no players"), (None, "there is no s3://.*/erasure/players.txt: put the file there")],
)
def test_without_a_list_nothing_is_done(runs: Runs, erase: Erase, players: str | None, sentence: str) -> None:
    if players is not None:
        put(runs, PLAYERS_KEY, players)
    with pytest.raises(AirflowFailException, match=sentence) as raised:
        erase(dry_run=False)
    assert "Changes made: none" in str(raised.value)


def test_an_erasure_whose_list_was_deleted_before_the_attempt_ended_is_done(
    runs: Runs, erase: Erase, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        """A worker that is gone."""

    def deleted(s3: Any, version: Any) -> None:
        delete_version(s3, version)
        if version.key == PLAYERS_KEY:
            raise KilledError

    runs.run(NEWEST, {ANN: 3, BOB: 3})
    put(runs, PLAYERS_KEY, f"{BOB}\n")  # by mistake: an earlier version of the list
    put(runs, PLAYERS_KEY, f"{ANN}\n")
    for _ in range(2):  # each version that is deleted
        with monkeypatch.context() as broken:
            broken.setattr("cohort_flywheel.hooks.s3.delete_version", deleted)
            with pytest.raises(KilledError):
                erase(dry_run=False)
    assert not names(runs, ANN)
    assert names(runs, BOB)
    found = erase(dry_run=False)
    assert found["players"] == 1
    assert names(runs, BOB)
    put(runs, PLAYERS_KEY, f"{BOB},\n")
    with pytest.raises(AirflowFailException, match="CF-ERASURE-01"):  # not what an earlier list gave
        erase(dry_run=False)
    runs.client("s3").delete_object(Bucket=runs.config.state_bucket, Key=PLAYERS_KEY)
    another = its(context, dry_run=False)
    another["dag_run"].run_id = "manual__another"
    with pytest.raises(AirflowFailException, match=r"CF-STATE-02: there is no s3://.*/erasure/players\.txt"):
        CohortErasureOperator(task_id="erase", destination="pinpoint").execute(another)


@pytest.mark.parametrize(
    "copy", ["snapshots/ea_atrisk/copy.parquet", "rejects/n/export.csv", "engagement/backup.csv", "reports/n/copy.csv"]
)
def test_an_object_of_an_unknown_kind_stops_an_erasure_before_anything_is_removed(
    runs: Runs, erase: Erase, copy: str
) -> None:
    runs.run(NEWEST, {ANN: 3, BOB: 3})
    put(runs, copy, ANN)
    for dry_run in (True, False):
        with pytest.raises(AirflowFailException, match=f"CF-ERASURE-02: .*{copy} is not a file of this package"):
            erase(ANN, dry_run=dry_run)
    assert endpoint(runs, ANN)
    runs.client("s3").delete_object(Bucket=runs.config.state_bucket, Key=copy)
    with pytest.raises(AirflowFailException, match="CF-ERASURE-02"):  # its earlier version is there
        erase(dry_run=False)
    for version in [version for version in runs.versions() if version.key == copy]:
        delete_version(runs.s3, version)
    erase(dry_run=False)
    assert not names(runs, ANN)


def test_snapshots_are_searched_in_the_memory_of_the_tuning(
    runs: Runs, erase: Erase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.kept(NEWEST, {ANN: 3, BOB: 3}, minutes=1)
    limits = MemoryLimits(tmp_path / "limits", monkeypatch)
    with tuned():
        assert erase(ANN, dry_run=False)["objects"] == 1
    assert limits.are_tuned()
