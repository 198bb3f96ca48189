"""The plan of a run: the cohort's definition, the threshold and every name, frozen before anything is done."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from cohort_flywheel.campaign.settings import NONE
from cohort_flywheel.config.cohorts import Cohort
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.runs import names
from cohort_flywheel.segment.source import EXTRACT


def make_plan(
    cohort: Cohort,
    *,
    params: Mapping[str, Any],
    as_of: datetime,
    run_type: str,
    user: str | None,
    layout: str,
    schedule: str,
    settings: Mapping[str, str],
    extract_sha256: str | None = None,
    campaign: Mapping[str, Any] = NONE,
) -> dict[str, Any]:
    """Return all that later tasks need, as JSON: they never read the registry again.

    `params` are the DAG's; `settings` has the three buckets; a dry run writes to the state bucket only.
    `extract_sha256` is the digest of the extract that `extract_uri` names, `campaign` what `campaign.with_mail` gives.
    Raises FlywheelError for a threshold
    outside the cohort's range, an override that nobody may make or that has no reason, and buckets that are not three.
    """
    asked = params["threshold"]
    number = cohort.threshold_at(as_of) if asked is None else cohort.check_threshold(asked)
    buckets = {role: settings[f"{role}_bucket"] for role in ("export", "import", "state")}
    if len(set(buckets.values())) < 3:
        raise FlywheelError(
            f"the export, import and state buckets must be three, not {', '.join(buckets.values())}: whatever is"
            " put into the export bucket may start a Lambda, and whatever is in the import bucket may be imported",
            code=Code.VARIABLE,
        )
    dry_run, extract_uri = params["dry_run"], params.get("extract_uri") or None
    source = EXTRACT if extract_uri else params["source"]
    name = names.run_name(cohort.name, number, as_of, live=source == "live", extract_sha256=extract_sha256)
    folder = "dry_run/" if dry_run else ""
    staged_folder = folder + names.STAGED_FOLDER
    return {
        "name": name,
        "as_of": as_of.isoformat(),
        "schedule": schedule,
        "cohort": cohort.name,
        "property": cohort.property,
        "direction": cohort.direction,
        "threshold": number,
        "threshold_from": _threshold_from(cohort, as_of) if asked is None else "param",
        "floor": cohort.snapshot_floor(),
        "require": cohort.require,
        "source": source,
        "extract_only": params.get("extract_only", False),
        "extract_uri": extract_uri,
        "extract_sha256": extract_sha256,
        "limits": cohort.limits.model_dump(),
        "override": _override(params, run_type, user),
        "dry_run": dry_run,
        "attributes": cohort.attributes,
        "score_column": cohort.property if cohort.include_score else None,
        "consent": None if cohort.consent == "none" else cohort.consent.model_dump(),
        "campaign": dict(campaign),
        "withhold": _withhold(cohort, campaign, as_of),
        "layout": layout,
        "extract_bucket": buckets["state" if dry_run or extract_uri else "export"],
        "extract_key": (
            names.staged_extract_key(staged_folder, name) if extract_uri else folder + names.extract_key(name)
        ),
        "state_bucket": buckets["state"],
        "staged_folder": staged_folder,
        "segment_bucket": buckets["import"],
        "segment_folder": names.SEGMENT_FOLDER,
        "rejects_key": folder + names.rejects_key(name),
        "claim_key": folder + names.claim_key(name),
        "report_folder": folder + names.report_folder(name),
        "do_not_contact_key": names.DO_NOT_CONTACT_KEY,
    }


def check_extract(params: Mapping[str, Any], run_type: str) -> None:
    """Raise FlywheelError for params of an extract that contradict each other, or the run."""
    only, uri = params.get("extract_only"), params.get("extract_uri")
    if only and uri:
        raise FlywheelError(
            "extract_only ends a run at the extract, and extract_uri begins with one: nothing would be done; leave one"
            " of them out",
            code=Code.PARAMS_CONTRADICT,
        )
    if only and params["override_limits"]:
        raise FlywheelError(
            "extract_only ends a run before its limits are asked: leave override_limits out",
            code=Code.PARAMS_CONTRADICT,
        )
    if uri and params["source"] != "auto":
        raise FlywheelError(
            f"extract_uri is where the members come from, and so would be source={params['source']}: leave one of them"
            " out",
            code=Code.PARAMS_CONTRADICT,
        )
    if uri and run_type == "backfill":
        raise FlywheelError(
            "a backfill cannot begin with extract_uri, as one extract is not many days: trigger one run with it",
            code=Code.PARAMS_CONTRADICT,
        )


def _withhold(cohort: Cohort, campaign: Mapping[str, Any], as_of: datetime) -> dict[str, Any]:
    """What keeps a contact out of the segment, for `contacts.exclusion_reason`."""
    days, plain = campaign.get("not_again_days"), datetime.fromisoformat(as_of.isoformat())  # pendulum's loses its zone
    return {
        "holdout_percent": cohort.holdout_percent,
        "placeholders": campaign.get("placeholders", {}),
        "template": campaign["template"] if days else None,
        "since": (plain - timedelta(days=days)).isoformat() if days else None,
    }


def _threshold_from(cohort: Cohort, as_of: datetime) -> str:
    if isinstance(cohort.threshold, int):
        return "registry"
    return f"registry, from {max(e.first for e in cohort.threshold if e.first <= as_of.date())}"


def _override(params: Mapping[str, Any], run_type: str, user: str | None) -> dict[str, str] | None:
    """Who lets this run through its limits, and why; None where nobody does."""
    override, reason = params["override_limits"], (params["override_reason"] or "").strip()
    if not override and not reason:
        return None
    if not override:
        raise FlywheelError(
            "override_reason is given without override_limits: switch that on, or leave the reason out",
            code=Code.PARAMS_CONTRADICT,
        )
    if run_type == "backfill":
        raise FlywheelError(
            "a backfill cannot override the limits, as nobody looks at each of its days: trigger the day's run by"
            " itself, with override_limits and override_reason",
            code=Code.PARAMS_CONTRADICT,
        )
    if not reason:
        raise FlywheelError(
            "override_limits needs an override_reason: write why this run may pass, for the report",
            code=Code.PARAMS_CONTRADICT,
        )
    return {"by": user or "unknown", "reason": reason}
