"""The engagement in a real graph: absolute values, no vertex that was not there, and nothing of others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cohort_flywheel.common.duckdb import connect
from cohort_flywheel.engagement.event_counts import COLUMNS
from cohort_flywheel.engagement.graph_store import EngagementGraph, _g
from cohort_flywheel.engagement.graph_values import Edge, Edges, GraphNames, GraphValues, Write, campaign_id
from cohort_flywheel.hooks.neptune import NeptuneGremlinHook

AS_OF = datetime(2026, 11, 22, tzinfo=UTC)
LABEL = "eng_test_player"
NAMES = GraphNames()
CAMPAIGN = campaign_id("tag")

type Events = Sequence[tuple[str, str, str | None, datetime]]


class Graph:
    """Players of a label of their own in the servers' graph, and what an as-of writes."""

    def __init__(self, folder: Path) -> None:
        self.hook = NeptuneGremlinHook()
        self.ours = EngagementGraph(self.hook, label=LABEL, player_id="playerId", names=NAMES)
        self._folder, self._runs = folder, 0

    def run(self, steps: Any) -> list[Any]:
        return [each for batch in self.hook.stream(steps) for each in batch]

    def add(self, *players: tuple[str, str]) -> None:
        from gremlin_python.process.traversal import T

        for vertex_id, player in players:
            self.run(_g().add_v(LABEL).property(T.id, vertex_id).property("playerId", player).count())

    def drop(self) -> None:
        self.run(_g().V().has_label(LABEL).drop())
        self.run(_g().V().has_label("campaign").has("eng_launch").drop())

    def content(self) -> dict[str, Any]:
        """Every property of the players, and every edge and campaign of ours."""
        from gremlin_python.process.graph_traversal import __

        rows = self.run(_g().V().has_label(LABEL).project("id", "of").by(__.id_()).by(__.value_map()))
        vertices = {
            row["id"]: {name: values for name, values in row["of"].items() if name != "playerId"} for row in rows
        }
        edges = sorted(map(str, self.run(_g().V().has_label(LABEL).out_e().id_())))
        return {"players": vertices, "edges": edges, "campaigns": self.ours.campaigns()}

    def write(self, events: Events, rows: dict[str, str], edges: Edges = "clicked", as_of: datetime = AS_OF) -> int:
        """What an as-of does; returns the number of properties that were written."""
        self._runs += 1
        folder = self._folder / str(self._runs)
        folder.mkdir()
        values = GraphValues(folder, NAMES)
        try:
            values.add_rows(("tag", row, player) for row, player in rows.items())
            values.compute([parquet(folder, events)], as_of)
            for batch in self.ours.vertices_with_numbers():
                values.add_vertices(batch)
            for players in values.players(edges):
                values.add_vertices(self.ours.vertices_of(players))
            values.match()
            self.ours.put_campaign("tag", {"eng_launch": "a_2_2026-11-21_00-00-00", "eng_clicked": 1})
            written = sum(self.ours.write(each) for each in values.writes())
            wanted = list(values.edges("tag", edges))
            there = set(self.ours.edge_ids(CAMPAIGN))
            self.ours.put_edges(each for each in wanted if each.id not in there)
            self.ours.remove_edges(sorted(there - {each.id for each in wanted}))
        finally:
            values.close()
        return written


def parquet(folder: Path, events: Events) -> Path:
    path = folder / "events.parquet"
    with connect(folder) as sql:
        columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
        sql.execute(f"CREATE TABLE e ({columns})")
        for row, kind, bot, at in events:
            type_, _, subtype = kind.partition(":")
            values = [None, row, "tag", row, type_, subtype or None, at.replace(tzinfo=None), bot, None]
            sql.execute("INSERT INTO e VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
        sql.sql("FROM e").write_parquet(str(path))
    return path


@pytest.fixture
def graph(airflow_env: Any, tmp_path: Path) -> Iterator[Graph]:
    found = Graph(tmp_path)
    found.drop()
    found.add(("v1", "one"), ("v2", "two"), ("v2b", "two"), ("v3", "three"))
    yield found
    found.drop()


def before(days: float) -> datetime:
    return AS_OF - timedelta(days=days)


ROWS = {"0-1-0": "one", "0-1-1": "two", "0-1-2": "three", "0-1-3": "gone"}
EVENTS = [
    ("0-1-0", "Open", None, before(1)), ("0-1-0", "Click", "Unlikely", before(1)), ("0-1-0", "Click", None, before(3)),
    ("0-1-1", "Click", None, before(40)), ("0-1-2", "Click", "Likely", before(2)), ("0-1-3", "Click", None, before(1)),
    ("0-1-2", "Click:unsubscribe", None, before(1)),
]  # fmt: skip


def numbers(clicks: int, opens: int, day: int) -> dict[str, list[int]]:
    return dict(zip(NAMES.all(), ([clicks], [opens], [day]), strict=True))


def test_numbers_reach_each_vertex_of_a_player_and_create_none(graph: Graph, graph_size: Callable[[], int]) -> None:
    """`two` is two vertices, `gone` has none; for `three` a likely bot clicked, and then the player to unsubscribe."""
    size = graph_size()
    graph.write(EVENTS, ROWS)
    found = graph.content()
    assert found["players"] == {
        "v1": numbers(2, 1, 20261121), "v2": numbers(0, 0, 20261013), "v2b": numbers(0, 0, 20261013), "v3": {},
    }  # fmt: skip
    assert len(found["edges"]) == 3, "one of each vertex whose player clicked"
    assert graph_size() == size + 1, "the campaign"


def test_a_replay_writes_nothing_and_windows_empty_to_zero(graph: Graph) -> None:
    assert graph.write(EVENTS, ROWS) == 9
    content = graph.content()
    assert graph.write(EVENTS, ROWS) == 0
    assert graph.content() == content
    assert graph.write([], ROWS) == 5, "each number that was not 0"
    assert graph.content()["players"]["v1"] == numbers(0, 0, 0)
    assert graph.write(EVENTS, ROWS) == 5
    assert graph.content()["players"] == content["players"]


def test_another_value_of_a_number_is_replaced(graph: Graph) -> None:
    """A property has set cardinality: a plain write would add a value."""
    graph.write(EVENTS, ROWS)
    content = graph.content()
    graph.run(_g().V("v1").property(NAMES.clicks, 99).count())
    assert graph.content()["players"]["v1"][NAMES.clicks] == [2, 99]
    assert graph.write(EVENTS, ROWS) == 1
    assert graph.content() == content


def test_a_deleted_player_does_not_come_back(graph: Graph, graph_size: Callable[[], int]) -> None:
    """The modeler's API deletes a player between the lookup and the write."""
    graph.write([], ROWS)
    size = graph_size()
    (vertex,) = graph.ours.vertices_of(["one"])
    graph.run(_g().V("v1").drop())
    assert graph.ours.write(Write(NAMES.clicks, 2, [vertex.id, "v3"])) == 1
    edges = [Edge(f"e{each}", "eng_clicked", each, CAMPAIGN) for each in ("v1", "v3")]
    assert graph.ours.put_edges(edges) == 1
    assert graph_size() == size - 1


def test_edges_follow_the_setting(graph: Graph) -> None:
    modes: list[tuple[Edges, int]] = [("all", 7), ("none", 0), ("clicked", 3), ("clicked", 3)]
    for mode, number in modes:
        graph.write(EVENTS, ROWS, mode)
        assert len(graph.content()["edges"]) == number, mode


def test_a_campaign_is_removed_with_its_edges_alone(graph: Graph, graph_size: Callable[[], int]) -> None:
    graph.write(EVENTS, ROWS)
    size = graph_size()
    graph.ours.remove_campaign("campaign of the modeler")  # not ours: nothing
    assert graph_size() == size
    graph.ours.remove_campaign(CAMPAIGN)
    found = graph.content()
    assert (found["edges"], found["campaigns"], graph_size()) == ([], {}, size - 1)
    assert found["players"]["v1"] == numbers(2, 1, 20261121)


def test_an_erased_player_loses_our_properties_and_edges_and_keeps_the_rest(graph: Graph) -> None:
    graph.write(EVENTS, ROWS)
    graph.run(_g().V("v1").property("ea_atrisk", 3).count())
    assert graph.ours.vertices_with_ours(["one", "three", "gone"], NAMES.all()) == ["v1"]
    graph.ours.remove_from(["v1"], NAMES.all())
    assert graph.ours.vertices_with_ours(["one", "three", "gone"], NAMES.all()) == []
    found = graph.content()
    assert found["players"]["v1"] == {"ea_atrisk": [3]}
    assert len(found["edges"]) == 2
    without = {row: player for row, player in ROWS.items() if player != "one"}
    assert graph.write(EVENTS, without) == 0
    assert graph.content() == found


def test_a_name_that_another_wrote_is_found(graph: Graph) -> None:
    assert graph.ours.foreign_names([]) == []
    graph.run(_g().V("v1").property(NAMES.opens, 1).count())
    assert graph.ours.foreign_names([]) == [NAMES.opens]
    assert graph.ours.foreign_names([NAMES.opens]) == []
