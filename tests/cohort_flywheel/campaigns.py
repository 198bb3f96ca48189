"""What the tests of campaigns share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cohort_flywheel.email_template import read_template, template_digest


def planned(plan: Mapping[str, Any], templates: Path) -> dict[str, Any]:
    """A plan made of the template as it is now; of one that does not read, as it is."""
    campaign = plan["campaign"]
    if not (templates / str(campaign.get("template")) / "subject.txt").exists():
        return dict(plan)
    mail = read_template(templates, campaign["template"])
    return {**plan, "campaign": {**campaign, "template_digest": template_digest(mail)}}
