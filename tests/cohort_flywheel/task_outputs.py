"""Outputs of tasks as Airflow has them in XComs: whole, so that each is valid, with what a test changes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from cohort_flywheel.runs.result import Result, RunIds


def extract_facts(members: int = 4, **changed: Any) -> dict[str, Any]:
    """The XCom `facts` of CohortExtractOperator."""
    return {
        "s3_bucket": "exports", "s3_key": "export/n.json", "bytes": 9, "sha256": "a" * 64, "put": True,
        "vertices_read": members, "vertices_not_beyond": 0, "vertices_not_as_required": 0, "vertices": members,
        "merged": 0, "vertices_without_playerId": 0, "members": members, "source": "graph",
        "read_at": "2026-11-22T00:03:00+00:00", "snapshot": "pending", "snapshot_key": "snapshots/mine",
    } | changed  # fmt: skip


def segment_file(rows: int = 3, **changed: Any) -> dict[str, Any]:
    """A segment file without rejects, as CohortLimitsOperator releases it."""
    return {
        "s3_bucket": "imports", "s3_key": "segments/n/", "s3_url": "s3://imports/segments/n/", "bytes": 9,
        "sha256": "b" * 64, "parts": [{"s3_key": "segments/n/0000.csv", "sha256": "b" * 64}], "members": rows,
        "rows": rows, "rejects": {}, "rejects_key": "rejects/n/", "do_not_contact": 0,
    } | changed  # fmt: skip


def limit_result(members: int = 4, **changed: Any) -> dict[str, Any]:
    return {
        "limit": "max_members", "allowed": 9_999, "found": members, "holds": True, "sentence": f"{members:,} members",
    } | changed  # fmt: skip


def checked_segment(segment: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """The output of CohortLimitsOperator."""
    return {
        "limits": [limit_result(segment["members"])], "previous": None, "override": None,
        "extract": extract_facts(segment["members"]), "segment": segment, "snapshot": "snapshots/mine",
        "s3_url": segment["s3_url"], "rows": segment["rows"],
    } | changed  # fmt: skip


def result_record(as_of: datetime, run: RunIds, **changed: Any) -> Result:
    """The result of a run."""
    return Result.model_validate({
        "as_of": as_of.isoformat(), "members": 3, "rows": 3, "s3_url": "s3://imports/segments/n/",
        "snapshot": "snapshots/mine", "imported": {"segment_id": "s1", "segment_size": 3}, "run": run,
    } | changed)  # fmt: skip


def prepared_campaign(**changed: Any) -> dict[str, Any]:
    """The output of a destination's `prepare_campaign`."""
    return {
        "mode": "launch", "template": "at_risk", "template_digest": "e" * 64, "from": "Studio <play@studio.example>",
        "rows": 3, "segment_id": "s1", "segment_sha256": "b" * 64,
        "message": {"subject": "Hello Sam", "text": "Hello", "html_url": "s3://state/reports/mail.html"},
    } | changed  # fmt: skip


def approval_answer(**changed: Any) -> dict[str, Any]:
    return {
        "approved": True, "by": "ann", "at": "2026-11-22T09:00:00+00:00", "timed_out": False, "digest": "0" * 64,
    } | changed  # fmt: skip
