"""What was measured, as results.json, and RESULTS.md made from it: ratios, targets, growth, profiles."""

from __future__ import annotations

import json
import os
import platform
import statistics
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks import environments

FOLDER = Path(__file__).parent
FIGURES = ("wall_s", "cpu_s", "peak_mb", "base_mb")
NAMES = {
    "ours": "this package",
    "seeds": "the posts' two Lambdas, in chunks of 100",
    "wrangler": "AWS SDK for pandas",
    "tinkerpop": "apache-tinkerpop provider (graph only)",
    "floor": "floor: thinnest signed client",
    "drained": "limit: drained, nothing decoded",
}
_STAGES = ("graph", "enrich", "all")
PEERS = ("seeds", "wrangler")
#: Sections measured elsewhere and added with `add_section`.
SECTIONS = {
    "width": "Width", "small_case": "The small case", "graph_load": "Validating the files of a graph load",
    "events": "Reading the events of e-mails", "history": "A day after a year of history",
    "cohorts": "Many daily cohorts", "launch": "A launch by SES", "memory": "The memory of ten million players",
}  # fmt: skip


def begin(folder: Path, command: str) -> dict[str, Any]:
    """A new set of results; the sections that others measure are kept from the last."""
    before = read(folder)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "machine": machine(),
        "versions": versions(),
        "sizes": {},
        "failures": [],
        **{section: before.get(section) for section in SECTIONS},
    }


def read(folder: Path) -> dict[str, Any]:
    path = folder / "results.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def write(folder: Path, found: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (folder / "RESULTS.md").write_text(markdown(found), encoding="utf-8")


def add_section(name: str, section: dict[str, Any], folder: Path = FOLDER) -> None:
    """Add a section measured elsewhere: `{"text": …, "header": […], "rows": [[…]], "raw": anything}`."""
    if name not in SECTIONS:
        raise ValueError(f"{name} is not one of {', '.join(SECTIONS)}")
    write(folder, (read(folder) or begin(folder, "add_section")) | {name: section})


def show(name: str, section: dict[str, Any], folder: Path | None) -> None:
    """Print the rows of a section; with a folder, add it to what is there."""
    for row in [section["header"], *section["rows"]]:
        print(" | ".join(row))
    if folder:
        add_section(name, section, folder)


def machine() -> dict[str, Any]:
    model, memory = platform.processor() or platform.machine(), ""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
        memory = Path("/proc/meminfo").read_text(encoding="ascii").split()[1]
    except OSError:
        pass
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gb": round(int(memory) / 2**20) if memory else None,
        "system": f"{platform.system()} {platform.machine()}",
        "load_at_start": [round(each, 2) for each in os.getloadavg()],
    }


def versions() -> dict[str, str]:
    names = ("apache-airflow", "apache-airflow-providers-amazon", "boto3", "gremlinpython", "orjson", "moto")
    peers = (environments.requirement(name) for name in (environments.WRANGLER, environments.TINKERPOP))
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in names},
        **dict(each.replace("[gremlin]", "").split("==") for each in peers),
        "gremlin-server": "3.8.1",
        "dynamodb-local": "3.0.0",
    }


# --- figures


def total(size: dict[str, Any], peer: str, figure: str) -> float | None:
    """Of all stages together: the sum of the medians, or of MB the greatest; None where a stage is missing."""
    stages = size.get("medians", {}).get(peer) or {}
    if not {"graph", "enrich"} <= set(stages) or (peer == "ours" and "release" not in stages):
        return None
    values = [stage[figure] for stage in stages.values()]
    return max(values) if figure.endswith("_mb") else sum(values)


def paired(size: dict[str, Any], peer: str, stage: str, figure: str) -> float | None:
    """The median, over the rounds, of a peer's figure as a multiple of ours in the same round."""
    ours, theirs = ({one["round"]: one[figure] for one in _runs(size, who, stage)} for who in ("ours", peer))
    ratios = [theirs[turn] / ours[turn] for turn in theirs if turn in ours]
    return statistics.median(ratios) if ratios else None


def _runs(size: dict[str, Any], peer: str, stage: str) -> list[dict[str, Any]]:
    """The rounds of one stage; of `all`, each round's stages put together, where it has them all."""
    stages = size.get("runs", {}).get(peer) or {}
    if stage != "all":
        return list(stages.get(stage, []))
    if not {"graph", "enrich"} <= set(stages):
        return []
    turns: dict[int, list[dict[str, Any]]] = {}
    for ones in stages.values():
        for one in ones:
            turns.setdefault(one["round"], []).append(one)
    return [
        {"round": turn, **{key: sum(one[key] for one in ones) for key in ("wall_s", "cpu_s")},
         "peak_mb": max(one["peak_mb"] for one in ones)}
        for turn, ones in turns.items() if len(ones) == len(stages)
    ]  # fmt: skip


def further(small: dict[str, Any], large: dict[str, Any], peer: str, stage: str, figure: str = "cpu_s") -> float | None:
    """Seconds that a further player takes, between two sizes: without what a process takes whatever its size."""
    ends = [[one[figure] for one in _runs(size, peer, stage)] for size in (small, large)]
    if not all(ends):
        return None
    few, many = map(statistics.median, ends)
    return (many - few) / (large["players"] - small["players"])


class Limits(NamedTuple):
    """What a run takes at most: of the best peer's CPU and wall time, and of the floor's CPU."""

    cpu: float
    wall: float
    floor: float | None = None


#: By the number of players.
LIMITS = {
    1_000: Limits(1.5, 1.5),
    10_000: Limits(0.8, 0.8),
    100_000: Limits(0.33, 0.5),
    1_000_000: Limits(0.25, 0.55, 2.2),
}
#: Of a further player, from 100,000 to a million: CPU, of the best peer's and of the floor's.
FURTHER, FURTHER_FLOOR = 0.22, 2.0
#: From so many players on each stage is ahead of every peer.
AHEAD = 100_000
#: Of the drained limit, at a million players.
DRAINED = 0.7
#: The peak of a process at a million players.
PEAK_MB = 350


def targets(found: dict[str, Any]) -> list[tuple[str, str, str, bool | None]]:
    """The targets: what, size, figure, and whether it is reached (None: not measured)."""
    made: list[tuple[str, str, str, bool | None]] = []
    for number, limits in LIMITS.items():
        size, name = found["sizes"].get(str(number), {}), f"{number:,}"
        made += [_of_best(size, name, "all", "cpu_s", limits.cpu), _of_best(size, name, "all", "wall_s", limits.wall)]
        if limits.floor:
            floor = paired(size, "floor", "all", "cpu_s")
            made.append(_target(
                f"CPU, at most {limits.floor} times the floor's", name, floor and 1 / floor, limits.floor,
                "{:.2f} times it",
            ))  # fmt: skip
        if number >= AHEAD:
            made += [_of_best(size, name, stage, "cpu_s", 1) for stage in ("graph", "enrich")]
    small, large = (found["sizes"].get(str(number), {}) for number in (100_000, 1_000_000))
    of = {peer: _further(small, large, peer) for peer in ("ours", "floor", *PEERS)}
    ours, floor, best = of["ours"], of["floor"], min((cost for peer in PEERS if (cost := of[peer])), default=None)
    name = "100,000 → 1,000,000"
    made += [
        _target(f"CPU of a further player, at most {FURTHER} of the best peer's", name, ours and best and ours / best,
                FURTHER, "{:.2f} of it"),
        _target(f"CPU of a further player, at most {FURTHER_FLOOR} times the floor's", name,
                ours and floor and ours / floor, FURTHER_FLOOR, "{:.2f} times it"),
    ]  # fmt: skip
    for stage in ("graph", "enrich"):
        drained = paired(large, "drained", stage, "wall_s")
        made.append(_target(
            f"{stage}: at least {DRAINED} of the drained limit", "1,000,000", drained and -drained, -DRAINED,
            "{:.2f} of it",
        ))  # fmt: skip
    peak = total(large, "ours", "peak_mb")
    made.append(_target(f"peak memory of a process, at most {PEAK_MB} MB", "1,000,000", peak, PEAK_MB, "{:.0f} MB"))
    return made


def _of_best(
    size: dict[str, Any], name: str, stage: str, figure: str, limit: float
) -> tuple[str, str, str, bool | None]:
    """The target of a stage, or of all, as a part of what the best peer takes."""
    what = f"{'' if stage == 'all' else f'{stage}: '}{'CPU' if figure == 'cpu_s' else 'wall time'}"
    best = min((ratio for peer in PEERS if (ratio := paired(size, peer, stage, figure))), default=None)
    return _target(f"{what}, at most {limit:g} of the best peer's", name, best and 1 / best, limit, "{:.2f} of it")


def _further(small: dict[str, Any], large: dict[str, Any], peer: str) -> float | None:
    return further(small, large, peer, "all") if small and large else None


def _target(what: str, size: str, figure: float | None, limit: float, form: str) -> tuple[str, str, str, bool | None]:
    if figure is None:
        return what, size, "not measured", None
    return what, size, form.format(abs(figure) if limit < 0 else figure), figure <= limit


# --- the page


def markdown(found: dict[str, Any]) -> str:
    sizes = [size for size in found["sizes"].values() if size.get("medians")]
    parts = [_head(found), _targets(found), _growth(sizes)]
    parts += [_size(size) for size in sizes]
    parts += [_profiles(sizes), f"## What the figures say\n\n{_notes()}"] if sizes else []
    for key, title in SECTIONS.items():
        parts.append(f"## {title}\n\n{_section(found.get(key))}")
    return "\n\n".join(parts) + "\n"


def _head(found: dict[str, Any]) -> str:
    machine, versions = found["machine"], found["versions"]
    failures = "".join(f"\n- **failed**: {failure.replace('|', '/')}" for failure in found["failures"])
    return f"""# Results

Written by `tests/benchmarks`; results.json beside it has the same figures and each single run. Do not edit.

- {found["date"]}, `{found["command"]}`
- {machine["cores"]} cores of {machine["cpu"]}, {machine["memory_gb"]} GB, {machine["system"]}; load before the start \
{" ".join(map(str, machine["load_at_start"]))}
- {", ".join(f"{name} {number}" for name, number in versions.items())}{failures}

**How it is measured.** n players, each beyond the threshold and each with a plain contact: a cohort of n. Gremlin
Server and DynamoDB Local run on the same cores as the client. Each stage of each peer is a fresh process, the peers
taking turns; figures are medians over the rounds, ratios are medians of each round's ratio. Imports are not counted,
making the clients is. CPU is that of the client's process, all threads. MB is the process's peak, imports included
(VmHWM; `ru_maxrss` begins with the parent's). What each made is checked in each round: the members, and the rows
(playerId, address), must be those that were loaded, or the figure does not count.

S3 is moto: its own cost is on the server's side, and the same for every peer. Ours is the operators' own code, and does
what no peer does: a snapshot, sorting and merging, consent, the do-not-contact list, the judgement of addresses and
values, rejects, digests. The posts' text has lost which serializer the first Lambda passes: it is given GraphSON 2, as
in AWS's own example. AWS SDK for pandas speaks `wss` only, so its WS_PROTOCOL is set to `ws`; it is given the key's
schema, the columns, and one session for all calls, without which its enrich stage took 1,730 µs a player. The floor and
the limit write nothing to S3; the limit's requests were signed before."""


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _targets(found: dict[str, Any]) -> str:
    words = {True: "reached", False: "**not reached**", None: "–"}
    rows = [[what, size, figure, words[reached]] for what, size, figure, reached in targets(found)]
    return "## Targets\n\n" + _table(["target", "players", "figure", ""], rows)


def _growth(sizes: list[dict[str, Any]]) -> str:
    rows, before = [], None
    for size in sizes:
        n, cpu, wall = size["players"], total(size, "ours", "cpu_s"), total(size, "ours", "wall_s")
        if cpu is None or wall is None:
            continue
        more = f"{(cpu - before[1]) / (n - before[0]) * 1e6:.1f}" if before and n > before[0] else "–"
        memory = [f"{size['medians']['ours'][stage]['peak_mb']:.0f}" for stage in size["medians"]["ours"]]
        rows.append([
            f"{n:,}", str(size["rounds"]), f"{wall:.2f}", f"{wall / n * 1e6:.1f}", f"{cpu / n * 1e6:.1f}", more, *memory
        ])  # fmt: skip
        before = (n, cpu)
    header = ["players", "rounds", "wall s", "wall µs a player", "CPU µs a player", "CPU µs of a further player"]
    header += ["graph MB", "enrich MB", "release MB"]
    parts = ["## Growth\n\nOurs, end to end, one worker.", _table(header, rows)]
    steps = list(pairwise(sizes))
    if steps:
        parts.append(
            "CPU µs of a further player, between two sizes: what a process takes whatever its size (in ours the clients"
            " of three tasks, and Airflow's hooks) is not in it."
        )
        header = ["", *(f"{stage}, {a['players']:,} → {b['players']:,}" for a, b in steps for stage in _STAGES)]
        rows = [[name, *(_micro(further(a, b, peer, stage)) for a, b in steps for stage in _STAGES)]
                for peer, name in NAMES.items()]  # fmt: skip
        parts.append(_table(header, rows))
    return "\n\n".join(parts)


def _micro(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1e6:.1f}"


def _size(size: dict[str, Any]) -> str:
    n, parts = (
        size["players"],
        [f"## {size['players']:,} players\n\n{size['rounds']} round{'s' if size['rounds'] > 1 else ''}."],
    )
    header = ["", "wall s", "CPU µs a player", "peak MB", "wall ÷ ours", "CPU ÷ ours", "MB ÷ ours"]
    for stage, title in (("graph", "Graph"), ("enrich", "Enrich"), ("release", "Release"), ("all", "End to end")):
        rows = []
        for peer, name in NAMES.items():
            ones = _runs(size, peer, stage)
            if not ones:
                continue
            wall, cpu, peak = (statistics.median(one[key] for one in ones) for key in ("wall_s", "cpu_s", "peak_mb"))
            ratios = [paired(size, peer, stage, key) for key in ("wall_s", "cpu_s", "peak_mb")]
            shown = [f"{ratio:.2f}" if ratio else "–" for ratio in ratios]
            rows.append([name, f"{wall:.2f}", f"{cpu / n * 1e6:.1f}", f"{peak:.0f}", *shown])
        parts.append(f"### {title}\n\n" + _table(header, rows))
    return "\n\n".join(parts)


def _profiles(sizes: list[dict[str, Any]]) -> str:
    """Of the largest size that has them."""
    size = next((size for size in reversed(sizes) if size.get("profiles")), None)
    if size is None:
        return "## Where it goes\n\nNot measured yet."
    n = size["players"]
    parts = [
        f"## Where it goes\n\nOurs with {n:,} players, sampled: each look gives the CPU time that a thread has used"
        " since the last one to the Python function it is in. C code counts as its caller's. µs are a player's: the"
        " share of the unsampled median. **A hint, no measure:** a thread is met where it gives up the interpreter's"
        " lock, so what waits or calls C is seen too often (`endpoint_id` takes 1.7 µs timed alone); *What the figures"
        " say* has times of functions alone."
    ]
    for stage, profile in size["profiles"].items():
        cpu = size["medians"]["ours"].get(stage, {}).get("cpu_s", profile["measured_cpu_s"])
        rows = [
            [f"`{row['where']}`", f"{row['share']:.1%}", f"{row['share'] * cpu / n * 1e6:.1f}"]
            for row in profile["rows"]
        ]
        parts.append(f"### {stage}\n\n" + _table(["function", "share", "µs"], rows))
    return "\n\n".join(parts)


def _notes() -> str:
    """Why a target is not reached, and what would be next: written by hand."""
    return (FOLDER / "notes.md").read_text(encoding="utf-8").strip()


def _section(section: dict[str, Any] | None) -> str:
    if not section:
        return "Not measured yet."
    table = _table(section["header"], [list(map(str, row)) for row in section["rows"]]) if section.get("rows") else ""
    return "\n\n".join(filter(None, [section.get("text", ""), table]))
