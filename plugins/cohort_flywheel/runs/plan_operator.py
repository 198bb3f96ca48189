"""The first task of a run: fix and check everything before anything is written."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from botocore.exceptions import ClientError
from pydantic import BaseModel, JsonValue

from cohort_flywheel.campaign.email_template import read_template
from cohort_flywheel.campaign.settings import (
    NONE,
    NoCampaign,
    RunCampaign,
    campaign_skip_reason,
    choose_campaign,
    with_mail,
)
from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.common.records import Json
from cohort_flywheel.config.cohorts import Cohort
from cohort_flywheel.config.decimals import number_text
from cohort_flywheel.config.params import RunParams, refuse_unknown_params
from cohort_flywheel.config.registry import Registry, read_registry
from cohort_flywheel.config.variables import PREFIX, DeploymentSettings, read_settings
from cohort_flywheel.destinations import get_destination
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.neptune_connection import DEFAULT_CONN_NAME, read_neptune_connection
from cohort_flywheel.hooks.s3 import S3Hook, lines
from cohort_flywheel.hooks.shared_session import SharedSessionHook
from cohort_flywheel.runs import names
from cohort_flywheel.runs.as_of import RunDates, as_of
from cohort_flywheel.runs.lock_store import enum_value
from cohort_flywheel.runs.plan import Plan, check_extract, make_plan
from cohort_flywheel.runs.schedule import Clock, Schedule, utc_now
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.contacts import entry_forms
from cohort_flywheel.segment.extract_operator import find_source
from cohort_flywheel.segment.uploaded_extract_store import stream_uploaded_extract

if TYPE_CHECKING:
    from airflow.sdk import Context


class CohortPlanOperator(BaseOperator):
    """Fix a run's cohort, threshold, as-of and names; fail for a run that must not start.

    Returns the plan (`plan.make_plan`) and the settings, each entry also an XCom of its own. Changes nothing
    outside.

    :param registry: the path of cohorts.yaml, read when the task runs.
    :param schedule: the DAG's cron.
    :param timezone: its time zone, whose dates those of a threshold's history are.
    :param destination: the name of a destination.
    :param templates: the folder of the mail templates; by default `email` beside the registry.
    :param neptune_conn_id: the Airflow connection of the graph, which is read but not used.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    :param clock: gives the time, with its zone.
    """

    ui_color = "#c9e8c4"

    def __init__(
        self,
        *,
        registry: Path,
        schedule: str,
        destination: str,
        timezone: str = "UTC",
        templates: Path | None = None,
        neptune_conn_id: str = DEFAULT_CONN_NAME,
        aws_conn_id: str | None = "aws_default",
        clock: Clock = utc_now,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.registry = registry
        self.schedule = schedule
        self.timezone = timezone
        self.destination = destination
        self.templates = templates or registry.parent / "email"
        self.neptune_conn_id = neptune_conn_id
        self.aws_conn_id = aws_conn_id
        self.clock = clock

    def execute(self, context: Context) -> Json:
        with describe_failure("Correct it and clear this task, or start a new run: this task only reads."):
            refuse_unknown_params(context)
            params = RunParams.model_validate(dict(context["params"]))
            registry = read_registry(self.registry)
            cohort = registry.cohort(params.cohort)
            destination = get_destination(self.destination)
            run, s3 = context["dag_run"], S3Hook(aws_conn_id=self.aws_conn_id)
            check_extract(params, enum_value(run.run_type))
            # a run that imports nothing needs no settings of the destination
            imports = not params.dry_run and not params.extract_only
            moment = as_of_run(context, self._schedule(), self.clock())
            campaign = self._campaign(registry, cohort, params, context, moment)
            models: list[type[BaseModel]] = [DeploymentSettings]
            if imports:
                models.append(destination.settings)
            if campaign.mode != "none" and destination.campaign_settings:
                models.append(destination.campaign_settings)
            reads_graph = self._may_read_graph(params, moment)
            settings = read_all_settings(models, cohort.connection or self.neptune_conn_id if reads_graph else None)
            buckets = DeploymentSettings.model_validate(settings)
            plan = make_plan(
                cohort,
                params=params,
                as_of=moment,
                run_type=enum_value(run.run_type),
                user=getattr(run, "triggering_user_name", None),
                layout=destination.name,
                schedule=self.schedule,
                timezone=self.timezone,
                settings=settings,
                extract_sha256=_check_uploaded_extract(s3, params.extract_uri, cohort, buckets.export_bucket),
                campaign=campaign,
                tuning=registry.tuning,
                data_schema=registry.data_schema,
                engagement=registry.engagement,
            )
            self._check_aws(s3, buckets, plan)
            snapshot = find_source(State(s3, plan.state_bucket), plan, self.clock(), self._schedule())
            if imports:
                if destination.REQUIRES_OPT_OUT_LIST and registry.opt_outs is None:
                    self._check_opt_outs(s3, plan)
                destination.check(settings, self.aws_conn_id)
            if campaign.mode != "none":
                template = read_template(self.templates, campaign.template)
                destination.check_campaign(campaign, template, cohort.columns(), settings, self.aws_conn_id)
        self.log.info(
            "%s: %s %s %s (%s) at %s, from %s; campaign: %s",
            plan.name,
            plan.property,
            plan.direction,
            number_text(plan.threshold),
            plan.threshold_from,
            plan.as_of.isoformat(),
            snapshot.key if snapshot else plan.extract_uri or "the graph",
            campaign.mode,
        )
        return plan.model_dump(mode="json") | settings

    def _schedule(self) -> Schedule:
        return Schedule(self.schedule, self.timezone)

    def _campaign(
        self, registry: Registry, cohort: Cohort, params: RunParams, context: Context, moment: datetime
    ) -> RunCampaign | NoCampaign:
        """The settings of the campaign, with the placeholders of its mail."""
        run = context["dag_run"]
        newest = self._schedule().last(self.clock())
        skip_reason = campaign_skip_reason(params, enum_value(run.run_type), moment, newest)
        campaign = choose_campaign(
            cohort, params, approval=registry.approval, skip_reason=skip_reason,
            user=getattr(run, "triggering_user_name", None),
        )  # fmt: skip
        if campaign.mode == "none":
            if skip_reason and cohort.campaign and cohort.campaign.mode != "none":
                self.log.info("no campaign, as this is %s", skip_reason)
            return NONE
        if not get_destination(self.destination).has_campaigns:
            raise FlywheelError(
                f"campaign={campaign.mode}, but {self.destination} has no campaigns: set the campaign of"
                f" cohort {cohort.name} to `mode: none` in the registry, or choose another destination",
                code=Code.CAMPAIGN_SETTINGS,
            )
        template = read_template(self.templates, campaign.template)
        return with_mail(campaign, template, cohort.columns(), registry.engagement)

    def _check_opt_outs(self, s3: S3Hook, plan: Plan) -> None:
        """Refuse an empty do-not-contact list: players who opted out at another service would be mailed again."""
        bucket, key = plan.state_bucket, names.DO_NOT_CONTACT_KEY
        found = lines(s3, bucket, key)
        if not any(entry_forms(line, number) for number, line in enumerate(found, start=1)):
            raise FlywheelError(
                f"the do-not-contact list s3://{bucket}/{key} is empty, and {self.destination} does not have the"
                " opt-outs of the service that mailed the players before: add them to the list, for example Pinpoint's"
                " endpoints that opted out, or write `opt_outs: none` into the registry if there are none",
                code=Code.OPT_OUTS,
            )

    def _may_read_graph(self, params: RunParams, moment: datetime) -> bool:
        """Whether this run may read the graph: a past day is read from its snapshot."""
        if params.extract_uri or params.source == "snapshot":
            return False
        return params.source == "live" or moment >= self._schedule().last(self.clock())

    def _check_aws(self, s3: S3Hook, settings: DeploymentSettings, plan: Plan) -> None:
        for role, bucket in (
            ("export", settings.export_bucket), ("import", settings.import_bucket), ("state", settings.state_bucket),
        ):  # fmt: skip
            with explain_refusal(f"bucket {bucket}", f"{role}_bucket", "s3:ListBucket"):
                s3.get_conn().head_bucket(Bucket=bucket)
        do_not_contact = f"s3://{plan.state_bucket}/{names.DO_NOT_CONTACT_KEY}"
        with explain_refusal(
            f"the do-not-contact list {do_not_contact}",
            "state_bucket",
            "s3:GetObject",
            "create it (an empty file if it has no entries)",
        ):
            s3.get_conn().head_object(Bucket=plan.state_bucket, Key=names.DO_NOT_CONTACT_KEY)
        dynamodb = SharedSessionHook(aws_conn_id=self.aws_conn_id, client_type="dynamodb").conn
        table = settings.contacts_table
        with explain_refusal(f"table {table}", "contacts_table", "dynamodb:DescribeTable"):
            found = dynamodb.describe_table(TableName=table)["Table"]
        name, keys = (
            plan.data_schema.contacts_key,
            [(key["AttributeName"], key["KeyType"]) for key in found["KeySchema"]],
        )
        if (
            keys != [(name, "HASH")]
            or {"AttributeName": name, "AttributeType": "S"} not in found["AttributeDefinitions"]
        ):
            raise FlywheelError(
                f"table {table} must have {name} as its partition key, of type text, and no sort key: correct"
                f" {PREFIX}contacts_table, or schema.contacts_key in cohorts.yaml",
                code=Code.NOT_THERE,
            )


def _check_uploaded_extract(s3: S3Hook, uri: str | None, cohort: Cohort, export_bucket: str) -> str | None:
    """Read an uploaded extract to its end; return the digest of its bytes."""
    if not uri:
        return None
    uploaded = stream_uploaded_extract(
        s3, uri, export_bucket, lambda vertices: deque(vertices, maxlen=0),
        property=cohort.property, direction=cohort.direction, required=list(cohort.where),
    )  # fmt: skip
    return uploaded.sha256


def as_of_run(context: Context, schedule: Schedule, now: datetime) -> datetime:
    """Return the as-of of a run, in UTC; raise FlywheelError for dates of which it is not sure."""
    run = context["dag_run"]
    dates = RunDates(
        logical_date=run.logical_date,
        data_interval_end=run.data_interval_end,
        run_after=run.run_after,
        automatic=enum_value(run.run_type) in ("scheduled", "backfill"),
    )
    return as_of(dates, last_instant=schedule.last, now=now)


def read_all_settings(models: Iterable[type[BaseModel]], neptune_conn_id: str | None) -> dict[str, JsonValue]:
    """Return the settings of the models; raise FlywheelError that names all faults, also of the connection."""
    settings: dict[str, JsonValue] = {}
    wrong: list[FlywheelError] = []
    try:
        settings = read_settings(*models)
    except FlywheelError as error:
        wrong.append(error)
    if neptune_conn_id:
        try:
            read_neptune_connection(neptune_conn_id)
        except FlywheelError as error:
            wrong.append(error)
    if wrong:
        raise FlywheelError(". ".join(error.message for error in wrong), code=wrong[0].code)
    return settings


@contextmanager
def explain_refusal(what: str, setting: str, action: str, create: str = "create it") -> Iterator[None]:
    """Turn a refusal of AWS into an error that names the resource, the setting and the missing permission."""
    try:
        yield
    except ClientError as error:
        answer = error.response["Error"]["Code"]
        if answer in ("404", "NoSuchBucket", "ResourceNotFoundException"):
            code, advice = Code.NOT_THERE, f"does not exist: {create}, or correct {PREFIX}{setting}"
        elif answer in ("403", "AccessDenied", "AccessDeniedException"):
            code = Code.REFUSED
            advice = f"is refused ({answer}): grant the execution role {action} on it, or correct {PREFIX}{setting}"
        else:
            raise
        raise FlywheelError(f"{what} {advice}", code=code) from None
