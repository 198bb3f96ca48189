"""Which name is wrong where a read of the graph found nothing, and what is near it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest
from gremlin_python.process.traversal import Traversal
from tenacity import Retrying, stop_after_attempt

from cohort_flywheel.errors import Code
from cohort_flywheel.hooks.neptune import NeptuneGremlinHook
from cohort_flywheel.segment.graph_names_store import MissingNameError, check_loaded, check_names


class Graph:
    """Answers each traversal in its turn, and keeps the names of its steps."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = iter(answers)
        self.steps: list[str] = []

    def retrying(self) -> Retrying:
        return Retrying(stop=stop_after_attempt(1), reraise=True)

    def stream(self, traversal: Traversal) -> Iterator[list[Any]]:
        self.steps.append(" ".join(each[0] for each in traversal.bytecode.step_instructions))
        yield list(next(self._answers))


def check(*answers: Sequence[str]) -> Graph:
    graph = Graph(*answers)
    check_names(cast(NeptuneGremlinHook, graph), "player", "ea_atrisk", "property", "calm")
    return graph


def test_a_vertex_with_the_label_and_the_property_is_enough() -> None:
    assert check(["player"]).steps == ["V hasLabel has limit label"]


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        (
            ([], ["ea_duty", "ea_at_risk", "status"]),
            r"no vertex with the label player has the property ea_atrisk \(of 1,000 sampled vertices, the nearest names"
            r" are ea_at_risk, ea_duty, status\): wait until the graph is loaded, or correct property in cohorts.yaml",
        ),
        (([], [], ["player"]), "no vertex with the label player has the property ea_atrisk: wait"),
        (
            ([], [], [], ["action"], ["campaign", "players", "action"]),
            r"no vertex has the label player \(of 1,000 sampled vertices, the nearest names are players, .*\): wait"
            " until the graph is loaded, or correct vertex_label in cohorts.yaml and clear plan with downstream",
        ),
        (([], [], [], ["a::players"], ["a::players"]), r"label player \(.* the nearest names are players, a\)"),
        (([], [], [], []), "the graph has no vertex: wait until it is loaded, then clear this task; or correct the"),
    ],
)
def test_a_missing_name_is_an_error_that_airflow_retries(answers: tuple[Sequence[str], ...], sentence: str) -> None:
    with pytest.raises(MissingNameError, match=sentence) as error:
        check(*answers)
    assert error.value.code is Code.GRAPH_NAMES


def test_a_graph_with_any_vertex_is_loaded() -> None:
    check_loaded(cast(NeptuneGremlinHook, Graph(["campaign"])))
    with pytest.raises(MissingNameError, match="the graph has no vertex"):
        check_loaded(cast(NeptuneGremlinHook, Graph([])))
