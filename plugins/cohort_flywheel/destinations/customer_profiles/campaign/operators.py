"""A segment of Customer Profiles is mailed by an outbound campaign of Amazon Connect, once, after a person agreed.

`ConnectCampaignSettings` of the destination has what a deployment sets for it. What a player says on the page to
unsubscribe must reach the contacts table or the do-not-contact list. The sender is the registry's, `from`.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import batched, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields
from airflow.sdk.exceptions import AirflowSkipException
from botocore.exceptions import ClientError

from cohort_flywheel.campaign.email_template import (
    EmailTemplate,
    check_template,
    placeholders,
    read_template,
    samples,
    template_digest,
)
from cohort_flywheel.campaign.launch_store import (
    Row,
    Rows,
    alone,
    check_approved,
    check_its_day,
    check_not_launched,
    end_alone,
    launch_folder,
    put_sample,
    same_address,
    why_no_more,
)
from cohort_flywheel.campaign.send_ledger import LASTS, Header, ledger_key
from cohort_flywheel.campaign.send_ledger_store import extend_ledger, find_ledger, load_recently_mailed, put_ledger
from cohort_flywheel.campaign.sender import sender_header, sender_of
from cohort_flywheel.campaign.settings import check_same_mail
from cohort_flywheel.common.failures import outside
from cohort_flywheel.common.progress import Progress
from cohort_flywheel.common.temporary_folder import TemporaryFolderMixin
from cohort_flywheel.config.cohorts import Consent
from cohort_flywheel.config.registry import Approval
from cohort_flywheel.destinations.customer_profiles import layout
from cohort_flywheel.destinations.customer_profiles.campaign.hook import INITIALIZED, ConnectCampaignsHook
from cohort_flywheel.destinations.customer_profiles.campaign.message_template import (
    message_template,
    message_template_attributes,
    message_template_name,
    same_mail,
)
from cohort_flywheel.destinations.customer_profiles.campaign.qconnect_hook import QConnectHook
from cohort_flywheel.destinations.customer_profiles.hook import CustomerProfilesHook
from cohort_flywheel.destinations.customer_profiles.operators import Membership, content_of, segment_rows
from cohort_flywheel.destinations.ses.hook import SesV2Hook
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.hooks.dynamodb import MAX_BATCH_KEYS, DynamoDBBatchGetHook
from cohort_flywheel.hooks.s3 import S3Hook, get_json, put_json
from cohort_flywheel.runs.lock_store import release, this_run
from cohort_flywheel.runs.newest_store import newest_now, skip_unless_newest
from cohort_flywheel.runs.schedule import Clock, utc_now
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.contacts import projection
from cohort_flywheel.segment.do_not_contact_store import is_listed, load_do_not_contact

if TYPE_CHECKING:
    from airflow.sdk import Context


_DESTINATION = "customer_profiles"

#: A campaign's schedule ends so long after it was made. The sensor waits longer.
RUNS_FOR = LASTS
#: A campaign that an earlier try has made is started while so much of its schedule is left.
_ENOUGH_LEFT = timedelta(hours=12)

#: Addresses of Connect's own domains, from which nothing but Connect sends [Connect guide: set up email].
_OF_CONNECT = ".email.connect.aws"


def check_sender(campaign: Mapping[str, Any], aws_conn_id: str | None) -> None:
    """Raise FlywheelError unless SES has verified the sender of a plan's campaign; for the plan to call.

    Connect takes an address of a domain that SES has verified in the same account and region, or one of its own. That
    it was added to the instance as well is not asked here: CreateCampaign refuses it.
    """
    address = sender_of(campaign)[1]
    if address.lower().endswith(_OF_CONNECT):
        if campaign["mode"] == "test":
            raise FlywheelError(
                f"the sender {address} is of Connect's own domain, from which nothing but a campaign is sent, and a"
                " test is mailed by SES: use an address of a domain of yours that SES has verified, or campaign=draft"
            )
        return
    ses = SesV2Hook(aws_conn_id=aws_conn_id)
    if not ses.account().get("ProductionAccessEnabled"):
        raise FlywheelError(
            "the SES account is in the sandbox, where it mails only verified addresses: ask for production access (SES"
            " console, Account dashboard), in the region of the AWS connection"
        )
    if not ses.is_verified(address):
        raise FlywheelError(
            f"the sender {address} is not verified: verify {address.rpartition('@')[2]} in Amazon SES, in the region of"
            " the AWS connection, and add the address to the Connect instance (Channels, Email addresses), or correct"
            " `from` in the registry"
        )


def check_places(settings: Mapping[str, str], aws_conn_id: str | None) -> None:
    """Raise FlywheelError unless the Connect instance has campaigns, and the templates can be listed."""
    instance, base = settings["connect_instance_id"], settings["qconnect_knowledge_base_id"]
    with _found(
        f"outbound campaigns of Connect instance {instance}",
        "connect_instance_id",
        "connect-campaigns:GetConnectInstanceConfig",
    ):
        ConnectCampaignsHook(aws_conn_id=aws_conn_id).check_instance(instance)
    with _found(
        f"message templates of knowledge base {base}", "qconnect_knowledge_base_id", "wisdom:ListMessageTemplates"
    ):
        next(QConnectHook(aws_conn_id=aws_conn_id).templates(base), None)


@contextmanager
def _found(what: str, setting: str, action: str) -> Iterator[None]:
    """Turn a service's refusal into a sentence that names the setting, or the right."""
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in ("ResourceNotFoundException", "ValidationException"):
            advice = f"are not there ({code}): enable or create them, or correct cohort_flywheel_{setting}"
        elif code == "AccessDeniedException":
            advice = f"are refused ({code}): grant the execution role {action}"
        else:
            raise
        raise FlywheelError(f"the {what} {advice}") from None


class ConnectPrepareCampaignOperator(TemporaryFolderMixin, AwsBaseOperator[ConnectCampaignsHook]):
    """Put a campaign's mail where Connect takes it from, and show what it looks like; nobody of the segment is mailed.

    The template, checked against the columns that the profiles carry, becomes a version of a message template in Amazon
    Q in Connect, by its content. No campaign is made, of which somebody could start one in Connect's console, without
    an approval and past the send ledger. A launch whose rows share an address is refused. With `test` SES mails three
    samples of made-up players to the test addresses, as nobody but Connect's own service may send a mail by Connect
    [connect: SendOutboundEmail]. An empty segment is skipped. Returns (each also an XCom of its own) `mode`,
    `template`, `template_digest`, `template_arn` (of the version), `from`, `rows`, `segment_id`, `segment_sha256`, and
    `message` (subject, text and the address of the HTML for a made-up player).

    :param plan: the output of CohortPlanOperator. (templated)
    :param segment: the segment file, as CohortLimitsOperator released it. (templated)
    :param segment_id: the segment's ARN. (templated)
    :param knowledge_base_id: the knowledge base of message templates. (templated)
    :param unsubscribe_url: where a player unsubscribes: what SES would fill in stands for it. (templated)
    :param templates: the folder of the templates, include/email, read when the task runs.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    aws_hook_class = ConnectCampaignsHook
    template_fields = aws_template_fields("plan", "segment", "segment_id", "knowledge_base_id", "unsubscribe_url")
    ui_color = "#d5c7f2"

    def __init__(
        self,
        *,
        plan: Any,
        segment: Any,
        segment_id: Any,
        knowledge_base_id: Any,
        unsubscribe_url: Any,
        templates: Path,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.plan, self.segment, self.segment_id = plan, segment, segment_id
        self.knowledge_base_id, self.unsubscribe_url, self.templates = knowledge_base_id, unsubscribe_url, templates

    def execute(self, context: Context) -> dict[str, Any]:
        campaign = self.plan["campaign"]
        clearing = "Clearing this task is safe: it goes on with what is there"
        clearing += ", and mails the samples again." if campaign["mode"] == "test" else "."
        with outside(clearing) as done:
            if campaign["mode"] == "none":
                raise AirflowSkipException(f"{self.plan['name']} has no campaign")
            if not self.segment["rows"]:
                raise AirflowSkipException(f"the segment of {self.plan['name']} is empty: there is nobody to mail")
            check_sender(campaign, self.aws_conn_id)
            template = read_template(self.templates, campaign["template"])
            check_same_mail(campaign, template)
            s3 = S3Hook(aws_conn_id=self.aws_conn_id, region_name=self.region_name)
            check_not_launched(s3, self.plan, self.segment, _DESTINATION)
            _, _player_id, *columns = next(segment_rows(s3, self.segment))
            check_template(template, columns)
            if campaign["mode"] == "launch":
                self._check_addresses(s3)
            arn = self._version(template, columns, done)
            mails = [self._rendered(arn, columns, sample) for sample in samples(placeholders(template))]
            prepared = {
                "mode": campaign["mode"], "template": template.name, "template_digest": template_digest(template),
                "template_arn": arn, "from": campaign["from"], "rows": self.segment["rows"],
                "segment_id": self.segment_id, "segment_sha256": self.segment["sha256"],
                "message": {
                    "subject": mails[0]["subject"], "text": mails[0]["plainText"],
                    "html_url": put_sample(s3, self.plan, mails[0]["html"]),
                },
            }  # fmt: skip
            if campaign["mode"] == "test":
                self._mail_samples(mails, done)
        self.log.info("%s is prepared: %s", self.plan["name"], "; ".join(done))
        return prepared

    def _check_addresses(self, s3: S3Hook) -> None:
        """Raise FlywheelError where rows share an address: Connect would mail each profile, and that person again."""
        rows = (
            Row(address, player_id, {}) for address, player_id, *_ in islice(segment_rows(s3, self.segment), 1, None)
        )
        with self.temporary_folder() as folder, closing(sqlite3.connect(folder / "addresses.sqlite")) as listed:
            path, number = folder / "same_address.txt", 0
            with path.open("w", encoding="utf-8", newline="") as file:
                for player_id in same_address(rows, listed):
                    file.write(f"{player_id}\n")
                    number += 1
            if not number:
                return
            bucket, key = self.plan["state_bucket"], f"{launch_folder(self.plan['name'])}{path.name}"
            s3.load_file(path, key, bucket, replace=True)
        raise FlywheelError(
            f"{number:,} of {self.segment['rows']:,} rows have the address of a row before them, and Connect would mail"
            f" that person again: put those players (s3://{bucket}/{key}, a playerId a line) on the do-not-contact"
            " list, or correct their records, and trigger a new run"
        )

    def _version(self, template: EmailTemplate, columns: Sequence[str], done: list[str]) -> str:
        """The ARN of the version of the message template that has this very content."""
        hook, base = self._qconnect, self.knowledge_base_id
        name, email = message_template_name(template.name), message_template(template, columns, self.unsubscribe_url)
        found = next((each for each in hook.templates(base) if each["name"] == name), None)
        if found is None:
            latest = hook.create_template(base, name, email)
            done.append(f"message template {name} was created")
        else:
            latest = hook.template(base, found["messageTemplateId"])
            if not same_mail(latest, email):
                latest = hook.update_template(base, found["messageTemplateId"], email)
                done.append(f"message template {name} was changed")
        version = hook.create_version(base, latest["messageTemplateId"], latest["messageTemplateContentSha256"])
        done.append(f"version {version['versionNumber']} of message template {name} has the content")
        return str(version["messageTemplateArn"])

    def _rendered(self, arn: str, columns: Sequence[str], values: Mapping[str, str]) -> dict[str, str]:
        """What the service makes of a version for a made-up player."""
        version, attributes = arn.rpartition("/")[2], message_template_attributes(values, columns)
        parts, left = self._qconnect.render(self.knowledge_base_id, version, attributes)
        if left:
            raise FlywheelError(
                f"Amazon Q in Connect knows nothing of {', '.join(sorted(left))} in version {version} of the message"
                " template: name attributes that the segment carries"
            )
        return parts

    def _mail_samples(self, mails: Sequence[Mapping[str, str]], done: list[str]) -> None:
        addresses = self.plan["campaign"]["test_addresses"]
        ses = SesV2Hook(aws_conn_id=self.aws_conn_id, region_name=self.region_name)
        for number, mail in enumerate(mails, start=1):
            subject, html, text = ({"Data": mail[part]} for part in ("subject", "html", "plainText"))
            ses.send_email(
                FromEmailAddress=sender_header(self.plan["campaign"]),
                Destination={"ToAddresses": addresses},
                Content={"Simple": {"Subject": subject, "Body": {"Html": html, "Text": text}}},
            )
            done.append(f"sample {number} of {len(mails)} was mailed to the {len(addresses)} test addresses")

    @cached_property
    def _qconnect(self) -> QConnectHook:
        return QConnectHook(aws_conn_id=self.aws_conn_id, region_name=self.region_name)


class ConnectLaunchCampaignOperator(TemporaryFolderMixin, AwsBaseOperator[ConnectCampaignsHook]):
    """Start the campaign of an approved segment, once, and record beforehand whom it mails.

    Refuses unless an approver has approved exactly what was prepared; a run that is not the newest as-of's own; a
    segment that is not this run's any more; and a segment in which anybody has withdrawn since, or was mailed the same
    template meanwhile. Then the send ledger is put, the campaign made (or the one that a try before has made is taken),
    its id recorded, and only the recorded one is ever started. A campaign that has been started is adopted. Returns
    (each also an XCom of its own) `campaign_id`, `campaign_state`, `template` and `players`.

    :param plan: the output of CohortPlanOperator. (templated)
    :param segment: the segment file, as CohortLimitsOperator released it. (templated)
    :param prepared: the output of ConnectPrepareCampaignOperator. (templated)
    :param approval: the registry's: who may have approved it.
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
        plan: Any,
        segment: Any,
        prepared: Any,
        approval: Approval,
        domain: Any,
        instance_id: Any,
        clock: Clock = utc_now,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.plan, self.segment, self.prepared, self.approval = plan, segment, prepared, approval
        self.domain, self.instance_id, self.clock = domain, instance_id, clock

    def execute(self, context: Context) -> dict[str, Any]:
        clearing = "Clearing this task is safe: a campaign that may have been started is not started again."
        with outside(clearing) as done, self.temporary_folder() as folder:
            s3 = S3Hook(aws_conn_id=self.aws_conn_id, region_name=self.region_name)
            check_approved(s3, self.plan, self.segment, self.prepared, self.approval, context)
            campaign_id = self._launched(s3, done)
            state = self._state(campaign_id) if campaign_id else INITIALIZED
            if state == INITIALIZED:
                self._check_run(s3, context)
                with self._alone(s3, context) as membership:
                    self._check_segment(s3, membership)
                    rows = Rows(s3, self.segment, folder)
                    self._check_people(s3, rows, folder)
                    self._put_ledger(s3, rows, folder, done)
                    campaign_id = self._made(s3, context, done)
                    state = self._started(campaign_id, done)
            else:
                self._end_claims(s3, context)
            release(State(s3, self.plan["state_bucket"]), self.plan, context)
        players = self.segment["rows"]
        self.log.info("campaign %s of %s players is %s", campaign_id, f"{players:,}", state)
        return {
            "campaign_id": campaign_id, "campaign_state": state, "template": self.prepared["template"],
            "players": players,
        }  # fmt: skip

    # --- what must hold

    def _check_run(self, s3: S3Hook, context: Context) -> None:
        """A backfill, and what does not stand for its day, never launch; any as-of but the newest is skipped."""
        plan = self.plan
        check_its_day(plan, context)
        state = State(s3, plan["state_bucket"])
        newest = newest_now(plan, state, context, self.clock())
        if datetime.fromisoformat(plan["as_of"]) < newest and (begun := self._begun(s3)):
            raise FlywheelError(
                f"{plan['name']} was not started in time, as the newest as-of is {newest.isoformat()} by now: {begun}"
            )
        skip_unless_newest(plan, state, context, self.clock, self.log)

    def _begun(self, s3: S3Hook) -> str:
        """What to do where a try before this one has put the send ledger and started nothing; else empty."""
        template, name, bucket = self.prepared["template"], self.plan["name"], self.plan["state_bucket"]
        if not find_ledger(s3, bucket, template, name):
            return ""
        return (
            f"delete s3://{bucket}/{ledger_key(template, name)} and s3://{bucket}/{launch_key(name)}, by which its"
            f" players count as mailed, and a campaign named {name} (its state must be {INITIALIZED})"
        )

    def _first(self, s3: S3Hook) -> str:
        return f"{begun}; then " if (begun := self._begun(s3)) else ""

    def _check_segment(self, s3: S3Hook, membership: Membership) -> None:
        """Raise FlywheelError unless the segment is the one that was verified, and has its rows."""
        record = membership.read()
        if record is None or not record.same_verified(content_of(self.plan, self.segment)):
            raise FlywheelError(
                f"the segment {membership.name} is not this run's verified one any more, as another run has changed it"
                f" since: {self._first(s3)}trigger a new run, which makes it anew and asks about it"
            )
        profiles = CustomerProfilesHook(aws_conn_id=self.aws_conn_id, region_name=self.region_name)
        size = profiles.estimate(self.domain, layout.segment_groups(membership.name))
        if size != self.segment["rows"]:
            raise FlywheelError(
                f"segment {membership.name} has {size:,} profiles by now, but {self.segment['rows']:,} were approved:"
                f" profiles were merged, deleted or changed by somebody else; {self._first(s3)}trigger a new run,"
                " which makes the segment anew and asks about it"
            )

    def _check_people(self, s3: S3Hook, rows: Rows, folder: Path) -> None:
        """Raise FlywheelError, with counts, where a row may not be mailed any more."""
        with closing(sqlite3.connect(folder / "people.sqlite")) as listed:
            self._load_lists(s3, listed)
            reasons = Counter(self._withdrawn(rows, listed))
        if not reasons:
            return
        why = ", ".join(f"{reason} {number:,}" for reason, number in sorted(reasons.items()))
        raise FlywheelError(
            f"{reasons.total():,} of {self.segment['rows']:,} rows may not be mailed any more ({why}):"
            f" {self._first(s3)}trigger a new run, which makes a new segment and asks about it"
        )

    def _load_lists(self, s3: S3Hook, listed: sqlite3.Connection) -> None:
        """Copy the do-not-contact list and the other launches' players: both may be longer than a worker's memory."""
        plan = self.plan
        bucket, key = plan["state_bucket"], plan["do_not_contact_key"]
        since = datetime.fromisoformat(plan["as_of"]) - timedelta(days=plan["campaign"]["not_again_days"])
        load_recently_mailed(s3, bucket, self.prepared["template"], since, plan["name"], listed)
        load_do_not_contact(s3, bucket, key, listed)

    def _withdrawn(self, rows: Rows, listed: sqlite3.Connection) -> Iterator[str]:
        """The reason of each row that may not be mailed any more."""
        plan = self.plan
        consent = Consent.model_validate(plan["consent"]) if plan["consent"] else None
        records = DynamoDBBatchGetHook(aws_conn_id=self.aws_conn_id, region_name=self.region_name)
        progress = Progress(self.log, "rows looked up again", self.segment["rows"])
        for batch, found in records.get_many(
            plan["contacts_table"], "playerId", batched(rows, MAX_BATCH_KEYS), projection({}, consent),
            key=lambda row: row.player_id,
        ):  # fmt: skip
            for row in batch:
                if is_listed("mailed", row.player_id, listed):
                    yield "recently_mailed"
                elif reason := why_no_more(row, found.get(row.player_id), consent, listed):
                    yield reason  # another address as well: the profile has the one that was approved
            progress.add(len(batch))

    # --- what is done

    def _put_ledger(self, s3: S3Hook, rows: Rows, folder: Path, done: list[str]) -> None:
        template, name, bucket = self.prepared["template"], self.plan["name"], self.plan["state_bucket"]
        sha256, players, now = self.segment["sha256"], self.segment["rows"], self.clock()
        until = now + LASTS  # by then the schedule of the campaign has ended
        header = Header(name, template, sha256, _DESTINATION, now, players, until)
        if put_ledger(s3, bucket, header, (row.player_id for row in rows), folder).last_mail < until:
            extend_ledger(s3, bucket, ledger_key(template, name), until, folder)  # of a try before this one
        done.append(f"the send ledger was put at s3://{bucket}/{ledger_key(template, name)}")

    def _end_claims(self, s3: S3Hook, context: Context) -> None:
        """What a try that was killed has left: other runs would wait for them as long as the campaign is followed."""
        state = State(s3, self.plan["state_bucket"])
        end_alone(state, self.prepared["template"], context)
        Membership(s3, self.plan, self.domain).end_hold(state, context)

    @contextmanager
    def _alone(self, s3: S3Hook, context: Context) -> Iterator[Membership]:
        """While no other run changes the membership, or launches a campaign of the same template."""
        state = State(s3, self.plan["state_bucket"])
        membership = Membership(s3, self.plan, self.domain)
        membership.hold(state, context)
        try:
            with alone(state, self.prepared["template"], context):
                yield membership
        finally:
            membership.end_hold(state, context)

    def _launched(self, s3: S3Hook, done: list[str]) -> str | None:
        """The campaign that a try before this one may have started, or None."""
        bucket, key = self.plan["state_bucket"], launch_key(self.plan["name"])
        found = get_json(s3, bucket, key)
        if found is None:
            return None
        record = found[0]
        if (record.get("segment_sha256"), record.get("template_arn")) != self._content:
            raise FlywheelError(
                f"{self.plan['name']} was launched already, with another segment or mail (s3://{bucket}/{key}): it is"
                " not launched again"
            )
        done.append(f"campaign {record['campaign_id']} is recorded as this launch's")
        return str(record["campaign_id"])

    @property
    def _content(self) -> tuple[str, str]:
        return self.prepared["segment_sha256"], self.prepared["template_arn"]

    def _made(self, s3: S3Hook, context: Context, done: list[str]) -> str:
        """The one campaign of this launch, made unless it is there, and recorded before it is started.

        The record decides: where a listing was behind and a second campaign was made, that one is never started.
        """
        if recorded := self._launched(s3, done):
            return recorded
        campaigns = Campaigns(self.hook, self.plan, self.instance_id, self.prepared, self.clock)
        campaign_id = campaigns.found_or_created(done)
        sha256, arn = self._content
        record = {"campaign_id": campaign_id, "segment_sha256": sha256, "template_arn": arn, **this_run(context)}
        put_json(s3, self.plan["state_bucket"], launch_key(self.plan["name"]), record, IfNoneMatch="*")
        recorded = self._launched(s3, done)
        if recorded is None:
            raise RuntimeError  # it was there, or was put, a moment ago
        return recorded

    def _started(self, campaign_id: str, done: list[str]) -> str:
        """Start a campaign, and give its state; who finds it started adopts it."""
        done.append(f"campaign {campaign_id} may have been started")
        try:
            self.hook.start_campaign(campaign_id)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:  # a refusal: this call has started nothing
                done.pop()
            if error.response["Error"]["Code"] != "InvalidCampaignStateException":
                raise
            if self._state(campaign_id) == INITIALIZED:
                raise
        else:
            done[-1] = f"campaign {campaign_id} was started"
        return self._state(campaign_id)

    def _state(self, campaign_id: str) -> str:
        """The state of the recorded campaign; raises FlywheelError where it can mail nobody any more."""
        state = self.hook.state(campaign_id)
        if state in ("Failed", "Stopped", None):
            raise FlywheelError(
                f"campaign {campaign_id} is {state or 'gone'}, and may have mailed players (Connect's campaign"
                " analytics show whom): it is not started again, and its players stay in the send ledger"
            )
        return str(state)


class Campaigns:
    """The campaign of a run's name: found, or made.

    :param hook: the hook to reach it with.
    :param plan: the output of CohortPlanOperator.
    :param instance_id: the Connect instance.
    :param prepared: the output of ConnectPrepareCampaignOperator.
    :param clock: gives the time, with its zone.
    """

    def __init__(
        self,
        hook: ConnectCampaignsHook,
        plan: Mapping[str, Any],
        instance_id: str,
        prepared: Mapping[str, Any],
        clock: Clock,
    ) -> None:
        self._hook, self._plan, self._instance_id = hook, plan, instance_id
        self._prepared, self._clock = prepared, clock

    def found_or_created(self, done: list[str]) -> str:
        """The id of the campaign, which nobody has started; raises FlywheelError for one that is otherwise."""
        name = self._plan["name"]
        found = [self._hook.campaign(each["id"]) for each in self._hook.campaigns(self._instance_id, name)]
        for campaign in found:  # by now several may have the name, where an answer was lost
            self._check(campaign)
        if found:
            done.append(f"campaign {found[0]['id']}, named {name}, was there")
            return str(found[0]["id"])
        done.append(f"a campaign named {name} may have been created")
        try:
            campaign_id = self._hook.create_campaign(self._request())
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:  # a refusal: nothing was created
                done.pop()
            if error.response["Error"]["Code"] != "ValidationException":
                raise
            raise FlywheelError(
                "Amazon Connect refuses the campaign (ValidationException): see that outbound campaigns are enabled in"
                f" instance {self._instance_id}, with its Customer Profiles domain and the knowledge base of message"
                " templates, and that the sender was added to it (Channels, Email addresses)"
            ) from None
        done[-1] = f"campaign {campaign_id}, named {name}, was created and not started"
        return campaign_id

    def _check(self, campaign: Mapping[str, Any]) -> None:
        campaign_id, name, plan = campaign["id"], campaign["name"], self._plan
        delete = f"delete it (aws connectcampaignsv2 delete-campaign --id {campaign_id}), then clear this task"
        if (state := self._hook.state(campaign_id)) != INITIALIZED:
            raise FlywheelError(
                f"campaign {campaign_id}, named {name}, is {state or 'gone'}, and no launch has started it: somebody"
                f" else has, and may have mailed the players; {plan['name']} is not launched beside it"
            )
        wanted, schedule = self._request(), campaign.get("schedule", {})
        found = campaign.get("channelSubtypeConfig", {}).get("email", {}).get("defaultOutboundConfig")
        ours = wanted["channelSubtypeConfig"]["email"]["defaultOutboundConfig"]
        if campaign.get("source") != wanted["source"] or found != ours or schedule.get("refreshFrequency"):
            raise FlywheelError(
                f"there is a campaign {campaign_id} named {name} with another segment, sender, template or refresh"
                f" frequency: {delete}"
            )
        ends = schedule["endTime"] if schedule["endTime"].tzinfo else schedule["endTime"].replace(tzinfo=UTC)
        if ends < self._clock() + _ENOUGH_LEFT:
            raise FlywheelError(
                f"the schedule of campaign {campaign_id}, named {name}, ends too soon, at {ends.isoformat()}: {delete}"
            )

    def _request(self) -> dict[str, Any]:
        """CreateCampaign's; a holdout and a refresh are left unset, as whom it mails is our file's to say."""
        name, address = sender_of(self._plan["campaign"])
        email = {"connectSourceEmailAddress": address, "wisdomTemplateArn": self._prepared["template_arn"]}
        starts = self._clock().astimezone(UTC).replace(microsecond=0)
        segment_arn = self._prepared["segment_id"]
        _, partition, _, region, account, _ = segment_arn.split(":", 5)
        return {
            "name": self._plan["name"],
            "connectInstanceId": self._instance_id,
            "source": {"customerProfilesSegmentArn": segment_arn},
            "channelSubtypeConfig": {
                "email": {
                    "outboundMode": {"agentless": {}},
                    "defaultOutboundConfig": email | ({"sourceEmailAddressDisplayName": name} if name else {}),
                }
            },
            "schedule": {"startTime": starts, "endTime": starts + RUNS_FOR},
            # without it nobody sees the campaign in Connect's console [Connect API reference: CreateCampaign]
            "tags": {"owner": f"arn:{partition}:connect:{region}:{account}:instance/{self._instance_id}"},
        }


def launch_key(name: str) -> str:
    """Where the one campaign of a result is recorded, which no lifecycle may remove."""
    return f"{launch_folder(name)}launch.json"
