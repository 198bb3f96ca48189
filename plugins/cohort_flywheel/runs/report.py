"""What happened to every player, counted: the funnel of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cohort_flywheel.errors import Code
from cohort_flywheel.segment.limits import refusal
from cohort_flywheel.segment.outputs import LimitResult
from cohort_flywheel.segment.source import EXTRACT

#: The version of the report's shape, which `report.schema.json` describes.
VERSION = 5

_PLAN = (
    "cohort", "property", "direction", "threshold", "threshold_from", "as_of", "dry_run", "source", "extract_only",
    "extract_uri", "require", "limits",
)  # fmt: skip
_READ = ("vertices_read", "vertices_not_beyond", "vertices_not_as_required")
_GRAPH = ("vertices", "merged", "vertices_without_playerId", "members")
#: Of the segment; an output of before version 5 has none of them.
_SINCE_5: dict[str, Any] = {"do_not_contact_matched": 0, "records": 0, "records_without": {}}
_SOURCE = ("source", "read_at", "snapshot", "snapshot_key")

Part = Mapping[str, Any] | None


def make_report(
    run: Mapping[str, Any],
    tasks: Mapping[str, str],
    *,
    plan: Part = None,
    extract: Part = None,
    judged: Part = None,
    imported: Part = None,
    campaign: Part = None,
) -> dict[str, Any]:
    """Put together what the run reached; a part that it did not reach is None. Counts and places, no players.

    `campaign` has what was `prepared`, the `answer`, and what was `launched` and `followed`, each or None.
    """
    segment = judged["segment"] if judged else None
    return {
        "version": VERSION,
        "run": dict(run),
        "outcome": outcome(tasks, plan, extract, segment, judged, imported, campaign),
        "tasks": dict(tasks),
        "plan": _planned(plan) if plan else None,
        "extract": (
            _place(extract)
            | {key: extract[key] for key in (*_SOURCE, *_READ, *_GRAPH)}
            | {"vertices_erased": _erased(extract)}
            if extract
            else None
        ),
        "segment": (
            _place(segment)
            | {key: segment[key] for key in ("members", "rows", "rejects", "rejects_key", "do_not_contact", "parts")}
            | {key: segment.get(key, none) for key, none in _SINCE_5.items()}
            if segment
            else None
        ),
        "limits": {key: judged[key] for key in ("limits", "previous", "override")} if judged else None,
        "imported": dict(imported) if imported else None,
        "campaign": _campaign(campaign),
        "faults": faults(extract, segment, imported, campaign),
    }


def _planned(plan: Mapping[str, Any]) -> dict[str, Any]:
    about = {"holdout_percent": plan["withhold"]["holdout_percent"], "campaign": plan["campaign"]["mode"]}
    return {key: plan[key] for key in _PLAN} | about


def outcome(
    tasks: Mapping[str, str],
    plan: Part,
    extract: Part,
    segment: Part,
    judged: Part,
    imported: Part,
    campaign: Part = None,
) -> str:
    """In a word or two, how the run ended."""
    if judged and not judged["override"] and refusal(map(LimitResult.model_validate, judged["limits"])):
        return "stopped by limits"
    failed = [task for task, state in tasks.items() if state in ("failed", "upstream_failed")]
    if failed or not plan:
        return "failed"
    if plan["extract_only"] and extract:
        return "extract only"
    if not segment:
        return "failed"
    if campaign and campaign["launched"]:
        return "launched"
    if campaign and (answer := campaign["answer"]):
        if answer["approved"]:  # and not launched: the newest as-of was another one by then
            return "approved too late"
        return "not approved in time" if answer["timed_out"] else "not approved"
    if imported:
        return "imported"
    return "dry run" if plan["dry_run"] else "empty cohort" if not segment["rows"] else "not imported"


def _campaign(campaign: Part) -> dict[str, Any] | None:
    """What became of the campaign; the mail's text is shown to the approver, and is in no report."""
    if not campaign or not (prepared := campaign["prepared"]):
        return None
    return {
        **{key: prepared[key] for key in ("mode", "template", "template_digest", "from", "rows", "segment_sha256")},
        "answer": campaign["answer"],
        "launched": {**(campaign["launched"] or {}), **(campaign["followed"] or {})} or None,
    }


def faults(extract: Part, segment: Part, imported: Part, campaign: Part = None) -> list[str]:
    """The sums that do not hold, each as a sentence; an empty list in every sound run."""
    found = []
    if extract:
        total = extract["vertices"] + extract["vertices_not_beyond"] + extract["vertices_not_as_required"]
        total += _erased(extract)
        if extract["vertices_read"] != total:
            found.append(f"{extract['vertices_read']} vertices read are not the {total} that were judged")
        total = extract["members"] + extract["merged"] + extract["vertices_without_playerId"]
        if extract["vertices"] != total:
            found.append(f"{extract['vertices']} vertices are not the {total} that were counted")
    if segment:
        total = segment["rows"] + sum(segment["rejects"].values())
        if segment["members"] != total:
            found.append(f"{segment['members']} members are not the {total} rows and rejects")
    if extract and segment and extract["members"] != segment["members"]:
        found.append(f"the extract has {extract['members']} members, but {segment['members']} were looked up")
    if segment and imported and imported["segment_size"] != segment["rows"]:
        found.append(f"the segment's size is {imported['segment_size']}, and its file has {segment['rows']} rows")
    if segment and campaign and (launched := campaign["launched"]):
        total = launched["players"] if "players" in launched else _sum_of(launched)
        if total != segment["rows"]:
            found.append(f"the launch accounts for {total} players, and the segment file has {segment['rows']} rows")
    return found


def _sum_of(launched: Mapping[str, Any]) -> int:
    """What became of each row of a launch by SES; of one that stopped, those who are left too."""
    apart = sum(launched["withdrawn"].values()) + sum(launched["refused"].values())
    return int(launched["sent"] + launched["in_doubt"] + apart + launched.get("left", 0))


def table(report: Mapping[str, Any]) -> str:
    """The report as a table for a log or a terminal."""
    lines: list[tuple[str, object]] = [("outcome", report["outcome"])]
    if plan := report["plan"]:
        lines.append(("cohort", f"{plan['cohort']}: {plan['property']} {plan['direction']} {plan['threshold']}"))
        lines.append(("threshold from", plan["threshold_from"]))
        lines.append(("as-of", plan["as_of"]))
        if plan["extract_uri"]:
            lines.append(("extract of", plan["extract_uri"]))
    if extract := report["extract"]:
        kind = f"{extract['snapshot']} snapshot" if extract["source"] == "snapshot" else extract["source"]
        verb = "dropped" if extract["source"] == EXTRACT else "read"
        lines.append(("source", f"{kind}, {verb} at {extract['read_at']}"))
        lines += [(key.replace("_", " "), f"{extract[key]:,}") for key in (*_READ, "vertices_erased")]
        lines += [(key.replace("_", " "), f"{extract[key]:,}") for key in _GRAPH]
        lines.append(("extract", extract["url"]))
    if segment := report["segment"]:
        lines.append(("rows", f"{segment['rows']:,}"))
        lines.append(("rejects", f"{sum(segment['rejects'].values()):,}"))
        lines += [(f"  {reason}", f"{number:,}") for reason, number in segment["rejects"].items()]
        lines.append(("do-not-contact entries", f"{segment['do_not_contact']:,}"))
        lines.append(("  that match a member", f"{segment['do_not_contact_matched']:,}"))
        lines.append(("records", f"{segment['records']:,}"))
        lines += [(f"  without {name}", f"{number:,}") for name, number in segment["records_without"].items() if number]
        lines.append(("segment file", segment["url"]))
    if limits := report["limits"]:
        for verdict in limits["limits"]:
            said = "holds" if verdict["holds"] else "DOES NOT HOLD"
            lines.append((verdict["limit"].replace("_", " "), f"{verdict['allowed']:,} {said}: {verdict['sentence']}"))
        if override := limits["override"]:
            lines.append(("overridden", f"by {override['by']}: {override['reason']}"))
    if imported := report["imported"]:
        lines += [(key.replace("_", " "), value) for key, value in imported.items()]
    if campaign := report["campaign"]:
        lines.append(("campaign", f"{campaign['mode']}, template {campaign['template']}, from {campaign['from']}"))
        if answer := campaign["answer"]:
            said = "approved" if answer["approved"] else "not approved"
            who = "nobody answered in time" if answer["timed_out"] else f"by {answer['by']}"
            lines.append(("approval", f"{said}: {who}, {answer['at']}"))
        for key, value in (campaign["launched"] or {}).items():
            text = ", ".join(f"{n:,} {why}" for why, n in value.items()) or "0" if isinstance(value, dict) else value
            lines.append((key.replace("_", " "), text))
    lines += [("FAULT", f"{Code.DO_NOT_ADD_UP}: {fault}") for fault in report["faults"]]
    lines += [("task " + state, task) for task, state in report["tasks"].items() if state.endswith("failed")]
    width = max(len(name) for name, _value in lines)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines)


def _erased(extract: Mapping[str, Any]) -> int:
    """The vertices of erased players; an output of before there were any has no such number."""
    return int(extract.get("vertices_erased", 0))


def _place(output: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "url": f"s3://{output['s3_bucket']}/{output['s3_key']}",
        "bytes": output["bytes"],
        "sha256": output["sha256"],
    }
