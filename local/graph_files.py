"""The Cohort Modeler's seven files for any number of players, as the notebook of the posts generates them.

Shapes and ranges are those of the modeler's own files: per player about 20 edges to other players, 2.4 to actions, one
from a campaign, and 0.24 to a campaign. Ids look like UUIDs. The same seed gives the same bytes; nothing is held in
memory.
"""

from __future__ import annotations

import csv
import gzip
import random
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import IO

from local import sample
from local.config import LocalError

Row = list[str | int]

CAMPAIGNS = 10
ACTIONS = [
    f"action_{name}" for name in (*sample.ACTIONS, "grief", "badname", "harass", "stalk", "badlanguage", "badimage")
]
#: The lowest and the highest value of each statistic of a campaign.
CAMPAIGN_STATISTICS = {
    "stat_totalEmailOpened": (23, 26),
    "stat_messagesSent": (100, 100),
    "stat_messagesDelivered": (56, 62),
    "stat_dailyActive": (51, 71),
    "stat_newPlayers": (3, 7),
}
#: The mean of each count on an edge between players, in the order of sample.ACTIONS.
INTERACTION_MEANS = (2333, 0.7, 4.7, 0.7, 4.9, 0.06)
#: An odd factor: multiplied modulo 2 ** 128, each number has another product.
SPREAD = 0x9E3779B97F4A7C15F39CC0605CEDC835


def write(folder: Path, players: int, seed: int = sample.SEED, *, compress: bool = False) -> None:
    """Write the seven files into a folder, with compress as `.csv.gz`. Raises LocalError for fewer than 2 players."""
    if players < 2:
        raise LocalError("An edge between players needs two: write --players 2 or more.")
    folder.mkdir(parents=True, exist_ok=True)
    ids = _Ids(seed)
    ends = ["~from", "~to"]
    made = sample.big(players, seed)
    first = next(made)
    _write(
        folder / "user_vertices.csv",
        sample.typed_names(first),
        ([ids.player(number), *list(player.values())[1:]] for number, player in enumerate(chain([first], made))),
        compress,
    )
    rng = random.Random(seed)  # noqa: S311 - a sample, not a secret
    statistics = ([rng.randint(*bounds) for bounds in CAMPAIGN_STATISTICS.values()] for _ in range(CAMPAIGNS))
    _write(
        folder / "campaign_vertices.csv",
        ["~id", "~label", "name:String", *(f"{name}:Int" for name in CAMPAIGN_STATISTICS)],
        (
            [ids.campaign(number), "campaign", f"Sample  campaign {number}.", *figures]
            for number, figures in enumerate(statistics)
        ),
        compress,
    )
    _write(folder / "action_vertices.csv", ["~id", "~label"], ([action, "action"] for action in ACTIONS), compress)
    interactions = [*ends, "~label", "~id", *(f"action_{name}:Int" for name in sample.ACTIONS)]
    _write(folder / "interaction_edges.csv", interactions, _interactions(ids, players, seed), compress)
    engagements = [*ends, "~id", "~label", "iterations:Int"]
    _write(folder / "engagement_edges.csv", engagements, _engagements(ids, players, seed), compress)
    _write(
        folder / "campaign_edges.csv",
        [*ends, "~label", "~id"],
        (
            [ids.campaign(rng.randrange(CAMPAIGNS)), ids.player(number), "campaign_edge", ids.edge(3, number)]
            for number in range(players)
        ),
        compress,
    )
    counts = ("campaign_login", "campaign_emailOpened", "campaign_linkClicked")
    _write(
        folder / "campaign_bidirectional_edges.csv",
        [*ends, "~id", "~label", *(f"{name}:Int" for name in counts)],
        (
            [
                *(ids.player(number), ids.campaign(rng.randrange(CAMPAIGNS)), ids.edge(4, number), "campaign_edge"),
                *(rng.randint(0, 19), rng.randint(1, 4), rng.randint(0, 1)),
            ]
            for number in range(players)
            if rng.random() < 0.24
        ),
        compress,
    )


class _Ids:
    """Ids from numbers: the same in each file, and different for each kind of element."""

    def __init__(self, seed: int) -> None:
        self._offset = seed * 0x1234567

    def player(self, number: int) -> str:
        return self._id(0, number)

    def campaign(self, number: int) -> str:
        return self._id(9, number)

    def edge(self, kind: int, number: int) -> str:
        return self._id(kind, number)

    def _id(self, kind: int, number: int) -> str:
        digits = f"{(self._offset + (kind << 64) + number) * SPREAD % (1 << 128):032x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _interactions(ids: _Ids, players: int, seed: int) -> Iterator[Row]:
    rng = random.Random(seed + 1)  # noqa: S311 - a sample, not a secret
    # random() and pools alone: there are twenty of these for each player
    draw, size = rng.random, 1000
    pools = [[int(rng.expovariate(1 / mean)) for _ in range(size)] for mean in INTERACTION_MEANS]
    edge = 0
    for start in range(players):
        from_ = ids.player(start)
        for _ in range(4 + int(draw() * 33)):
            to = (start + 1 + int(draw() * (players - 1))) % players
            edge += 1
            yield [
                *(from_, ids.player(to), "interaction_edge", ids.edge(1, edge)),
                *(pool[int(draw() * size)] for pool in pools),
            ]


def _engagements(ids: _Ids, players: int, seed: int) -> Iterator[Row]:
    rng = random.Random(seed + 2)  # noqa: S311 - a sample, not a secret
    edge = 0
    for start in range(players):
        for _ in range(int(rng.expovariate(1 / 2.85))):
            edge += 1
            iterations = int(rng.expovariate(1 / 1700))
            yield [ids.player(start), rng.choice(ACTIONS), ids.edge(2, edge), "action_edge", iterations]


def _write(path: Path, header: list[str], rows: Iterable[Row], compress: bool) -> None:
    with ExitStack() as stack:
        raw: IO[bytes] = stack.enter_context(path.with_name(f"{path.name}{'.gz' * compress}").open("wb"))
        # without a name and a time, the same rows give the same bytes
        data = gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) if compress else raw
        file = stack.enter_context(TextIOWrapper(data, encoding="utf-8", newline=""))
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
