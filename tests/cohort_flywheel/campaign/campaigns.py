"""What the tests of campaigns share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cohort_flywheel.campaign.approval import approval_digest
from cohort_flywheel.campaign.email_template import read_template, template_digest
from cohort_flywheel.config.registry import Approval

#: The registry's.
APPROVAL = Approval(approvers=["ann"])


def planned(plan: Mapping[str, Any], templates: Path) -> dict[str, Any]:
    """A plan made of the template as it is now; of one that does not read, as it is."""
    campaign = plan["campaign"]
    if not (templates / str(campaign.get("template")) / "subject.txt").exists():
        return dict(plan)
    mail = read_template(templates, campaign["template"])
    return {**plan, "campaign": {**campaign, "template_digest": template_digest(mail)}}


def approved(prepared: Mapping[str, Any], by: str = "ann") -> dict[str, Any]:
    return {"approved": True, "by": by, "digest": approval_digest(prepared)}


def record(s3: Any, bucket: str, name: str, prepared: Mapping[str, Any], answer: Any) -> None:
    """Have an answer recorded where a launch looks for the one to exactly this; None takes it away."""
    place = {"Bucket": bucket, "Key": f"launches/{name}/approval_{approval_digest(prepared)[:16]}.json"}
    if answer is None:
        s3.delete_object(**place)
    else:
        s3.put_object(**place, Body=json.dumps(answer).encode())
