"""The harness knows botocore's request by its digest, after one over a kept connection."""

from __future__ import annotations

from typing import Any

import pytest

from cohort_flywheel.hooks import kept_connections
from tests.cohort_flywheel.hooks.dynamodb_server import Reply, a_dynamodb, connect, many
from tests.faults import kept, transport
from tests.faults.sites import CALL, Case, Fault, Site, Watch


def watch(monkeypatch: pytest.MonkeyPatch, case: Case | None, told: list[Any]) -> None:
    """Watch the kept connections of this test."""
    for name in ("send", "receive"):  # put back afterwards
        monkeypatch.setattr(kept_connections, name, getattr(kept_connections, name))
    kept.install(Watch("t", case, lambda **facts: told.append(facts)), transport._digest)


def test_a_request_has_the_digest_of_botocore_s_for_the_same_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs: list[str] = []
    ours: list[Any] = []
    with a_dynamodb(lambda _: Reply()) as (url, _):
        hook = connect(monkeypatch, url)
        hook.conn.meta.events.register(
            "before-call.dynamodb.BatchGetItem", lambda params, **_: theirs.append(transport._digest(params))
        )
        watch(monkeypatch, None, ours)
        list(many(hook, [["p1", 'q"\u2028é🎲'], ["p1", 'q"\u2028é🎲'], ["p2"]]))
    assert theirs == [ours[0]["request"]]
    assert ours[1]["request"] != ours[0]["request"]


@pytest.mark.parametrize(
    "kind",
    [
        "answer lost, connection closed", "answer lost, time-out", "time-out", "throttled once", "500",
        "503 until cleared", "30 % of keys unprocessed",
    ],
)  # fmt: skip
def test_each_fault_of_a_kept_connection_leads_to_botocore(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with a_dynamodb(lambda _: Reply()) as (url, seen):
        hook = connect(monkeypatch, url)
        case = Case(Site("t", "dynamodb", "BatchGetItem", 1), Fault(kind, CALL))
        watch(monkeypatch, case, [])
        keys = ["a", "b", "c", "d"]
        got = list(many(hook, [["p0"], keys, ["p2"]], in_flight=2))
    assert [sorted(found) for _, found in got] == [["p0"], keys, ["p2"]]
    asked_again = [asked.keys for asked in seen if asked.is_botocore_s][1:]
    assert asked_again == ([keys[:1]] if "unprocessed" in kind else [keys])
