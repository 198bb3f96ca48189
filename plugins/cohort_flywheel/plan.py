"""The plan of a run: the cohort's definition, the threshold and every name, frozen before anything is done."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cohort_flywheel import names
from cohort_flywheel.cohorts import Cohort
from cohort_flywheel.errors import FlywheelError


def make_plan(
    cohort: Cohort,
    *,
    threshold: int | float | None,
    dry_run: bool,
    as_of: datetime,
    settings: Mapping[str, str],
) -> dict[str, Any]:
    """Return all that later tasks need, as JSON: they never read the registry again.

    `settings` has the three buckets; a dry run writes to the state bucket only. Raises FlywheelError for a
    threshold outside the cohort's range and for buckets that are not three.
    """
    number = cohort.threshold if threshold is None else cohort.check_threshold(threshold)
    buckets = {role: settings[f"{role}_bucket"] for role in ("export", "import", "state")}
    if len(set(buckets.values())) < 3:
        raise FlywheelError(
            f"the export, import and state buckets must be three, not {', '.join(buckets.values())}: whatever is"
            " put into the export bucket may start a Lambda, and whatever is in the import bucket may be imported"
        )
    name = names.run_name(cohort.name, number, as_of)
    folder = "dry_run/" if dry_run else ""
    return {
        "name": name,
        "as_of": as_of.isoformat(),
        "cohort": cohort.name,
        "property": cohort.property,
        "direction": cohort.direction,
        "threshold": number,
        "threshold_from": "registry" if threshold is None else "param",
        "dry_run": dry_run,
        "attributes": cohort.attributes,
        "score_column": cohort.property if cohort.include_score else None,
        "consent": None if cohort.consent == "none" else cohort.consent.model_dump(),
        "extract_bucket": buckets["state" if dry_run else "export"],
        "extract_key": folder + names.extract_key(name),
        "segment_bucket": buckets["state" if dry_run else "import"],
        "segment_folder": folder + names.SEGMENT_FOLDER,
        "state_bucket": buckets["state"],
        "rejects_key": folder + names.rejects_key(name),
        "report_folder": folder + names.report_folder(name),
        "do_not_contact_key": names.DO_NOT_CONTACT_KEY,
    }
