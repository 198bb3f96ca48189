"""The driver, the killer and the history, without an installation."""

from __future__ import annotations

import inspect
import os
import random
import re
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from cohort_flywheel.config.registry import read_registry
from local.config import ROOT
from tests.chaos import killer, plan, registry
from tests.chaos.actions import Driver, launch_of, players_asked
from tests.chaos.history import (
    Counts,
    Event,
    History,
    invariants,
    last_installation,
    read,
    related,
    repeatable,
    shrink,
)
from tests.chaos.killer import Process
from tests.chaos.mutations import MUTATIONS, STUCK, found_in, mutate, why_not_found

PLAYERS = [f"player{number:03d}" for number in range(100)]


def seeded(seed: int | str) -> random.Random:
    return random.Random(seed)  # noqa: S311 - no secret


def event(kind: str, number: int = 0, **about: object) -> Event:
    return Event(kind, float(number), float(number), dict(about))  # type: ignore[arg-type]  # of the test


# --- the plan


def test_the_same_seed_gives_the_same_actions() -> None:
    def drawn(seed: str) -> list[plan.Action]:
        rng = seeded(seed)
        return [plan.choose(rng, PLAYERS) for _ in range(300)]

    first = drawn("1:0")
    assert first == drawn("1:0") != drawn("1:1")
    assert {action.name for action in first} == set(plan.WEIGHTS)


def test_the_driver_can_do_each_action_with_its_parameters() -> None:
    rng = seeded(1)
    for action in [plan.choose(rng, PLAYERS) for _ in range(1000)]:
        method = getattr(Driver, f"_{action.name}")
        inspect.signature(method).bind(None, **action.about)


def test_every_way_to_answer_and_to_edit_is_drawn() -> None:
    rng = seeded(1)
    actions = [plan.choose(rng, PLAYERS) for _ in range(3000)]
    assert {each.about["how"] for each in actions if each.name == "answer"} == set(plan.ANSWERS)
    assert {each.about["edit"] for each in actions if each.name == "registry"} == {"template", "holdout", "threshold"}
    assert {each.about["kind"] for each in actions if each.name == "contacts"} == {"no", "address", "deleted"}


def test_a_question_names_its_launch_and_its_players() -> None:
    asked = {"subject": "May ea_atrisk_2_2026-11-22_00-05-00 be launched, to 1,003 players?"}
    assert launch_of(asked).endswith("00-05-00")
    assert players_asked(asked) == 1003
    assert launch_of({"subject": "Another question"}) == ""
    assert players_asked({"subject": "Another question"}) == 0


def test_a_round_begins_with_launches_of_one_cohort_at_two_thresholds() -> None:
    first = plan.first_actions(seeded(1))
    assert [each.name for each in first] == ["lose_answers", "registry", "launch", "launch", "launch", "run"]
    cohort, *thresholds = plan.PAIR
    assert first[1].about == {"cohort": cohort, "edit": "template"}
    launches = [(each.about["cohort"], each.about["threshold"]) for each in first[2:5]]
    assert launches[:2] == [(cohort, each) for each in thresholds]
    assert launches[2][0] != cohort
    for action in first:
        inspect.signature(getattr(Driver, f"_{action.name}")).bind(None, **action.about)


def test_cohorts_and_tasks_are_those_of_the_project() -> None:
    text = (ROOT / "dags" / "cohort_to_segment.py").read_text(encoding="utf-8")
    destinations = "".join(
        path.read_text(encoding="utf-8")
        for path in sorted((ROOT / "plugins/cohort_flywheel/destinations/ses").rglob("*.py"))
    )
    assert [
        task
        for task in plan.TASKS
        if f'task_id="{task}"' not in text + destinations and f"def {task}" not in destinations
    ] == []
    registered = read_registry(ROOT / "include" / "cohorts.yaml").cohorts
    for name, thresholds in plan.COHORTS.items():
        limits = registered[name].threshold_range
        assert all(limits.min <= each <= limits.max for each in thresholds)


# --- the killer


def test_the_shares_of_kills_hold_after_each_of_them() -> None:
    rng, kills = seeded(7), Counter[str]()
    for number in range(1, 1001):
        kills[killer.choose_role(rng, kills)] += 1
        assert sum(kills[role] for role in killer.TASKS_AND_WORKERS) >= 0.8 * number
        assert sum(kills[role] for role in killer.SHARED) <= 0.05 * number
    assert set(kills) == set(killer.SHARES)
    assert sum(killer.SHARES.values()) == pytest.approx(1)


def test_a_process_is_chosen_of_its_role_only() -> None:
    there = [Process("task", 3), Process("worker", 1), Process("task", 2)]
    chosen = {killer.choose_process(seeded(number), there, "task", {}) for number in range(20)}
    assert chosen == {there[0], there[2]}
    assert killer.choose_process(seeded(1), there, "triggerer", {}) is None


def test_the_kills_of_tasks_are_spread_over_them() -> None:
    """Of three tasks that run at once, of which one runs ten times as often."""
    rng, killed = seeded(3), Counter[str]()
    often, seldom = [Process("task", pid, "plan") for pid in range(10)], [Process("task", 50, "enrich")]
    for _ in range(100):
        if chosen := killer.choose_process(rng, [*often, *seldom, Process("task", 60, "report")], "task", killed):
            killed[chosen.task] += 1
    assert killed == {"plan": killer.FEW, "enrich": killer.FEW, "report": killer.FEW}  # then others must appear
    killed = Counter({f"task {number}": 10 for number in range(10)}) + Counter(plan=12)
    assert killer.choose_process(rng, often, "task", killed) is None
    assert killer.choose_process(rng, [Process("worker", 1)], "worker", killed)


def test_another_role_is_one_of_tasks_and_workers() -> None:
    assert killer.another_role([Process("worker", 1), Process("task", 2), Process("scheduler", 3)]) == "task"
    assert killer.another_role([Process("scheduler", 3), Process("worker", 1)]) == "worker"


def test_every_server_is_cut_off_in_every_way() -> None:
    rng = seeded(1)
    cuts = [killer.choose_cut(rng) for _ in range(500)]
    assert {(cut.server, cut.mode) for cut in cuts} == {(s, m) for s in killer.SERVERS for m in killer.CUTS}
    assert all(killer.SECONDS[0] <= cut.seconds <= killer.SECONDS[1] for cut in cuts)


# --- the history


def test_a_history_is_read_again_but_for_a_line_that_was_cut_off(tmp_path: Path) -> None:
    history = History(tmp_path / "seed" / "history.jsonl")
    counts = Counts(10, 2, 7, 1)._asdict()
    for each in (event("start"), event("kill", 1, role="task"), event("round", 2, counts=counts), event("start", 3)):
        history.add(each)
    with history.path.open("a") as file:
        file.write('{"kind": "ki')
    again = History(history.path)
    assert again.events == history.events
    assert (again.rounds(), again.counts()) == (1, Counts(10, 2, 7, 1))
    assert again.of_installation() == [event("start", 3)]


def test_the_line_sums_the_rounds_of_a_seed(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    history.add(event("round", counts=Counts(25, 5, 30, 2)._asdict()))
    history.add(event("violation", counts=Counts(25, 4, 28, 3, 1)._asdict()))
    assert str(history.counts()) == "chaos: 50 kills, 9 cuts, 58 runs, 5 launches, 1 violations"
    assert read(history.path) == history.events


def test_a_round_that_did_not_end_is_remembered(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    for each in (event("start"), event("kill"), event("stuck", name="run a is running"), event("start")):
        history.add(each)
    assert History(history.path).stuck() == ["run a is running"]
    assert history.counts() == Counts()


def test_a_complete_history_is_kept_and_one_with_a_violation_goes_on(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    for violations in (0, 1):
        history.add(
            event("round" if not violations else "violation", counts=Counts(10, violations=violations)._asdict())
        )
        history.set_aside(11)
        assert len(history.events) == 1
        history.set_aside(10)
        assert len(history.events) == violations
        assert len(read(tmp_path / "earlier.jsonl")) == 1
    assert read(history.path)[-1].kind == "violation"


def test_only_what_was_done_is_repeated_and_what_names_a_subject_is_related() -> None:
    events = [
        event("start"), event("action", 1, name="erase", about={"players": ["wayne96"]}), event("done", 2, run="r1"),
        event("action", 3, name="what_if", about={"cohort": "ea_duty"}), event("kill", 4, role="task"),
    ]  # fmt: skip
    assert [each.at for each in repeatable(events)] == [1, 3, 4]
    assert [each.at for each in related(events, ["wayne96", ""])] == [1, 4]


def test_an_action_is_related_by_its_outcome_and_kills_and_cuts_are_by_their_time() -> None:
    def launch(number: int, threshold: int) -> Event:
        return event("action", number, name="launch", about={"cohort": "ea_atrisk", "threshold": threshold})

    events = [
        event("kill", 10, role="task"), event("cut", 60, server="aws"), launch(100, 1),
        event("done", 101, name="launch", run="manual__1"), event("kill", 150, role="task"), launch(200, 0),
        event("done", 201, name="launch", run="manual__2"), event("kill", 300, role="task"),
    ]  # fmt: skip
    assert [each.at for each in related(events, ["manual__1"])] == [60, 100, 150]
    assert [each.at for each in related(events, ["ea_atrisk_0_2026-11-22_00-05-00"])] == [150, 200]


def test_a_replay_repeats_the_last_installation_and_shows_the_same_invariant() -> None:
    found = event("violation", 3, violations=[["mailed once", "a player was mailed twice", ["wayne96"]]])
    events = [event("start"), event("kill", 1), event("start", 2), event("kill", 2), found]
    assert last_installation(events) == events[2:]
    assert last_installation(events[3:]) == events[3:]
    assert invariants(events) == {"mailed once"}
    assert invariants(events[:3]) == set()


def test_the_coverage_is_that_of_the_last_quiet_point_of_each_installation(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    for each in (1, 5):
        history.add(event("start"))
        history.add(event("round", coverage={"mails": each, "erasures": 0}))
    history.add(event("round", coverage={"mails": 7, "erasures": 0}))
    assert history.coverage() == {"mails": 8, "erasures": 0}


@pytest.mark.parametrize("guilty", [[3], [0, 19], [4, 5, 6]])
def test_a_history_shrinks_to_the_events_that_show_the_violation(guilty: list[int]) -> None:
    events = [event("action", number) for number in range(20)]

    def shows(some: Sequence[Event]) -> bool:
        return set(guilty) <= {int(each.at) for each in some}

    assert [each.at for each in shrink(events, shows, 200)] == guilty
    few = shrink(events, shows, 3)
    assert shows(few)
    assert len(few) <= 20


# --- the registry and the mutations


def test_the_registry_of_the_installation_is_valid_after_each_edit(tmp_path: Path) -> None:
    registry.prepare(tmp_path, 2)
    for path in sorted((tmp_path / "dags").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        compile(text, path.name, "exec")
        assert "timedelta(seconds=2)" in text
    for cohort in plan.COHORTS:
        for change in ("template", "holdout", "threshold"):
            assert registry.edit(tmp_path, cohort, change)["written"]
    found = read_registry(tmp_path / "include" / "cohorts.yaml")
    assert (found.schedule, found.destination, found.engagement.read_events) == (
        f"*/{plan.MINUTES} * * * *",
        "ses",
        True,
    )
    assert len({each.campaign.template for each in found.cohorts.values() if each.campaign}) == len(plan.COHORTS)
    percents = yaml.safe_load((tmp_path / "include" / "cohorts.yaml").read_text(encoding="utf-8"))["cohorts"]
    assert {each["holdout_percent"] for each in percents.values()} == {6}


def test_an_edit_has_the_dag_files_parsed(tmp_path: Path) -> None:
    registry.prepare(tmp_path, 2)
    paths = sorted((tmp_path / "dags").glob("*.py"))
    now = time.time()
    for path in paths:
        os.utime(path, (now - 1000, now - 1000))
    registry.edit(tmp_path, "ea_atrisk", "holdout")
    assert paths
    assert all(path.stat().st_mtime > now for path in paths)


def test_the_output_of_a_mutation_says_why_it_was_not_found() -> None:
    quiet = "[12:00:00] quiet: chaos: 15 kills; {} mails, 3 reports compared\n"
    assert found_in("lock_removed", f"{quiet.format(3)}mailed once: a player was mailed twice\n") == ["mailed once"]
    assert found_in("lock_removed", f"{quiet.format(3)}approved: another invariant\n") == []
    assert why_not_found(quiet.format(0) + quiet.format(12)) == "not found"
    assert why_not_found(quiet.format(0)) == "nothing was mailed"
    assert why_not_found(f"{STUCK}: after 1800 s these runs have not ended\n") == "stuck"
    assert why_not_found("Traceback\n") == "no quiet point was reached"


@pytest.mark.parametrize("name", sorted(MUTATIONS))
def test_each_mutation_changes_the_package_and_names_an_invariant(name: str, tmp_path: Path) -> None:
    package = ROOT / "plugins" / "cohort_flywheel"
    for file in {change.file for change in MUTATIONS[name].changes}:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(package / file, tmp_path / file)
    mutate(tmp_path, name)
    for file in {change.file for change in MUTATIONS[name].changes}:
        text = (tmp_path / file).read_text(encoding="utf-8")
        assert text != (package / file).read_text(encoding="utf-8")
        compile(text, file, "exec")
    source = "".join(path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("checker/*.py")))
    assert [each for each in MUTATIONS[name].found_by if not re.search(rf'Violation\(\s*"{each}"', source)] == []


def test_there_are_at_least_ten_mutations() -> None:
    assert len(MUTATIONS) >= 10
