"""Memory does not grow with the cohort: `python -m tests.benchmarks.memory --players 1000000 10000000`

No other peer runs, and the time does not count, so the machine may be busy. Ten million players need 20 GB of memory
and 5 GB of disk.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gremlin_python.driver.client import Client

from local import config as local_config
from local import seed
from local.config import Config
from tests.benchmarks import data, results, rounds, servers
from tests.benchmarks.__main__ import PROPERTY, say

#: The heap of Gremlin Server for so many players, whose vertices have no more than the query reads.
GIGABYTES_A_MILLION, LEAST_GIGABYTES = 1.2, 3
#: The attributes of a contact: with their names, ten million rows were more than the 1 GB of one import by Pinpoint.
ATTRIBUTES = ("playerId", "email", "emailConsent", "favoriteRole")
#: Vertices of a request.
BATCH = 250_000
VERTICES = """
for (long i = begin; i <= end; i++) {
    graph.addVertex(T.id, String.format('player-%08d', i), T.label, 'player', 'playerId', String.format('p%08d', i),
                    name, score)
}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--players", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--into", type=Path, help="the folder of results.json and RESULTS.md; without it, only print")
    arguments = parser.parse_args()
    found = [measured(players) for players in arguments.players]
    results.show("memory", section(found), arguments.into)
    return int(any(max(each["peak_mb"].values()) > results.PEAK_MB for each in found))


def measured(n: int) -> dict[str, Any]:
    """The peak of each stage's process in MB; what it makes is checked."""
    say(f"{n:,} players")
    config = data.with_table(local_config.load(environ={}), n)
    heap = max(LEAST_GIGABYTES, round(n / 1_000_000 * GIGABYTES_A_MILLION))
    with rounds.scratch() as folder:
        database = folder / "database"
        write_contacts(folder / "empty", database, config, n)
        with servers.running(folder / "servers", database, config, gremlin_heap=f"{heap}g") as addresses:
            seed.make_buckets(addresses, config)
            write_graph(addresses.gremlin_url, n)
            bench = rounds.Bench(addresses, config, n, PROPERTY, folder / "work")
            peaks = {}
            for stage in rounds.STAGES["ours"]:
                say(f"  {stage} ...")
                peaks[stage] = rounds.run(bench, "ours", [stage])[stage]["peak_mb"]
                say(f"  {stage}: at most {peaks[stage]:.0f} MB")
    return {"players": n, "peak_mb": peaks}


def write_contacts(run_dir: Path, database: Path, config: Config, n: int) -> None:
    """Write the items into DynamoDB Local's file: by its API, ten million take more than an hour."""
    with servers.running(run_dir, database, config) as addresses:
        seed.make_contacts_table(addresses, config)
    (file,) = database.glob("*.db")
    with closing(sqlite3.connect(file)) as connection:
        sql = f'INSERT INTO "{config.contacts_table}" VALUES (?, ?, ?, ?)'  # noqa: S608 - a name of ours
        connection.executemany(sql, _items(n))
        connection.commit()
    say(f"  contacts: {n:,} written")


def _items(n: int) -> Iterator[tuple[bytes, bytes, int, bytes]]:
    """The key, its hash, the size and the JSON of each item, as in DynamoDB Local's own rows."""
    for player_id in data.player_ids(n):
        contact = data.contact(player_id)
        item = {name: contact[name] for name in ATTRIBUTES}
        size = sum(len(name) + len(value) for name, value in item.items())
        text = json.dumps({name: {"S": value} for name, value in item.items()}, separators=(",", ":"))
        key = player_id.encode()
        yield key, hashlib.sha1(key, usedforsecurity=False).digest(), size, text.encode()


def write_graph(url: str, n: int) -> None:
    """Add the vertices by a script that runs in the server."""
    with closing(Client(url, "g")) as client:
        for first in range(1, n + 1, BATCH):
            last = min(first + BATCH - 1, n)
            bindings = {"begin": first, "end": last, "name": PROPERTY, "score": data.SCORE}
            client.submit(VERTICES, bindings).all().result()
            say(f"  graph: {last:,} of {n:,} players")


def section(found: list[dict[str, Any]]) -> dict[str, Any]:
    """A row for each number of players."""
    stages = rounds.STAGES["ours"]
    rows = [[f"{each['players']:,}", *(f"{each['peak_mb'][stage]:.0f}" for stage in stages)] for each in found]
    peaks = [max(each["peak_mb"].values()) for each in found]
    text = (
        f"The peak of each process (VmHWM), imports included, {datetime.now(UTC):%Y-%m-%d}; its members and rows are"
        f" those that were loaded. With {found[-1]['players']:,} players it is {peaks[-1] / peaks[0]:.2f} times that"
        f" with {found[0]['players']:,}. The vertices have no more than a playerId and a score, and the contacts no"
        " names."
    )
    return {"text": text, "header": ["players", *(f"{stage} MB" for stage in stages)], "rows": rows, "raw": found}


if __name__ == "__main__":
    sys.exit(main())
