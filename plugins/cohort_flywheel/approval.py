"""An approval is of exactly what was prepared: any change asks again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from cohort_flywheel.errors import FlywheelError


def approval_digest(prepared: Mapping[str, Any]) -> str:
    """SHA-256, in hex, of all that prepare_campaign returned."""
    return hashlib.sha256(json.dumps(prepared, sort_keys=True).encode()).hexdigest()


def check_approval(prepared: Mapping[str, Any], approval: object, approvers: Sequence[str]) -> None:
    """Raise FlywheelError unless the recorded answer is an approver's yes to this very digest.

    Nothing else is trusted: whoever may clear tasks can mark one successful.
    """
    answer = approval if isinstance(approval, Mapping) else {}
    is_of_this = answer.get("digest") == approval_digest(prepared)
    if answer.get("approved") is not True or answer.get("by") not in approvers or not is_of_this:
        raise FlywheelError(
            "there is no answer by which an approver has approved exactly this segment and mail: nobody is mailed,"
            " whatever state the task approve_campaign is in; clear prepare_campaign and what follows it to ask"
        )
