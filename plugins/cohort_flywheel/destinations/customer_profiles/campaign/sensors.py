"""Follows an outbound campaign of Amazon Connect to its end."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.sensors.base_aws import AwsBaseSensor
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields
from airflow.providers.common.compat.sdk import conf
from airflow.sdk import PokeReturnValue
from airflow.sdk.exceptions import AirflowException

from cohort_flywheel.campaign.launch_store import REACHED
from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.destinations.customer_profiles.campaign.hook import ConnectCampaignsHook
from cohort_flywheel.destinations.customer_profiles.campaign.triggers import ConnectCampaignTrigger
from cohort_flywheel.errors import FlywheelError

if TYPE_CHECKING:
    from airflow.sdk import Context

_CLEARING = "Clearing this task is safe: it only reads."

#: The execution_timeout of a task that follows a campaign. Airflow 3.3.1 applies it to each stay on a worker and not to
#: the time in the triggerer [src: task_runner, _run_execute_callable]; without deferral it is all of the wait.
FOLLOWS_FOR = timedelta(hours=30)

#: Why a campaign may not have mailed every player, as far as its state says.
_ENDED_BADLY = {
    "Stopped": "was stopped in Connect",
    "Failed": "has failed",
    None: "is gone: it was deleted",
}


class ConnectCampaignSensor(AwsBaseSensor[ConnectCampaignsHook]):
    """Wait until a campaign is Completed; fail when it was stopped, failed or was deleted.

    Connect tells a campaign's state and no counts. Returns `campaign_id` and `campaign_state`.

    :param campaign_id: the campaign. (templated)
    :param poke_interval: seconds between two looks.
    :param max_attempts: looks, at most; the default is longer than a campaign of this package is scheduled for.
    :param deferrable: wait in the triggerer (needs aiobotocore) instead of on a worker.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    aws_hook_class = ConnectCampaignsHook
    template_fields = aws_template_fields("campaign_id")
    ui_color = "#d5c7f2"

    def __init__(
        self,
        *,
        campaign_id: Any,
        poke_interval: float = 60,
        max_attempts: int = 1560,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, timeout=poke_interval * max_attempts, **kwargs)
        self.campaign_id = campaign_id
        self.max_attempts, self.deferrable = max_attempts, deferrable

    def execute(self, context: Context) -> Any:
        if not self.deferrable:
            return super().execute(context)
        if (ended := self._ended(context)) is None:
            self._defer()
        return ended

    def _defer(self) -> None:
        self.defer(
            trigger=ConnectCampaignTrigger(
                campaign_id=self.campaign_id,
                waiter_delay=max(1, int(self.poke_interval)),
                waiter_max_attempts=self.max_attempts,
                aws_conn_id=self.aws_conn_id,
                region_name=self.region_name,
                verify=self.verify,
                botocore_config=self.botocore_config,
            ),
            method_name="execute_complete",
            # longer than the looks take: the waiter's own end comes first, with our sentence. It does not count
            # answers that throttle it, so it alone could wait without end.
            timeout=timedelta(seconds=1.1 * self.timeout + 600),
        )

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, str]:
        """Judge the campaign once the triggerer has seen its end, or has given up."""
        if ended := self._ended(context):
            return ended
        with describe_failure(_CLEARING):
            if "max attempts" not in str((event or {}).get("message")):
                raise AirflowException(f"the wait for campaign {self.campaign_id} broke off: a later try waits on")
            raise FlywheelError(
                f"campaign {self.campaign_id} has not ended after {self.timeout:g} s: look at it in the console of"
                " Amazon Connect (Outbound campaigns), where it can be resumed or stopped, then clear this task to"
                " wait on"
            )

    def poke(self, context: Context) -> PokeReturnValue:
        ended = self._ended(context)
        return PokeReturnValue(is_done=ended is not None, xcom_value=ended)

    def _ended(self, context: Context) -> dict[str, str] | None:
        """What is returned of a campaign that is Completed, None of one that goes on; raises for any other."""
        with describe_failure(_CLEARING) as side_effects:
            side_effects.append(f"campaign {self.campaign_id} was started, and may have mailed players")
            state = self.hook.state(self.campaign_id)
            self.log.info("campaign %s is %s", self.campaign_id, state or "gone")
            if state in _ENDED_BADLY:
                reached = {"campaign_id": self.campaign_id, "campaign_state": state or "gone"}
                context["ti"].xcom_push(key=REACHED, value=reached)
                raise FlywheelError(
                    f"campaign {self.campaign_id} {_ENDED_BADLY[state]}, and may not have mailed every player: only"
                    " Connect shows which (its campaign analytics). No player is mailed again, as all stay in the send"
                    " ledger. A launch of a later as-of, after not_again_days, reaches those that it missed"
                )
        return {"campaign_id": self.campaign_id, "campaign_state": state} if state == "Completed" else None
