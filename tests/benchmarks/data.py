"""n players in the graph, each beyond the threshold, and n plain contacts in the table: a cohort of n."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from gremlin_python.driver.driver_remote_connection import DriverRemoteConnection
from gremlin_python.driver.serializer import GraphBinarySerializersV1
from gremlin_python.process.anonymous_traversal import traversal
from gremlin_python.process.traversal import T

from local import sample, seed
from local.config import Config
from local.servers import Servers

#: Of the sample's two dozen properties: the graph of a million of them all would need more memory than a laptop has.
PROPERTIES = ("playerId", "status", "ea_reputation")
SCORE = 3
BATCH = 5_000
WRITERS = 2

Say = Callable[[str], None]


def player_ids(n: int) -> list[str]:
    """As `sample.big` names them, in their order."""
    return [f"p{number:08d}" for number in range(1, n + 1)]


def contact(player_id: str) -> dict[str, str]:
    found = sample.contact(player_id)
    assert found
    return found


def load_graph(url: str, n: int, property: str, say: Say) -> None:
    """Put the players into the graph, thousands a request."""
    start = said = time.monotonic()
    players = sample.big(n)
    connection = DriverRemoteConnection(url, "g", message_serializer=GraphBinarySerializersV1())
    try:
        g, done = traversal().with_(connection), 0
        while some := list(islice(players, BATCH)):
            rows = [
                {T.id: p["~id"], T.label: "player", property: SCORE, **{name: p[name] for name in PROPERTIES}}
                for p in some
            ]
            g.inject(rows).unfold().merge_v().iterate()
            done += len(some)
            if time.monotonic() - said > 10:
                said = time.monotonic()
                say(f"  graph: {done:,} of {n:,} players")
    finally:
        connection.close()
    say(f"  graph: {n:,} players loaded in {time.monotonic() - start:.0f} s")


def drop_graph(url: str, property: str) -> None:
    """Take them out again."""
    connection = DriverRemoteConnection(url, "g", message_serializer=GraphBinarySerializersV1())
    try:
        traversal().with_(connection).V().has(property).drop().iterate()
    finally:
        connection.close()


def with_table(config: Config, n: int) -> Config:
    """The configuration with this size's table."""
    return dataclasses.replace(config, contacts_table=f"bench-{n}")


def load_table(servers: Servers, config: Config, n: int, say: Say) -> None:
    """Put the contacts into a table of their own."""
    config = with_table(config, n)
    seed.make_contacts_table(servers, config)
    start = time.monotonic()
    step = 5_000
    parts = [(servers, config, first, min(first + step - 1, n)) for first in range(1, n + 1, step)]
    # two processes, as making a request takes about as long as storing what it brings
    with ProcessPoolExecutor(WRITERS, mp_context=multiprocessing.get_context("spawn")) as pool:
        said, done = start, 0
        for loaded in pool.map(_load_part, parts):
            done += loaded
            if time.monotonic() - said > 10:
                said = time.monotonic()
                left = (n - done) * (said - start) / done
                say(f"  contacts: {done:,} of {n:,}, {left:.0f} s left")
    say(f"  contacts: {n:,} loaded in {time.monotonic() - start:.0f} s")


def _load_part(part: tuple[Servers, Config, int, int]) -> int:
    servers, config, first, last = part
    return seed.load_contacts(servers, config, (contact(f"p{number:08d}") for number in range(first, last + 1)))


def is_loaded(database: Path, n: int) -> bool:
    """Whether the table was loaded to its end by an earlier benchmark."""
    return _mark(database).exists() and json.loads(_mark(database).read_text(encoding="utf-8")) == _facts(n)


def mark_loaded(database: Path, n: int) -> None:
    _mark(database).write_text(json.dumps(_facts(n)), encoding="utf-8")


def _facts(n: int) -> dict[str, Any]:
    return {"players": n, "seed": sample.SEED, "sample": contact("p00000001")}


def _mark(database: Path) -> Path:
    return database / "loaded.json"


def expected_rows(ids: list[str]) -> Iterator[tuple[str, str]]:
    """What a segment file of these players must say: playerId and address."""
    return ((player_id, contact(player_id)["email"]) for player_id in ids)
