"""Mail a segment of Customer Profiles by one outbound campaign of Amazon Connect, after an approval."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import batched
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields
from airflow.sdk.exceptions import AirflowException, AirflowSkipException
from botocore.exceptions import ClientError

from cohort_flywheel.campaign.holdout import holdouts
from cohort_flywheel.campaign.holdout_store import put_holdouts
from cohort_flywheel.campaign.launch import StartedCampaign
from cohort_flywheel.campaign.launch_store import (
    Rows,
    check_approved,
    check_is_current_run,
    end_exclusive_launch,
    exclusive_launch,
    revocation_reason,
)
from cohort_flywheel.campaign.send_ledger import LASTS, Header, ledger_key
from cohort_flywheel.campaign.send_ledger_store import extend_ledger, find_ledger, load_recently_mailed, put_ledger
from cohort_flywheel.common.failures import describe_failure, unconfirmed
from cohort_flywheel.common.progress import Progress
from cohort_flywheel.common.records import Json
from cohort_flywheel.common.temporary_folder import TemporaryFolderMixin
from cohort_flywheel.config.registry_head import Approval
from cohort_flywheel.destinations.customer_profiles import layout
from cohort_flywheel.destinations.customer_profiles.campaign.connect_campaigns_store import (
    KEPT_FOR,
    Campaigns,
    launch_key,
)
from cohort_flywheel.destinations.customer_profiles.campaign.hook import INITIALIZED, ConnectCampaignsHook
from cohort_flywheel.destinations.customer_profiles.hook import CustomerProfilesHook
from cohort_flywheel.destinations.customer_profiles.profiles_outputs import ConnectPreparedCampaign, RecordedLaunch
from cohort_flywheel.destinations.customer_profiles.segment_membership_store import SegmentMembershipStore
from cohort_flywheel.destinations.import_result import import_content
from cohort_flywheel.engagement.suppressions_store import SuppressionTable, check_suppressions_age
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.dynamodb import MAX_BATCH_KEYS, DynamoDBBatchGetHook
from cohort_flywheel.hooks.s3 import S3Hook, get_json, put_json
from cohort_flywheel.runs.lock_store import release, this_run
from cohort_flywheel.runs.newest_store import newest_now, skip_unless_newest
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.runs.schedule import Clock, utc_now
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.contacts import lookup_paths
from cohort_flywheel.segment.do_not_contact_store import is_listed, load_do_not_contact
from cohort_flywheel.segment.outputs import Segment

if TYPE_CHECKING:
    from airflow.sdk import Context

_DESTINATION = "customer_profiles"


class ConnectLaunchCampaignOperator(TemporaryFolderMixin, AwsBaseOperator[ConnectCampaignsHook]):
    """Start the campaign of an approved segment once, and record before which players it mails.

    Fails unless an approver has approved exactly what was prepared, for a run that is not the canonical run of the
    newest as-of, for a segment that another run has changed, and for a segment with a player who has withdrawn since or
    was mailed the same template meanwhile. Then the campaign is created, or one of an earlier attempt is used; the send
    ledger is written; the campaign's id is recorded; and only the recorded campaign is started. So a launch that
    Connect refuses leaves no player in the send ledger. A started campaign is adopted. Campaigns of earlier launches
    are deleted 30 days after their end. Returns (each also as a separate XCom) `campaign_id`, `campaign_state`,
    `template` and `players`.

    :param plan: the output of CohortPlanOperator. (templated)
    :param segment: the segment file, as CohortLimitsOperator released it. (templated)
    :param prepared: the output of ConnectPrepareCampaignOperator. (templated)
    :param approval: the approvers of the registry.
    :param domain: the domain of Customer Profiles. (templated)
    :param instance_id: the Connect instance. (templated)
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    :param clock: gives the time, with its zone.
    """

    aws_hook_class = ConnectCampaignsHook
    template_fields = aws_template_fields("plan", "segment", "prepared", "domain", "instance_id")
    ui_color = "#d5c7f2"

    def __init__(
        self,
        *,
        plan: Json,
        segment: Json,
        prepared: Json,
        approval: Approval,
        domain: str,
        instance_id: str,
        clock: Clock = utc_now,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.plan = plan
        self.segment = segment
        self.prepared = prepared
        self.approval = approval
        self.domain = domain
        self.instance_id = instance_id
        self.clock = clock

    def execute(self, context: Context) -> Json:
        retry_note = "Clearing this task is safe: a campaign that may have been started is not started again."
        with describe_failure(retry_note) as side_effects, self.temporary_folder() as folder:
            s3 = S3Hook(aws_conn_id=self.aws_conn_id, region_name=self.region_name)
            self._segment = Segment.model_validate(self.segment)
            self._prepared = ConnectPreparedCampaign.of_output(self.prepared)
            self._plan = Plan.model_validate(self.plan)
            check_approved(s3, self._plan, self._segment, self._prepared, self.approval, context)
            campaign_id = self._launched(s3, side_effects)
            state = self._state(campaign_id) if campaign_id else INITIALIZED
            if state == INITIALIZED:
                with self._deleting_if_refused(s3, context, folder, side_effects):
                    self._check_run(s3, context)
                    with self._alone(s3, context) as store:
                        self._check_segment(s3, store)
                        rows = Rows(s3, self._segment, folder)
                        self._check_people(s3, rows, folder)
                        made = self._unstarted(s3, campaign_id, rows, folder, side_effects)
                        self._put_holdouts(s3, rows, folder)
                        self._put_ledger(s3, rows, folder, side_effects)
                        campaign_id = self._recorded(s3, made, context, side_effects)
                        state = self._started(campaign_id, side_effects)
            else:
                self._end_claims(s3, context)
            release(State(s3, self._plan.state_bucket), self._plan, context)
        players = self._segment.rows
        self.log.info("campaign %s of %s players is %s", campaign_id, f"{players:,}", state)
        return StartedCampaign(
            campaign_id=str(campaign_id), campaign_state=state, template=self._prepared.template, players=players
        ).model_dump(mode="json")

    # --- checks

    def _check_run(self, s3: S3Hook, context: Context) -> None:
        """Fail for a backfill and a run that is not canonical; skip a run of an older as-of."""
        plan = self._plan
        check_is_current_run(plan, context)
        check_suppressions_age(s3, plan)
        state = State(s3, plan.state_bucket)
        newest = newest_now(plan, state, context, self.clock())
        if plan.as_of < newest and (begun := self._begun(s3)):
            raise FlywheelError(
                f"{plan.name} was not started in time: the newest as-of is {newest.isoformat()} now. {begun}",
                code=Code.OUTDATED,
            )
        skip_unless_newest(plan, state, context, self.clock, self.log)

    def _begun(self, s3: S3Hook) -> str:
        """Return what to do if an earlier attempt wrote the send ledger and started no campaign; else empty."""
        template, name, bucket = self._prepared.template, self._plan.name, self._plan.state_bucket
        if not find_ledger(s3, bucket, template, name):
            return ""
        return (
            f"delete s3://{bucket}/{ledger_key(template, name)} and s3://{bucket}/{launch_key(name)}, by which its"
            f" players count as mailed, and a campaign named {name} (its state must be {INITIALIZED})"
        )

    def _first(self, s3: S3Hook) -> str:
        return f"{begun}; then " if (begun := self._begun(s3)) else ""

    def _check_segment(self, s3: S3Hook, store: SegmentMembershipStore) -> None:
        """Raise FlywheelError unless the segment is the one that was verified, and has its rows."""
        record = store.read()
        if record is None or not record.same_verified(import_content(self._plan.name, self._segment)):
            raise FlywheelError(
                f"the segment {store.name} is not this run's verified one any more, as another run has changed it"
                f" since: {self._first(s3)}trigger a new run, which creates it again and asks about it",
                code=Code.OUTDATED,
            )
        profiles = CustomerProfilesHook(aws_conn_id=self.aws_conn_id, region_name=self.region_name)
        size = profiles.estimate(self.domain, layout.segment_groups(store.name))
        if size != self._segment.rows:
            raise FlywheelError(
                f"segment {store.name} has {size:,} profiles by now, but {self._segment.rows:,} were approved:"
                f" profiles were merged, deleted or changed outside this package; {self._first(s3)}trigger a new run,"
                " which creates the segment again and asks about it",
                code=Code.OUTDATED,
            )

    def _check_people(self, s3: S3Hook, rows: Rows, folder: Path) -> None:
        """Raise FlywheelError, with counts, if a row may not be mailed any more."""
        with closing(sqlite3.connect(folder / "people.sqlite")) as listed:
            self._load_lists(s3, listed)
            reasons = Counter(self._withdrawn(s3, rows, listed))
        if not reasons:
            return
        why = ", ".join(f"{reason} {number:,}" for reason, number in sorted(reasons.items()))
        raise FlywheelError(
            f"{reasons.total():,} of {self._segment.rows:,} rows may not be mailed any more ({why}):"
            f" {self._first(s3)}trigger a new run, which makes a new segment and asks about it",
            code=Code.OUTDATED,
        )

    def _load_lists(self, s3: S3Hook, listed: sqlite3.Connection) -> None:
        """Copy the do-not-contact list and the players of other launches to disk: both can exceed a worker's memory."""
        plan = self._plan
        bucket, key = plan.state_bucket, plan.do_not_contact_key
        since = plan.require_campaign().launch_not_again_since(plan.as_of)
        load_recently_mailed(s3, bucket, self._prepared.template, since, plan.name, listed)
        load_do_not_contact(s3, bucket, key, listed)

    def _withdrawn(self, s3: S3Hook, rows: Rows, listed: sqlite3.Connection) -> Iterator[str]:
        """Yield the reason of each row that may not be mailed any more."""
        plan = self._plan
        consent, schema = plan.consent, plan.data_schema
        suppressions = SuppressionTable(s3, plan.state_bucket, plan.withhold.suppressions, listed)
        suppressions.refresh()
        records = DynamoDBBatchGetHook(aws_conn_id=self.aws_conn_id, region_name=self.region_name)
        progress = Progress(self.log, "rows looked up again", self._segment.rows)
        for batch, found in records.get_many(
            plan.contacts_table, schema.contacts_key, batched(rows, MAX_BATCH_KEYS), lookup_paths({}, consent, schema),
            key=lambda row: row.player_id,
        ):  # fmt: skip
            for row in batch:
                if is_listed("mailed", row.player_id, listed):
                    yield "recently_mailed"
                    continue
                record = found.get(row.player_id)
                if reason := revocation_reason(row, record, consent, listed, suppressions.reason, schema):
                    yield reason  # also for another address: the profile has the approved one
            progress.add(len(batch))

    # --- the launch

    def _put_ledger(self, s3: S3Hook, rows: Rows, folder: Path, side_effects: list[str]) -> None:
        template, name, bucket = self._prepared.template, self._plan.name, self._plan.state_bucket
        header = self._header()
        until = header.last_mail
        if put_ledger(s3, bucket, header, (row.player_id for row in rows), folder).last_mail < until:
            extend_ledger(s3, bucket, ledger_key(template, name), until, folder)  # of an earlier attempt
        side_effects.append(f"the send ledger was put at s3://{bucket}/{ledger_key(template, name)}")

    def _header(self) -> Header:
        now = self.clock()
        until = now + LASTS  # by then the schedule of the campaign has ended
        sha256, players = self._segment.sha256, self._segment.rows
        return Header(self._plan.name, self._prepared.template, sha256, _DESTINATION, now, players, until)

    def _put_holdouts(self, s3: S3Hook, rows: Rows, folder: Path) -> None:
        """Write the lists of the holdouts, if the launch has any and no send ledger yet."""
        plan, template = self._plan, self._prepared.template
        if not holdouts(plan) or find_ledger(s3, plan.state_bucket, template, plan.name):
            return
        with closing(sqlite3.connect(folder / "held_out.sqlite")) as listed:
            since = plan.require_campaign().launch_not_again_since(plan.as_of)
            load_recently_mailed(s3, plan.state_bucket, template, since, plan.name, listed)
            put_holdouts(s3, plan, self._segment, self._header(), (row.player_id for row in rows), listed, folder)

    def _end_claims(self, s3: S3Hook, context: Context) -> None:
        """Release the locks of a killed attempt: other runs would wait for them until the end of the campaign."""
        state = State(s3, self._plan.state_bucket)
        end_exclusive_launch(state, self._prepared.template, context)
        SegmentMembershipStore(s3, self._plan, self.domain).release_lock(state, context)

    @contextmanager
    def _deleting_if_refused(
        self, s3: S3Hook, context: Context, folder: Path, side_effects: list[str]
    ) -> Iterator[None]:
        """Delete the campaign of an earlier attempt if this one is refused and no send ledger exists.

        With a send ledger its players count as mailed, and a user decides, by the error text. If a user of Connect has
        started the campaign meanwhile, its players count as mailed too.
        """
        bucket, template = self._plan.state_bucket, self._prepared.template
        try:
            yield
        except (FlywheelError, AirflowSkipException):
            if not find_ledger(s3, bucket, template, self._plan.name):
                try:
                    with exclusive_launch(State(s3, bucket), template, context):
                        if self._campaigns(s3).delete_unstarted(side_effects):
                            self._put_ledger(s3, Rows(s3, self._segment, folder), folder, side_effects)
                except (AirflowException, ClientError, FlywheelError) as error:
                    self.log.warning("the campaigns of earlier attempts are kept: %s", type(error).__name__)
            raise

    def _campaigns(self, s3: S3Hook) -> Campaigns:
        return Campaigns(self.hook, s3, self._plan, self.instance_id, self._prepared, self.clock)

    @contextmanager
    def _alone(self, s3: S3Hook, context: Context) -> Iterator[SegmentMembershipStore]:
        """Hold the locks of the segment and of the template while the campaign is launched."""
        state = State(s3, self._plan.state_bucket)
        store = SegmentMembershipStore(s3, self._plan, self.domain)
        store.acquire_lock(state, context)
        try:
            with exclusive_launch(state, self._prepared.template, context):
                yield store
        finally:
            store.release_lock(state, context)

    def _launched(self, s3: S3Hook, side_effects: list[str]) -> str | None:
        """Return the campaign that an earlier attempt recorded and may have started, or None."""
        bucket, key = self._plan.state_bucket, launch_key(self._plan.name)
        found = get_json(s3, bucket, key)
        if found is None:
            return None
        record = RecordedLaunch.model_validate(found[0])
        if (record.segment_sha256, record.template_arn) != self._content:
            raise FlywheelError(
                f"{self._plan.name} was launched already, with another segment or mail (s3://{bucket}/{key}): it is"
                " not launched again",
                code=Code.LAUNCHED_ALREADY,
            )
        side_effects.append(f"campaign {record.campaign_id} is recorded as this launch's")
        return record.campaign_id

    @property
    def _content(self) -> tuple[str, str]:
        return self._prepared.segment_sha256, self._prepared.template_arn

    def _unstarted(self, s3: S3Hook, recorded: str | None, rows: Rows, folder: Path, side_effects: list[str]) -> str:
        """Return the campaign to start: the recorded one, one of an earlier attempt, or a new one.

        A started campaign of this name that is not recorded has mailed players outside this launch: they are written to
        the send ledger, so that no other launch mails them again, and the launch fails.
        """
        campaigns = self._campaigns(s3)
        if recorded:
            campaigns.check_time_left(recorded, f"{self._first(s3)}trigger a new run")
            return recorded
        campaigns.delete_ended(KEPT_FOR, side_effects)
        found = campaigns.find()
        for campaign, state in found:
            if state != INITIALIZED:
                self._put_ledger(s3, rows, folder, side_effects)
                raise FlywheelError(
                    f"campaign {campaign['id']}, named {self._plan.name}, is {state}, and no launch has started it: a"
                    " user of Connect has, and it may have mailed the players; this launch does not mail them again",
                    code=Code.MAY_HAVE_MAILED,
                )
        return campaigns.adopt(found, side_effects) or campaigns.create(side_effects)

    def _recorded(self, s3: S3Hook, campaign_id: str, context: Context, side_effects: list[str]) -> str:
        """Record the campaign of this launch before it is started; return the recorded one.

        The record decides: if a listing was behind and a second campaign was created, that one is never started.
        """
        sha256, arn = self._content
        launch = RecordedLaunch(campaign_id=campaign_id, segment_sha256=sha256, template_arn=arn)
        record = launch.model_dump(mode="json") | this_run(context).model_dump()
        put_json(s3, self._plan.state_bucket, launch_key(self._plan.name), record, IfNoneMatch="*")
        recorded = self._launched(s3, side_effects)
        if recorded is None:
            raise RuntimeError  # it existed, or was written, a moment ago
        return recorded

    def _started(self, campaign_id: str, side_effects: list[str]) -> str:
        """Start a campaign unless it is started; return its state."""
        try:
            with unconfirmed(side_effects, f"campaign {campaign_id} may have been started"):
                self.hook.start_campaign(campaign_id)
        except ClientError as error:
            if error.response["Error"]["Code"] != "InvalidCampaignStateException":
                raise
            if self._state(campaign_id) == INITIALIZED:
                raise
        else:
            side_effects[-1] = f"campaign {campaign_id} was started"
        return self._state(campaign_id)

    def _state(self, campaign_id: str) -> str:
        """Return the state of the recorded campaign; raise FlywheelError if it can no longer mail players."""
        state = self.hook.state(campaign_id)
        if state in ("Failed", "Stopped", None):
            raise FlywheelError(
                f"campaign {campaign_id} is {state or 'gone'}, and may have mailed players (Connect's campaign"
                " analytics show which): it is not started again, and its players stay in the send ledger",
                code=Code.MAY_HAVE_MAILED,
            )
        return str(state)
