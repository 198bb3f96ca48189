"""One installation under chaos: rounds of actions, kills and cuts, each with a quiet point at its end."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence

from pydantic import JsonValue

from tests.chaos import killer, plan, registry
from tests.chaos.actions import Driver
from tests.chaos.airflow_api import RefusedError
from tests.chaos.checker import results
from tests.chaos.checker.checks import check
from tests.chaos.checker.coverage import coverage
from tests.chaos.checker.read import Reader
from tests.chaos.checker.world import STATE, Violation, World
from tests.chaos.history import Counts, Event, History, Kind
from tests.chaos.installation import DAGS, Installation, put_graph_files
from tests.chaos.killer import Cut, Process
from tests.chaos.plan import Action
from tests.chaos.processes import Cuts, kill, processes
from tests.chaos.quiet import QuietPoint
from tests.chaos.schedule import StuckError, continue_schedule

#: What a step is, drawn by these weights, and the seconds between two steps.
STEPS = {"action": 2, "kill": 4, "cut": 1}
PAUSE = (0.5, 4.5)
#: The longest wait before a kill, and the seconds in which a process of the chosen role appears: else one of another
#: role is killed. Without any process that may be killed the failed runs of `engagement` are cleared instead.
AIM, APPEARS, NONE = 1.0, 2.0, 15.0
#: Seconds without any kill after which a round is given up.
IDLE = 1800.0
#: The tasks that mostly run at a quiet point, after an answer, and how often each is killed there; the longest wait
#: before such a kill.
QUIET_KILLS = {
    "verify_segment": 1, "record_result": 1, "prepare_campaign": 1, "approve_campaign": 1, "launch_campaign": 6,
}  # fmt: skip
QUIET_AIM = 5.0
#: How often a launch is killed while it mails, the longest wait for its first batch, and the longest wait after the
#: intents of the batch are written. The mails take less than a second.
AMID_MAILS, BATCH_BEGINS, MAILING = 0.7, 15.0, 0.5
#: How often a quiet point is sought again because a run has begun while the world was read.
TRIES = 3
#: How often the players of an action are those of the newest segment.
OF_A_SEGMENT = 0.3


class Session:
    """Drive an installation, and check it.

    :param history: where each event is written before the next one happens.
    :param say: prints a line.
    """

    def __init__(self, made: Installation, history: History, say: Callable[[str], None]) -> None:
        self.made, self.history, self.say = made, history, say
        self.driver = Driver(made, lambda facts: self._note("done", facts))
        self.reader, self.cuts = Reader(made), Cuts(made)
        self.quiet = QuietPoint(made, self.driver, self.cuts, say, self._kill_at_quiet_point, self._look_before_erasure)
        self.players = self.driver.players()
        self._first_addresses = {k: str(v) for k, v in self.driver.addresses().items()}
        self._began = time.time()
        self._kills, self._killed = Counter[str](), Counter[str]()
        self._quiet_killed, self._quiet_rng = Counter[str](), random.Random(0)  # noqa: S311 - no secret
        self._cuts = 0
        self._before = Counts()
        #: of this quiet point: what was found and compared before its erasure, and the texts that were read
        self._found, self._compared, self._texts = list[Violation](), 0, list[tuple[str, str]]()

    def begin(self, seed: str) -> None:
        """Wait for the DAGs, switch them on, and note the start."""
        put_graph_files(self.made)
        end, again = time.monotonic() + 600, time.monotonic() + 120
        for dag_id in DAGS:
            while True:
                try:
                    self.driver.ours.pause(dag_id, False)
                    break
                except RefusedError:
                    if time.monotonic() > end:
                        raise StuckError(f"the DAG {dag_id} was not listed in ten minutes") from None
                    time.sleep(2)
                    if time.monotonic() > again:  # a file whose parse has failed is parsed again after ten minutes
                        registry.touch(self.made.folder)
                        again = time.monotonic() + 60
        self._note("start", {"name": seed})

    # --- a round

    def play(self, rng: random.Random, kills: int) -> list[Violation]:
        """Actions, kills and cuts until so many processes were killed; then a quiet point. Returns the violations."""
        until = sum(self._kills.values()) + kills
        for action in plan.first_actions(rng):
            self._act(action)
        killed_at = time.monotonic()
        while (now := sum(self._kills.values())) < until:
            time.sleep(rng.uniform(*PAUSE) / plan.PACE)
            step = rng.choices(list(STEPS), list(STEPS.values()))[0]
            rows = self.driver.rows() if rng.random() < OF_A_SEGMENT and not self.cuts.stopped else []
            action = plan.choose(rng, sorted(rows) or self.players)
            role, cut = killer.choose_role(rng, self._kills), killer.choose_cut(rng)
            self._between()
            if step == "action":
                self._act(action)
            elif step == "kill":
                self._kill(rng, role)
            else:
                self._cut(cut)
            if sum(self._kills.values()) > now:
                killed_at = time.monotonic()
            elif time.monotonic() > killed_at + IDLE:
                raise StuckError(f"nothing could be killed in {IDLE / 60:g} minutes")
        return self._end_round()

    def replay(self, events: Sequence[Event]) -> list[Violation]:
        """The same actions, kills, cuts and quiet points, at the same seconds after the start; then a quiet point."""
        began = time.time()
        for event in events:
            while time.time() < began + event.after:
                time.sleep(0.5)
                self._between()
            about = event.about
            if event.kind == "action":
                values = about["about"]
                assert isinstance(values, dict)
                self._act(Action(event.name, values))
            elif event.kind == "kill":
                self._kill(random.Random(event.name), str(about["role"]), str(about["task"]))  # noqa: S311 - no secret
            elif event.kind == "round":
                if found := self._end_round():
                    return found
                began = time.time() - event.after  # it may have taken more time, or less
            else:
                self._cut(Cut(str(about["server"]), str(about["mode"]), float(str(about["seconds"]))))
        return self._end_round()

    def _between(self) -> None:
        self.cuts.end()
        if not self.cuts.stopped:
            try:
                self.driver.late_answers()
            except RefusedError as error:
                self.say(f"late answer: {error}")

    def _act(self, action: Action) -> None:
        if self.cuts.stopped:
            return
        self._note("action", {"name": action.name, "about": action.about})
        self._note("done", {"name": action.name, **self.driver.do(action)})

    def _kill(self, rng: random.Random, role: str, task: str = "") -> None:
        """Kill a process of a role; choose again until one dies.

        :param task: of a replay, whose kill hits this task if it runs soon, else any.
        """
        began, title = time.monotonic(), ""
        while not title:
            waited = time.monotonic() - began
            if waited > NONE:
                self.say(f"nothing to kill in {NONE:g} s: failed runs of engagement are cleared")
                self._act(Action("clear_engagement", {}))
                return
            there = processes(self.made)
            if task and waited < APPEARS:
                there = [each for each in there if each.task == task]
            elif waited > APPEARS and not any(each.role == role for each in there):
                role = killer.another_role(there)
            chosen = killer.choose_process(rng, there, role, {} if task else self._killed)
            # a task's process lives some seconds: any of them
            time.sleep(0.2 if chosen is None else rng.uniform(0, AIM) / plan.PACE)
            title = kill(role, chosen.pid) if chosen else ""
        assert chosen
        self._note_kill(chosen, title, {})

    def _kill_at_quiet_point(self) -> None:
        """Kill a task of QUIET_KILLS that runs; the kills of `play` rarely meet one. A replay does the same."""
        rng, wanted = self._quiet_rng, list[Process]()
        for each in processes(self.made):
            task = each.task.rpartition(".")[2]
            if each.role in killer.OF_ONE_TASK and self._quiet_killed[task] < QUIET_KILLS.get(task, 0):
                wanted.append(each)
        if not wanted:
            return
        chosen = rng.choice(sorted(wanted))
        if chosen.task.endswith(".launch_campaign") and rng.random() < AMID_MAILS:
            self._wait_for_mails(rng)
        else:
            time.sleep(rng.uniform(0, QUIET_AIM))
        if chosen in processes(self.made) and (title := kill(chosen.role, chosen.pid)):
            self._quiet_killed[chosen.task.rpartition(".")[2]] += 1
            self._note_kill(chosen, title, {"quiet": True})

    def _wait_for_mails(self, rng: random.Random) -> None:
        """Wait until a launch writes the intents of a batch, and then until some of its mails may be sent."""
        before, end = self.driver.batches(), time.monotonic() + BATCH_BEGINS
        while self.driver.batches() == before and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(rng.uniform(0, MAILING))

    def _note_kill(self, process: Process, title: str, facts: dict[str, JsonValue]) -> None:
        role = process.role
        self._kills[role] += 1
        if role in killer.OF_ONE_TASK:
            self._killed[process.task] += 1
        about: dict[str, JsonValue] = {"role": role, "task": process.task, "title": title}
        self._note("kill", {"name": f"{role} {process.pid}", **about, **facts})
        self.say(f"kill {sum(self._kills.values())}: {role} {process.task or title[:60]}")

    def _cut(self, cut: Cut) -> None:
        if self.cuts.begin(cut):
            self._cuts += 1
            self._note("cut", {"name": f"{cut.server} {cut.mode}", **cut._asdict()})

    # --- a quiet point

    def _end_round(self) -> list[Violation]:
        self.cuts.end(every=True)
        self._quiet_killed.clear()
        # a replay has the same seeds, as it begins with a new installation
        rounds = sum(event.kind == "round" for event in self.history.of_installation())
        self._quiet_rng = random.Random(f"quiet {rounds}")  # noqa: S311 - no secret
        self._found, self._compared, self._texts = [], 0, []
        self.quiet.begin()
        world = self._quiet_world()
        again = {(each.invariant, each.sentence) for each in self._found}
        found = [*self._found, *(each for each in check(world) if (each.invariant, each.sentence) not in again)]
        counts, kind = self._counted(world, len(found)), "violation" if found else "round"
        compared = max(self._compared, results.compared(world))
        about: dict[str, JsonValue] = {"counts": counts._asdict(), "compared": compared}
        about["coverage"] = coverage(world)._asdict()
        about["violations"] = [[each.invariant, each.sentence, list(each.subjects)] for each in found]
        self._note("violation" if kind == "violation" else "round", about)
        self.say(
            f"quiet: {counts}; {len(world.mails)} mails, {compared} reports compared player by player;"
            f" {killer.shares(self._kills)}"
        )
        continue_schedule(self.made)
        return found

    def _look_before_erasure(self) -> None:
        """Check the world before the erasure of a quiet point, which removes some of what can be compared."""
        if world := self._world_at_rest():
            self._found, self._compared = check(world), results.compared(world)

    def _world_at_rest(self) -> World | None:
        """Read the world, with all texts of this quiet point; None if a run has begun meanwhile."""
        runs = self.driver.ours.total_runs()
        world = self.reader.world(self.history.of_installation(), self._first_addresses)
        self._texts += world.texts
        world.texts = list(self._texts)  # each reading has only what is new
        if not self.driver.ours.active() and self.driver.ours.total_runs() == runs:
            return world
        self.say("a run has begun while the world was read")
        return None

    def _quiet_world(self) -> World:
        """Read the world while no run is active."""
        for _ in range(TRIES):
            self.quiet.reach()
            if world := self._world_at_rest():
                return world
        raise StuckError(f"{TRIES} times a run has begun while the world was read")

    def clean_up(self) -> None:
        """Run `cohort_cleanup` once; raise StuckError if it fails."""
        self.quiet.reach()
        self.driver.ours.pause("cohort_cleanup", False)
        run = self.driver.ours.trigger("cohort_cleanup", {"keep_days": 1, "dry_run": False})
        self.quiet.reach()
        (state,) = [each["state"] for each in self.driver.ours.runs("cohort_cleanup") if each["dag_run_id"] == run]
        if state != "success":
            raise StuckError(f"cohort_cleanup has ended as {state}: run {run}")

    def _counted(self, world: World, violations: int) -> Counts:
        """The counts of this round alone."""
        launches = sum(1 for _ in world.below(STATE, "launches/", "/launch.json"))
        total = Counts(sum(self._kills.values()), self._cuts, self.driver.ours.total_runs(), launches)
        counts = Counts(*(now - before for now, before in zip(total, self._before, strict=True)))
        self._before = total
        return counts._replace(violations=violations)

    def _note(self, kind: Kind, about: dict[str, JsonValue]) -> None:
        now = time.time()
        self.history.add(Event(kind, now, round(now - self._began, 1), about))
