"""Read the events of e-mails day by day, and report the launches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.common.progress import Progress
from cohort_flywheel.common.records import Json
from cohort_flywheel.common.temporary_folder import TemporaryFolderMixin
from cohort_flywheel.config.params import refuse_unknown_params
from cohort_flywheel.config.variables import EngagementSettings, read_settings
from cohort_flywheel.engagement import events_store as store
from cohort_flywheel.engagement.campaign_counts import CountedCampaigns
from cohort_flywheel.engagement.click_counts import Clicks, count_clicks
from cohort_flywheel.engagement.effect import engagement_shares
from cohort_flywheel.engagement.effect_store import read_effects
from cohort_flywheel.engagement.effect_table import write_engagement
from cohort_flywheel.engagement.engagement_outputs import EngagementPlan, EngagementReport
from cohort_flywheel.engagement.event_counts import EventCounts, EventFile, LaunchCounts, count_launches, rows_of
from cohort_flywheel.engagement.event_objects import Manifest, launches_key, report_key
from cohort_flywheel.engagement.event_records import kept_link
from cohort_flywheel.engagement.graph_operator import (
    WRITER_AWS_CONN_ID,
    WRITER_CONN_ID,
    check_connections,
    check_foreign_names,
    open_graph,
)
from cohort_flywheel.engagement.graph_values import GraphPlan
from cohort_flywheel.engagement.suppressions import FeedbackFile, SuppressionCounts
from cohort_flywheel.governance.tombstones_store import make_salt
from cohort_flywheel.hooks.s3 import S3Hook, download, put_if, put_json
from cohort_flywheel.runs.plan_operator import as_of_run, explain_refusal
from cohort_flywheel.runs.schedule import Clock, Schedule, utc_now

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.sdk import Context


class EngagementPlanOperator(BaseOperator):
    """Fix the as-of of a run, and check that both buckets can be read, and what is written to the graph. Only reads.

    :param schedule: the DAG's cron.
    :param graph: what is written to the graph, a GraphPlan; None for nothing.
    :param neptune_conn_id: the Airflow connection of the graph, under the role that may write.
    :param neptune_aws_conn_id: the Airflow connection of that role.
    :param timezone: the schedule's time zone.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    :param clock: gives the time, with its zone.
    """

    ui_color = "#c9e8c4"

    def __init__(
        self,
        *,
        schedule: str,
        timezone: str = "UTC",
        graph: Json | None = None,
        neptune_conn_id: str = WRITER_CONN_ID,
        neptune_aws_conn_id: str | None = WRITER_AWS_CONN_ID,
        aws_conn_id: str | None = "aws_default",
        clock: Clock = utc_now,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.schedule = schedule
        self.timezone = timezone
        self.graph = graph
        self.neptune_conn_id = neptune_conn_id
        self.neptune_aws_conn_id = neptune_aws_conn_id
        self.aws_conn_id = aws_conn_id
        self.clock = clock

    def execute(self, context: Context) -> Json:
        with describe_failure("Correct it and clear this task: it only reads."):
            refuse_unknown_params(context)
            # valid already; a topic that is not set is empty, which the Variable may not be
            settings = EngagementSettings.model_construct(None, **read_settings(EngagementSettings))
            hook = S3Hook(aws_conn_id=self.aws_conn_id)
            s3 = hook.get_conn()
            for role, bucket in (("event", settings.event_bucket), ("state", settings.state_bucket)):
                with explain_refusal(f"bucket {bucket}", f"{role}_bucket", "s3:ListBucket"):
                    s3.head_bucket(Bucket=bucket)
            as_of = as_of_run(context, Schedule(self.schedule, self.timezone), self.clock())
            graph = GraphPlan.model_validate(self.graph) if self.graph else None
            if graph:
                check_connections(self.neptune_conn_id, self.neptune_aws_conn_id)
                there = open_graph(graph, self.neptune_conn_id, self.neptune_aws_conn_id)
                check_foreign_names(there, hook, settings.state_bucket)
        return EngagementPlan(as_of=as_of, graph=graph, **settings.model_dump()).model_dump(mode="json")


class ReadEventsOperator(TemporaryFolderMixin, BaseOperator):
    """Read the objects of events of the 48 hours before the as-of that no other as-of has read.

    First their keys are written to a manifest, which a later attempt reads again. Each event is kept once within 62
    days, as Parquet, without an address, an IP address or a user agent. What bounces, complaints and changes of
    subscriptions say of an address is kept beside, with a keyed hash of it. The same objects give the same files.
    Returns (each also as a separate XCom) the counts of EventCounts.

    :param plan: the output of EngagementPlanOperator. (templated)
    :param memory_mb: the limit of DuckDB, in MiB; None for its default.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    template_fields = ("plan",)
    ui_color = "#f2e2c4"

    def __init__(
        self, *, plan: Json, memory_mb: int | None = None, aws_conn_id: str | None = "aws_default", **kwargs: Any
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.plan = plan
        self.memory_mb = memory_mb
        self.aws_conn_id = aws_conn_id

    def execute(self, context: Context) -> Json:
        retry_note = "Clearing this task is safe: it reads the objects of its manifest again, and writes the same file."
        with describe_failure(retry_note) as side_effects, self.temporary_folder() as folder:
            plan, s3 = EngagementPlan.model_validate(self.plan), S3Hook(aws_conn_id=self.aws_conn_id)
            chosen = store.fix_manifest(s3, plan)
            side_effects.append(f"the manifest has {len(chosen.keys):,} objects")
            counts = self._read(s3, plan, chosen, folder)
            side_effects.append(f"{counts.events:,} events were kept")
        self.log.info("%s", "; ".join(side_effects))
        if counts.unreadable or counts.unknown_types or counts.unknown_subtypes:
            self.log.warning("not all events were understood: %s", store.as_text(counts.model_dump()))
        return counts.model_dump(mode="json")

    def _read(self, s3: S3Hook, plan: EngagementPlan, chosen: Manifest, folder: Path) -> EventCounts:
        progress, path, parquet = Progress(self.log, "objects read"), folder / "object", folder / "events.parquet"
        salt = make_salt(s3, plan.state_bucket)
        with (
            FeedbackFile(folder / "feedback.csv", plan.ses_topic, salt) as feedback,
            EventFile(folder, plan.as_of, feedback.add, memory_mb=self.memory_mb) as file,
        ):
            for key in chosen.keys:
                if download(s3, plan.event_bucket, key, path) is None:
                    if counts := store.kept_counts(s3, plan):
                        self.log.info("the objects of this as-of are gone; what was kept of them stays")
                        return counts
                    raise store.why_gone(plan, key)
                file.add(path)
                progress.add(1)
            others = store.fetch_parquet(s3, plan, folder, up_to_as_of=False)
            counts = file.close(parquet, others, len(chosen.keys), chosen.before)
        store.keep(s3, plan, parquet, feedback.path, counts)
        return counts


class EngagementReportOperator(TemporaryFolderMixin, BaseOperator):
    """Count what became of the messages of each launch of the last 62 days, up to this as-of, and write a report.

    The report also has the effects that MeasureEffectOperator has kept. The launches are written as Parquet too.

    A player in doubt of whose message any event came was sent the mail: `in_doubt_sent` counts them, and no launch
    mails them again. Returns (each also as a separate XCom) `report_url`, `launches`, `messages`.

    :param plan: the output of EngagementPlanOperator. (templated)
    :param counts: the output of ReadEventsOperator. (templated)
    :param suppressions: the output of UpdateSuppressionsOperator. (templated)
    :param campaigns: the output of CountCampaignsOperator; None without it. (templated)
    :param memory_mb: the limit of DuckDB, in MiB; None for its default.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    template_fields = ("plan", "counts", "suppressions", "campaigns")
    ui_color = "#d9d2e9"

    def __init__(
        self,
        *,
        plan: Json,
        counts: Json,
        suppressions: Json,
        campaigns: Json | None = None,
        memory_mb: int | None = None,
        aws_conn_id: str | None = "aws_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.plan = plan
        self.counts = counts
        self.suppressions = suppressions
        self.campaigns = campaigns
        self.memory_mb = memory_mb
        self.aws_conn_id = aws_conn_id

    def execute(self, context: Context) -> Json:
        retry_note = "Clearing this task is safe: it writes the same report."
        with describe_failure(retry_note), self.temporary_folder() as folder:
            plan, s3 = EngagementPlan.model_validate(self.plan), S3Hook(aws_conn_id=self.aws_conn_id)
            files = store.fetch_parquet(s3, plan, folder, up_to_as_of=True)
            found, unknown = self._launches(s3, plan.state_bucket, folder, files)
            parquet = folder / "launches.parquet"
            shares = {name: engagement_shares(counts) for name, counts in found.items()}
            write_engagement(parquet, shares, self.memory_mb)
            put_if(s3, plan.state_bucket, launches_key(plan.as_of), parquet)
            report = EngagementReport(
                as_of=plan.as_of, events=EventCounts.model_validate(self.counts),
                suppressions=SuppressionCounts.model_validate(self.suppressions),
                launches=dict(sorted(found.items())), unknown_launches=unknown, effects=read_effects(s3, plan),
                campaigns=CountedCampaigns.model_validate(self.campaigns or {}),
            ).model_dump(mode="json")  # fmt: skip
            put_json(s3, plan.state_bucket, report_key(plan.as_of), report)
        url = f"s3://{plan.state_bucket}/{report_key(plan.as_of)}"
        self.log.info("%s\n%s", url, store.as_text(report))
        messages = sum(counts.messages for counts in found.values())
        return {"report_url": url, "launches": len(found), "messages": messages}

    def _launches(
        self, s3: S3Hook, bucket: str, folder: Path, files: list[Path]
    ) -> tuple[dict[str, LaunchCounts], int]:
        """Return the counts of each launch by its run name, and the messages of launches without a folder."""
        by_tag, found, unknown = store.launches_by_tag(s3, bucket), dict[str, LaunchCounts](), 0
        counted = count_launches(folder, files, self.memory_mb)
        links = {tag: store.fixed_links(s3, bucket, by_tag[tag]) for tag in counted if tag in by_tag}
        fixed = {tag: list(map(kept_link, each)) for tag, each in links.items()}
        clicks = count_clicks(folder, files, fixed, self.memory_mb)
        for tag, counts in counted.items():
            if tag not in by_tag:
                unknown += counts.messages
                continue
            in_doubt = store.rows_in_doubt(s3, bucket, by_tag[tag])
            came = rows_of(folder, files, tag, self.memory_mb) if in_doubt else frozenset[str]()
            about: dict[str, object] = {
                "in_doubt": len(in_doubt), "in_doubt_sent": sum(row in came for row in in_doubt),
                "untracked": store.untracked(s3, bucket, by_tag[tag]), "clicks": clicks.get(tag, Clicks()),
            }  # fmt: skip
            found[by_tag[tag]] = counts.model_copy(update=about)
        return found, unknown
