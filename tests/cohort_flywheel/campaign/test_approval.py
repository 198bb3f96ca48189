"""An approval is an approver's, and of exactly what was prepared."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from cohort_flywheel.campaign.approval import approval_digest, check_approval
from cohort_flywheel.campaign.launch import PreparedCampaign
from cohort_flywheel.errors import FlywheelError
from tests.cohort_flywheel.task_outputs import prepared_campaign

#: With a key that only its destination knows.
OUTPUT = prepared_campaign(message={"subject": "Å", "text": "b", "html_url": "s3://state/mail.html"}, template_arn=None)
PREPARED = PreparedCampaign.model_validate(OUTPUT)
RIGHT = {"approved": True, "by": "ann", "digest": approval_digest(PREPARED)}


def test_the_digest_is_the_same_after_a_json_round_trip() -> None:
    for output in (
        json.loads(json.dumps(OUTPUT)),
        dict(reversed(OUTPUT.items())),
        PREPARED.model_dump(mode="json", exclude_unset=True),
    ):
        assert approval_digest(PreparedCampaign.model_validate(output)) == RIGHT["digest"]
    assert RIGHT["digest"] == hashlib.sha256(json.dumps(OUTPUT, sort_keys=True).encode()).hexdigest()
    check_approval(PREPARED, RIGHT, ["bo", "ann"])


@pytest.mark.parametrize(
    "change", [{"rows": 4}, {"message": OUTPUT["message"] | {"text": "c"}}, {"template_arn": "another"}, {"new": 1}]
)
def test_any_change_needs_another_approval(change: dict[str, Any]) -> None:
    with pytest.raises(FlywheelError, match="exactly this segment and mail"):
        check_approval(PreparedCampaign.model_validate(OUTPUT | change), RIGHT, ["ann"])


def test_a_number_that_is_text_is_not_what_was_prepared() -> None:
    with pytest.raises(FlywheelError, match="is not what the task returned: trigger a new run"):
        PreparedCampaign.of_output(OUTPUT | {"rows": "3"})


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
    with pytest.raises(FlywheelError, match="no recorded approval of exactly this segment and mail"):
        check_approval(PREPARED, answer, ["ann"])


def test_without_approvers_no_answer_approves() -> None:
    with pytest.raises(FlywheelError, match="no recorded approval"):
        check_approval(PREPARED, RIGHT, [])
