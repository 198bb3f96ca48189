"""Have the scheduler make no runs by the schedule for a while. A paused DAG would not continue its runs."""

from __future__ import annotations

import signal
import time
from contextlib import closing

import psycopg2  # type: ignore[import-untyped,unused-ignore]  # Airflow's driver of PostgreSQL has no types

from tests.chaos import registry
from tests.chaos.installation import DAG_ID, SCHEDULED, Installation
from tests.chaos.processes import dag_processors, send_signal

#: Seconds in which the database has recovered from a kill, and in which a statement gets its locks.
DATABASE_SECONDS, LOCK_SECONDS = 60.0, 5


class StuckError(Exception):
    """The installation does not come to rest: the text says what does not end."""


def stop_schedule(made: Installation) -> None:
    """Delete the times of the next runs; the DAG processor writes them at each parse, so it is stopped meanwhile.

    Raises StuckError if the database refuses it for a minute.
    """
    end = time.monotonic() + DATABASE_SECONDS
    while True:
        stopped, why = dag_processors(made.supervisor), "no DAG processor runs"
        for pid in stopped:
            send_signal(pid, signal.SIGSTOP)
        if stopped:
            try:
                _delete_next_runs(made)
                if dag_processors(made.supervisor) == stopped:
                    return
                why = "another DAG processor has begun"
            except psycopg2.Error as error:  # in recovery after a kill, or the stopped process holds a lock
                why = f"PostgreSQL: {error}"
        continue_processes(made)
        if time.monotonic() > end:
            raise StuckError(f"the schedule could not be stopped in {DATABASE_SECONDS:g} s: {why}")
        time.sleep(1)


def continue_schedule(made: Installation) -> None:
    """Have the DAG processor parse all files, which writes the times of the next runs."""
    continue_processes(made)
    registry.touch(made.folder)


def continue_processes(made: Installation) -> None:
    for pid in dag_processors(made.supervisor):
        send_signal(pid, signal.SIGCONT)


def _delete_next_runs(made: Installation) -> None:
    url = made.database_url.replace("+psycopg2", "")
    database = psycopg2.connect(url, options=f"-c lock_timeout={LOCK_SECONDS}s", connect_timeout=10)
    with closing(database), database, database.cursor() as cursor:
        never = "UPDATE dag SET next_dagrun_create_after = NULL WHERE dag_id LIKE %s OR dag_id = ANY(%s)"
        cursor.execute(never, (f"{DAG_ID}\\_\\_%", list(SCHEDULED)))
