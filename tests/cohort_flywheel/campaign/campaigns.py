"""What the tests of campaigns share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cohort_flywheel.campaign.email_template import read_template, template_digest
from cohort_flywheel.config.registry_head import Approval
from tests.cohort_flywheel.task_outputs import approval_answer

#: The registry's.
APPROVAL = Approval(approvers=["ann"])


def planned(plan: Mapping[str, Any], templates: Path) -> dict[str, Any]:
    """A plan made of the template as it is now; of one that does not read, as it is."""
    campaign = plan["campaign"]
    if not (templates / str(campaign.get("template")) / "subject.txt").exists():
        return dict(plan)
    mail = read_template(templates, campaign["template"])
    return {**plan, "campaign": {**campaign, "template_digest": template_digest(mail)}}


def digest_of(prepared: Mapping[str, Any]) -> str:
    """The digest of an approval, written here a second time; also of what no task returns."""
    return hashlib.sha256(json.dumps(prepared, sort_keys=True).encode()).hexdigest()


def approved(prepared: Mapping[str, Any], by: str = "ann") -> dict[str, Any]:
    return approval_answer(by=by, digest=digest_of(prepared))


def record(s3: Any, bucket: str, name: str, prepared: Mapping[str, Any], answer: Any) -> None:
    """Have an answer recorded where a launch looks for the one to exactly this; None takes it away."""
    place = {"Bucket": bucket, "Key": f"launches/{name}/approval_{digest_of(prepared)[:16]}.json"}
    if answer is None:
        s3.delete_object(**place)
    else:
        s3.put_object(**place, Body=json.dumps(answer).encode())
