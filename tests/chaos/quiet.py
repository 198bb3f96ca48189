"""A quiet point: every run has ended, every question is answered, and what failed was cleared, as a user does it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from tests.chaos.actions import Driver
from tests.chaos.airflow_api import RefusedError
from tests.chaos.installation import Installation
from tests.chaos.killer import Cut
from tests.chaos.plan import Action
from tests.chaos.processes import Cuts
from tests.chaos.schedule import StuckError, stop_schedule

#: Seconds in which all runs of a round must have ended, and how often a failed run is cleared.
QUIET_SECONDS, CLEARED = 1800.0, 2
#: Looks, one a second, that find nothing to wait for: a result starts cohort_figures a moment later.
LOOKS = 4
#: Seconds for which questions wait for the questions of other runs, so that launches begin at once.
TOGETHER = 30.0
#: The cut while they do: what they read and write of one another is then seconds apart.
TOGETHER_CUT = Cut("aws", "delay", 30.0)
#: How many players say no before the first answers, and are erased at the end.
PLAYERS = 2
_ERASURE, _ENGAGEMENT = "cohort_erasure", "engagement"


class QuietPoint:
    """Bring an installation to rest, once or more in a round.

    :param say: prints a line.
    :param kill: is called once a second, and may kill a process.
    :param before_erasure: is called before an erasure.
    """

    def __init__(
        self,
        made: Installation,
        driver: Driver,
        cuts: Cuts,
        say: Callable[[str], None],
        kill: Callable[[], None],
        before_erasure: Callable[[], None],
    ) -> None:
        self._made, self._driver, self._cuts, self._say = made, driver, cuts, say
        self._kill, self._before_erasure = kill, before_erasure
        self._cleared = Counter[tuple[str, str]]()
        self._answered = self._erased = False
        self._asked_at: float | None = None

    def begin(self) -> None:
        """Begin the quiet point of a round: the events until now are there, and are read for the newest as-of."""
        self._answered = self._erased = False
        for action in (Action("write_events", {}), Action("engagement", {})):
            self._do(action)

    def reach(self) -> None:
        """Return when all runs have ended; raise StuckError with the names of those that do not."""
        stop_schedule(self._made)
        end, quiet, active = time.monotonic() + QUIET_SECONDS, 0, list[dict[str, Any]]()
        self._asked_at = None
        while quiet < LOOKS:
            try:
                self._cuts.end()
                active = self._driver.ours.active()
                quiet = 0 if self._act(active) or active else quiet + 1
                self._kill()
            except RefusedError as error:
                quiet = 0
                self._say(f"quiet point: {error}")
            if time.monotonic() > end:
                names = [f"{run['dag_id']} {run['dag_run_id']}: {run['state']}" for run in active]
                raise StuckError(f"after {QUIET_SECONDS:g} s these runs have not ended: {', '.join(names)}")
            time.sleep(1)
        self._cuts.end(every=True)

    def _act(self, active: Sequence[dict[str, Any]]) -> bool:
        """Answer, clear or erase what there is; return whether there was anything."""
        self._driver.late_answers()
        if not active:
            self._driver.note_erased()
        return self._answer(active) or self._clear(active) or (not active and self._erase())

    def _answer(self, active: Sequence[dict[str, Any]]) -> bool:
        """Approve all questions; the first ones at once, when no other run can still ask one, or after a while."""
        waiting = self._driver.ours.questions()
        if not waiting:
            self._asked_at = None
            return False
        if self._asked_at is None:
            self._asked_at = time.monotonic()
        asked = {question["task_instance"]["dag_run_id"] for question in waiting}
        others = [run for run in active if run["dag_run_id"] not in asked]
        if not self._answered and others and time.monotonic() < self._asked_at + TOGETHER:
            return True
        first, self._answered = not self._answered, True
        self._do(Action("lose_answers", {"seconds": 3}))  # mostly answers to mails
        self._do(Action("approve_all", {"noes": PLAYERS if first else 0}))
        if first and len(waiting) > 1:
            self._cuts.begin(TOGETHER_CUT)
        return True

    def _clear(self, active: Sequence[dict[str, Any]]) -> bool:
        """Clear failed runs; return whether there were any.

        A run is cleared once at once, because others may wait for it, and once more when no run is active, because it
        may have failed by another's lock. An erasure fails while any other run is active, and other runs wait for
        `engagement`.
        """
        failed = [run for run in self._driver.ours.runs(state="failed") if self._cleared[_id(run)] < CLEARED]
        wanted = [
            run
            for run in failed
            if run["dag_id"] != _ERASURE and (not active or run["dag_id"] == _ENGAGEMENT or not self._cleared[_id(run)])
        ]
        if not active and not wanted:
            wanted = failed
        for run in wanted:
            self._cleared[_id(run)] += 1
            try:
                self._driver.ours.clear(run)
            except RefusedError as error:
                self._say(f"clearing {run['dag_run_id']}: {error}")
        return bool(wanted)

    def _erase(self) -> bool:
        """Erase players of the newest segment, once in a round; return whether the erasure has begun."""
        if self._erased:
            return False
        self._before_erasure()  # raises RefusedError where Airflow does not answer: the next look tries again
        self._erased = True
        players = self._driver.rows()[:PLAYERS]
        return bool(players) and "run" in self._do(Action("erase", {"players": [*players]}))

    def _do(self, action: Action) -> dict[str, Any]:
        """Do an action of each quiet point. The history does not have it as an action, because a replay does it too."""
        facts = self._driver.do(action)
        self._driver.note({"name": f"quiet {action.name}", "about": action.about, **facts})
        return facts


def _id(run: dict[str, Any]) -> tuple[str, str]:
    return run["dag_id"], run["dag_run_id"]
