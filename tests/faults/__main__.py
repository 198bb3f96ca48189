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
    """Try every case of every world; words on the command line choose those whose names have one of them."""
    from tests.faults.harness import DESTINATIONS, a_world, tried
    from tests.faults.killable_graph import own_graph
    from tests.faults.sites import GRAPH, RESTARTED, Case, cases
    from tests.faults.tally import Tally, total

    settings, words = config.load(), sys.argv[1:]
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    tallies = []
    with (
        running(run_dir=folder / "servers", config=settings) as addresses,
        own_graph(settings, folder / "graph") as graph,
    ):
        seed.seed(addresses, settings)
        for destination in DESTINATIONS:
            with a_world(addresses, settings, folder / destination, destination) as world:
                restarted = [Case(site, RESTARTED) for site in world.sites if site.service == GRAPH][:1]
                here, last = (
                    [case for case in some if not words or any(word in f"{destination}: {case}" for word in words)]
                    for some in (cases(world.sites), restarted)
                )
                print(f"{destination}: {world.left_out()}", flush=True)
                tally = Tally(world.sites)
                for outcome in chain(tried(world, here), tried(world, last, graph)):
                    tally.add(outcome.case, outcome.wrong)
                    number = f"{len(tally.tried):4}/{len(here + last)}"
                    print(f"{number} {outcome.seconds:4.1f} s  {destination}: {outcome.case}", flush=True)
                    for sentence in outcome.wrong:
                        print(f"          {sentence}", flush=True)
                tallies.append(tally)
    failed = any(tally.failed for tally in tallies)
    if not failed:
        shutil.rmtree(folder)
    for destination, tally in zip(DESTINATIONS, tallies, strict=True):
        print(f"{destination}: {tally}")
    print(total(*tallies))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
