"""Ask an approver in Airflow's Required Actions before a launch."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.exceptions import AirflowSkipException

from cohort_flywheel.campaign.approval import approval_digest, approval_text
from cohort_flywheel.campaign.launch import ApprovalAnswer, PreparedCampaign
from cohort_flywheel.campaign.launch_store import put_approval, withdraw_approval
from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.common.records import Json
from cohort_flywheel.config.registry import Notify
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.notifications import tell
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.runs.report_operator import write_report
from cohort_flywheel.runs.schedule import Clock, next_instant, schedule_in_force, utc_now
from cohort_flywheel.segment.outputs import CheckedSegment

if TYPE_CHECKING:
    from airflow.sdk import Context

#: The XCom of the answer, whichever it is: `approved`, `by`, `at`, `timed_out` and the `digest` of what was asked.
ANSWER = "answer"
#: The hidden field of the question that brings back, with the answer, the digest of what was shown. Airflow shows a
#: run's first question for ever, also when the task was cleared and asks about another mail [run; execution API:
#: upsert_hitl_detail].
SHOWN = "shown"
_ANOTHER = (
    "another segment or mail than the one that is prepared now, and Airflow shows the first question of a run for"
    " ever: trigger a new run, which asks about this one"
)
_CLEARING = "Clearing this task is safe: no player is mailed before an approver agrees."


class CampaignApprovalOperator(ApprovalOperator):
    """Ask whether a campaign may be launched; skip what follows unless an approver agrees.

    Shows the number of players, the sender, the mail as a made-up player gets it, the change since last time, and where
    the report of the run so far lies. The answer, a no as well, is an XCom of its own, `answer`, and bound to the
    digest of what was shown; a yes is recorded in the state bucket, where the launch looks for it. A refusal by
    any user and the end of the time are a no. A yes of a user who is not an approver fails the task, and so does a yes
    to what is not prepared any more. To ask takes an earlier yes to the same back. Only a launch is asked about: with
    any other mode the task is skipped.

    :param plan: the output of CohortPlanOperator. (templated)
    :param checked: the output of CohortLimitsOperator. (templated)
    :param prepared: the output of the destination's operator that has made the mail ready. (templated)
    :param verified: the output of CohortResultOperator. (templated)
    :param hours: how long the question waits; never beyond the next as-of, whose run launches instead.
    :param notify: who is told that it waits (`approvers`).
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    :param clock: gives the time, with its zone.
    """

    template_fields = (*ApprovalOperator.template_fields, "plan", "checked", "prepared", "verified")
    ui_color = "#f7d9a8"

    def __init__(
        self,
        *,
        plan: Json,
        checked: Json,
        prepared: Json,
        verified: Json,
        hours: float,
        notify: Notify | None = None,
        aws_conn_id: str | None = "aws_default",
        clock: Clock = utc_now,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            subject="May this campaign be launched?", defaults=self.REJECT, response_timeout=timedelta(hours=hours),
            multiple_outputs=True, **kwargs,
        )  # fmt: skip
        self.plan = plan
        self.checked = checked
        self.prepared = prepared
        self.verified = verified
        self.hours = hours
        self.notify = notify or Notify()
        self.aws_conn_id = aws_conn_id
        self.clock = clock

    def execute(self, context: Context) -> Any:
        with describe_failure(_CLEARING):
            prepared = PreparedCampaign.of_output(self.prepared)
            if prepared.mode != "launch":
                raise AirflowSkipException(f"campaign={prepared.mode} needs no approval")
            plan = Plan.model_validate(self.plan)
            withdraw_approval(S3Hook(aws_conn_id=self.aws_conn_id), plan, prepared)
            _, report_url = write_report(self, context, self.clock, self.aws_conn_id)
            now = self.clock()
            until = min(now + timedelta(hours=self.hours), next_instant(schedule_in_force(context, plan), now))
            self.response_timeout = min(self.response_timeout or until - now, until - now)
            self.subject = f"May {plan.name} be launched, to {prepared.rows:,} players?"
            checked, unsubscribed = CheckedSegment.model_validate(self.checked), self.verified.get("unsubscribed", 0)
            self.body = approval_text(plan, checked, prepared, report_url, until, unsubscribed)
            digest = approval_digest(prepared)
            self.params = ParamsDict({SHOWN: Param(digest, type="string", const=digest)})
            base_url = conf.get("api", "base_url", fallback="/")  # without one the link is a path
            link = self.generate_link_to_ui_from_context(context=context, base_url=base_url)
            self.log.info("%s Answer at %s", self.subject, link)
            tell(
                self.notify.approvers,
                context,
                subject=f"Cohort Flywheel: waits for an approval: {plan.name}",
                message=f"{self.subject}\n\n{self.body}\n\nAnswer, until {until:%Y-%m-%d %H:%M} UTC: {link}",
            )
        return super().execute(context)

    def execute_complete(self, context: Context, event: Json) -> Json:
        """Record the answer before anything comes of it: a refusal ends in the middle of the library's own."""
        with describe_failure(_CLEARING):
            if "error" in event:  # Airflow 3.2.1 holds the hidden field against what is prepared now by itself
                raise FlywheelError(
                    f"the answer was not taken ({event['error_type']}), as it is to {_ANOTHER}", code=Code.NOT_APPROVED
                )
            ti, user = context["ti"], event.get("responded_by_user") or {}
            by, yes = user.get("name") or user.get("id"), event["chosen_options"] == [self.APPROVE]
            answer = ApprovalAnswer(
                approved=False,
                by=None if event["timedout"] else by,
                at=event["responded_at"].isoformat(),
                timed_out=bool(event["timedout"]),
                digest=(event["params_input"] or {}).get(SHOWN),
            )
            ti.xcom_push(key=ANSWER, value=answer.model_dump(mode="json"))
            plan = Plan.model_validate(self.plan)
            if yes:
                approvers = plan.require_campaign().approvers
                if by not in approvers:
                    raise FlywheelError(
                        f"{by} has said yes, and may not approve this run:"
                        f" {' or '.join(approvers)} may; clear this task, which asks again",
                        code=Code.NOT_APPROVER,
                    )
                if answer.digest != approval_digest(PreparedCampaign.of_output(self.prepared)):
                    raise FlywheelError(f"{by} has said yes to {_ANOTHER}", code=Code.NOT_APPROVED)
                answer = answer.model_copy(update={"approved": True})
                put_approval(S3Hook(aws_conn_id=self.aws_conn_id), plan, answer)
                ti.xcom_push(key=ANSWER, value=answer.model_dump(mode="json"))
            said = "no answer in time" if answer.timed_out else f"{by} said {'yes' if yes else 'no'}"
            self.log.info("%s: %s", plan.name, said)
        super().execute_complete(context, event)  # skips what follows after a no
        return answer.model_dump(mode="json")
