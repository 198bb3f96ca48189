"""Checks and records of a launch, shared by all destinations."""

from __future__ import annotations

import csv
import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import ClientError
from pydantic import ValidationError

from cohort_flywheel.campaign.approval import approval_digest, check_approval, may_approve
from cohort_flywheel.campaign.launch import ApprovalAnswer, PreparedCampaign
from cohort_flywheel.campaign.send_ledger import Header, ledger_key
from cohort_flywheel.campaign.send_ledger_store import check_same_launch, find_ledger
from cohort_flywheel.common.failures import RetryableError
from cohort_flywheel.common.records import Json
from cohort_flywheel.config.cohorts import Consent
from cohort_flywheel.config.data_schema import DataSchema
from cohort_flywheel.config.registry_head import Approval
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook, get_json, put_json
from cohort_flywheel.runs.lock_store import acquire, enum_value, this_run
from cohort_flywheel.runs.names import claim_key
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.contacts import Reject, Suppressed, classify_member, normalize_entry
from cohort_flywheel.segment.do_not_contact_store import ENTRIES, add_to_list, is_listed, make_list
from cohort_flywheel.segment.members import Member
from cohort_flywheel.segment.outputs import Segment
from cohort_flywheel.segment.segment_file import digest
from cohort_flywheel.segment.source import is_canonical_run

if TYPE_CHECKING:
    from airflow.sdk import Context


#: The XCom of the counts of a launch that stopped.
PARTIAL_OUTPUT = "reached"


def launch_folder(name: str) -> str:
    """The folder of a launch: its approval, its record and its batches. No lifecycle rule may delete it."""
    return f"launches/{name}/"


class Row(NamedTuple):
    address: str
    player_id: str
    attributes: dict[str, str]


class Rows:
    """The rows of a downloaded segment file; raises FlywheelError unless it has the approved digest."""

    def __init__(self, s3: S3Hook, segment: Segment, folder: Path) -> None:
        self._paths = []
        for index, part in enumerate(segment.parts):
            path = folder / f"{index:04d}.csv"
            s3.get_conn().download_file(segment.s3_bucket, part.s3_key, str(path))
            self._paths.append(path)
        digests = [digest(path) for path in self._paths]
        whole = hashlib.sha256("".join(f"{each}\n" for each in digests).encode()).hexdigest()  # as segment_file.combine
        if whole != segment.sha256:
            raise FlywheelError(
                f"{segment.s3_url} has changed since it was approved: clear check_limits with downstream, which asks"
                " again",
                code=Code.SEGMENT_FILE_CHANGED,
            )

    def __iter__(self) -> Iterator[Row]:
        for path in self._paths:
            with path.open(encoding="utf-8", newline="") as file:
                rows = csv.reader(file)
                _address, _player_id, *columns = next(rows)
                for address, player_id, *values in rows:
                    yield Row(address, player_id, dict(zip(columns, values, strict=True)))


def put_sample(s3: S3Hook, plan: Plan, html: str) -> str:
    """Put the HTML of a sample mail beside the run's report; returns its S3 address."""
    bucket, name = plan.state_bucket, f"mail_{hashlib.sha256(html.encode()).hexdigest()[:16]}.html"
    key = plan.report_folder + name
    s3.get_conn().put_object(Bucket=bucket, Key=key, Body=html.encode(), ContentType="text/html; charset=utf-8")
    return f"s3://{bucket}/{key}"


# --- the approval


def put_approval(s3: S3Hook, plan: Plan, answer: ApprovalAnswer) -> None:
    """Record an approval in the state bucket, because an Airflow user can write an XCom by hand."""
    put_json(s3, plan.state_bucket, _approval_key(plan.name, str(answer.digest)), answer.model_dump(mode="json"))


def withdraw_approval(s3: S3Hook, plan: Plan, prepared: PreparedCampaign) -> None:
    """Withdraw an earlier approval of the same content, as the question is asked again."""
    if get_approval(s3, plan, prepared):
        digest = approval_digest(prepared)
        put_json(s3, plan.state_bucket, _approval_key(plan.name, digest), {"approved": False, "digest": digest})


def get_approval(s3: S3Hook, plan: Plan, prepared: PreparedCampaign) -> Json | None:
    """The recorded answer to what was prepared, or None."""
    found = get_json(s3, plan.state_bucket, _approval_key(plan.name, approval_digest(prepared)))
    return found[0] if found else None


def recorded_answer(answer: object, s3: S3Hook, plan: Plan, prepared: PreparedCampaign) -> ApprovalAnswer | None:
    """Return the answer for a report: a rejection from the task's XCom, an approval only as recorded in S3."""
    if not isinstance(answer, dict) or answer.keys() != ApprovalAnswer.model_fields.keys():
        return None  # written by hand
    if not answer["approved"]:
        try:
            return ApprovalAnswer.model_validate(answer)
        except ValidationError:
            return None  # set by hand
    try:
        recorded = get_approval(s3, plan, prepared)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("AccessDenied", "403"):
            raise
        return None  # without campaign permissions nothing is mailed, and the report is still written
    is_approved = isinstance(recorded, dict) and recorded.get("approved") is True
    return ApprovalAnswer.model_validate(recorded) if is_approved else None


def check_approved(
    s3: S3Hook,
    plan: Plan,
    segment: Segment,
    prepared: PreparedCampaign,
    approval: Approval,
    context: Context,
) -> None:
    """Raise FlywheelError unless this run's segment and campaign were prepared, and exactly that was approved.

    Only the recorded answer counts, not the state of a task. `approval` has the approvers of the registry.
    """
    campaign = plan.require_campaign()
    described = (prepared.mode, prepared.template, prepared.sender, prepared.reply_to)
    is_of_segment = (prepared.rows, prepared.segment_sha256) == (segment.rows, segment.sha256)
    if not is_of_segment or described != (campaign.mode, campaign.template, campaign.sender, campaign.reply_to):
        raise FlywheelError(
            "what was prepared is not this run's segment and campaign: trigger a new run, which asks about its own",
            code=Code.NOT_APPROVED,
        )
    if prepared.mode != "launch":
        raise FlywheelError(
            f"the campaign of this run is {prepared.mode}: only campaign=launch mails players",
            code=Code.NOT_TO_LAUNCH,
        )
    approvers = may_approve(approval, getattr(context["dag_run"], "triggering_user_name", None))
    check_approval(prepared, get_approval(s3, plan, prepared), approvers)


def _approval_key(name: str, of: str) -> str:
    return f"{launch_folder(name)}approval_{of[:16]}.json"


# --- the run


def check_not_launched(s3: S3Hook, plan: Plan, segment: Segment, destination: str) -> None:
    """Raise FlywheelError if the result was launched before with another segment; called before the approval."""
    bucket, name, template = plan.state_bucket, plan.name, plan.require_campaign().template
    if found := find_ledger(s3, bucket, template, name):
        header = Header(name, template, segment.sha256, destination, found.launched_at, found.players)
        check_same_launch(found, header, f"s3://{bucket}/{ledger_key(template, name)}")


def check_is_current_run(plan: Plan, context: Context) -> None:
    """Raise FlywheelError for a backfill and for a run that is not the canonical run of its as-of."""
    if enum_value(context["dag_run"].run_type) == "backfill":
        raise FlywheelError(
            "a backfill never launches a campaign: the newest as-of's own run does", code=Code.NOT_TO_LAUNCH
        )
    if plan.dry_run or not is_canonical_run(plan):
        raise FlywheelError(
            f"{plan.name} is not the canonical run of its as-of (dry run, live, extract_uri): it mails no player",
            code=Code.NOT_TO_LAUNCH,
        )


@contextmanager
def exclusive_launch(state: State, template: str, context: Context) -> Iterator[None]:
    """Hold the lock of a template, so that one run at a time launches it, at any destination."""
    try:
        acquire(state, _claim_key(template), f"template {template}", context)
    except FlywheelError:
        raise RetryableError(
            f"another run is launching a campaign of template {template}: a later attempt sees which players it mails",
            code=Code.BUSY,
        ) from None
    try:
        yield
    finally:
        end_exclusive_launch(state, template, context)


def end_exclusive_launch(state: State, template: str, context: Context) -> None:
    """Release the lock of a template, also one that a killed attempt holds."""
    state.release_lock(_claim_key(template), this_run(context))


def _claim_key(template: str) -> str:
    return claim_key(f"campaign_{template}")


# --- the players


def same_address(rows: Iterable[Row], listed: sqlite3.Connection) -> Iterator[str]:
    """The players whose address is in an earlier row: they are the same person."""
    make_list(listed, "address")
    for row in rows:
        if not add_to_list(listed, "address", [normalize_entry(row.address)]):
            yield row.player_id


def revocation_reason(
    row: Row,
    record: Json | None,
    consent: Consent | None,
    listed: sqlite3.Connection,
    suppressed: Suppressed,
    schema: DataSchema,
) -> str | None:
    """Return why a player may no longer be mailed, by the current record and both lists, or None."""
    now = classify_member(
        Member(row.player_id, 0), record, columns=schema.name_columns, score_column=None, consent=consent,
        do_not_contact=lambda entry: is_listed(ENTRIES, entry, listed), suppressed=suppressed, schema=schema,
    )  # fmt: skip
    if isinstance(now, Reject):
        return now.reason
    return None if now.address == row.address else "other_address"
