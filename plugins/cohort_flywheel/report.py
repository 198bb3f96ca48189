"""What happened to every player, counted: the funnel of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: The version of the report's shape.
VERSION = 1

_PLAN = ("cohort", "property", "direction", "threshold", "threshold_from", "as_of", "dry_run")
_GRAPH = ("vertices", "merged", "vertices_without_playerId", "members")


def make_report(
    run: Mapping[str, Any],
    tasks: Mapping[str, str],
    plan: Mapping[str, Any] | None,
    extract: Mapping[str, Any] | None,
    segment: Mapping[str, Any] | None,
    imported: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Put together what the run reached; a part that it did not reach is None. Counts and places, no players."""
    return {
        "version": VERSION,
        "run": dict(run),
        "outcome": outcome(tasks, plan, segment, imported),
        "tasks": dict(tasks),
        "plan": {key: plan[key] for key in _PLAN} if plan else None,
        "extract": _place(extract) | {key: extract[key] for key in _GRAPH} if extract else None,
        "segment": (
            _place(segment)
            | {key: segment[key] for key in ("members", "rows", "rejects", "rejects_key", "do_not_contact")}
            if segment
            else None
        ),
        "imported": dict(imported) if imported else None,
        "faults": faults(extract, segment, imported),
    }


def outcome(
    tasks: Mapping[str, str],
    plan: Mapping[str, Any] | None,
    segment: Mapping[str, Any] | None,
    imported: Mapping[str, Any] | None,
) -> str:
    """In a word or two, how the run ended."""
    failed = [task for task, state in tasks.items() if state in ("failed", "upstream_failed")]
    if failed or not plan or not segment:
        return "failed"
    if imported:
        return "imported"
    return "dry run" if plan["dry_run"] else "empty cohort" if not segment["rows"] else "not imported"


def faults(
    extract: Mapping[str, Any] | None, segment: Mapping[str, Any] | None, imported: Mapping[str, Any] | None
) -> list[str]:
    """The sums that do not hold, each as a sentence; an empty list in every sound run."""
    found = []
    if extract:
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
        found.append(f"the segment has {imported['segment_size']} endpoints for {segment['rows']} rows")
    return found


def table(report: Mapping[str, Any]) -> str:
    """The report as a table for a log or a terminal."""
    lines: list[tuple[str, object]] = [("outcome", report["outcome"])]
    if plan := report["plan"]:
        lines.append(("cohort", f"{plan['cohort']}: {plan['property']} {plan['direction']} {plan['threshold']}"))
        lines.append(("as-of", plan["as_of"]))
    if extract := report["extract"]:
        lines += [(key.replace("_", " "), f"{extract[key]:,}") for key in _GRAPH]
        lines.append(("extract", extract["url"]))
    if segment := report["segment"]:
        lines.append(("rows", f"{segment['rows']:,}"))
        lines.append(("rejects", f"{sum(segment['rejects'].values()):,}"))
        lines += [(f"  {reason}", f"{number:,}") for reason, number in segment["rejects"].items()]
        lines.append(("segment file", segment["url"]))
    if imported := report["imported"]:
        lines += [(key.replace("_", " "), value) for key, value in imported.items()]
    lines += [("FAULT", fault) for fault in report["faults"]]
    lines += [("task " + state, task) for task, state in report["tasks"].items() if state.endswith("failed")]
    width = max(len(name) for name, _value in lines)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines)


def _place(output: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "url": f"s3://{output['s3_bucket']}/{output['s3_key']}",
        "bytes": output["bytes"],
        "sha256": output["sha256"],
    }
