"""The base class of destinations: one method for each step of the DAG, and the checks and clean-up around them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from airflow.sdk import BaseOperator
from pydantic import BaseModel, JsonValue

from cohort_flywheel.campaign.email_template import EmailTemplate
from cohort_flywheel.campaign.settings import RunCampaign
from cohort_flywheel.common.records import Output
from cohort_flywheel.config.registry_head import Approval
from cohort_flywheel.destinations.import_result import ImportedSegment
from cohort_flywheel.engagement.campaign_counts import CampaignCounts
from cohort_flywheel.engagement.suppressions import SuppressedAddress
from cohort_flywheel.governance.cleanup import InventoryRow
from cohort_flywheel.governance.erasure import Addresses
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.segment.segment_file import Layout

if TYPE_CHECKING:
    from airflow.sdk import Context

type PreExecute = Callable[[Context], None]
#: The settings of all models by field, in one mapping: a destination validates it with a model of its own, which
#: ignores the other fields.
type Settings = Mapping[str, JsonValue]


class NoSettings(BaseModel):
    """Settings without a field."""


class DestinationCleanup(ABC):
    """What a destination keeps of each run besides files: segments, and recipients that several segments share.

    A recipient is what a row of the segment file became there (an endpoint, for example), under an id that is derived
    from the playerId.
    """

    #: The column of the segment file that holds the id of a recipient.
    column: ClassVar[str]

    @abstractmethod
    def has_segment(self, imported: ImportedSegment) -> bool:
        """Return whether the output of `record_result` names a segment of this destination that still exists."""

    @abstractmethod
    def remove_segment(self, imported: ImportedSegment) -> None:
        """Delete the segment."""

    @abstractmethod
    def recipient(self, player_id: str) -> str:
        """Return the id of a player's recipient."""

    @abstractmethod
    def is_deletable(self, recipient: str) -> bool | None:
        """Return whether a recipient may be deleted; None if it does not exist.

        One that has opted out is not deletable: the next import of the player would create it again, opted in.
        """

    @abstractmethod
    def remove_recipient(self, recipient: str) -> None:
        """Delete the recipient."""


class Destination(ABC):
    """Where segments go. A subclass is a destination; its instance is `DESTINATION` of `<name>/destination.py`.

    A method that is named as a task id returns the operator of that task; it sets the `task_id` and nothing about
    edges, which are in the DAG file. `wait_for_import_job` and the campaign's steps may return None: the DAG then has
    no such task.

    Every method that calls the destination takes `aws_conn_id`. A destination of another protocol ignores it and reads
    an Airflow connection of its own.
    """

    #: The name of the folder, which the registry's `destination` names.
    name: ClassVar[str]
    #: The format of the segment file: the `layout` module of the folder.
    layout: ClassVar[Layout]
    #: The Airflow Variables that an import needs.
    settings: ClassVar[type[BaseModel]]
    #: The additional Airflow Variables of campaigns; None: this destination sends no campaigns.
    campaign_settings: ClassVar[type[BaseModel] | None] = None
    #: The Airflow Variables that `cleanup` needs.
    cleanup_settings: ClassVar[type[BaseModel]] = NoSettings
    #: Whether a run needs a do-not-contact list that is not empty, or `opt_outs: none` in the registry. True for a
    #: destination without the opt-outs of earlier services.
    REQUIRES_OPT_OUT_LIST: ClassVar[bool]

    @property
    def has_campaigns(self) -> bool:
        """Whether this destination sends campaigns."""
        return self.campaign_settings is not None

    # --- the steps of the DAG

    @abstractmethod
    def create_import_job(self, plan: Output, segment: Output, pre_execute: PreExecute) -> BaseOperator:
        """Return the task that imports the segment file, or starts its import.

        :param plan: the output of `plan`.
        :param segment: the output of `check_limits`.
        :param pre_execute: the task's `pre_execute`, which acquires the run lock.
        """

    def wait_for_import_job(self, plan: Output, created: Output) -> BaseOperator | None:
        """Return the sensor that waits for the end of the import; None if the import ends with its call.

        :param created: the output of `create_import_job`.
        """
        return None

    @abstractmethod
    def verify_segment(self, plan: Output, segment: Output, created: Output) -> BaseOperator:
        """Return the task that fails unless the destination has each row of the segment file.

        Its output must have `segment_size` and, for a campaign, `segment_id`; the report has it as `imported`.
        """

    def prepare_campaign(self, plan: Output, segment: Output, verified: Output, templates: Path) -> BaseOperator | None:
        """Return the task that creates the template and previews the e-mail.

        :param verified: the output of `record_result`.
        :param templates: the folder of the e-mail templates.
        """
        return None

    def launch_campaign(
        self, plan: Output, segment: Output, prepared: Output, approval: Approval, pre_execute: PreExecute
    ) -> BaseOperator | None:
        """Return the task that sends the campaign, once it is approved.

        `campaign/launch_store.py` has the rules of every launch.

        :param prepared: the output of `prepare_campaign`.
        :param approval: the registry's approvers, against which the recorded answer is checked.
        :param pre_execute: the task's `pre_execute`, which acquires the run lock.
        """
        return None

    def follow_campaign(self, launched: Output) -> BaseOperator | None:
        """Return the sensor that waits for the end of the campaign; None if it ends with the launch.

        :param launched: the output of `launch_campaign`.
        """
        return None

    # --- checks of the plan, before anything is written

    @abstractmethod
    def check(self, settings: Settings, aws_conn_id: str | None) -> None:
        """Raise FlywheelError unless the destination can be reached and has what the settings name. Only reads."""

    def check_campaign(
        self,
        campaign: RunCampaign,
        template: EmailTemplate,
        columns: Sequence[str],
        settings: Settings,
        aws_conn_id: str | None,
    ) -> None:
        """Raise FlywheelError unless this destination can send the campaign's e-mail. Only reads."""
        return

    # --- a run without rows

    @abstractmethod
    def handle_empty_segment(self, plan: Plan, settings: Settings, aws_conn_id: str | None = "aws_default") -> bool:
        """Return whether an empty segment file must be imported, to remove the members of the run before.

        Raises FlywheelError if members of an earlier run remain and only a user can remove them. Abstract, because a
        default could leave former members in a segment.
        """

    # --- clean-up and erasure

    def cleanup(self, settings: Settings, aws_conn_id: str | None) -> DestinationCleanup | None:
        """Return what deletes segments and recipients past their retention; None if there are none to delete."""
        return None

    def running_import_jobs(self, settings: Settings, aws_conn_id: str | None) -> list[InventoryRow]:
        """Return the import jobs that have not ended: each may create a recipient that an erasure deletes."""
        return []

    def erase(
        self,
        settings: Settings,
        players: Collection[str],
        addresses: Addresses,
        dry_run: bool,
        aws_conn_id: str | None,
    ) -> list[InventoryRow]:
        """Delete the recipients of the players, or only count them in a dry run; return one line per kind.

        A row with `why` is a recipient that is kept. The default deletes none and reports each.
        """
        why = f"{self.name} cannot erase players: delete them there"
        return [InventoryRow("recipient", self.name, len(players), why=why)]

    # --- what the destination counts of its campaigns

    def campaign_counts(
        self, settings: Settings, campaign_ids: Collection[str], until: datetime, aws_conn_id: str | None
    ) -> Mapping[str, CampaignCounts]:
        """Return the counts of launched campaigns by their ids, up to a time; by default none. Only reads.

        :param settings: those of `campaign_settings`.
        """
        return {}

    # --- the destination's own suppression list

    def suppressed_addresses(self, since: datetime | None, aws_conn_id: str | None) -> Iterator[SuppressedAddress]:
        """Yield the addresses that the destination itself does not mail, added since a time; by default none."""
        return iter(())

    def remove_suppressed_address(self, address: str, aws_conn_id: str | None) -> bool:
        """Remove an address from that list; return False if it is not there."""
        return False
