"""The answers, erasures and quiet points of the driver, with an Airflow that is scripted."""

from __future__ import annotations

import itertools
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil  # type: ignore[import-untyped,unused-ignore]  # Airflow brings it
import psycopg2  # type: ignore[import-untyped,unused-ignore]  # Airflow's driver of PostgreSQL has no types
import pytest

from tests.chaos import killer, plan, processes, quiet, schedule, session
from tests.chaos.actions import PLAYERS_KEY, Driver, Facts
from tests.chaos.airflow_api import RefusedError
from tests.chaos.checker import results
from tests.chaos.checker.world import Violation
from tests.chaos.history import Counts, Event, History, repeatable
from tests.chaos.killer import Cut, Process
from tests.chaos.plan import APPROVER, OTHER
from tests.chaos.processes import Cuts
from tests.chaos.quiet import QuietPoint
from tests.chaos.session import Session


def question(name: str, players: int = 3) -> dict[str, Any]:
    task = {"id": name, "dag_id": "cohort_to_segment", "dag_run_id": f"run-{name}"}
    return {"subject": f"May {name} be launched, to {players:,} players?", "task_instance": task}


def run(dag_id: str, number: int = 1) -> dict[str, Any]:
    return {"dag_id": dag_id, "dag_run_id": f"{dag_id}-{number}", "state": "failed"}


class FakeApi:
    """An Airflow whose questions and runs a test sets; it refuses what `refuses` names, as often as it says."""

    def __init__(self) -> None:
        self.waiting: list[dict[str, Any]] = []
        self.at_work: list[dict[str, Any]] = []
        self.failed: list[dict[str, Any]] = []
        self.answered: list[tuple[str, str]] = []
        self.cleared: list[str] = []
        self.refuses: dict[str, int] = {}

    def _may(self, name: str) -> None:
        if self.refuses.get(name, 0):
            self.refuses[name] -= 1
            raise RefusedError(name)

    def get(self, path: str) -> dict[str, Any]:
        self._may("get")
        return {"triggering_user_name": "ana"}

    def questions(self) -> list[dict[str, Any]]:
        self._may("questions")
        return list(self.waiting)

    def answer(self, asked: dict[str, Any], option: str) -> None:
        self.answered.append((asked["task_instance"]["id"], option))
        self._may("answer")

    def active(self) -> list[dict[str, Any]]:
        self._may("active")
        return list(self.at_work)

    def runs(self, dag_id: str = "~", **query: str) -> list[dict[str, Any]]:
        return list(self.failed)

    def clear(self, cleared: dict[str, Any]) -> None:
        self.cleared.append(cleared["dag_run_id"])
        self.failed.remove(cleared)

    def trigger(self, dag_id: str, conf: dict[str, Any]) -> str:
        self._may("trigger")
        return f"{dag_id}-new"


class FakeS3:
    """A bucket of the keys and bodies that were put."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put_object(self, *, Bucket: str, Key: str, Body: bytes) -> None:  # noqa: N803 - boto3's names
        self.objects[Key] = Body

    def delete_object(self, *, Bucket: str, Key: str) -> None:  # noqa: N803 - boto3's names
        del self.objects[Key]

    def list_objects_v2(self, *, Bucket: str, Prefix: str) -> dict[str, int]:  # noqa: N803 - boto3's names
        return {"KeyCount": sum(key.startswith(Prefix) for key in self.objects)}


@pytest.fixture
def notes() -> list[Facts]:
    return []


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def s3() -> FakeS3:
    return FakeS3()


@pytest.fixture
def driver(api: FakeApi, s3: FakeS3, notes: list[Facts]) -> Driver:
    config = SimpleNamespace(state_bucket="state", contacts_table="contacts", import_bucket="import")
    made: Any = SimpleNamespace(url="http://127.0.0.1:1", config=config, client=lambda service: s3)
    found: Any = Driver(made, notes.append)
    found.apis, found.ours = dict.fromkeys(found.apis, api), api
    return found


def approvals(notes: list[Facts]) -> list[tuple[Any, Any]]:
    found: Any = [note["approval"] for note in notes if "approval" in note]
    return [(each["launch"], each["by"]) for each in found]


# --- answers


def test_a_quiet_point_answers_in_all_ways_but_late(driver: Driver, api: FakeApi, notes: list[Facts]) -> None:
    names = [f"q{number}" for number in range(len(plan.QUIET_ANSWERS))]
    for name in names:
        api.waiting = [question(name)]
        driver.do(plan.Action("approve_all", {"noes": 0}))
    users = {"wrong person": OTHER, "own run": plan.TRIGGERS}
    twice = plan.QUIET_ANSWERS.index("twice")
    expected = [(name, users.get(how, APPROVER)) for name, how in zip(names, plan.QUIET_ANSWERS, strict=True)]
    assert approvals(notes) == [*expected[: twice + 1], *expected[twice:]]
    assert [option for _, option in api.answered].count("Reject") == 1
    assert set(plan.QUIET_ANSWERS) == set(plan.ANSWERS) - {"late"}


def test_an_answer_is_noted_also_if_the_next_one_is_refused(driver: Driver, api: FakeApi, notes: list[Facts]) -> None:
    driver.answer(question("first"), APPROVER, "Approve")
    api.waiting = [question("a")]
    get, gets = api.get, iter([False, True])

    def refused(path: str) -> dict[str, Any]:
        if next(gets):
            raise RefusedError("the second")
        return get(path)

    api.get = refused  # type: ignore[method-assign]  # of the test
    assert "refused" in driver.do(plan.Action("answer", {"how": "twice", "index": 0}))
    assert approvals(notes)[1:] == [("a", APPROVER)]


def test_an_answer_whose_fate_is_unknown_is_noted(driver: Driver, api: FakeApi, notes: list[Facts]) -> None:
    api.refuses = {"answer": 1}
    assert driver.answer(question("a"), APPROVER, "Approve")["refused"] == "answer"
    assert approvals(notes) == [("a", APPROVER)]


def test_late_answers_forget_no_question(
    driver: Driver, api: FakeApi, notes: list[Facts], monkeypatch: pytest.MonkeyPatch
) -> None:
    api.waiting = [question("a"), question("b")]
    for _ in range(2):
        driver.do(plan.Action("answer", {"how": "late", "index": 0}))
    driver.late_answers()
    assert not notes
    monkeypatch.setattr("tests.chaos.actions.time.time", lambda: 1e11)
    api.refuses = {"get": 1}
    with pytest.raises(RefusedError):
        driver.late_answers()
    driver.late_answers()
    assert [name for name, _ in approvals(notes)] == ["a", "b"]
    driver.late_answers()
    assert len(notes) == 2


def test_all_questions_are_approved_after_players_of_the_largest_said_no(
    driver: Driver, api: FakeApi, notes: list[Facts], monkeypatch: pytest.MonkeyPatch
) -> None:
    api.waiting = [question("small"), question("large", 1000)]
    monkeypatch.setattr(driver, "rows", lambda launch: [f"{launch}-{number}" for number in range(9)])
    asked = list[list[str]]()
    monkeypatch.setattr(driver, "_contacts", lambda kind, players: asked.append(players))
    driver.do(plan.Action("approve_all", {"noes": 2}))
    assert asked == [["large-0", "large-1"]]
    assert [name for name, _ in approvals(notes)] == ["small", "large"]


# --- erasures and contacts


def test_an_erasure_that_may_have_begun_is_noted_and_a_refused_one_leaves_no_list(
    driver: Driver, api: FakeApi, s3: FakeS3, notes: list[Facts]
) -> None:
    erase = plan.Action("erase", {"players": ["wayne96"]})
    api.refuses = {"trigger": 1}
    assert "refused" in driver.do(erase)
    assert s3.objects == {}
    assert driver.do(erase) == {"run": "cohort_erasure-new"}
    assert s3.objects == {PLAYERS_KEY: b"wayne96\n"}
    assert [note["erasing"] for note in notes] == [["wayne96"], ["wayne96"]]
    api.failed = [{"dag_run_id": "cohort_erasure-new", "state": "running"}]
    driver.note_erased()
    api.failed[0]["state"] = "success"
    driver.note_erased()
    driver.note_erased()
    assert [note["erased"] for note in notes if "erased" in note] == [["wayne96"]]


def test_an_address_is_noted_before_it_is_written(
    driver: Driver, notes: list[Facts], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {name: {"email": f"success+{name}@simulator.amazonses.com"} for name in ("a", "b")}
    monkeypatch.setattr(driver, "records", lambda: there)

    def fails(*arguments: Any) -> None:
        raise OSError("gone")

    monkeypatch.setattr("tests.chaos.actions._set", fails)
    assert "refused" in driver.do(plan.Action("contacts", {"kind": "address", "players": ["a", "b"]}))
    assert [note["addresses"] for note in notes] == [{"success+a+1@simulator.amazonses.com": "a"}]


# --- the quiet point


class FakeCuts:
    def __init__(self) -> None:
        self.begun: list[Cut] = []

    def end(self, *, every: bool = False) -> None:
        pass

    def begin(self, cut: Cut) -> bool:
        self.begun.append(cut)
        return True


@pytest.fixture
def cuts() -> FakeCuts:
    return FakeCuts()


@pytest.fixture
def point(driver: Driver, cuts: FakeCuts, monkeypatch: pytest.MonkeyPatch) -> QuietPoint:
    """A quiet point at which a second takes no time, and which does no more than the test says."""
    clock = iter(range(10**6))
    monkeypatch.setattr(quiet, "stop_schedule", lambda made: None)
    monkeypatch.setattr("tests.chaos.quiet.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("tests.chaos.quiet.time.sleep", lambda seconds: None)
    monkeypatch.setattr(driver, "rows", lambda launch="": [])
    monkeypatch.setattr(driver, "records", dict)
    monkeypatch.setattr(driver, "_lose_answers", lambda seconds: {})
    found: Any = cuts
    return QuietPoint(driver.made, driver, found, lambda text: None, lambda: None, lambda: None)


def test_a_quiet_point_survives_refusals(point: QuietPoint, api: FakeApi) -> None:
    api.refuses = {"active": 2, "questions": 2}
    point.reach()
    assert not any(api.refuses.values())


def test_runs_that_do_not_end_are_named(point: QuietPoint, api: FakeApi) -> None:
    api.at_work = [run("cohort_to_segment")]
    with pytest.raises(schedule.StuckError, match="cohort_to_segment-1"):
        point.reach()


def test_a_failed_run_is_cleared_while_others_run_and_the_second_time_alone(point: QuietPoint, api: FakeApi) -> None:
    segment, erasure, engagement = run("cohort_to_segment"), run("cohort_erasure"), run("engagement")
    api.failed, other = [segment, erasure], [run("cohort_what_if")]
    assert point._act(other)
    assert api.cleared == ["cohort_to_segment-1"]
    api.failed += [segment, engagement]
    assert point._act(other)
    api.failed += [engagement]
    assert point._act(other)
    assert api.cleared[1:] == ["engagement-1", "engagement-1"]
    assert not point._act(other)
    assert point._act([])
    assert api.cleared[3:] == ["cohort_to_segment-1"]
    assert point._act([])
    assert api.cleared[4:] == ["cohort_erasure-1"]
    api.failed = [segment, engagement]
    assert not point._act([])  # they fail for a reason of their own


def test_the_first_questions_wait_for_one_another(point: QuietPoint, api: FakeApi, cuts: FakeCuts) -> None:
    asked, other = {"dag_id": "cohort_to_segment", "dag_run_id": "run-a"}, run("cohort_to_segment")
    point._driver._ways = itertools.repeat("approve")
    api.waiting = [question("a")]
    assert point._act([asked, other])
    assert api.answered == []
    api.waiting.append(question("b"))
    assert point._act([asked, asked | {"dag_run_id": "run-b"}])
    assert [name for name, _ in api.answered] == ["a", "b"]
    assert cuts.begun == [quiet.TOGETHER_CUT]
    api.waiting = [question("c")]
    assert point._act([asked, other])
    assert [name for name, _ in api.answered] == ["a", "b", "c"]


def test_questions_do_not_wait_for_long(point: QuietPoint, api: FakeApi) -> None:
    api.waiting = [question("a")]
    looks = 0
    while not api.answered:
        point._act([run("cohort_to_segment")])
        looks += 1
    assert quiet.TOGETHER / 2 < looks <= quiet.TOGETHER + 1


def test_players_of_the_newest_segment_are_erased_once_at_the_end(
    point: QuietPoint, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = list[plan.Action]()

    def do(action: plan.Action) -> Facts:
        done.append(action)
        return {"run": "r"}

    monkeypatch.setattr(driver, "rows", lambda: ["a", "b", "c"])
    monkeypatch.setattr(driver, "do", do)
    assert not point._act([run("engagement")])
    assert point._act([])
    assert not point._act([])
    point.begin()
    assert point._act([])
    assert [(each.name, each.about) for each in done if each.name == "erase"] == [
        ("erase", {"players": ["a", "b"]})
    ] * 2
    assert [each.name for each in done if each.name != "erase"] == ["write_events", "engagement"]


# --- the schedule


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, signal.Signals]]:
    found = list[tuple[int, signal.Signals]]()
    monkeypatch.setattr(schedule, "send_signal", lambda pid, number: found.append((pid, number)))
    monkeypatch.setattr("tests.chaos.schedule.time.sleep", lambda seconds: None)
    return found


def dag_processors_are(monkeypatch: pytest.MonkeyPatch, *each_time: list[int]) -> None:
    left = list(each_time)
    monkeypatch.setattr(schedule, "dag_processors", lambda session: left.pop(0) if len(left) > 1 else left[0])


MADE: Any = SimpleNamespace(supervisor=1, database_url="postgresql+psycopg2://x", folder=Path("nowhere"))


def test_a_dag_processor_that_holds_a_lock_continues_before_the_next_try(
    signals: list[tuple[int, signal.Signals]], monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = iter([psycopg2.errors.LockNotAvailable(), psycopg2.OperationalError("in recovery mode"), None])

    def delete(made: Any) -> None:
        if error := next(tries):
            raise error

    dag_processors_are(monkeypatch, [7])
    monkeypatch.setattr(schedule, "_delete_next_runs", delete)
    schedule.stop_schedule(MADE)
    stop, go = (7, signal.SIGSTOP), (7, signal.SIGCONT)
    assert signals == [stop, go, stop, go, stop]


def test_a_dag_processor_that_was_started_meanwhile_is_stopped_too(
    signals: list[tuple[int, signal.Signals]], monkeypatch: pytest.MonkeyPatch
) -> None:
    dag_processors_are(monkeypatch, [], [], [7], [8], [8])
    monkeypatch.setattr(schedule, "_delete_next_runs", lambda made: None)
    schedule.stop_schedule(MADE)
    assert signals == [(7, signal.SIGSTOP), (8, signal.SIGCONT), (8, signal.SIGSTOP)]


def test_a_schedule_that_cannot_be_stopped_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.chaos.schedule.time.sleep", lambda seconds: None)
    clock = iter(range(0, 10**6, 10))
    monkeypatch.setattr("tests.chaos.schedule.time.monotonic", lambda: next(clock))
    dag_processors_are(monkeypatch, [])
    with pytest.raises(schedule.StuckError, match="no DAG processor runs"):
        schedule.stop_schedule(MADE)


# --- processes


@contextmanager
def sleeping(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", "import time; time.sleep(60)", *arguments]
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            # The command line of a process can still be empty when `Popen` returns.
            for _ in range(1000):
                if psutil.Process(process.pid).cmdline():
                    break
                time.sleep(0.01)
            yield process
        finally:
            process.kill()


def test_the_task_of_a_process_is_known_by_its_title() -> None:
    instance = "01a22dc8-7147-738d-ad7b-7c34f6a0cc5e"
    runs = [f"airflow worker -- {instance}", f"airflow supervisor: {instance}"]
    for title, known in (*((each, instance) for each in runs), ("celeryd: idle", "")):
        with sleeping(title) as process:
            assert processes._task_instance(psutil.Process(process.pid)) == known


def test_a_process_that_is_gone_was_not_killed() -> None:
    with sleeping() as process:
        assert processes.kill("task", process.pid)
        process.wait(timeout=60)
    assert processes.kill("task", process.pid) == ""


def test_the_dag_processor_is_found_by_its_command_line_in_its_session() -> None:
    with sleeping("dag-processor") as process, sleeping("scheduler") as other:
        assert processes.dag_processors(process.pid) == [process.pid]
        assert processes.dag_processors(other.pid) == []
        process.kill()
        process.wait(timeout=60)
        assert processes.dag_processors(process.pid) == []


# --- the session


@pytest.fixture
def played(driver: Driver, tmp_path: Path) -> Session:
    """A session without an installation."""
    found = Session.__new__(Session)
    found.made, found.driver, found.history = driver.made, driver, History(tmp_path / "history.jsonl")
    found.say = lambda text: None
    found._began, found._cuts = 0.0, 0
    found._kills, found._killed = Counter[str](), Counter[str]()
    found._quiet_killed, found._quiet_rng = Counter[str](), random.Random(1)  # noqa: S311 - no secret
    found.cuts = Cuts(driver.made)
    return found


def killing(monkeypatch: pytest.MonkeyPatch, there: Callable[[int], list[Process]], gone: int = 0) -> list[int]:
    """Let each look at the processes be a second after the last; the first ones to be killed are gone."""
    looks, tried = iter(range(10**6)), list[int]()
    now = [0.0]

    def look(made: Any) -> list[Process]:
        now[0] += 1
        return there(next(looks))

    def kill(role: str, pid: int) -> str:
        tried.append(pid)
        return "" if len(tried) <= gone else "title"

    monkeypatch.setattr("tests.chaos.session.time.sleep", lambda seconds: None)
    monkeypatch.setattr("tests.chaos.session.time.monotonic", lambda: now[0])
    monkeypatch.setattr(session, "processes", look)
    monkeypatch.setattr(session, "kill", kill)
    return tried


def test_the_killer_chooses_again_until_a_process_dies(played: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = killing(monkeypatch, lambda look: [Process("task", 10 + look, "dag.plan")], gone=1)
    played._kill(random.Random(1), "task")  # noqa: S311 - no secret
    assert tried == [10, 11]
    assert dict(played._kills) == {"task": 1}
    (event,) = played.history.events
    assert (event.kind, event.about["role"], event.about["task"]) == ("kill", "task", "dag.plan")
    assert played.history.killed() == played._killed == {"dag.plan": 1}


def test_a_task_that_has_had_its_share_of_kills_is_left_alone(played: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = killing(monkeypatch, lambda look: [Process("task", 1, "plan")])
    for _ in range(killer.FEW + 2):
        played._kill(random.Random(1), "task")  # noqa: S311 - no secret
    assert tried == [1] * killer.FEW
    played._kill(random.Random(1), "task", "plan")  # noqa: S311 - no secret
    assert tried == [1] * (killer.FEW + 1)  # a replay repeats what was done


def test_a_replay_waits_for_the_task_that_was_killed(played: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = Process("task", 1, "plan"), Process("task", 2, "extract")
    tried = killing(monkeypatch, lambda look: [one, other] if look else [one])
    played._kill(random.Random(1), "task", "extract")  # noqa: S311 - no secret
    assert tried == [2]
    played._kill(random.Random(1), "task", "launch_campaign")  # noqa: S311 - no secret
    assert len(tried) == 2  # one of those that run


def test_another_role_is_killed_where_the_chosen_one_does_not_appear(
    played: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = killing(monkeypatch, lambda look: [Process("worker", 5), Process("pool", 6), Process("scheduler", 4)])
    played._kill(random.Random(1), "task")  # noqa: S311 - no secret
    assert (tried, dict(played._kills)) == ([6], {"pool": 1})


def test_failed_runs_that_all_others_wait_for_are_cleared_where_nothing_can_be_killed(
    played: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = list[str]()
    doubles: Any = played
    doubles._act = lambda action: done.append(action.name)
    killing(monkeypatch, lambda look: [])
    played._kill(random.Random(1), "task")  # noqa: S311 - no secret
    assert (done, dict(played._kills)) == (["clear_engagement"], {})


def test_each_failed_run_of_engagement_is_cleared(driver: Driver, api: FakeApi) -> None:
    api.failed = [{"dag_id": "engagement", "dag_run_id": name} for name in ("a", "b")]
    assert driver.do(plan.Action("clear_engagement", {})) == {"runs": ["a", "b"]}
    assert (api.cleared, api.failed) == (["a", "b"], [])


def test_a_task_with_few_retries_left_is_not_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: Any = SimpleNamespace(folder=tmp_path, database_url="postgresql://airflow@127.0.0.1:1/airflow")
    children = {1: [2, 3], 2: [4], 3: [5]}
    ids = {2: "some", 4: "some", 3: "few", 5: "few"}
    monkeypatch.setattr(processes, "started", lambda folder: {"worker-a": 1})
    monkeypatch.setattr(processes, "_children", lambda pid: [SimpleNamespace(pid=each) for each in children[pid]])
    monkeypatch.setattr(processes, "_task_instance", lambda process: ids[process.pid])
    left = {"some": ("engagement.plan", 4), "few": ("engagement.plan", 3)}
    monkeypatch.setattr(processes, "running_tasks", lambda made: left)
    assert processes.processes(made) == [
        Process("worker", 1), Process("pool", 2, "engagement.plan"), Process("task", 4, "engagement.plan"),
    ]  # fmt: skip


def test_a_launch_is_killed_at_a_quiet_point_so_many_times(played: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    there = [Process("task", 1, "dag.plan"), Process("task", 2, "dag.launch_campaign"), Process("worker", 3)]
    tried, looks = killing(monkeypatch, lambda look: there), iter(range(10**6))
    monkeypatch.setattr(played.driver, "batches", lambda: next(looks) // 3)
    most = session.QUIET_KILLS["launch_campaign"]
    for _ in range(most + 2):
        played._kill_at_quiet_point()
    assert tried == [2] * most
    assert played._killed == {"dag.launch_campaign": most}
    assert repeatable(played.history.events) == []  # a replay does it at its own quiet point


def test_a_kill_amid_mails_waits_for_the_intents_of_a_batch(played: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    killing(monkeypatch, lambda look: [])
    waits, batches = list[float](), iter([2, 2, 2, 3])
    monkeypatch.setattr(played.driver, "batches", lambda: next(batches))
    monkeypatch.setattr("tests.chaos.session.time.sleep", waits.append)
    played._wait_for_mails(random.Random(1))  # noqa: S311 - no secret
    assert waits[:2] == [0.05, 0.05]
    assert 0 <= waits[2] <= session.MAILING


def test_a_launch_that_has_ended_before_its_kill_was_not_killed(
    played: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = killing(monkeypatch, lambda look: [] if look % 2 else [Process("task", 2, "dag.record_result")])
    played._kill_at_quiet_point()
    assert (tried, dict(played._kills)) == ([], {})


def test_a_replay_repeats_the_quiet_points_too(played: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    done = list[str]()
    doubles: Any = played
    doubles._act = lambda action: done.append(action.name)
    doubles._between = lambda: None
    doubles._end_round = lambda: done.append("quiet")
    monkeypatch.setattr("tests.chaos.session.time.sleep", lambda seconds: None)
    about: dict[str, Any] = {"name": "erase", "about": {"players": []}}
    events = [Event("action", 0, 0, about), Event("round", 0, 0, {}), Event("action", 0, 0, about)]
    played.replay(events)
    assert done == ["erase", "quiet", "erase", "quiet"]


def test_what_an_erasure_hides_is_found_before_it(played: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = (SimpleNamespace(texts=[(name, "")], mails=[]) for name in ("before", "after"))
    hidden, stays = (Violation(name, "said", ()) for name in ("hidden", "stays"))
    worlds, looked = iter([before, after]), list[list[tuple[str, str]]]()
    doubles: Any = played
    doubles._first_addresses = {}
    doubles.reader = SimpleNamespace(world=lambda *about: next(worlds))
    doubles.quiet = SimpleNamespace(begin=lambda: None, reach=played._look_before_erasure)
    doubles.driver.ours.total_runs = lambda: 1
    doubles._counted = lambda world, violations: Counts(violations=violations)

    def check(world: Any) -> list[Violation]:
        looked.append(world.texts)
        return [hidden, stays] if world is before else [stays]

    monkeypatch.setattr(session, "check", check)
    monkeypatch.setattr(session, "coverage", lambda world: Counts())
    monkeypatch.setattr(results, "compared", lambda world: 4 if world is before else 2)
    monkeypatch.setattr(session, "continue_schedule", lambda made: None)
    assert played._end_round() == [hidden, stays]
    assert looked == [[("before", "")], [("before", ""), ("after", "")]]
    assert played.history.events[-1].about["compared"] == 4


def test_a_world_in_which_a_run_has_begun_is_not_checked_before_an_erasure(
    played: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    totals = iter([5, 6])
    doubles: Any = played
    doubles._first_addresses, doubles._texts, doubles._found = {}, [], []
    doubles.reader = SimpleNamespace(world=lambda *about: SimpleNamespace(texts=[("a.log", "one")]))
    doubles.driver.ours.total_runs = lambda: next(totals)
    monkeypatch.setattr(session, "check", lambda world: [Violation("half written", "said", ())])
    played._look_before_erasure()
    assert (played._found, played._texts) == ([], [("a.log", "one")])


def test_a_round_in_which_nothing_can_be_killed_ends(played: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 10**6, 60))
    monkeypatch.setattr("tests.chaos.session.time.sleep", lambda seconds: None)
    monkeypatch.setattr("tests.chaos.session.time.monotonic", lambda: next(now))
    doubles: Any = played
    doubles.players = ["a"]
    doubles._act = doubles._kill = doubles._cut = lambda *about: None
    doubles._between = lambda: None
    monkeypatch.setattr(played.driver, "rows", lambda: [])
    with pytest.raises(schedule.StuckError, match="nothing could be killed in 30 minutes"):
        played.play(random.Random(1), 5)  # noqa: S311 - no secret


def test_a_world_in_which_a_run_has_begun_is_read_again(played: Session) -> None:
    totals, texts, reached = iter([5, 6, 6, 6]), iter([[("a.log", "one")], [("a.log", "two")]]), list[int]()
    doubles: Any = played
    doubles.quiet = SimpleNamespace(reach=lambda: reached.append(1))
    doubles.reader = SimpleNamespace(world=lambda *about: SimpleNamespace(texts=next(texts)))
    doubles.driver.ours.total_runs = lambda: next(totals)
    doubles._first_addresses, doubles._texts = {}, []
    world = played._quiet_world()
    assert len(reached) == 2
    assert world.texts == [("a.log", "one"), ("a.log", "two")]  # a leak that the first reading saw is not lost
    totals, texts = iter(range(100)), iter([[("a.log", "")]] * 3)
    doubles.reader = SimpleNamespace(world=lambda *about: SimpleNamespace(texts=next(texts)))
    doubles.driver.ours.total_runs = lambda: next(totals)
    with pytest.raises(schedule.StuckError):
        played._quiet_world()
