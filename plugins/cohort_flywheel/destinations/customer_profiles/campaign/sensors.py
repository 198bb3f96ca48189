"""Wait for the end of an outbound campaign of Amazon Connect."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from cohort_flywheel.campaign.launch_store import PARTIAL_OUTPUT
from cohort_flywheel.common.waiting.sensors import WaitingSensor
from cohort_flywheel.destinations.customer_profiles.campaign.hook import ConnectCampaignsHook
from cohort_flywheel.destinations.customer_profiles.campaign.triggers import ConnectCampaignTrigger
from cohort_flywheel.errors import Code, FlywheelError

if TYPE_CHECKING:
    from airflow.sdk import Context

#: The execution_timeout of a task that follows a campaign. Airflow 3.3.1 applies it to each time on a worker and not to
#: the time in the triggerer [src: task_runner, _run_execute_callable]; without deferral it covers the whole wait.
FOLLOWS_FOR = timedelta(hours=30)

#: Why a campaign may not have mailed every player, by its state.
_ENDED_BADLY = {
    "Stopped": "was stopped in Connect",
    "Failed": "has failed",
    None: "is gone: it was deleted",
}


class ConnectCampaignSensor(WaitingSensor[ConnectCampaignsHook]):
    """Wait until a campaign is Completed; fail when it was stopped, failed or was deleted.

    Connect reports the state of a campaign, without counts. Returns `campaign_id` and `campaign_state`. The other
    parameters of the wait are WaitingSensor's.

    :param campaign_id: the campaign. (templated)
    :param poke_interval: the seconds between two requests.
    :param max_attempts: the maximum number of requests; None for longer than a campaign is scheduled for.
    """

    aws_hook_class = ConnectCampaignsHook
    template_fields = aws_template_fields("campaign_id")
    trigger_class = ConnectCampaignTrigger
    label = "campaign"
    side_effect = "may have mailed players"
    inspection = "look at it in the console of Amazon Connect (Outbound campaigns), where it can be resumed or stopped"
    deferral_factor = 1.1
    job_seconds = 93_600

    def __init__(self, *, campaign_id: str, poke_interval: float = 60, **kwargs: Any) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.campaign_id = campaign_id

    def pending_ids(self) -> list[str]:
        return [self.campaign_id]

    def trigger_arguments(self, job_id: str) -> dict[str, str]:
        return {"campaign_id": job_id}

    def xcom_value(self) -> dict[str, str]:
        return {"campaign_id": self.campaign_id, "campaign_state": "Completed"}

    def has_ended(self, job_id: str, context: Context) -> bool:
        state = self.hook.state(job_id)
        self.log.info("campaign %s is %s", job_id, state or "gone")
        if state in _ENDED_BADLY:
            context["ti"].xcom_push(
                key=PARTIAL_OUTPUT, value={"campaign_id": job_id, "campaign_state": state or "gone"}
            )
            raise FlywheelError(
                f"campaign {job_id} {_ENDED_BADLY[state]}, and may not have mailed every player: only"
                " Connect shows which (its campaign analytics). No player is mailed again, as all stay in the send"
                " ledger. A launch of a later as-of, after not_again_days, reaches those that it missed",
                code=Code.MAY_HAVE_MAILED,
            )
        return state == "Completed"
