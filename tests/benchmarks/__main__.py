"""`make bench` and `make bench-full`: measures, and writes results.json and RESULTS.md, again after each size."""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from local import config as local_config
from local import sample, seed
from local.config import Config
from tests.benchmarks import data, environments, model, results, rounds, servers

#: How many players, and how many rounds of all peers.
SIZES = {1_000: 5, 10_000: 5}
LARGE = {100_000: 5, 1_000_000: 5}
PROPERTY = "ea_atrisk"

_start = time.monotonic()


def say(line: str) -> None:
    seconds = int(time.monotonic() - _start)
    print(f"[{seconds // 60:3d}:{seconds % 60:02d}] {line}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Measures this package.")
    parser.add_argument("--full", action="store_true", help="100,000 and 1,000,000 players as well")
    parser.add_argument("--sizes", help="other sizes and rounds, as 1000:5,10000:3")
    parser.add_argument("--into", type=Path, default=results.FOLDER, help="the folder of results.json and RESULTS.md")
    arguments = parser.parse_args()
    sizes = SIZES | (LARGE if arguments.full else {})
    if arguments.sizes:
        sizes = {int(size): int(number) for size, number in (each.split(":") for each in arguments.sizes.split(","))}
    found = results.begin(arguments.into, " ".join(["python -m tests.benchmarks", *sys.argv[1:]]))
    unavailable = install()
    failures: list[str] = [f"{peer}: {why}" for peer, why in unavailable.items()]
    for n, number in sizes.items():
        try:
            measured = size(n, number, [peer for peer in rounds.STAGES if peer not in unavailable])
        except Exception as error:  # noqa: BLE001 - unattended: keep the measurements
            measured = {"failures": [f"{n:,} players: {type(error).__name__}: {error}"]}
            say(measured["failures"][0])
        failures += measured.pop("failures")
        found["sizes"][str(n)] = measured
        found["failures"] = failures
        results.write(arguments.into, found)
        if arguments.into == results.FOLDER and len(model.measured_sizes(found)) > 1:
            model.write_document(found)
        say(f"{n:,} players are in {arguments.into / 'results.json'} and RESULTS.md")
    for failure in failures:
        say(f"FAILED: {failure}")
    return 1 if failures else 0


def install() -> dict[str, str]:
    """Make the peers' environments; returns those that cannot be made, with the reason."""
    unavailable = {}
    for peer, make in {"wrangler": environments.wrangler_python, "tinkerpop": environments.tinkerpop_path}.items():
        try:
            make()
        except environments.CannotInstallError as error:
            unavailable[peer] = str(error)
            say(f"{peer} is left out: {error}")
    return unavailable


def size(n: int, number: int, peers: list[str]) -> dict[str, Any]:
    """All rounds of one size, on servers that have this size's data alone."""
    say(f"{n:,} players, {number} rounds")
    config = local_config.load(environ={})
    database = environments.FOLDER / f"dynamodb-{n}-{sample.SEED}"
    if data.is_loaded(database, n):
        say("  contacts: those of an earlier benchmark")
    else:
        load(database, n, config)
    with rounds.scratch() as folder, servers.running(folder / "servers", database, config) as addresses:
        seed.make_buckets(addresses, config)
        data.load_graph(addresses.gremlin_url, n, PROPERTY, say)
        bench = rounds.Bench(addresses, data.with_table(config, n), n, PROPERTY, folder / "work")
        return measure(bench, number, peers)


def load(database: Path, n: int, config: Config) -> None:
    """Make DynamoDB Local's file of one size, in memory where Linux has it: on a disk each item waits to be written."""
    memory = Path("/dev/shm")  # noqa: S108 - a temporary folder in it
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        made = Path(folder, "database")
        with servers.running(Path(folder, "servers"), made, config) as addresses:
            data.load_table(addresses, config, n, say)
        shutil.rmtree(database, ignore_errors=True)
        shutil.copytree(made, database)
    data.mark_loaded(database, n)


def measure(bench: rounds.Bench, number: int, peers: list[str]) -> dict[str, Any]:
    """Rounds of all peers, each round beginning with another one; then ours again with the sampler on."""
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {peer: {} for peer in peers}
    failures: list[str] = []
    segment_bytes = 0

    def run(peer: str, stage: str, **more: Any) -> dict[str, Any] | None:
        try:
            return rounds.run(bench, peer, [stage], **more)[stage]
        except (rounds.PeerFailedError, rounds.WrongResultError, subprocess.SubprocessError, OSError) as error:
            failures.append(f"{bench.n:,} players: {type(error).__name__}: {error}")
            say(failures[-1])
            return None

    for stage in ("graph", "enrich"):  # not measured: a JVM is slow at first
        for _ in range(3 if bench.n <= 10_000 else 1):
            run("drained", stage)
    for turn in range(number):
        order = peers[turn % len(peers) :] + peers[: turn % len(peers)]
        for peer in order:
            rounds.empty_buckets(bench)
            said = []
            for stage in rounds.STAGES[peer]:
                if bench.n >= 100_000:
                    say(f"  {peer} {stage} ...")
                one = run(peer, stage)
                if one is None:
                    break  # the next stage reads what this one makes
                segment_bytes = one.pop("outcome").get("segment_bytes", segment_bytes)
                runs[peer].setdefault(stage, []).append(one | {"round": turn})
                said.append(f"{stage} {one['wall_s']:.2f} s, {one['cpu_s'] / bench.n * 1e6:.1f} µs CPU a player")
            say(f"  round {turn + 1} of {number}, {peer}: {'; '.join(said) or 'failed'}")
    profiles = {}
    rounds.empty_buckets(bench)
    for stage in rounds.STAGES["ours"]:
        if found := run("ours", stage, profile=True):
            profiles[stage] = found["profile"] | {"measured_cpu_s": found["cpu_s"]}
    medians = {
        peer: {
            stage: {key: statistics.median(one[key] for one in ones) for key in results.FIGURES}
            for stage, ones in stages.items()
        }
        for peer, stages in runs.items()
    }
    return {
        "players": bench.n, "rounds": number, "medians": medians, "runs": runs, "profiles": profiles,
        "segment_bytes": segment_bytes, "failures": failures,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
