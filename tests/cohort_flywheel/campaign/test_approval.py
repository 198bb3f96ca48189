"""An approval is an approver's, and of exactly what was prepared."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cohort_flywheel.campaign.approval import approval_digest, check_approval
from cohort_flywheel.errors import FlywheelError

PREPARED: dict[str, Any] = {"template": "at_risk", "rows": 3, "message": {"subject": "Å", "text": "b"}, "id": None}
RIGHT = {"approved": True, "by": "ann", "digest": approval_digest(PREPARED)}


def test_the_digest_is_the_same_after_a_json_round_trip() -> None:
    assert approval_digest(json.loads(json.dumps(PREPARED))) == RIGHT["digest"]
    assert approval_digest(dict(reversed(PREPARED.items()))) == RIGHT["digest"]
    check_approval(PREPARED, RIGHT, ["bo", "ann"])


@pytest.mark.parametrize("change", [{"rows": 4}, {"rows": "3"}, {"message": {"subject": "Å", "text": "c"}}, {"new": 1}])
def test_any_change_needs_another_approval(change: dict[str, Any]) -> None:
    with pytest.raises(FlywheelError, match="exactly this segment and mail"):
        check_approval(PREPARED | change, RIGHT, ["ann"])


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "success",
        [],
        {},
        RIGHT | {"approved": 1},
        RIGHT | {"approved": None},
        RIGHT | {"by": None},
        RIGHT | {"by": "an"},
    ],
)
def test_other_answers_are_not_approvals(answer: Any) -> None:
    with pytest.raises(FlywheelError, match="there is no answer by which an approver has approved"):
        check_approval(PREPARED, answer, ["ann"])


def test_without_approvers_no_answer_approves() -> None:
    with pytest.raises(FlywheelError, match="there is no answer"):
        check_approval(PREPARED, RIGHT, [])
