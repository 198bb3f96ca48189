"""Check that the graph has the label and the property of a read that found nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from cohort_flywheel.common.failures import RetryableError
from cohort_flywheel.errors import Code
from cohort_flywheel.hooks.neptune import NeptuneGremlinHook

if TYPE_CHECKING:
    from gremlin_python.process.graph_traversal import GraphTraversalSource
    from gremlin_python.process.traversal import Traversal

#: The vertices whose labels and properties are compared with the missing name.
SAMPLE = 1000


class MissingNameError(RetryableError):
    """No vertex has the label and the property. Airflow retries the task, as the graph may be loading."""


def check_names(hook: NeptuneGremlinHook, label: str, property: str, key: str, cohort: str) -> None:
    """Raise MissingNameError unless a vertex with the label has the property, which `key` of cohorts.yaml names."""
    g = _traversals()
    if _values(hook, g.V().has_label(label).has(property).limit(1).label()):
        return
    names = _values(hook, g.V().has_label(label).limit(SAMPLE).properties().key().dedup())
    if names or _values(hook, g.V().has_label(label).limit(1).label()):
        what = f"no vertex with the label {label} has the property {property}{_nearest(property, names)}"
    else:
        check_loaded(hook)
        # Neptune answers a vertex with several labels by a::b, and finds it by one of them only
        labels = {name for found in _values(hook, g.V().limit(SAMPLE).label().dedup()) for name in found.split("::")}
        key = "vertex_label"
        what = f"no vertex has the label {label}{_nearest(label, labels)}"
    raise MissingNameError(
        f"{what}: wait until the graph is loaded, or correct {key} in cohorts.yaml and clear plan with downstream; if"
        f" the graph is as it must be, write may_be_empty: true into cohort {cohort}",
        code=Code.GRAPH_NAMES,
    )


def check_loaded(hook: NeptuneGremlinHook) -> None:
    """Raise MissingNameError if the graph has no vertex, which is never the answer for a day."""
    if not _values(hook, _traversals().V().limit(1).label()):
        raise MissingNameError(
            "the graph has no vertex: wait until it is loaded, then clear this task; or correct the connection of the"
            " graph",
            code=Code.GRAPH_NAMES,
        )


def _traversals() -> GraphTraversalSource:
    from gremlin_python.process.graph_traversal import GraphTraversalSource  # heavy: not for a DAG's parse
    from gremlin_python.process.traversal import TraversalStrategies
    from gremlin_python.structure.graph import Graph

    return GraphTraversalSource(Graph(), TraversalStrategies())


def _values(hook: NeptuneGremlinHook, traversal: Traversal) -> list[str]:
    for attempt in hook.retrying():
        with attempt:
            found = [str(value) for batch in hook.stream(traversal) for value in batch]
    return found


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0)
    return f" (of {SAMPLE:,} sampled vertices, the nearest names are {', '.join(near)})" if near else ""
