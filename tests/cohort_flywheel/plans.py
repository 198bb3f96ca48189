"""Plans of tests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

AS_OF = datetime(2026, 11, 22, tzinfo=UTC)


def plan_output(name: str = "cohort", as_of: datetime = AS_OF, **changes: Any) -> dict[str, Any]:
    """The output of `plan` for a run of ea_atrisk without a campaign, with these changes."""
    return {
        "name": name,
        "as_of": as_of.isoformat(),
        "schedule": "0 0 * * *",
        "cohort": "ea_atrisk",
        "property": "ea_atrisk",
        "direction": "above",
        "threshold": 2,
        "threshold_from": "registry",
        "floor": 0,
        "where": {},
        "source": "auto",
        "extract_only": False,
        "extract_uri": None,
        "extract_sha256": None,
        "limits": {"min_members": 0, "max_members": 1000, "max_change_percent": 100_000, "max_reject_percent": 100},
        "override": None,
        "dry_run": False,
        "attributes": {},
        "score_column": None,
        "consent": None,
        "campaign": {"mode": "none"},
        "withhold": {"holdout_percent": 0, "placeholders": {}, "template": None, "since": None},
        "layout": "pinpoint",
        "contacts_table": "contacts",
        "export_bucket": "export",
        "extract_bucket": "export",
        "extract_key": f"export/{name}.json",
        "state_bucket": "state",
        "staged_folder": "staged/",
        "segment_bucket": "import",
        "segment_folder": "segments/",
        "rejects_key": f"rejects/{name}.csv",
        "claim_key": f"claims/{name}.json",
        "report_folder": f"reports/{name}/",
        "do_not_contact_key": "do_not_contact.txt",
    } | changes
