"""`make faults`: every case; the last line counts them."""

from __future__ import annotations

import argparse
import atexit
import os
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from local import config, seed
from local.servers import running

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from local.config import Config
    from tests.faults.fault_report import FaultReport
    from tests.faults.harness import Outcome, World
    from tests.faults.results import Results
    from tests.faults.sites import Case

# before anything imports Airflow: it would make a home in the user's
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-of-faults-")
os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "WARNING"
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)
sys.path.insert(0, str(config.ROOT / "plugins"))


def main() -> int:
    """Try the cases of all worlds that were not survived yet with the code as it is."""
    from tests.faults import code
    from tests.faults.fault_report import FaultReport, total
    from tests.faults.harness import DESTINATIONS, a_world
    from tests.faults.results import Results, Survived

    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("words", nargs="*", help="only cases whose names have one of these words")
    parser.add_argument("--changed", action="store_true", help="only tasks whose code has changed since main")
    parser.add_argument("--fresh", action="store_true", help="also what earlier commands have tried")
    arguments = parser.parse_args()
    changed = code.changed_since(code.merge_base()) if arguments.changed else None
    if changed is not None and not changed:
        print("No function of the package has changed since main.\nfaults: 0 tried")
        return 0
    settings, results, began = config.load(), Results(), time.monotonic()
    if arguments.fresh:
        results.forget()
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    with ExitStack() as stack:
        addresses = stack.enter_context(running(run_dir=folder / "servers", config=settings))
        seed.seed(addresses, settings)
        names = _named(DESTINATIONS, arguments.words)
        worlds = [stack.enter_context(a_world(addresses, settings, folder / name, name)) for name in names]
        reports = {world.destination: FaultReport(world.destination, world.sites) for world in worlds}
        for world in worlds:
            print(f"{world.destination}: {world.left_out()}", flush=True)
        chosen = list(_chosen(worlds, arguments.words, changed))
        for outcome in _outcomes(worlds, chosen, results, reports, settings, folder):
            reports[outcome.destination].add(outcome.case, outcome.wrong, stopped=outcome.stopped)
            if not outcome.wrong:
                survived = Survived(outcome.rejoined, outcome.stopped)
                results.add(f"{outcome.destination}: {outcome.case}", outcome.ran, survived)
            number = f"{sum(report.done for report in reports.values()):4}/{len(chosen)}"
            took = f"{outcome.seconds:4.1f} s ({outcome.cpu_seconds:.1f} CPU)"
            print(f"{number} {took} {outcome.destination}: {outcome.case}", flush=True)
            for sentence in outcome.wrong:
                print(f"          {sentence}", flush=True)
    results.close()
    failed = any(report.failed for report in reports.values())
    if not failed:
        shutil.rmtree(folder)
    for report in reports.values():
        print(f"{report.destination}: {report}")
    print(f"{(time.monotonic() - began) / 60:.0f} minutes")
    print(total(*reports.values()))
    return 1 if failed else 0


def _named(names: Sequence[str], words: list[str]) -> list[str]:
    """The worlds that have such cases: those that the words begin with, if each begins with one; else all."""
    found = {name for name in names for word in words if word.startswith(f"{name}:")}
    each = all(word.startswith(tuple(f"{name}:" for name in names)) for word in words)
    return [name for name in names if not found or not each or name in found]


def _chosen(worlds: list[World], words: list[str], changed: set[str] | None) -> Iterator[tuple[World, Case]]:
    """The cases that the command asks for."""
    from tests.faults import code
    from tests.faults.harness import DESTINATIONS
    from tests.faults.sites import GRAPH, RESTARTED, Case, cases

    tasks = None
    if changed is not None:
        ran_by = {f"{world.destination}: {task}": names for world in worlds for task, names in world.code.items()}
        tasks = code.touched(changed, ran_by)
        print(f"changed since main: {', '.join(sorted(tasks)) or 'no task'}", flush=True)
    for world in worlds:
        restarted = [
            Case(site, RESTARTED)
            for site in world.sites
            if site.service == GRAPH and world.destination == DESTINATIONS[0]
        ][:1]
        for case in cases(world.sites) + restarted:
            name = f"{world.destination}: {case}"
            if (not words or any(word in name for word in words)) and (
                tasks is None or f"{world.destination}: {world.task_of(case.site)}" in tasks
            ):
                yield world, case


def _outcomes(
    worlds: list[World],
    chosen: list[tuple[World, Case]],
    results: Results,
    reports: dict[str, FaultReport],
    settings: Config,
    folder: Path,
) -> Iterator[Outcome]:
    """Try what is neither known nor equal to another case; then what is equal to one that did not end as it should."""
    from tests.faults.equal import equal_cases
    from tests.faults.harness import tried
    from tests.faults.killable_graph import own_graph
    from tests.faults.sites import RESTARTED

    twins = {}
    for number, world in enumerate(worlds):
        for case, other in equal_cases(
            world, worlds[:number], [case for each, case in chosen if each is world]
        ).items():
            twins[world.destination, case] = other.destination
    open_: list[tuple[World, Case]] = []
    for world, case in chosen:
        if known := results.get(f"{world.destination}: {case}"):
            reports[world.destination].add(case, [], stopped=known.stopped, earlier=True)
        else:
            open_.append((world, case))
    here = [(world, case) for world, case in open_ if case.fault == RESTARTED]
    first = [(w, c) for w, c in open_ if c.fault != RESTARTED and (w.destination, c) not in twins]
    yield from tried(first)
    later = []
    for world, case in open_:
        if twin := twins.get((world.destination, case)):
            known = results.get(f"{twin}: {case}")
            if known and known.rejoined:
                reports[world.destination].equal.append(case)
            else:
                later.append((world, case))
    yield from tried(later)
    if here:
        with own_graph(settings, folder / "graph") as graph:
            yield from (world.try_case(case, graph) for world, case in here)


if __name__ == "__main__":
    sys.exit(main())
