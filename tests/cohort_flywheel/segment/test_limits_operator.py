"""check_limits: limits and overrides, the final snapshot of a day, and the release of the segment file."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, BaseOperator
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped
from airflow.serialization.serialized_objects import DagSerialization
from airflow.ti_deps.deps.not_previously_skipped_dep import NotPreviouslySkippedDep

import cohort_flywheel
from cohort_flywheel.config.cohorts import Consent, Limits
from cohort_flywheel.runs.lock_store import this_run
from cohort_flywheel.runs.names import snapshot_key
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.runs.result import RunIds
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.limits_operator import CohortLimitsOperator, StoppedByLimitError
from tests.cohort_flywheel.memory_limits import MEMORY_MB, MemoryLimits
from tests.cohort_flywheel.task_outputs import result_record

DAY = datetime(2026, 11, 22, tzinfo=UTC)
YESTERDAY, THE_DAY_BEFORE = DAY - timedelta(days=1), DAY - timedelta(days=2)
#: They have a record, an address and consent; msmith, wayne96 and xortiz of the sample.
THREE = {"msmith": 3, "wayne96": 3, "xortiz": 3}
WIDE = {"min_members": 0, "max_members": 100, "max_change_percent": 1_000, "max_reject_percent": 100}
OVERRIDE: dict[str, Any] = {"override_limits": True, "override_reason": "A raid."}


class LimitsRunner:
    """A run from its day's pending snapshot to check_limits; the graph cannot be reached."""

    def __init__(self, planned: Any, extracted: Any, enriched: Any, context: Any, state: State) -> None:
        self._planned, self._extracted, self._enriched, self._context = planned, extracted, enriched, context
        self.state = state
        self.asked: list[Any] = []

    def run(
        self,
        limits: dict[str, int] | None = None,
        hours: float = 240,
        cohort: dict[str, Any] | None = None,
        **params: Any,
    ) -> CohortLimitsOperator:
        plan = self._planned(cohort={"limits": Limits(**(WIDE | (limits or {})))} | (cohort or {}), **params)
        extract = self._extracted(plan, hours)
        parts = self._enriched(plan, extract)
        shards = extract.pop("shards")
        with DAG("a_dag", schedule=None) as dag:
            task = CohortLimitsOperator(
                task_id="check_limits", plan=plan, extract=extract, shards=shards, parts=parts,
                handle_empty_segment=self.no_import,
            )  # fmt: skip
            task >> [EmptyOperator(task_id="create"), EmptyOperator(task_id="report").as_teardown()]
            dag.task_dict["create"] >> EmptyOperator(task_id="wait")
        return task

    def no_import(self, plan: Plan, settings: Any) -> bool:
        self.asked.append(plan)
        return False

    def check(self, task: CohortLimitsOperator, run_id: str = "manual__1") -> dict[str, Any]:
        self.context = self._context(task_id="check_limits", run_id=run_id) | {"task": task}
        self.ti = self.context["ti"]
        return task.execute(self.context)


@pytest.fixture
def runner(planned: Any, extracted: Any, enriched: Any, context: Any, state: State, no_graph: None) -> LimitsRunner:
    return LimitsRunner(planned, extracted, enriched, context, state)


@pytest.fixture
def imports(aws: Any, fresh_config: Any) -> Any:
    """The objects of the import bucket: key to body."""

    def look() -> dict[str, str]:
        bucket = fresh_config.import_bucket
        found = aws("s3").list_objects_v2(Bucket=bucket).get("Contents", ())
        return {i["Key"]: aws("s3").get_object(Bucket=bucket, Key=i["Key"])["Body"].read().decode() for i in found}

    return look


# --- who passes ------------------------------------------------------------------------------------------


def test_a_run_that_passes_makes_its_snapshot_final_and_releases_its_file(
    runner: LimitsRunner, kept: Any, imports: Any, aws: Any, fresh_config: Any
) -> None:
    kept(DAY, THREE)
    task = runner.run()
    assert imports() == {}, "before the runner nothing can be imported"
    (part,) = task.parts
    output = runner.check(task)
    final = runner.state.final_snapshot("ea_atrisk", DAY)
    assert final is not None
    assert output["snapshot"] == final.key == snapshot_key("ea_atrisk", DAY)
    assert final.is_of(output["extract"]["snapshot_key"])
    ((name, body),) = imports().items()
    assert part["s3_bucket"] == fresh_config.state_bucket
    assert body == aws("s3").get_object(Bucket=part["s3_bucket"], Key=part["s3_key"])["Body"].read().decode()
    head = aws("s3").head_object(Bucket=fresh_config.import_bucket, Key=name)
    assert head["Metadata"] == {"sha256": part["sha256"]}
    sha256, parts = output["segment"]["sha256"], keys(output)
    assert parts == [name] == [f"segments/ea_atrisk_2_2026-11-22_00-00-00_{sha256[:16]}/0000.csv"]
    assert output["s3_url"] == output["segment"]["s3_url"] == f"s3://{fresh_config.import_bucket}/{name[:-8]}"
    assert (output["rows"], output["override"], output["previous"]) == (3, None, None)
    assert output["extract"] == task.extract
    assert [v["holds"] for v in output["limits"]] == [True] * 4
    assert runner.ti.xcoms["check_limits", "judged"]["limits"] == output["limits"]
    assert json.loads(json.dumps(output)) == output, "fit for an XCom"
    assert runner.asked == []


def test_the_same_run_again_changes_nothing(runner: LimitsRunner, kept: Any, aws: Any, fresh_config: Any) -> None:
    kept(DAY, THREE)
    first = runner.check(runner.run())
    (name,) = keys(first)
    written = aws("s3").head_object(Bucket=fresh_config.import_bucket, Key=name)["LastModified"]
    again = runner.run()
    assert again.extract["snapshot"] == "final"
    second = runner.check(again)
    assert {**second, "extract": None} == {**first, "extract": None}
    head = aws("s3").head_object(Bucket=fresh_config.import_bucket, Key=name)
    assert head["LastModified"] == written


def test_a_live_run_passes_its_limits_and_makes_no_day_final(
    planned: Any, extracted: Any, enriched: Any, context: Any, state: State, imports: Any
) -> None:
    runner = LimitsRunner(planned, extracted, enriched, context, state)
    output = runner.check(runner.run(source="live"))
    assert output["snapshot"] is None
    assert state.snapshot_days("ea_atrisk") == []
    (name,) = imports()
    assert name.startswith("segments/ea_atrisk_2_2026-11-22_00-00-00_live_")


def test_a_missing_staged_file_is_an_error(
    runner: LimitsRunner, kept: Any, imports: Any, aws: Any, fresh_config: Any
) -> None:
    kept(DAY, THREE)
    task = runner.run()
    aws("s3").delete_object(Bucket=fresh_config.state_bucket, Key=task.parts[0]["s3_key"])
    with pytest.raises(
        AirflowFailException,
        match="is gone or has changed since it was made: clear the task that makes it, with downstream",
    ) as raised:
        runner.check(task)
    assert imports() == {}
    changes = str(raised.value).partition("Changes made: ")[2]
    assert re.match(r"the final snapshot is snapshots/\S+; parts of the segment file may be in", changes)


def keys(output: dict[str, Any]) -> list[str]:
    return [part["s3_key"] for part in output["segment"]["parts"]]


@pytest.fixture
def shards_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cohort_flywheel.segment.gremlin_to_s3_operator.shard_size", lambda *_: 2)


def test_the_parts_of_several_shards_are_one_segment(
    runner: LimitsRunner, kept: Any, imports: Any, shards_of_two: None
) -> None:
    kept(DAY, THREE | {"player_without_record": 9})
    task = runner.run()
    assert [part["members"] for part in task.parts] == [2, 2]
    output = runner.check(task)
    assert (output["rows"], output["segment"]["members"], output["segment"]["rejects"]) == (3, 4, {"no_record": 1})
    assert list(imports()) == keys(output)
    assert len({key.rpartition("/")[0] for key in imports()}) == 1
    assert sum(body.count("@") for body in imports().values()) == 3


@pytest.mark.parametrize("wrong", ["one is missing", "one twice", "of another extract"])
def test_parts_that_are_not_those_of_the_shards_are_refused(
    runner: LimitsRunner, kept: Any, imports: Any, shards_of_two: None, wrong: str
) -> None:
    kept(DAY, THREE)
    task = runner.run()
    first, second = task.parts
    task.parts = {
        "one is missing": [first], "one twice": [first, first], "of another extract": [first, second | {"of": "0"}],
    }[wrong]  # fmt: skip
    with pytest.raises(AirflowFailException, match="are not those of the 2 shards of the extract: clear enrich"):
        runner.check(task)
    assert imports() == {}


def test_the_slower_read_gets_the_shards_of_the_final_snapshot(
    runner: LimitsRunner, kept: Any, imports: Any, shards_of_two: None
) -> None:
    kept(DAY, {"wayne96": 3}, minutes=9)
    task = runner.run()
    winners = kept(DAY, THREE, final=True)
    output = runner.check(task)
    assert (output["rows"], len(imports()), output["snapshot"]) == (3, 2, winners)


# --- the do-not-contact list and consent ------------------------------------------------------------------


@pytest.fixture
def contacts(dynamodb_client: Any, config: Any) -> Any:
    """Puts records for the length of a test: `contacts({"playerId": "ann", …})`."""
    keys = []

    def put(*records: dict[str, str]) -> None:
        for record in records:
            item = {name: {"S": value} for name, value in record.items()}
            dynamodb_client.put_item(TableName=config.contacts_table, Item=item)
            keys.append({"playerId": item["playerId"]})

    yield put
    for key in keys:
        dynamodb_client.delete_item(TableName=config.contacts_table, Key=key)


def record(player: str, email: str, **more: str) -> dict[str, str]:
    return {"playerId": player, "email": email, "emailConsent": "yes"} | more


def test_an_entry_that_names_players_of_two_shards_is_counted_once(
    runner: LimitsRunner, kept: Any, contacts: Any, shards_of_two: None, aws: Any, fresh_config: Any
) -> None:
    contacts(
        record("dnc_a", "shared@example.com"), record("dnc_b", "b@example.com"),
        record("dnc_c", "Shared@Example.com"), record("dnc_d", "d@example.com"), record("dnc_e", "e@example.com"),
    )  # fmt: skip
    kept(DAY, dict.fromkeys(("dnc_a", "dnc_b", "dnc_c", "dnc_d", "dnc_e"), 3))
    body = '<SHARED@example.com>\n"dnc_b",x\nanother@example.com\ndnc_c\n'
    aws("s3").put_object(Bucket=fresh_config.state_bucket, Key="do_not_contact.txt", Body=body.encode())
    task = runner.run()
    assert [part["do_not_contact_matched"] for part in task.parts] == [2, 2, 0]
    assert [bool(part["matched_key"]) for part in task.parts] == [True, True, False]
    segment = runner.check(task)["segment"]
    assert (segment["do_not_contact"], segment["do_not_contact_matched"]) == (4, 3)
    assert (segment["rejects"], segment["rows"]) == ({"do_not_contact": 3}, 2)
    stored = aws("s3").get_object(Bucket=fresh_config.state_bucket, Key=task.parts[0]["matched_key"])["Body"].read()
    assert stored == b"line\n1\n2\n", "lines of the list, and no player"


def test_a_missing_file_of_matched_lines_is_an_error(
    runner: LimitsRunner, kept: Any, imports: Any, aws: Any, fresh_config: Any
) -> None:
    kept(DAY, THREE)
    aws("s3").put_object(Bucket=fresh_config.state_bucket, Key="do_not_contact.txt", Body=b"wayne96\n")
    task = runner.run()
    aws("s3").delete_object(Bucket=fresh_config.state_bucket, Key=task.parts[0]["matched_key"])
    with pytest.raises(AirflowFailException, match="is gone or has changed since it was made: clear the task that"):
        runner.check(task)
    assert imports() == {}


@pytest.mark.parametrize("silence", ["opted_in", "opted_out"])
@pytest.mark.parametrize("params", [{}, OVERRIDE, {"dry_run": True}], ids=["a run", "overridden", "dry run"])
def test_a_run_in_which_no_record_has_the_consent_attribute_stops(
    runner: LimitsRunner, kept: Any, imports: Any, silence: Any, params: dict[str, Any]
) -> None:
    """As where the answer is in a map, or the registry has the name in another case."""
    kept(DAY, THREE | {"player_without_record": 9})
    elsewhere = Consent(attribute="EmailConsent", opted_in=["yes"], opted_out=["no"], silence=silence)
    with pytest.raises(
        AirflowFailException, match="none of the 3 records has a value in the consent attribute EmailConsent, so"
    ) as raised:
        runner.check(runner.run(cohort={"consent": elsewhere}, **params))
    assert not isinstance(raised.value, StoppedByLimitError)
    assert imports() == {}
    assert runner.state.final_snapshot("ea_atrisk", DAY) is None
    counts = runner.ti.xcoms["check_limits", "judged"]["segment"]
    assert (counts["records"], counts["records_without"]["EmailConsent"]) == (3, 3)


@pytest.mark.parametrize("answer", [{"M": {"email": {"BOOL": True}}}, {"L": [{"S": "yes"}]}, {"S": ""}, {"NULL": True}])
def test_a_value_that_cannot_be_an_answer_counts_as_missing(
    runner: LimitsRunner, kept: Any, contacts: Any, imports: Any, dynamodb_client: Any, config: Any, answer: Any
) -> None:
    contacts(record("map_a", "a@example.com"))
    item = {"playerId": {"S": "map_a"}, "email": {"S": "a@example.com"}, "preferences": answer}
    dynamodb_client.put_item(TableName=config.contacts_table, Item=item)
    kept(DAY, {"map_a": 3})
    consent = Consent(attribute="preferences", opted_in=["yes"], opted_out=["no"], silence="opted_in")
    with pytest.raises(AirflowFailException, match="none of the 1 records has a value in the consent attribute"):
        runner.check(runner.run(cohort={"consent": consent}))
    assert imports() == {}


@pytest.mark.parametrize("players", [{}, {"player_without_record": 3}], ids=["no member", "no record"])
def test_without_a_record_consent_is_not_missed(runner: LimitsRunner, kept: Any, players: dict[str, int]) -> None:
    kept(DAY, players)
    elsewhere = Consent(attribute="EmailConsent", opted_in=["yes"], opted_out=["no"], silence="opted_in")
    with pytest.raises(DownstreamTasksSkipped):
        runner.check(runner.run(cohort={"consent": elsewhere}))


def test_the_consent_attribute_is_not_required_with_consent_none(runner: LimitsRunner, kept: Any) -> None:
    kept(DAY, THREE)
    assert runner.check(runner.run(cohort={"consent": "none"}))["rows"] == 3


def test_one_record_that_has_the_attribute_is_enough(runner: LimitsRunner, kept: Any, contacts: Any) -> None:
    contacts(record("late_a", "a@example.com", answer="no"), record("late_b", "b@example.com"))
    kept(DAY, {"late_a": 3, "late_b": 3})
    consent = Consent(attribute="answer", opted_in=["yes"], opted_out=["no"], silence="opted_in")
    output = runner.check(runner.run(cohort={"consent": consent}))
    assert (output["rows"], output["segment"]["rejects"]) == (1, {"opted_out": 1})
    assert output["segment"]["records_without"]["answer"] == 1


# --- each limit refuses, each override passes ------------------------------------------------------------

EACH = {
    "min_members": ({"min_members": 4}, THREE, "min_members is 4, and there are 3 members"),
    "max_members": ({"max_members": 2}, THREE, "max_members is 2, and there are 3 members"),
    "max_change_percent": (
        {"max_change_percent": 199}, THREE, "there are 3 members after 1 (the segment of 2026-11-21T00:00:00+00:00)",
    ),
    "max_reject_percent": (
        {"max_reject_percent": 24}, THREE | {"player_without_record": 9},
        "there are 1 of 4 members rejected for data faults",
    ),
}  # fmt: skip


def a_result(state: State, as_of: datetime, members: int, threshold: int = 2) -> None:
    run = RunIds(dag_id="cohort_to_segment", run_id="manual__0")
    state.put_result("ea_atrisk", threshold, as_of, result_record(as_of, run, members=members))


@pytest.mark.parametrize("limit", EACH)
def test_each_limit_stops_a_run(runner: LimitsRunner, kept: Any, imports: Any, limit: str) -> None:
    limits, players, sentence = EACH[limit]
    key = kept(DAY, players)
    a_result(runner.state, YESTERDAY, 1)
    with pytest.raises(StoppedByLimitError) as raised:
        runner.check(runner.run(limits))
    text = str(raised.value)
    assert text.startswith("CF-LIMITS-01: ea_atrisk_2_2026-11-22_00-00-00 is outside the limits of its cohort: ")
    assert sentence in text
    assert (
        "trigger a new run with cohort=ea_atrisk, threshold=2, source=snapshot (these figures, unless the graph was"
        " read again since), override_limits and override_reason" in text
    )
    assert "the logical date 2026-11-22T00:01:00Z and no data interval" in text
    assert "Changes made: none." in text
    assert imports() == {}
    (snapshot,) = runner.state.snapshots("ea_atrisk", DAY)
    assert (snapshot.key, snapshot.final) == (key, False)
    judged = runner.ti.xcoms["check_limits", "judged"]
    assert [v["limit"] for v in judged["limits"] if not v["holds"]] == [limit]
    assert ("check_limits", "return_value") not in runner.ti.xcoms


def test_a_threshold_looser_than_the_floor_is_in_no_snapshot(runner: LimitsRunner, kept: Any) -> None:
    kept(DAY, THREE)
    task = runner.run({"max_members": 2})
    task.plan = task.plan | {"floor": 3}
    with pytest.raises(StoppedByLimitError, match="with cohort=ea_atrisk, threshold=2, override_limits and override_r"):
        runner.check(task)


@pytest.mark.parametrize("limit", EACH)
def test_an_override_passes_and_records_user_reason_and_limits(
    runner: LimitsRunner, kept: Any, imports: Any, limit: str
) -> None:
    limits, players, _ = EACH[limit]
    kept(DAY, players)
    a_result(runner.state, YESTERDAY, 1)
    output = runner.check(runner.run(limits, **OVERRIDE))
    override = {"by": "ana", "reason": "A raid.", "limits": [limit]}
    assert output["override"] == runner.ti.xcoms["check_limits", "judged"]["override"] == override
    assert len(imports()) == 1
    assert output["snapshot"] == snapshot_key("ea_atrisk", DAY)


@pytest.mark.parametrize(
    "limits",
    [{"min_members": 3}, {"max_members": 3}, {"max_change_percent": 200}, {"max_reject_percent": 0}],
)
def test_a_run_at_its_limits_passes(runner: LimitsRunner, kept: Any, limits: dict[str, int]) -> None:
    kept(DAY, THREE)
    a_result(runner.state, YESTERDAY, 1)
    assert runner.check(runner.run(limits))["rows"] == 3


def test_an_override_that_was_not_needed_names_no_limit(runner: LimitsRunner, kept: Any) -> None:
    kept(DAY, THREE)
    assert runner.check(runner.run(**OVERRIDE))["override"] == {"by": "ana", "reason": "A raid.", "limits": []}


# --- the previous ----------------------------------------------------------------------------------------


def test_the_previous_is_the_last_verified_segment(runner: LimitsRunner, kept: Any) -> None:
    kept(DAY, THREE)
    kept(YESTERDAY, {"ann": 3}, final=True)
    a_result(runner.state, THE_DAY_BEFORE, 7)
    a_result(runner.state, YESTERDAY, 99, threshold=1)
    a_result(runner.state, DAY, 99)
    output = runner.check(runner.run())
    assert output["previous"] == {"members": 7, "what": "the segment of 2026-11-20T00:00:00+00:00"}
    assert output["limits"][2]["found"] == 133.3


def test_without_one_it_is_the_last_final_snapshot_at_this_threshold(runner: LimitsRunner, kept: Any) -> None:
    kept(DAY, THREE)
    kept(YESTERDAY, {"ann": 3})  # pending: no run has vouched for it
    kept(THE_DAY_BEFORE, {"ann": 9, "bob": 9}, floor=3, final=True)  # it does not know who is above 2
    kept(DAY - timedelta(days=3), {"ann": 3, "bob": 3, "cem": 2}, final=True)
    kept(DAY - timedelta(days=4), dict.fromkeys("abcdefg", 3), final=True)
    kept(DAY + timedelta(days=1), {"ann": 3}, final=True)
    output = runner.check(runner.run())
    assert output["previous"] == {"members": 2, "what": "the snapshot of 2026-11-19T00:00:00+00:00"}
    assert output["limits"][2]["found"] == 50.0


def test_without_a_previous_result_the_change_is_not_evaluated(runner: LimitsRunner, kept: Any) -> None:
    kept(DAY, THREE)
    output = runner.check(runner.run({"max_change_percent": 0}))
    assert output["previous"] is None
    assert (output["limits"][2]["holds"], output["limits"][2]["sentence"]) == (True, "nothing to compare with")


# --- the second read of a day ----------------------------------------------------------------------------


def test_the_slower_read_is_replaced_by_the_final_snapshot(runner: LimitsRunner, kept: Any, imports: Any) -> None:
    kept(DAY, THREE, minutes=9)
    task = runner.run()
    assert task.parts[0]["rows"] == 3
    winners = kept(DAY, {"wayne96": 3, "msmith": 2}, final=True)
    output = runner.check(task)
    assert output["snapshot"] == winners == output["extract"]["snapshot_key"]
    assert output["segment"] == runner.ti.xcoms["check_limits", "judged"]["segment"] | {
        key: output["segment"][key] for key in ("s3_bucket", "s3_key", "s3_url", "parts")
    }
    assert (output["extract"]["snapshot"], output["extract"]["members"]) == ("final", 1)
    assert (output["segment"]["members"], output["rows"]) == (1, 1)
    assert output["limits"][1]["found"] == 1 == runner.ti.xcoms["check_limits", "judged"]["limits"][1]["found"]
    ((name, body),) = imports().items()
    assert "wayne96" in body
    assert "msmith" not in body
    assert keys(output) == [name]


def test_the_slower_run_uses_the_snapshot_of_the_faster_run(runner: LimitsRunner, kept: Any, imports: Any) -> None:
    kept(DAY, THREE, minutes=9)
    task = runner.run({"min_members": 2})
    kept(DAY, {"wayne96": 3}, final=True)
    with pytest.raises(StoppedByLimitError, match="min_members is 2, and there are 1 members"):
        runner.check(task)
    assert imports() == {}
    assert runner.ti.xcoms["check_limits", "judged"]["limits"][0]["holds"] is False


# --- who ends here ---------------------------------------------------------------------------------------


def test_an_empty_cohort_ends_here_as_a_success(runner: LimitsRunner, kept: Any, imports: Any) -> None:
    kept(DAY, {"ann": 2})
    key, task = snapshot_key("ea_atrisk", DAY), runner.run()
    mine = RunIds(dag_id="cohort_to_segment", run_id="manual__1")
    runner.state.take(task.plan["claim_key"], mine, None)
    with pytest.raises(DownstreamTasksSkipped) as skipped:
        runner.check(task)
    assert list(skipped.value.tasks) == ["create"], "and not the teardown"
    output = runner.ti.xcoms["check_limits", "return_value"]
    assert (output["rows"], output["snapshot"], output["segment"]["members"]) == (0, key, 0)
    assert output["extract"] == task.extract
    assert imports() == {}
    assert runner.asked == [Plan.model_validate(task.plan)], "an earlier run's segment may still have players"
    assert runner.state.final_snapshot("ea_atrisk", DAY) is not None
    assert mine == this_run(runner.context)
    assert runner.state.lock_holder(task.plan["claim_key"]) is None


def test_an_empty_cohort_is_imported_if_the_destination_accepts_it(
    runner: LimitsRunner, kept: Any, imports: Any
) -> None:
    kept(DAY, {"ann": 2})
    task = runner.run()
    task.handle_empty_segment = lambda plan, settings: True
    assert runner.check(task)["rows"] == 0
    (body,) = imports().values()
    assert body.count("\n") == 1


@pytest.mark.parametrize("override", [False, True])
def test_an_empty_read_does_not_become_the_days_final_snapshot(runner: LimitsRunner, kept: Any, override: bool) -> None:
    """Unless a person says so: the graph may not have been loaded yet."""
    empty, final = kept(DAY, {}), snapshot_key("ea_atrisk", DAY)
    with pytest.raises(DownstreamTasksSkipped):
        runner.check(runner.run({"min_members": 1}, **OVERRIDE) if override else runner.run())
    assert runner.ti.xcoms["check_limits", "return_value"]["snapshot"] == (final if override else empty)
    assert (runner.state.final_snapshot("ea_atrisk", DAY) is not None) is override
    if not override:
        kept(DAY, THREE, minutes=60)
        assert runner.check(runner.run())["snapshot"] == final
        assert runner.state.final_snapshot("ea_atrisk", DAY) is not None


def test_an_empty_read_is_replaced_by_the_days_snapshot(runner: LimitsRunner, kept: Any) -> None:
    kept(DAY, {}, minutes=60)
    task = runner.run()
    winners = kept(DAY, THREE, final=True)
    output = runner.check(task)
    assert (output["snapshot"], output["rows"]) == (winners, 3)


def test_where_an_earlier_segment_still_has_players_the_run_fails(runner: LimitsRunner, kept: Any) -> None:
    kept(DAY, {"ann": 2})
    task = runner.run()

    def members_stay(plan: Plan, settings: Any) -> bool:
        raise AirflowFailException("segment s1 still has players")

    task.handle_empty_segment = members_stay
    with pytest.raises(AirflowFailException, match="segment s1 still has players.* final snapshot is snapshots/"):
        runner.check(task)


def test_a_run_whose_members_are_all_rejected_ends_here(runner: LimitsRunner, kept: Any, imports: Any) -> None:
    kept(DAY, {"player_without_record": 3})
    with pytest.raises(DownstreamTasksSkipped):
        runner.check(runner.run())
    assert runner.ti.xcoms["check_limits", "return_value"]["segment"]["rejects"] == {"no_record": 1}
    assert imports() == {}


def test_a_dry_run_ends_here_and_makes_no_snapshot_final(
    runner: LimitsRunner, kept: Any, imports: Any, aws: Any, fresh_config: Any
) -> None:
    key = kept(DAY, THREE)
    task = runner.run(dry_run=True)
    runner.state.take(task.plan["claim_key"], RunIds(dag_id="cohort_to_segment", run_id="manual__1"), None)
    with pytest.raises(DownstreamTasksSkipped):
        runner.check(task)
    output = runner.ti.xcoms["check_limits", "return_value"]
    assert (output["rows"], output["snapshot"]) == (3, key)
    assert output["s3_url"].startswith(f"s3://{fresh_config.state_bucket}/dry_run/staged/")
    assert imports() == {}
    assert runner.state.final_snapshot("ea_atrisk", DAY) is None
    assert runner.asked == []
    assert runner.state.lock_holder(task.plan["claim_key"]) is None


def test_a_cleared_task_is_skipped_again(runner: LimitsRunner, kept: Any) -> None:
    """By the scheduler's own rule, which reads the serialized DAG and the XCom of this task."""
    kept(DAY, THREE)
    task = runner.run(dry_run=True)
    with pytest.raises(DownstreamTasksSkipped):
        runner.check(task)
    dag = DagSerialization.from_dict(DagSerialization.to_dict(task.dag))
    asked = []

    def xcom_pull(task_ids: str, key: str, map_indexes: int, **_: Any) -> Any:
        asked.append((task_ids, map_indexes))
        return runner.ti.xcom_pull(task_ids, key)

    for task_id, state in (("create", "skipped"), ("report", None)):
        cleared = MagicMock(task=dag.get_task(task_id), task_id=task_id, map_index=-1, xcom_pull=xcom_pull)
        rule = MagicMock(wait_for_past_depends_before_skipping=False)
        rule.ensure_finished_tis.return_value = [SimpleNamespace(task_id="check_limits")]
        not_skipped: Any = NotPreviouslySkippedDep()
        statuses = list(not_skipped._get_dep_statuses(cleared, rule, session=MagicMock()))
        assert [status.passed for status in statuses] == [False] * bool(state)
        assert [call.args[0] for call in cleared.set_state.call_args_list] == [state] * bool(state)
    assert asked == [("check_limits", -1)] * 2


def test_each_operator_that_skips_what_follows_is_known_to_the_scheduler() -> None:
    for module in pkgutil.walk_packages(cohort_flywheel.__path__, "cohort_flywheel."):
        if module.name.endswith(("operators", "_operator", "sensors")):
            importlib.import_module(module.name)
    classes: list[Any] = [BaseOperator]
    for each in classes:  # which grows meanwhile
        classes += each.__subclasses__()
    ours = {each for each in classes if each.__module__.startswith("cohort_flywheel.")}
    skipping = {each for each in ours if any(base.__name__ == "SkipMixin" for base in each.__mro__)}
    assert all(each.inherits_from_skipmixin is True for each in skipping)
    found = {each.__name__ for each in skipping}
    assert found == {"CohortLimitsOperator", "CampaignApprovalOperator", "GraphFilesValidateOperator"}


def test_a_dry_run_outside_its_limits_fails(runner: LimitsRunner, kept: Any) -> None:
    kept(DAY, THREE)
    with pytest.raises(StoppedByLimitError, match="max_members is 2"):
        runner.check(runner.run({"max_members": 2}, dry_run=True))


def test_previous_members_and_a_faster_runs_are_in_the_memory_of_the_tuning(
    runner: LimitsRunner, kept: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(YESTERDAY, THREE, final=True)
    kept(DAY, THREE)
    slower = runner.run()
    kept(DAY, {"msmith": 3}, minutes=9)
    runner.check(runner.run(), "manual__faster")
    slower.memory_mb = MEMORY_MB
    limits = MemoryLimits(tmp_path / "limits", monkeypatch)
    output = runner.check(slower)
    assert (output["previous"]["what"], output["extract"]["members"]) == (
        "the snapshot of 2026-11-21T00:00:00+00:00", 1,
    )  # fmt: skip
    assert limits.are_tuned()


def test_a_snapshot_that_cannot_be_read_is_moved_and_cleared_as_its_error_says(
    runner: LimitsRunner, kept: Any, aws: Any, fresh_config: Any
) -> None:
    """An earlier day's needs `check_limits` alone; of the run's own as-of `extract` has named it."""
    s3, bucket = aws("s3"), fresh_config.state_bucket
    sentence = "is not a snapshot that this version reads: move it.*own as-of, clear extract instead, with downstream"

    def of_another_version(key: str) -> None:
        head = s3.head_object(Bucket=bucket, Key=key)["Metadata"]
        header = {"header": json.dumps(json.loads(head["header"]) | {"version": 3})}
        source = {"Bucket": bucket, "Key": key}
        s3.copy_object(**source, CopySource=source, Metadata=head | header, MetadataDirective="REPLACE")

    kept(THE_DAY_BEFORE, THREE, final=True)
    of_another_version(earlier := kept(YESTERDAY, THREE, final=True))
    pending = kept(DAY, THREE)
    task = runner.run()
    with pytest.raises(AirflowFailException, match=f"CF-STATE-01: .*{earlier} {sentence}"):
        runner.check(task)
    s3.delete_object(Bucket=bucket, Key=earlier)
    of_another_version(pending)
    with pytest.raises(AirflowFailException, match=f"CF-STATE-01: .*{pending} {sentence}"):
        runner.check(task)
    s3.delete_object(Bucket=bucket, Key=pending)
    with pytest.raises(AirflowFailException, match=f"CF-STATE-01: the snapshot .*{pending} is gone or damaged"):
        runner.check(task)
    kept(DAY, THREE, minutes=9)
    output = runner.check(runner.run())
    assert (output["previous"]["what"], output["rows"]) == ("the snapshot of 2026-11-20T00:00:00+00:00", 3)
