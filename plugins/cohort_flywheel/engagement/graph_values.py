"""Compute what the graph must have of the engagement events, and what differs from what it has.

A value is an absolute number, and an edge has a deterministic id, so that the same events give the same graph,
wherever an earlier attempt ended.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from cohort_flywheel.common.duckdb import connect
from cohort_flywheel.common.records import Record
from cohort_flywheel.engagement.event_records import UNSUBSCRIBE_CLICK

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from cohort_flywheel.config.registry import Registry

#: The days of the numbers of clicks and opens.
WINDOW = timedelta(days=30)
#: Neptune advises about 200 records, that is labels and properties, per request [Neptune user guide: Gremlin upserts].
BATCH = 200

#: Which players a campaign has an edge to.
type Edges = Literal["none", "clicked", "all"]

#: The labels of the edges, from the player to the campaign.
EDGE_LABELS = {"clicked": "eng_clicked", "mailed": "eng_mailed"}

_FIELDS = ("clicks", "opens", "last_click_day")


class GraphNames(Record):
    """The names of our properties of a player's vertex: clicks and opens of 30 days, and the day of the last click.

    A day is a date in UTC as a number, 20261121; 0 is a player without a click in the 62 days of memory.
    """

    clicks: str = "eng_clicks_30d"
    opens: str = "eng_opens_30d"
    last_click_day: str = "eng_last_click_day"

    def all(self) -> tuple[str, str, str]:
        """Return the names in the order of the numbers of OurVertex."""
        return self.clicks, self.opens, self.last_click_day


class OurVertex(NamedTuple):
    """A player's vertex. A number is None if the vertex does not have exactly one whole number under its name."""

    id: str
    player_id: str | None
    numbers: tuple[int | None, int | None, int | None]


class Write(NamedTuple):
    """One property with one value, and the vertices that get it, at most BATCH."""

    name: str
    value: int
    vertex_ids: list[str]


class Edge(NamedTuple):
    """An edge from a player to a campaign; the same player and campaign have the same id."""

    id: str
    label: str
    vertex_id: str
    campaign_id: str


class GraphPlan(Record):
    """What is written to the graph, by the registry."""

    names: GraphNames = GraphNames()
    edges: Edges = "clicked"
    keep_days: int = 60
    vertex_label: str
    player_id: str

    @classmethod
    def of(cls, registry: Registry) -> GraphPlan | None:
        """Return what a registry says; None without `write_graph`."""
        engagement, schema = registry.engagement, registry.data_schema
        if not engagement.write_graph:
            return None
        return cls(
            names=GraphNames(**engagement.graph_names.model_dump()),
            edges=engagement.graph_edges,
            keep_days=engagement.graph_keep_days,
            vertex_label=schema.vertex_label,
            player_id=schema.player_id,
        )


def campaign_id(launch_tag: str) -> str:
    """Return the id of the vertex of a launch."""
    return f"eng-campaign-{launch_tag}"


def edge_id(label: str, campaign: str, vertex_id: str) -> str:
    """Return the id of an edge: a digest, because an id of an edge must not name a player."""
    text = f"cohort-flywheel\0{label}\0{campaign}\0{vertex_id}"
    return f"eng-edge-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


class GraphValues:
    """The events, the rows of launches and the vertices of an as-of, as tables on disk beyond DuckDB's memory limit.

    Add all rows of the launches first, then compute(); add the vertices of the players, then read what differs.

    :param folder: an empty folder for the tables.
    :param names: the names of our properties.
    :param memory_mb: the limit of DuckDB, in MiB; None for its default.
    """

    def __init__(self, folder: Path, names: GraphNames, memory_mb: int | None = None) -> None:
        self._folder, self._names = folder, names
        self._rows = _Table(folder / "rows.csv", {"launch": "VARCHAR", "row_tag": "VARCHAR", "player_id": "VARCHAR"})
        self._vertices = _Table(
            folder / "vertices.csv",
            {"id": "VARCHAR", "player_id": "VARCHAR"} | dict.fromkeys(_FIELDS, "BIGINT"),
        )
        self._sql: DuckDBPyConnection = connect(folder, memory_mb)

    def close(self) -> None:
        self._rows.close()
        self._vertices.close()
        self._sql.close()

    def add_rows(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Add launch tag, row tag and playerId of mails; of an erased player none is added."""
        self._rows.add(rows)

    def compute(self, files: Sequence[Path], as_of: datetime) -> None:
        """Count the opens and clicks before an as-of.

        Those that SES flags as a likely bot, and clicks on the link to unsubscribe, are left out.

        :param files: the Parquet files of the events of this and earlier as-ofs.
        """
        self._rows.read_into(self._sql, "launch_row")
        if files:
            self._sql.read_parquet([str(path) for path in files]).create_view("event")
        else:
            self._sql.execute(
                "CREATE TABLE event"
                " (launch VARCHAR, row_tag VARCHAR, type VARCHAR, subtype VARCHAR, bot VARCHAR, time TIMESTAMP)"
            )
        moment = as_of.astimezone(UTC).replace(tzinfo=None)
        self._sql.execute(
            "CREATE TABLE seen AS SELECT player_id, launch, row_tag, type, time FROM event JOIN launch_row"
            " USING (launch, row_tag) WHERE type IN ('Open', 'Click') AND bot IS DISTINCT FROM 'Likely'"
            " AND subtype IS DISTINCT FROM ? AND time < ?",
            [UNSUBSCRIBE_CLICK, moment],
        )
        self._sql.execute(
            "CREATE TABLE wanted AS SELECT player_id,"
            " count(*) FILTER (type = 'Click' AND time >= $begin) AS clicks,"
            " count(*) FILTER (type = 'Open' AND time >= $begin) AS opens,"
            " coalesce(max(strftime(time, '%Y%m%d')::BIGINT) FILTER (type = 'Click'), 0) AS last_click_day"
            " FROM seen GROUP BY player_id",
            {"begin": moment - WINDOW},
        )

    def players(self, edges: Edges) -> Iterator[list[str]]:
        """Yield the playerIds that the graph is asked for, sorted, in batches: with numbers or with an edge."""
        mailed = " UNION SELECT player_id FROM launch_row" if edges == "all" else ""
        yield from _batches(self._sql, f"SELECT player_id FROM wanted{mailed} ORDER BY ALL")  # noqa: S608 - ours

    def add_vertices(self, vertices: Iterable[OurVertex]) -> None:
        """Add vertices as the graph has them; one that is added again counts once."""
        self._vertices.add((each.id, each.player_id, *each.numbers) for each in vertices)

    def match(self) -> None:
        """Read the added vertices, after the last of them."""
        self._vertices.read_into(self._sql, "added")
        self._sql.execute("CREATE TABLE vertex AS SELECT DISTINCT ON (id) * FROM added ORDER BY id")

    def without_vertex(self) -> int:
        """Return the number of players with numbers that the graph does not have."""
        query = (
            "SELECT count(*) FROM wanted WHERE player_id NOT IN (SELECT player_id FROM vertex WHERE player_id NOTNULL)"
        )
        return int(self._sql.execute(query).fetchall()[0][0])

    def writes(self) -> Iterator[Write]:
        """Yield the properties that differ, by equal value; a vertex without events in the windows has zeros."""
        for field, name in zip(_FIELDS, self._names.all(), strict=True):
            query = (
                f"SELECT coalesce(wanted.{field}, 0) AS value, vertex.id FROM vertex LEFT JOIN wanted"  # noqa: S608 - ours
                f" USING (player_id) WHERE vertex.{field} IS DISTINCT FROM coalesce(wanted.{field}, 0) ORDER BY ALL"
            )
            value, ids = 0, list[str]()
            for found, vertex_id in _rows(self._sql, query):
                if ids and (found != value or len(ids) == BATCH):
                    yield Write(name, value, ids)
                    ids = []
                value = found
                ids.append(str(vertex_id))
            if ids:
                yield Write(name, value, ids)

    def engaged(self) -> dict[str, dict[str, int]]:
        """Return the mails of each launch that were opened and clicked, `{tag: {"Open": 4, "Click": 2}}`."""
        found: dict[str, dict[str, int]] = {}
        query = "SELECT launch, type, count(DISTINCT row_tag) FROM seen GROUP BY ALL ORDER BY ALL"
        for launch, kind, number in self._sql.execute(query).fetchall():
            found.setdefault(launch, {})[kind] = number
        return found

    def edges(self, launch: str, edges: Edges) -> Iterator[Edge]:
        """Yield the edges that the campaign of a launch has, sorted by vertex."""
        campaign = campaign_id(launch)
        sources = {"clicked": "SELECT player_id FROM seen WHERE launch = ? AND type = 'Click'"}
        if edges == "all":
            sources["mailed"] = "SELECT player_id FROM launch_row WHERE launch = ?"
        if edges == "none":
            return
        for kind, players in sources.items():
            label = EDGE_LABELS[kind]
            query = f"SELECT id FROM vertex WHERE player_id IN ({players}) ORDER BY id"  # noqa: S608 - ours
            for (vertex_id,) in _rows(self._sql, query, [launch]):
                yield Edge(edge_id(label, campaign, str(vertex_id)), label, str(vertex_id), campaign)


class _Table:
    """Rows on disk, read into a table of DuckDB: an insert per row takes longer."""

    def __init__(self, path: Path, columns: dict[str, str]) -> None:
        self._path, self._columns = path, columns
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n", quoting=csv.QUOTE_NOTNULL)

    def close(self) -> None:
        self._file.close()

    def add(self, rows: Iterable[Sequence[object]]) -> None:
        self._writer.writerows(rows)

    def read_into(self, sql: DuckDBPyConnection, name: str) -> None:
        self._file.close()
        sql.read_csv(
            str(self._path), auto_detect=False, header=False, sep=",", quotechar='"', escapechar='"',
            columns=self._columns, parallel=False, allow_quoted_nulls=False,
        ).create(name)  # fmt: skip


def _rows(sql: DuckDBPyConnection, query: str, values: Sequence[str] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query of its own cursor, so that another query may run meanwhile."""
    cursor = sql.cursor().execute(query, list(values))
    while rows := cursor.fetchmany(10_000):
        yield from rows


def _batches(sql: DuckDBPyConnection, query: str) -> Iterator[list[str]]:
    cursor = sql.cursor().execute(query)
    while rows := cursor.fetchmany(BATCH):
        yield [str(row[0]) for row in rows]
