"""Days of engagement in a real graph: replayed, killed anywhere, after an erasure and with a window that empties."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from cohort_flywheel.campaign.mail_tags import launch_tag
from cohort_flywheel.engagement.events_store import put_written_names, written_names
from cohort_flywheel.engagement.graph_erasure_store import GraphErasure
from cohort_flywheel.engagement.graph_operator import WRITER_CONN_ID, EngagementGraphOperator
from cohort_flywheel.engagement.graph_store import _g
from cohort_flywheel.engagement.graph_values import Edges, GraphNames, GraphPlan
from cohort_flywheel.engagement.operators import EngagementPlanOperator
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.governance.tombstones_store import put_tombstones
from cohort_flywheel.hooks.neptune import NeptuneGremlinHook
from cohort_flywheel.hooks.s3 import S3Hook
from tests.cohort_flywheel.engagement.event_days import NEWEST, Events, Killed
from tests.cohort_flywheel.engagement.ses_events import event, line, mail
from tests.cohort_flywheel.engagement.test_graph_store import LABEL, NAMES, Graph, numbers
from tests.cohort_flywheel.memory_limits import MemoryLimits, tuned

YESTERDAY = NEWEST - timedelta(days=1)
LAUNCH = "ea_atrisk_2_2026-11-20_00-00-00"
#: Two players who click, `two` with two vertices; one that the graph does not have; one who is mailed only.
PLAYERS = ["one", "two", "gone", "three"]


class Days:
    """Two days of events of one launch, and what they write to the graph."""

    def __init__(self, events: Events, graph: Graph) -> None:
        self.events, self.graph = events, graph
        events.launched(LAUNCH, **{"000000_1__intents__json": {"player_ids": PLAYERS, "withdrawn": {}, "try": "a"}})
        first = "2026-11-20T10:05:00.000Z"
        events.put(
            30, _clicked("0-1-0", "Delivery", "Open", "Click", at=first), _clicked("0-1-3", "Delivery", at=first)
        )
        events.put(2, _clicked("0-1-1", "Click"), _clicked("0-1-2", "Click"), _clicked("0-1-0", "Bounce"))

    graph_plan = GraphPlan(names=NAMES, vertex_label=LABEL, player_id="playerId")

    def plan(self, as_of: datetime, **graph: Any) -> dict[str, Any]:
        of_graph = self.graph_plan.model_dump() | graph
        operator = EngagementPlanOperator(
            task_id="plan", schedule="0 0 * * *", graph=of_graph, clock=lambda: as_of + timedelta(hours=1)
        )
        return operator.execute(self.events.context({}, run_after=as_of + timedelta(minutes=5)))

    def write(self, as_of: datetime, **graph: Any) -> dict[str, Any]:
        return self.write_planned(self.plan(as_of, **graph))

    def write_planned(self, plan: dict[str, Any]) -> dict[str, Any]:
        return dict(EngagementGraphOperator(task_id="write_graph", plan=plan).execute({}))

    def run(self, as_of: datetime, **graph: Any) -> dict[str, Any]:
        self.events.read(as_of)
        return self.write(as_of, **graph)


def _clicked(row: str, *kinds: str, at: str = "2026-11-21T10:05:00.000Z") -> bytes:
    of = mail(f"m{row}", launch=launch_tag(LAUNCH), row=row, timestamp="2026-11-20T10:00:00.000Z")
    return line(event("Send", of), *(event(kind, of, timestamp=at) for kind in kinds))


@pytest.fixture
def days(
    airflow_env: Any,
    servers: Any,
    fresh_config: Any,
    context: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Days]:
    monkeypatch.setenv("AIRFLOW_CONN_NEPTUNE_ENGAGEMENT", os.environ["AIRFLOW_CONN_NEPTUNE_DEFAULT"])
    graph = Graph(tmp_path)
    graph.drop()
    graph.add(("v1", "one"), ("v2", "two"), ("v2b", "two"), ("v3", "three"))
    yield Days(Events(servers, fresh_config, context, monkeypatch), graph)
    graph.drop()


def test_two_days_reach_the_graph_and_a_replay_of_them_changes_nothing(
    days: Days, graph_size: Callable[[], int]
) -> None:
    size = graph_size()
    first = days.run(YESTERDAY)
    assert (first["properties"], first["campaigns"], first["edges"]) == (3, 1, 1)
    second = days.run(NEWEST)
    assert (second["properties"], second["edges"], second["without_vertex"], second["gone"]) == (6, 2, 1, 0)
    found = days.graph.content()
    clicked = numbers(1, 0, 20261121)
    assert found["players"] == {"v1": numbers(1, 1, 20261120), "v2": clicked, "v2b": clicked, "v3": {}}
    ((_, campaign),) = found["campaigns"].items()
    assert campaign == {
        "name": LAUNCH, "eng_launch": LAUNCH, "eng_messages": 4, "eng_delivered": 1, "eng_bounced": 1, "eng_opened": 1,
        "eng_clicked": 3, "eng_complained": 0, "eng_unsubscribed": 0,
    }  # fmt: skip
    assert graph_size() == size + 1
    kept = days.events.kept
    assert days.run(YESTERDAY)["skipped"], "a later as-of has written"
    again = days.run(NEWEST)
    assert {name for name, number in again.items() if number} == {"without_vertex"}
    assert (days.graph.content(), days.events.kept, graph_size()) == (found, kept, size + 1)


def test_the_numbers_are_in_the_memory_of_the_tuning(
    days: Days, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    days.events.read(YESTERDAY)
    plan, limits = days.plan(YESTERDAY), MemoryLimits(tmp_path / "limits", monkeypatch)
    with tuned():
        assert days.write_planned(plan)["properties"] == 3
    assert limits.are_tuned()


def test_windows_empty_and_old_campaigns_are_removed(days: Days) -> None:
    days.run(YESTERDAY)
    days.run(NEWEST)
    days.events.expire()  # after 7 days
    later = days.run(NEWEST + timedelta(days=31), keep_days=30)
    assert (later["campaigns_removed"], later["properties"]) == (1, 4)
    found = days.graph.content()
    assert found["players"]["v1"] == numbers(0, 0, 20261120)
    assert (found["edges"], found["campaigns"]) == ([], {})
    days.run(NEWEST + timedelta(days=64))
    assert days.graph.content()["players"]["v1"] == numbers(0, 0, 0)


@pytest.mark.parametrize(
    ("after", "step"),
    [
        pytest.param(False, 1, marks=pytest.mark.nightly, id="before each"),
        pytest.param(True, 1, marks=pytest.mark.nightly, id="after each"),
        pytest.param(True, 5, id="after some"),
    ],
)
def test_a_run_killed_at_any_request_ends_as_an_undisturbed_one(
    days: Days, after: bool, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time some requests later, until a run ends before it would be killed."""
    days.events.read(NEWEST)
    days.write(NEWEST)
    wanted, stream, plan = days.graph.content(), NeptuneGremlinHook.stream, days.plan(NEWEST)
    number = 0
    was_killed = True
    while was_killed:
        days.graph.run(_g().V().has_label(LABEL).properties(*NAMES.all()).drop())
        days.graph.run(_g().V().has_label("campaign").has("eng_launch").drop())
        left = [number]

        def killed(hook: NeptuneGremlinHook, traversal: Any, left: list[int] = left) -> Iterator[list[Any]]:
            left[0] -= 1
            if left[0] == -1 and not after:
                raise Killed
            found = list(stream(hook, traversal))
            if left[0] == -1:
                raise Killed
            yield from found

        with monkeypatch.context() as broken:
            broken.setattr(NeptuneGremlinHook, "stream", killed)
            try:
                days.write_planned(plan)
            except Killed:
                number += step
            else:
                was_killed = False
        days.write_planned(plan)
        assert days.graph.content() == wanted, number
    assert number >= 10, "the requests of a run"


def test_an_erased_player_is_taken_out_and_stays_out(days: Days, graph_size: Callable[[], int]) -> None:
    days.run(YESTERDAY)
    days.run(NEWEST)
    size = graph_size()
    put_tombstones(S3Hook(), days.events.state, ["two"])
    written = days.write(NEWEST)
    assert (written["erased"], written["properties"]) == (2, 0)
    found = days.graph.content()
    assert (found["players"]["v2"], found["players"]["v2b"], len(found["edges"])) == ({}, {}, 1)
    again = days.write(NEWEST)
    assert (again["erased"], again["properties"], again["edges"]) == (0, 0, 0)
    assert (days.graph.content(), graph_size()) == (found, size)


def test_a_deleted_player_is_not_created(days: Days, graph_size: Callable[[], int]) -> None:
    days.run(NEWEST)
    days.graph.run(_g().V("v1").drop())
    size = graph_size()
    again = days.write(NEWEST)
    assert (again["without_vertex"], again["properties"], graph_size()) == (2, 0, size)


@pytest.mark.parametrize(("edges", "number"), [("all", 7), ("clicked", 3), ("none", 0)])
def test_the_edges_of_each_setting(days: Days, edges: Edges, number: int) -> None:
    days.events.read(YESTERDAY)
    assert days.run(NEWEST, edges=edges)["edges"] == number
    assert len(days.graph.content()["edges"]) == number


def test_plan_refuses_a_name_that_another_wrote(days: Days) -> None:
    days.graph.run(_g().V("v3").property(NAMES.opens, 5).count())
    with pytest.raises(AirflowFailException, match=r"CF-ENGAGE-02.*eng_opens_30d"):
        days.plan(NEWEST)
    assert days.graph.content()["players"]["v3"] == {NAMES.opens: [5]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "there is no Airflow connection neptune_engagement"),
        ({"extra": {"iam": True, "region_name": "us-east-1"}}, "there is no Airflow connection aws_neptune_engagement"),
        ({"host": "a.cluster-ro-b.us-east-1.neptune.amazonaws.com"}, "neptune_engagement leads to the reader endpoint"),
    ],
    ids=["graph", "role", "reader"],
)
def test_plan_refuses_a_connection_that_cannot_write(
    days: Days, change: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "AIRFLOW_CONN_NEPTUNE_ENGAGEMENT"
    there = json.loads(os.environ[name])
    monkeypatch.delenv(name)
    if change:
        monkeypatch.setenv(name, json.dumps(there | change))
    with pytest.raises(AirflowFailException, match=f"CF-SET-02.*{message}"):
        days.plan(NEWEST)


def test_a_property_with_another_name_replaces_the_earlier(days: Days) -> None:
    days.run(NEWEST)
    days.write(NEWEST, names=GraphNames(clicks="eng_clicks").model_dump())
    found = days.graph.content()["players"]["v2"]
    assert found == {"eng_clicks": [1], NAMES.opens: [0], NAMES.last_click_day: [20261121]}
    days.graph.run(_g().V().has_label(LABEL).properties("eng_clicks").drop())


# --- an erasure


def test_an_erasure_takes_a_player_out_of_the_graph_and_later_days_do_not_write_them(
    days: Days, context: Any, graph_size: Callable[[], int]
) -> None:
    """`two` has two vertices; a property of another name is from an earlier registry."""
    days.run(YESTERDAY)
    days.run(NEWEST)
    s3, bucket, size = S3Hook(), days.events.state, graph_size()
    put_written_names(s3, bucket, {*NAMES.all(), "eng_earlier"})
    days.graph.run(_g().V("v2").property("eng_earlier", 1).property("ea_atrisk", 3).count())
    before = days.graph.content()
    graph = GraphErasure(written_names(s3, bucket), days.graph_plan, WRITER_CONN_ID, None)
    assert [row.number for row in graph.erase(["gone", "two"], dry_run=True)] == [2]
    assert days.graph.content() == before
    assert [row.number for row in graph.erase(["gone", "two"], dry_run=False)] == [2]
    assert graph.erase(["gone", "two"], dry_run=True) == []
    put_tombstones(s3, bucket, ["gone", "two"])
    after = days.graph.content()
    assert (after["players"]["v2"], after["players"]["v2b"]) == ({"ea_atrisk": [3]}, {})
    assert (len(before["edges"]), len(after["edges"]), graph_size()) == (3, 1, size)
    assert after["players"]["v1"] == before["players"]["v1"]
    days.write(NEWEST)
    assert days.graph.content()["players"] == after["players"]
    assert (len(days.graph.content()["edges"]), graph_size()) == (1, size)


def test_without_write_graph_an_erasure_names_what_stays_and_asks_no_graph() -> None:
    assert GraphErasure((), None, "no_such_connection", None).erase(["two"], dry_run=False) == []
    graph = GraphErasure(NAMES.all(), None, "no_such_connection", None)
    graph.check()
    (row,) = graph.erase(["two"], dry_run=False)
    assert (row.number, row.place) == (1, ", ".join(NAMES.all()))
    assert "write_graph is off" in row.why


def test_an_erasure_begins_only_with_the_connection(airflow_env: Any) -> None:
    graph = GraphErasure(NAMES.all(), Days.graph_plan, "no_such_connection", None)
    with pytest.raises(FlywheelError, match="no_such_connection"):
        graph.check()
