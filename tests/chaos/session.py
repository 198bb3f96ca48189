"""One installation under chaos: rounds of actions, kills and cuts, each with a quiet point at its end."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing

import psycopg2  # type: ignore[import-untyped,unused-ignore]  # Airflow's driver of PostgreSQL has no types
from pydantic import JsonValue

from tests.chaos import killer, plan
from tests.chaos.actions import Driver
from tests.chaos.airflow_api import RefusedError
from tests.chaos.checker import results
from tests.chaos.checker.checks import check
from tests.chaos.checker.read import Reader
from tests.chaos.checker.world import STATE, Violation, World
from tests.chaos.history import Counts, Event, History, Kind
from tests.chaos.installation import DAGS, SCHEDULED, Installation, put_graph_files
from tests.chaos.killer import Cut
from tests.chaos.plan import APPROVER, Action
from tests.chaos.processes import Cuts, kill, processes, send_signal, started

#: What a step is, drawn by these weights, and the seconds between two steps.
STEPS = {"action": 6, "kill": 2, "cut": 1}
PAUSE = (0.5, 5.5)
#: Seconds in which a process of the chosen role appears; else the step is left out.
APPEARS = 8.0
#: Seconds in which all runs of a round must have ended, and how often a failed run is cleared.
QUIET_SECONDS, CLEARED = 1800.0, 2


class StuckError(Exception):
    """Runs did not end: the text names them."""


class Session:
    """Drive an installation, and check it.

    :param history: where each event is written before the next one happens.
    :param say: prints a line.
    """

    def __init__(self, made: Installation, history: History, say: Callable[[str], None]) -> None:
        self.made, self.history, self.say = made, history, say
        self.driver, self.reader, self.cuts = Driver(made), Reader(made), Cuts(made)
        self.players = self.driver.players()
        self._first_addresses = {k: str(v) for k, v in self.driver.addresses().items()}
        self._began = time.time()
        self._kills: Counter[str] = Counter()
        self._cuts = 0
        self._before = Counts()
        self._erasures: dict[str, list[str]] = {}
        self._cleared: Counter[tuple[str, str]] = Counter()

    def begin(self, seed: str) -> None:
        """Wait for the DAGs, switch them on, and note the start."""
        put_graph_files(self.made)
        end = time.monotonic() + 600
        for dag_id in DAGS:
            while True:
                try:
                    self.driver.ours.pause(dag_id, False)
                    break
                except RefusedError:
                    if time.monotonic() > end:
                        raise StuckError(f"the DAG {dag_id} was not listed in ten minutes") from None
                    time.sleep(2)
        self._note("start", {"name": seed})

    # --- a round

    def play(self, rng: random.Random, kills: int) -> list[Violation]:
        """Actions, kills and cuts until so many processes were killed; then a quiet point. Returns the violations."""
        until = sum(self._kills.values()) + kills
        for cohort in rng.sample(sorted(plan.COHORTS), 2):  # something to kill
            threshold = plan.COHORTS[cohort][-1]
            self._act(Action("launch", {"cohort": cohort, "threshold": threshold, "campaign": "launch"}))
        while sum(self._kills.values()) < until:
            time.sleep(rng.uniform(*PAUSE))
            step = rng.choices(list(STEPS), list(STEPS.values()))[0]
            action = plan.choose(rng, self.players)
            role, cut = killer.choose_role(rng, self._kills), killer.choose_cut(rng)
            self._between()
            if step == "action":
                self._act(action)
            elif step == "kill":
                self._kill(rng, role)
            else:
                self._cut(cut)
        return self._end_round()

    def replay(self, events: Sequence[Event]) -> list[Violation]:
        """The same actions, kills and cuts, at the same seconds after the start; then a quiet point."""
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
                self._kill(random.Random(event.name), str(about["role"]))  # noqa: S311 - no secret
            else:
                self._cut(Cut(str(about["server"]), str(about["mode"]), float(str(about["seconds"]))))
        return self._end_round()

    def _between(self) -> None:
        self.cuts.end()
        if not self.cuts.stopped:
            try:
                for facts in self.driver.late_answers():
                    self._note("done", {"name": "late answer", **facts})
            except RefusedError as error:
                self.say(f"late answer: {error}")

    def _act(self, action: Action) -> None:
        if self.cuts.stopped:
            return
        self._note("action", {"name": action.name, "about": action.about})
        facts = self.driver.do(action)
        if (run := facts.get("run")) and isinstance(erasing := facts.get("erasing"), list):
            self._erasures[str(run)] = [str(player) for player in erasing]
        self._note("done", {"name": action.name, **facts})

    def _kill(self, rng: random.Random, role: str) -> None:
        end = time.monotonic() + APPEARS
        while (pid := killer.choose_process(rng, processes(self.made), role)) is None:
            if time.monotonic() > end:
                return
            time.sleep(0.3)
        time.sleep(rng.uniform(0, 3))  # a task's process lives some seconds: any of them
        title = kill(role, pid)
        if title:
            self._kills[role] += 1
            self._note("kill", {"name": f"{role} {pid}", "role": role, "title": title})
            self.say(f"kill {sum(self._kills.values())}: {title}")

    def _cut(self, cut: Cut) -> None:
        if self.cuts.begin(cut):
            self._cuts += 1
            self._note("cut", {"name": f"{cut.server} {cut.mode}", **cut._asdict()})

    # --- a quiet point

    def _end_round(self) -> list[Violation]:
        self.cuts.end(every=True)
        self._quieten()
        world = self.world()
        found = check(world)
        counts, kind = self._counted(world, len(found)), "violation" if found else "round"
        compared = results.compared(world)
        about: dict[str, JsonValue] = {"counts": counts._asdict(), "compared": compared}
        about["violations"] = [[each.invariant, each.sentence, list(each.subjects)] for each in found]
        self._note("violation" if kind == "violation" else "round", about)
        self.say(f"quiet: {counts}; {compared} reports compared player by player; {killer.shares(self._kills)}")
        self._schedule(on=True)
        return found

    def world(self) -> World:
        return self.reader.world(self.history.of_installation(), self._first_addresses)

    def _counted(self, world: World, violations: int) -> Counts:
        """The counts of this round alone."""
        launches = sum(1 for _ in world.below(STATE, "launches/", "/launch.json"))
        total = Counts(sum(self._kills.values()), self._cuts, self.driver.ours.total_runs(), launches)
        counts = Counts(*(now - before for now, before in zip(total, self._before, strict=True)))
        self._before = total
        return counts._replace(violations=violations)

    def _quieten(self) -> None:
        """Let all runs end, answer what waits, and clear what failed, as a user does."""
        self._schedule(on=False)
        self._wait()
        for _ in range(CLEARED):
            for run in self.driver.ours.runs(state="failed"):
                self._cleared[which := (run["dag_id"], run["dag_run_id"])] += 1
                if self._cleared[which] > CLEARED:
                    continue  # it fails for a reason of its own
                try:
                    self.driver.ours.clear(run)
                except RefusedError as error:
                    self.say(f"clearing {run['dag_run_id']}: {error}")
            self._wait()
        self._note_erasures()

    def _note_erasures(self) -> None:
        states = {run["dag_run_id"]: run["state"] for run in self.driver.ours.runs(dag_ids=["cohort_erasure"])}
        for run, players in list(self._erasures.items()):
            if states.get(run) == "success":
                del self._erasures[run]
                self._note("done", {"name": "erased", "run": run, "erased": [*players]})

    def _wait(self) -> None:
        """Wait until no run is active; approve what is asked meanwhile."""
        end, quiet = time.monotonic() + QUIET_SECONDS, 0
        while quiet < 2:  # a result starts cohort_figures a moment later
            self._between()
            for question in self.driver.ours.questions():
                facts = self.driver.answer(question, APPROVER, "Approve")
                self._note("done", {"name": "answer", **facts})
            active = self.driver.ours.active()
            quiet = 0 if active else quiet + 1
            if time.monotonic() > end:
                names = [f"{run['dag_id']} {run['dag_run_id']}: {run['state']}" for run in active]
                raise StuckError(f"after {QUIET_SECONDS:g} s these runs have not ended: {', '.join(names)}")
            time.sleep(3)

    def _schedule(self, *, on: bool) -> None:
        """Have the scheduler make no runs by the schedule, or make them again.

        A paused DAG would not continue its runs. The DAG processor writes the time of the next run at each parse, so it
        is stopped meanwhile.
        """
        pid = started(self.made.folder).get("dag-processor", 0)
        if on:
            send_signal(pid, signal.SIGCONT)
            return
        send_signal(pid, signal.SIGSTOP)
        database = psycopg2.connect(self.made.database_url.replace("+psycopg2", ""))
        with closing(database), database, database.cursor() as cursor:
            never = "UPDATE dag SET next_dagrun_create_after = NULL WHERE dag_id LIKE %s OR dag_id = ANY(%s)"
            cursor.execute(never, ("cohort_to_segment__%", list(SCHEDULED)))

    def _note(self, kind: Kind, about: dict[str, JsonValue]) -> None:
        now = time.time()
        self.history.add(Event(kind, now, round(now - self._began, 1), about))
