"""One run at a time works on a name: the second waits for the first's end, and an ended run blocks no other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from airflow.sdk.api.datamodels._generated import DagRunState
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse

from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.runs.lock_store import (
    acquire,
    acquire_run_lock,
    acquire_run_lock_for_import,
    enum_value,
    release,
    this_run,
)
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.runs.result import RunIds
from cohort_flywheel.runs.state_store import State
from tests.cohort_flywheel.conftest import NEWEST
from tests.cohort_flywheel.task_outputs import result_record

KEY, NAME = "claims/n.json", "n"
FIRST = RunIds(dag_id="cohort_to_segment", run_id="scheduled__1")


def holder(state: State) -> Any:
    found = state.lock_holder(KEY)
    return found[0] if found else None


@pytest.fixture
def second(context: Any, state: State) -> Any:
    """The context of a run that comes after FIRST took the name."""
    state.take(KEY, FIRST, None)
    return context(run_id="manual__2")


def test_a_free_lock_is_acquired(state: State, context: Any) -> None:
    acquire(state, KEY, NAME, context(run_id="manual__2"))
    assert holder(state) == RunIds(dag_id="cohort_to_segment", run_id="manual__2")


@pytest.mark.parametrize("at_work", ["queued", "running", DagRunState.QUEUED, DagRunState.RUNNING])
def test_the_second_run_fails_and_names_the_first(state: State, second: Any, at_work: str) -> None:
    second["ti"].runs["cohort_to_segment", "scheduled__1"] = at_work
    with pytest.raises(
        FlywheelError, match=f"run scheduled__1 of DAG cohort_to_segment is {enum_value(at_work)} and makes the"
    ):
        acquire(state, KEY, NAME, second)
    assert holder(state) == FIRST


@pytest.mark.parametrize("ended", ["failed", "success", DagRunState.FAILED])
def test_an_ended_run_does_not_block_others(state: State, second: Any, ended: str) -> None:
    second["ti"].runs["cohort_to_segment", "scheduled__1"] = ended
    acquire(state, KEY, NAME, second)
    assert holder(state) == this_run(second)


def test_a_deleted_run_does_not_block_others(state: State, second: Any) -> None:
    acquire(state, KEY, NAME, second)
    assert holder(state) == this_run(second)


def test_a_retry_keeps_the_lock_without_reading_another_run(state: State, context: Any) -> None:
    mine = context(run_id="manual__2")
    mine["ti"].runs["cohort_to_segment", "manual__2"] = "running"
    for _ in range(3):
        acquire(state, KEY, NAME, mine)
    assert holder(state) == this_run(mine)


def test_a_run_of_another_dag_of_ours_is_kept_apart_by_its_dag(state: State, context: Any) -> None:
    """Two DAGs may well have runs of one id: the scheduler's have the same at the same midnight."""
    state.take(KEY, FIRST, None)
    own = context(dag_id="cohort_to_segment__ea_atrisk", run_id="scheduled__1")
    own["ti"].runs["cohort_to_segment", "scheduled__1"] = "running"
    with pytest.raises(FlywheelError, match="run scheduled__1 of DAG cohort_to_segment is running"):
        acquire(state, KEY, NAME, own)
    own["ti"].runs = {("cohort_to_segment__ea_atrisk", "scheduled__1"): "running"}
    acquire(state, KEY, NAME, own)  # the other's run was deleted; its own active state does not matter
    assert holder(state) == RunIds(dag_id="cohort_to_segment__ea_atrisk", run_id="scheduled__1")


def test_of_two_concurrent_takeovers_one_is_retried(state: State, second: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    third = RunIds(dag_id="cohort_to_segment", run_id="manual__3")

    def meanwhile(dag_id: str, run_id: str) -> str:
        found = state.lock_holder(KEY)
        assert found is not None
        assert state.take(KEY, third, found[1])
        return "failed"

    monkeypatch.setattr(second["ti"], "get_dagrun_state", meanwhile)
    with pytest.raises(AirflowException, match="another run has just begun to work on n: a later attempt") as raised:
        acquire(state, KEY, NAME, second)
    assert not isinstance(raised.value, AirflowFailException)
    assert holder(state) == third


def test_a_run_cleared_during_a_takeover_check_keeps_its_lock(
    state: State, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A holds, A fails, B asks for its state, A is cleared and its task begins, B takes over: only A passes."""
    a, b = context(run_id="manual__a"), context(run_id="manual__b")
    acquire(state, KEY, NAME, a)

    def cleared_meanwhile(dag_id: str, run_id: str) -> str:
        acquire(state, KEY, NAME, context(run_id="manual__a"))  # the next attempt of A's task
        return "failed"

    monkeypatch.setattr(b["ti"], "get_dagrun_state", cleared_meanwhile)
    with pytest.raises(AirflowException, match="another run has just begun to work on n: a later attempt"):
        acquire(state, KEY, NAME, b)
    assert holder(state) == this_run(a)


def test_a_run_cleared_during_a_takeover_does_not_acquire_the_lock(
    state: State, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other order: A finds its own lock, B takes it over, A's task goes on."""
    a, b = context(run_id="manual__a"), context(run_id="manual__b")
    acquire(state, KEY, NAME, a)
    take = State.take

    def after_b(self: State, *args: Any, **kwargs: Any) -> bool:
        monkeypatch.setattr(State, "take", take)
        acquire(state, KEY, NAME, b)
        return take(self, *args, **kwargs)

    monkeypatch.setattr(State, "take", after_b)
    with pytest.raises(AirflowException, match="another run has just begun to work on n: a later attempt"):
        acquire(state, KEY, NAME, context(run_id="manual__a"))
    assert holder(state) == this_run(b)


def test_tasks_of_one_run_that_begin_at_once_all_pass(state: State, context: Any) -> None:
    """As the shards of enrich do, which put the lock again in any order."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: acquire(state, KEY, NAME, context(run_id="manual__a")), range(24)))
    assert holder(state) == RunIds(dag_id="cohort_to_segment", run_id="manual__a")


def test_a_run_does_not_release_the_lock_that_another_has_taken_over(
    state: State, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its look and its delete."""
    a, b = context(run_id="manual__a"), context(run_id="manual__b")
    acquire(state, KEY, NAME, a)
    claim = State.lock_holder

    def then_b(self: State, key: str) -> Any:
        found = claim(self, key)
        monkeypatch.setattr(State, "lock_holder", claim)
        acquire(state, KEY, NAME, b)
        return found

    monkeypatch.setattr(State, "lock_holder", then_b)
    state.release_lock(KEY, this_run(a))
    assert holder(state) == this_run(b)


def answer(error: ErrorType, **detail: Any) -> AirflowRuntimeError:
    return AirflowRuntimeError(ErrorResponse(error=error, detail=detail))


#: What the supervisor answers when the API server was not asked, or did not say that the run is not there.
NOT_AN_ANSWER = {
    "500": answer(
        ErrorType.API_SERVER_ERROR, status_code=500, message="Server returned error", detail={"detail": "boom"}
    ),
    "no connection": answer(
        ErrorType.API_SERVER_ERROR, status_code=None, message="[Errno 111] Connection refused",
        exception_type="ConnectError",
    ),
    "refused": answer(ErrorType.PERMISSION_DENIED, status_code=403, message="Invalid auth token"),
    "something else": answer(ErrorType.GENERIC_ERROR),
}  # fmt: skip
LOOKS_LIKE_ONE = {
    # httpx's text where a proxy, and not the API server, answers (its body is no JSON)
    "a proxy's 404": answer(
        ErrorType.API_SERVER_ERROR, status_code=None, exception_type="HTTPStatusError",
        message="Client error '404 Not Found' for url 'http://lb/execution/dag-runs/cohort_to_segment/scheduled__1/state'",
    ),
    "a 503 for a DAG of an unlucky name": answer(
        ErrorType.API_SERVER_ERROR, status_code=None, exception_type="HTTPStatusError",
        message="Server error '503 Service Unavailable' for url 'http://lb/execution/dag-runs/not_found/r/state'",
    ),
    "a connection of Airflow's that is not there": answer(ErrorType.CONNECTION_NOT_FOUND, conn_id="aws_default"),
}  # fmt: skip


#: FastAPI's own 404: this server does not know the question, so it says nothing of the run.
NO_SUCH_ROUTE = answer(ErrorType.API_SERVER_ERROR, status_code=404, message="Not Found", detail={"detail": "Not Found"})


@pytest.mark.parametrize(
    "error",
    [
        *(pytest.param(error, id=name) for name, error in NOT_AN_ANSWER.items()),
        *(pytest.param(error, id=name) for name, error in LOOKS_LIKE_ONE.items()),
        pytest.param(NO_SUCH_ROUTE, id="an API server without the route"),
    ],
)
def test_only_a_not_found_answer_lets_a_lock_be_taken_over(
    state: State, second: Any, monkeypatch: pytest.MonkeyPatch, error: AirflowRuntimeError
) -> None:
    def get_dagrun_state(dag_id: str, run_id: str) -> str:
        raise error

    monkeypatch.setattr(second["ti"], "get_dagrun_state", get_dagrun_state)
    with pytest.raises(AirflowRuntimeError):
        acquire(state, KEY, NAME, second)
    assert holder(state) == FIRST


# --- before a task ---------------------------------------------------------------------------------------


@pytest.fixture
def before_a_task(context: Any, planned: Any, state: State) -> Any:
    plan = planned()
    made = context(run_id="manual__2")
    made["ti"].xcoms["plan", "return_value"] = plan
    return made, plan


def test_the_lock_is_that_of_the_plans_name(before_a_task: Any, state: State) -> None:
    context, plan = before_a_task
    acquire_run_lock(context)
    found = state.lock_holder("claims/ea_atrisk_2_2026-11-22_00-00-00.json")
    assert found is not None
    assert found[0] == this_run(context)
    assert plan["claim_key"] == "claims/ea_atrisk_2_2026-11-22_00-00-00.json"


def test_a_blocked_task_has_its_last_line_and_is_not_retried(before_a_task: Any, state: State) -> None:
    context, plan = before_a_task
    state.take(plan["claim_key"], FIRST, None)
    context["ti"].runs["cohort_to_segment", "scheduled__1"] = "running"
    with pytest.raises(AirflowFailException) as raised:
        acquire_run_lock(context)
    text = str(raised.value)
    assert "run scheduled__1 of DAG cohort_to_segment is running and makes the same result, ea_atrisk_2_2026" in text
    assert "Changes made: none. Clearing this task is safe" in text


def test_a_lock_whose_run_state_cannot_be_read_is_retried(
    before_a_task: Any, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, plan = before_a_task
    state.take(plan["claim_key"], FIRST, None)

    def get_dagrun_state(dag_id: str, run_id: str) -> str:
        raise NOT_AN_ANSWER["no connection"]

    monkeypatch.setattr(context["ti"], "get_dagrun_state", get_dagrun_state)
    with pytest.raises(AirflowException) as raised:
        acquire_run_lock(context)
    assert not isinstance(raised.value, AirflowFailException)


# --- before a segment file is imported -------------------------------------------------------------------

OF_THE_DAY = ("ea_atrisk", 2, NEWEST)


def test_a_file_is_imported_by_the_run_that_holds_its_name(before_a_task: Any, state: State) -> None:
    context, plan = before_a_task
    acquire_run_lock(context)
    state.put_result(*OF_THE_DAY, result_record(NEWEST, FIRST))  # of an earlier run, before this one began
    acquire_run_lock_for_import(context)
    found = state.lock_holder(plan["claim_key"])
    assert found and found[0] == this_run(context)


@pytest.mark.parametrize("verified", [True, False])
def test_a_file_is_stale_once_another_run_has_worked_on_the_name(
    before_a_task: Any, state: State, verified: bool
) -> None:
    """A player in it may have unsubscribed when the other file was written."""
    context, plan = before_a_task
    if verified:
        state.put_result(*OF_THE_DAY, result_record(NEWEST, FIRST))
    else:
        state.take(plan["claim_key"], FIRST, None)
    before = state.lock_holder(plan["claim_key"])
    for _ in range(2):  # a refusal takes nothing over
        with pytest.raises(AirflowFailException) as raised:
            acquire_run_lock_for_import(context)
        text = str(raised.value)
        assert "run scheduled__1 of DAG cohort_to_segment has worked on ea_atrisk_2_2026-11-22_00-00-00 since" in text
        assert "clear enrich with downstream" in text
        assert state.lock_holder(plan["claim_key"]) == before
    acquire_run_lock(context)  # before enrich
    acquire_run_lock_for_import(context)


def test_a_file_is_stale_while_the_other_run_is_active(before_a_task: Any, state: State) -> None:
    """To wait for its end would not help: what helps is refused until then."""
    context, plan = before_a_task
    state.take(plan["claim_key"], FIRST, None)
    context["ti"].runs["cohort_to_segment", "scheduled__1"] = "running"
    with pytest.raises(AirflowFailException, match="scheduled__1 .* has worked on .* since.*clear enrich with"):
        acquire_run_lock_for_import(context)
    with pytest.raises(AirflowFailException, match="is running and makes the same result"):
        acquire_run_lock(context)  # before enrich


def test_a_finished_run_may_be_cleared_from_its_import_on(before_a_task: Any, state: State) -> None:
    context, _ = before_a_task
    state.put_result(*OF_THE_DAY, result_record(NEWEST, this_run(context)))
    acquire_run_lock_for_import(context)


@pytest.mark.parametrize("other", [{"source": "live"}, {"dry_run": True}])
def test_a_run_that_is_not_canonical_ignores_the_result_of_the_day(
    before_a_task: Any, state: State, other: dict[str, Any]
) -> None:
    context, plan = before_a_task
    context["ti"].xcoms["plan", "return_value"] = plan | other
    state.put_result(*OF_THE_DAY, result_record(NEWEST, FIRST))
    acquire_run_lock_for_import(context)


# --- after another run has worked on the name without a trace in the results ------------------------------

KINDS: dict[str, dict[str, Any]] = {
    "auto": {},
    "live": {"source": "live"},
    "extract": {"extract_uri": "s3://exports/dropped/theirs.json", "extract_sha256": "ab" * 32},
    "dry run": {"dry_run": True},
}


@pytest.fixture
def wrote(planned: Any, context: Any, request: pytest.FixtureRequest) -> Any:
    """`wrote("a")`: a run has written its segment file, of two shards; gives the context of its next task."""
    plan = planned(**KINDS[getattr(request, "param", "auto")])

    def write(run: str, shards: tuple[int, ...] = (0, 1), before: Any = None) -> Any:
        xcoms = before["ti"].xcoms if before else {}
        xcoms |= {("plan", "return_value"): plan, ("extract", "return_value"): [{}, {}]}
        for task in [f"enrich_{index}" for index in shards]:
            own = context(run_id=f"manual__{run}", task_id=task)
            own["ti"].xcoms = xcoms
            acquire_run_lock(own)
        made = context(run_id=f"manual__{run}", task_id="check_limits")
        made["ti"].xcoms = xcoms
        return made

    write.plan = plan  # type: ignore[attr-defined]  # for the tests
    return write


@pytest.mark.parametrize("wrote", KINDS, indirect=True)
def test_a_file_is_stale_once_another_run_has_ended_without_an_import(wrote: Any, state: State) -> None:
    """B finds that every player has opted out, and ends in check_limits; then the import of A is cleared."""
    a = wrote("a")
    acquire_run_lock_for_import(a)
    b = wrote("b")  # A has failed
    acquire_run_lock_for_import(b)
    release(state, Plan.model_validate(wrote.plan), b)
    for _ in range(2):
        with pytest.raises(AirflowFailException, match="run manual__b of DAG cohort_to_segment has worked on"):
            acquire_run_lock_for_import(a)
        assert state.lock_holder(wrote.plan["claim_key"]) is None
    acquire_run_lock_for_import(wrote("a", before=a))  # enrich was cleared


def test_a_file_is_stale_too_after_a_run_that_another_took_over(wrote: Any, state: State) -> None:
    """A writes, B fails on the way, and A's lock is its own again by a task that writes no file."""
    a, plan = wrote("a"), wrote.plan
    wrote("b")
    acquire_run_lock(a)  # as before a launch, or an extract that is cleared alone
    with pytest.raises(AirflowFailException, match="another run has worked on"):
        acquire_run_lock_for_import(a)
    release(state, Plan.model_validate(plan), a)
    with pytest.raises(AirflowFailException, match="another run has worked on"):
        acquire_run_lock_for_import(a)


def test_a_file_is_stale_while_one_of_its_shards_is(wrote: Any, state: State) -> None:
    a = wrote("a")
    release(state, Plan.model_validate(wrote.plan), wrote("b"))
    wrote("a", shards=(1,), before=a)
    with pytest.raises(AirflowFailException, match="another run has worked on"):
        acquire_run_lock_for_import(a)
    wrote("a", shards=(0,), before=a)
    acquire_run_lock_for_import(a)


def test_without_another_run_any_task_may_be_cleared(wrote: Any, state: State) -> None:
    a = wrote("a")
    for _ in range(2):
        acquire_run_lock_for_import(a)
        release(state, Plan.model_validate(wrote.plan), a)
    wrote("a", shards=(1,), before=a)
    acquire_run_lock_for_import(a)


@pytest.mark.parametrize("written", [True, False])
def test_a_run_that_was_killed_between_the_two_writes_of_a_release(wrote: Any, state: State, written: bool) -> None:
    """The last run is written first; if neither is written, the lock itself names the run."""
    a, plan = wrote("a"), wrote.plan
    b = wrote("b")
    if written:
        state.put_last_run(plan["claim_key"], this_run(b))
    with pytest.raises(AirflowFailException, match="run manual__b of DAG cohort_to_segment has worked on"):
        acquire_run_lock_for_import(a)
    acquire_run_lock_for_import(b)  # its own next try
    release(state, Plan.model_validate(plan), b)
    with pytest.raises(AirflowFailException, match="run manual__b of DAG cohort_to_segment has worked on"):
        acquire_run_lock_for_import(a)


def test_a_lock_is_not_released_before_the_last_run_is_written(
    wrote: Any, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = wrote("a"), wrote("b")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(State, "put_last_run", killed)
        release(state, Plan.model_validate(wrote.plan), b)
    with pytest.raises(AirflowFailException, match="run manual__b of DAG cohort_to_segment has worked on"):
        acquire_run_lock_for_import(a)


def test_a_run_that_was_killed_as_it_took_over_leaves_no_file_fresh(
    wrote: Any, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B has failed; A's enrich records B as the last run, and is killed before the lock is its own."""
    a = wrote("a")
    wrote("b")

    def killed(*_: Any, **__: Any) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(State, "take", killed)
        acquire_run_lock(a)
    with pytest.raises(AirflowFailException, match="run manual__b of DAG cohort_to_segment has worked on"):
        acquire_run_lock_for_import(a)
    acquire_run_lock_for_import(wrote("a", before=a))


def test_a_run_that_begins_and_ends_during_the_check_is_noticed(
    wrote: Any, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs at once: the lock is free as A looks, and B works in between."""
    a, plan = wrote("a"), wrote.plan
    release(state, Plan.model_validate(plan), a)
    take = State.take

    def after_b(self: State, *args: Any, **kwargs: Any) -> bool:
        monkeypatch.setattr(State, "take", take)
        release(state, Plan.model_validate(plan), wrote("b"))
        return take(self, *args, **kwargs)

    monkeypatch.setattr(State, "take", after_b)
    with pytest.raises(AirflowFailException, match="another run has worked on"):
        acquire_run_lock_for_import(a)
    with pytest.raises(AirflowFailException, match="has worked on"):
        acquire_run_lock_for_import(a)


def test_the_release_of_a_run_that_lost_its_lock_changes_nothing(wrote: Any, state: State) -> None:
    """A is taken for failed, and its process goes on."""
    a, plan = wrote("a"), wrote.plan
    b = wrote("b")
    release(state, Plan.model_validate(plan), a)
    acquire_run_lock_for_import(b)
    release(state, Plan.model_validate(plan), b)
    release(state, Plan.model_validate(plan), a)
    assert state.last_run(plan["claim_key"]) == this_run(b)


def test_a_dry_run_makes_no_file_stale(planned: Any, context: Any, state: State) -> None:
    """Its lock and its last run are below dry_run/, as all of its files are."""
    a = context(run_id="manual__a", task_id="check_limits")
    a["ti"].xcoms["plan", "return_value"] = planned()
    acquire_run_lock(a)
    release(state, Plan.model_validate(planned()), a)
    dry = context(run_id="manual__dry", task_id="enrich_0")
    dry["ti"].xcoms["plan", "return_value"] = planned(dry_run=True)
    acquire_run_lock(dry)
    release(state, Plan.model_validate(planned(dry_run=True)), dry)
    acquire_run_lock_for_import(a)
