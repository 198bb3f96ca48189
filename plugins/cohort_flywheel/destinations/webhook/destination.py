"""A receiver over HTTPS, which keeps one segment per cohort and threshold."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from airflow.sdk import BaseOperator

from cohort_flywheel.common.records import Output
from cohort_flywheel.destinations.base import Destination, NoSettings, PreExecute, Settings
from cohort_flywheel.destinations.webhook.hook import WebhookHook
from cohort_flywheel.destinations.webhook.layout import LAYOUT, erase_message
from cohort_flywheel.destinations.webhook.operators import WebhookSendSegmentOperator, WebhookVerifySegmentOperator
from cohort_flywheel.governance.cleanup import InventoryRow
from cohort_flywheel.governance.erasure import Addresses
from cohort_flywheel.runs.plan import Plan


class WebhookDestination(Destination):
    """Messages to a receiver of the contract in docs/reference/webhook.md, over an Airflow connection of its own."""

    name = "webhook"
    layout = LAYOUT
    settings = NoSettings
    #: The receiver may not have the opt-outs of other services.
    REQUIRES_OPT_OUT_LIST = True

    def create_import_job(self, plan: Output, segment: Output, pre_execute: PreExecute) -> BaseOperator:
        return WebhookSendSegmentOperator(
            task_id="create_import_job",
            plan=plan,
            segment=segment["segment"],
            pre_execute=pre_execute,
            retries=30,  # one run at a time changes a segment, until it is verified
            max_retry_delay=timedelta(minutes=10),
        )

    def verify_segment(self, plan: Output, segment: Output, created: Output) -> BaseOperator:
        return WebhookVerifySegmentOperator(
            task_id="verify_segment",
            plan=plan,
            segment=segment["segment"],
            sent=created,
            retries=5,  # the receiver may count later than it answers
            max_retry_delay=timedelta(minutes=10),
        )

    def check(self, settings: Settings, aws_conn_id: str | None) -> None:
        """Raise FlywheelError unless the receiver answers and accepts the credentials."""
        WebhookHook().check()

    def handle_empty_segment(self, plan: Plan, settings: Settings, aws_conn_id: str | None = "aws_default") -> bool:
        """Return True: the former members must be sent as leavers."""
        return True

    def erase(
        self,
        settings: Settings,
        players: Collection[str],
        addresses: Addresses,
        dry_run: bool,
        aws_conn_id: str | None,
    ) -> list[InventoryRow]:
        """Send one message per player; the receiver deletes all that it has of them, and returns their number."""
        body = b"".join(map(erase_message, sorted(players)))
        found = WebhookHook().erase(body, dry_run=dry_run)
        return [InventoryRow("player", "the webhook's receiver", found)] if found else []


DESTINATION = WebhookDestination()
