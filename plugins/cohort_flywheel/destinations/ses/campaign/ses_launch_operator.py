"""Mail a segment by Amazon SES after an approval, with at most one mail per player."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields
from botocore.exceptions import BotoCoreError, ClientError

from cohort_flywheel.campaign.holdout_store import close_holdouts, put_holdouts
from cohort_flywheel.campaign.launch import SentMails
from cohort_flywheel.campaign.launch_store import (
    PARTIAL_OUTPUT,
    Row,
    Rows,
    check_approved,
    check_is_current_run,
    end_exclusive_launch,
    exclusive_launch,
    launch_folder,
)
from cohort_flywheel.campaign.send_ledger import LASTS, Header, ledger_key
from cohort_flywheel.campaign.send_ledger_store import (
    check_same_launch,
    close_ledger,
    find_ledger,
    ledgers_of,
    load_ledger,
    load_recently_mailed,
    put_ledger,
    take_out,
)
from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.common.progress import Progress
from cohort_flywheel.common.records import AwsStructure, Json
from cohort_flywheel.common.temporary_folder import TemporaryFolderMixin
from cohort_flywheel.config.registry_head import Approval
from cohort_flywheel.destinations.ses.campaign.event_publishing import followed_by
from cohort_flywheel.destinations.ses.campaign.pending_rows_store import PendingRows, Refusals
from cohort_flywheel.destinations.ses.campaign.send_outcomes import OLDER_AS_OF, Outcome, Totals, by_reason
from cohort_flywheel.destinations.ses.campaign.sends_store import BATCH, Batches, Sends, may_begin
from cohort_flywheel.destinations.ses.campaign.ses_prepare_operator import (
    DESTINATION_NAME,
    check_account,
    check_stored,
    check_verified,
    sender_arguments,
)
from cohort_flywheel.destinations.ses.campaign.stored_template import template_data
from cohort_flywheel.destinations.ses.campaign.withdrawals_store import Withdrawals
from cohort_flywheel.destinations.ses.hook import SesV2Hook
from cohort_flywheel.destinations.ses.ses_outputs import SesPreparedCampaign
from cohort_flywheel.engagement.sender_rates_store import check_sender_rates
from cohort_flywheel.engagement.suppressions_store import check_suppressions_age
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.dynamodb import DynamoDBBatchGetHook
from cohort_flywheel.hooks.s3 import S3Hook, get_json, put_json
from cohort_flywheel.runs.lock_store import release
from cohort_flywheel.runs.newest_store import newest_now, skip_unless_newest
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.runs.schedule import Clock, utc_now
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.do_not_contact_store import make_list
from cohort_flywheel.segment.outputs import Segment

if TYPE_CHECKING:
    from airflow.sdk import Context


class SesLaunchCampaignOperator(TemporaryFolderMixin, AwsBaseOperator[SesV2Hook]):
    """Mail the players of an approved segment, each at most once, and account for every row.

    Fails unless an approver has approved exactly what was prepared, and for a run that is not the canonical run of the
    newest as-of. First the records of earlier attempts are read. An attempt with pending players writes a send ledger
    of them, without those that another launch has mailed meanwhile. Then, for each batch: players who have withdrawn
    since are excluded (`withdrawn`, by reason), the intents are recorded, the mails are sent under the contact list,
    and the outcome is recorded. The players of an interrupted batch are `in_doubt` and never mailed again; so is one
    with a lost answer. A throttled mail is retried. A mail that SES refuses is `refused`, by its code, once SES has
    accepted a later one, or at the end; until then it is pending, because the fault may be the sender's.

    Returns (each also as a separate XCom) the counts `rows = sent + withdrawn + in_doubt + refused`, `batches`, and
    `in_doubt_list`, the address of the list of players in doubt, or None. `sent` are the mails that SES accepted. SES
    also accepts a mail to a contact that has unsubscribed, with the same answer, and does not deliver it;
    SesVerifyContactsOperator counts those contacts.

    :param plan: the output of CohortPlanOperator. (templated)
    :param segment: the segment file, as CohortLimitsOperator released it. (templated)
    :param prepared: the output of SesPrepareCampaignOperator. (templated)
    :param approval: the approvers of the registry.
    :param contact_list: the contact list's name. (templated)
    :param topic: the topic of the mail. (templated)
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    :param clock: gives the time, with its zone.
    """

    aws_hook_class = SesV2Hook
    template_fields = aws_template_fields("plan", "segment", "prepared", "contact_list", "topic")
    ui_color = "#d5c7f2"

    def __init__(
        self,
        *,
        plan: Json,
        segment: Json,
        prepared: Json,
        approval: Approval,
        contact_list: str,
        topic: str,
        clock: Clock = utc_now,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.plan = plan
        self.segment = segment
        self.prepared = prepared
        self.approval = approval
        self.contact_list = contact_list
        self.topic = topic
        self.clock = clock

    def execute(self, context: Context) -> Json:
        retry_note = "Clearing this task is safe: a player whose mail may have been sent is not mailed again."
        with describe_failure(retry_note) as side_effects, self.temporary_folder() as folder:
            s3 = S3Hook(aws_conn_id=self.aws_conn_id, region_name=self.region_name)
            self._plan = Plan.model_validate(self.plan)
            self._segment = Segment.model_validate(self.segment)
            self._prepared = SesPreparedCampaign.of_output(self.prepared)
            check_approved(s3, self._plan, self._segment, self._prepared, self.approval, context)
            check_is_current_run(self._plan, context)
            check_stored(self.hook, self._prepared.template, self._prepared.ses_template)
            with closing(sqlite3.connect(folder / "players.sqlite")) as players:
                output = self._launch(s3, context, folder, players, side_effects)
            release(State(s3, self._plan.state_bucket), self._plan, context)
        sent = output.model_dump(mode="json", exclude_unset=True)
        self.log.info("%s is launched: %s", self._plan.name, sent)
        return sent

    def _launch(
        self, s3: S3Hook, context: Context, folder: Path, players: sqlite3.Connection, side_effects: list[str]
    ) -> SentMails:
        bucket, name, template = self._plan.state_bucket, self._plan.name, self._prepared.template
        number = self._next_ledger(s3, context)
        # read once per attempt: a launch that began in time continues after the next as-of
        newest = newest_now(self._plan, State(s3, bucket), context, self.clock())
        self._is_newest = self._plan.as_of >= newest
        batches, totals, rows = Batches(s3, bucket, name), Totals(folder), Rows(s3, self._segment, folder)
        left = PendingRows(rows, BATCH, batches, totals)

        def reached() -> SentMails:
            """Return the counts; they are also an XCom, for a launch that stops and has no other output."""
            url = batches.put_in_doubt(totals)
            batches.put_tracking(totals)
            if url:
                side_effects.append(f"{totals.in_doubt:,} players are in doubt, and are not mailed again ({url})")
                self.log.warning(side_effects[-1])
            sent = totals.sent_mails(url)
            stopped = sent.model_copy(update={"left": self._segment.rows - sent.rows})
            context["ti"].xcom_push(key=PARTIAL_OUTPUT, value=stopped.model_dump(mode="json"))
            return sent

        until: datetime | None = None
        if number == 1:
            until = self._put_ledger(s3, context, left, number, folder, players, side_effects)
        try:
            if number > 1:
                side_effects.append(f"{totals.sent:,} mails were sent ({batches.place})")
                until = self._continue(s3, context, left, number, folder, players, side_effects)
            withdrawals = self._withdrawals(s3, players, rows)
            with closing(self._sends(until, withdrawals)) as sends:
                self._mail(left, batches, totals, withdrawals, sends, side_effects)
                if until:
                    now = self.clock()
                    close_ledger(s3, bucket, ledger_key(template, name, number), now, folder)
                    if number == 1:
                        close_holdouts(s3, self._plan, self._header(0), now, folder)
        except Exception:
            reached()
            raise
        counts = reached()
        sends.raise_why()
        if never := totals.withdrawn[OLDER_AS_OF]:
            take_out(s3, bucket, template, name, totals.never(), folder)
            self.log.warning("%s players were not mailed before the next as-of; its run may mail them", f"{never:,}")
        return counts

    # --- checks

    def _check_sending(self) -> None:
        """Raise FlywheelError for a fault of the account or the sender, which affects every mail."""
        check_account(self.hook.account(), 0)
        check_verified(self.hook, self._plan.require_campaign().sender)

    # --- the send ledger

    def _next_ledger(self, s3: S3Hook, context: Context) -> int:
        """Return the number of the send ledger that this attempt would write: 1 unless an earlier attempt has begun."""
        plan, template = self._plan, self._prepared.template
        bucket, name, state = plan.state_bucket, plan.name, State(s3, plan.state_bucket)
        found = find_ledger(s3, bucket, template, name)
        if found is None:
            skip_unless_newest(plan, state, context, self.clock, self.log)
            return 1
        check_same_launch(found, self._header(0), f"s3://{bucket}/{ledger_key(template, name)}")
        self._put_record(s3)
        end_exclusive_launch(state, template, context)
        return len(ledgers_of(s3, bucket, template, name)) + 1

    def _header(self, players: int) -> Header:
        plan, now = self._plan, self.clock()
        sha256 = self._segment.sha256
        return Header(plan.name, self._prepared.template, sha256, DESTINATION_NAME, now, players, now + LASTS)

    def _put_ledger(
        self, s3: S3Hook, context: Context, left: PendingRows, number: int, folder: Path, players: sqlite3.Connection,
        side_effects: list[str],
    ) -> datetime:  # fmt: skip
        """Write a send ledger of the pending players, without those that another launch has mailed.

        Fills the list `launched` with them; returns the end of the ledger.
        """
        plan, template = self._plan, self._prepared.template
        bucket, name, campaign = plan.state_bucket, plan.name, plan.require_campaign()
        check_account(self.hook.account(), self._segment.rows if number == 1 else 0)
        check_verified(self.hook, campaign.sender)
        check_suppressions_age(s3, plan)
        if rates := check_sender_rates(s3, plan):
            self.log.info("%s", rates)
        with exclusive_launch(State(s3, bucket), template, context):
            since = campaign.launch_not_again_since(plan.as_of)
            load_recently_mailed(s3, bucket, template, since, name, players)
            header = self._header(sum(1 for _ in left.player_ids("mailed", players)))
            self._put_record(s3)
            if number == 1:
                mailed = left.player_ids("mailed", players)
                put_holdouts(s3, plan, self._segment, header, mailed, players, folder)
            header = put_ledger(s3, bucket, header, left.player_ids("mailed", players), folder, number)
        side_effects.append(f"the send ledger was put at s3://{bucket}/{ledger_key(template, name, number)}")
        load_ledger(s3, bucket, template, name, players, number)
        return header.last_mail

    def _continue(
        self, s3: S3Hook, context: Context, left: PendingRows, number: int, folder: Path, players: sqlite3.Connection,
        side_effects: list[str],
    ) -> datetime | None:  # fmt: skip
        """Write the send ledger of a continued launch; return None if no more player is mailed."""
        make_list(players, "launched")
        if not self._is_newest or not left:
            return None
        return self._put_ledger(s3, context, left, number, folder, players, side_effects)

    def _put_record(self, s3: S3Hook) -> None:
        """Record what is launched; raise FlywheelError if the result was launched with another segment or mail."""
        bucket, key = self._plan.state_bucket, f"{launch_folder(self._plan.name)}launch.json"
        if not put_json(s3, bucket, key, self._prepared.launch_record(), IfNoneMatch="*"):
            found = get_json(s3, bucket, key)
            if found is None or not self._prepared.is_launched_by(found[0]):
                raise FlywheelError(
                    f"{self._plan.name} was launched already, with another segment, mail or sender"
                    f" (s3://{bucket}/{key}): it is not launched again",
                    code=Code.LAUNCHED_ALREADY,
                )

    # --- the batches

    def _mail(
        self,
        left: PendingRows,
        batches: Batches,
        totals: Totals,
        withdrawals: Withdrawals,
        sends: Sends,
        side_effects: list[str],
    ) -> None:
        """Mail the pending rows, and settle the refusals."""
        progress = Progress(self.log, "rows processed", self._segment.rows)
        refusals = Refusals(batches, totals)
        side_effects.append("")
        for number, attempt, rows in left:
            side_effects[-1] = f"{totals.sent:,} mails were sent, and perhaps some of one batch more ({batches.place})"
            outcome = self._outcome(number, attempt, rows, batches, withdrawals, sends)
            batches.put_outcome(number, attempt, outcome)
            totals.add(outcome)
            refusals.add(number, attempt, outcome)
            self._settle(refusals, sends.take_followed(), sends)
            if sends.why:
                break
            progress.add(len(rows))
        side_effects[-1] = f"{totals.sent:,} mails were sent ({batches.place})"
        if not sends.why and (why := sends.why_all_refused()):
            if totals.sent:
                self._settle(refusals, refusals.players(), sends)
            else:
                sends.stop(why)  # SES has accepted no mail of the whole launch

    def _outcome(
        self, number: int, attempt: int, rows: Sequence[Row], batches: Batches, withdrawals: Withdrawals, sends: Sends
    ) -> Outcome:
        why_not = withdrawals.of(rows)
        withdrawn = by_reason(why_not.items())
        mailed = [row for row in rows if row.player_id not in why_not]
        if mailed:
            batches.put_intents(number, attempt, [row.player_id for row in mailed], withdrawn)
        outcome = sends.outcome(number, attempt, mailed)
        untracked = 0
        if self._prepared.untracked_configuration_set:
            not_sent = {*outcome.in_doubt, *outcome.left}
            sent = (row for row in mailed if row.player_id not in not_sent)
            untracked = sum(self._set_of(row, withdrawals) != self._prepared.configuration_set for row in sent)
        return outcome._replace(withdrawn=withdrawn, untracked=untracked)

    def _set_of(self, row: Row, withdrawals: Withdrawals) -> str | None:
        return self._prepared.set_of(agreed=row.player_id not in withdrawals.untracked)

    def _settle(self, refusals: Refusals, players: AbstractSet[str], sends: Sends) -> None:
        """Record the refusals of these players as final, unless the account or the sender is at fault."""
        if not players:
            return
        try:
            self._check_sending()
        except (FlywheelError, ClientError, BotoCoreError) as error:
            sends.stop(error)
        else:
            refusals.settle(players)

    def _withdrawals(self, s3: S3Hook, players: sqlite3.Connection, rows: Rows) -> Withdrawals:
        records = DynamoDBBatchGetHook(aws_conn_id=self.aws_conn_id, region_name=self.region_name)
        if not self._is_newest:
            self.log.warning("%s is no longer the newest run; skipping the remaining recipients", self._plan.name)
        return Withdrawals(s3, records, self._plan, self._prepared.placeholders, players, self._is_newest, rows)

    def _sends(self, until: datetime | None, withdrawals: Withdrawals) -> Sends:
        base = {
            **sender_arguments(self._plan.require_campaign()),
            "ListManagementOptions": {"ContactListName": self.contact_list, "TopicName": self.topic},
        }

        def request(row: Row, tag: str) -> AwsStructure:
            followed = followed_by(self._set_of(row, withdrawals), self._plan.name, tag)
            data = template_data(self._prepared.placeholders, row.attributes)
            template = {"TemplateName": self._prepared.ses_template, "TemplateData": json.dumps(data)}
            to = {"Destination": {"ToAddresses": [row.address]}, "Content": {"Template": template}}
            return base | to | followed

        rate = self.hook.account()["SendQuota"]["MaxSendRate"]
        return Sends(self.hook, request, rate, may_begin(until, self.clock) if until else lambda: False)
