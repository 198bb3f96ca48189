"""`make faults`: every case; the last line counts them."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from itertools import chain
from pathlib import Path

from local import config, seed
from local.servers import running

# before anything imports Airflow: it would make a home in the user's
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-of-faults-")
os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "WARNING"
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)
sys.path.insert(0, str(config.ROOT / "plugins"))


def main() -> int:
    """Try every case; words on the command line choose those whose names have one of them."""
    from tests.faults.harness import a_world, own_graph, tried
    from tests.faults.sites import GRAPH, RESTARTED, Case, cases
    from tests.faults.tally import Tally

    settings, words = config.load(), sys.argv[1:]
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    with running(run_dir=folder / "servers", config=settings) as addresses:
        seed.seed(addresses, settings)
        with a_world(addresses, settings, folder) as world, own_graph(settings, folder / "graph") as graph:
            restarted = [Case(site, RESTARTED) for site in world.sites if site.service == GRAPH][:1]
            here, last = (
                [case for case in some if not words or any(word in str(case) for word in words)]
                for some in (cases(world.sites), restarted)
            )
            tally = Tally(world.sites)
            for outcome in chain(tried(world, here), tried(world, last, graph)):
                tally.add(outcome.case, outcome.wrong)
                place = f"{len(tally.tried):4}/{len(here + last)}"
                print(f"{place} {outcome.seconds:4.1f} s  {outcome.case}", flush=True)
                for sentence in outcome.wrong:
                    print(f"          {sentence}", flush=True)
    if not tally.failed:
        shutil.rmtree(folder)
    print(tally)
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
