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
from cohort_flywheel.config.registry_head import Notify
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.notifications import send_notifications
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.runs.report_operator import write_report
from cohort_flywheel.runs.schedule import Clock, schedule_in_force, utc_now
from cohort_flywheel.segment.outputs import CheckedSegment

if TYPE_CHECKING:
    from airflow.sdk import Context

#: The XCom of the answer: `approved`, `by`, `at`, `timed_out` and the `digest` of the question.
ANSWER = "answer"
#: The hidden field of the question that returns the digest of what was shown. Airflow shows the first question of a
#: run even after the task is cleared and asks about another mail [run; execution API: upsert_hitl_detail].
SHOWN = "shown"
_ANOTHER = (
    "another segment or mail than the one that is prepared now, because Airflow keeps showing the first question of a"
    " run: trigger a new run, which asks about this one"
)
_CLEARING = "Clearing this task is safe: no player is mailed before an approver agrees."


class CampaignApprovalOperator(ApprovalOperator):
    """Ask whether a campaign may be launched; skip the downstream tasks unless an approver approves.

    The question has the number of players, the sender, the mail for a made-up player, the change since the previous
    result, and the address of the report so far. The answer is the XCom `answer`, with the digest of what was shown;
    an approval is also recorded in the state bucket, where the launch reads it. A rejection by any user, and no answer
    in time, count as not approved. An approval by a user who is not an approver fails the task, and so does an approval
    of what is not prepared any more. Asking withdraws an earlier approval of the same content. With any mode but
    `launch` the task is skipped.

    :param plan: the output of CohortPlanOperator. (templated)
    :param checked: the output of CohortLimitsOperator. (templated)
    :param prepared: the output of the destination's `prepare_campaign`. (templated)
    :param verified: the output of CohortResultOperator. (templated)
    :param hours: how long the question waits, at most until the next as-of.
    :param notify: the notifiers; those of `approvers` are called.
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
            until = min(now + timedelta(hours=self.hours), schedule_in_force(context, plan).next(now))
            self.response_timeout = min(self.response_timeout or until - now, until - now)
            self.subject = f"May {plan.name} be launched, to {prepared.rows:,} players?"
            checked, unsubscribed = CheckedSegment.model_validate(self.checked), self.verified.get("unsubscribed", 0)
            self.body = approval_text(plan, checked, prepared, report_url, until, unsubscribed)
            digest = approval_digest(prepared)
            self.params = ParamsDict({SHOWN: Param(digest, type="string", const=digest)})
            base_url = conf.get("api", "base_url", fallback="/")  # without a base URL the link is a path
            link = self.generate_link_to_ui_from_context(context=context, base_url=base_url)
            self.log.info("%s Answer at %s", self.subject, link)
            send_notifications(
                self.notify.approvers,
                context,
                subject=f"Cohort Flywheel: waits for approval: {plan.name}",
                message=f"{self.subject}\n\n{self.body}\n\nAnswer, until {until:%Y-%m-%d %H:%M} UTC: {link}",
            )
        return super().execute(context)

    def execute_complete(self, context: Context, event: Json) -> Json:
        """Record the answer, then let Airflow's operator act on it: after a rejection it does not return."""
        with describe_failure(_CLEARING):
            if "error" in event:  # Airflow 3.2.1 itself compares the hidden field with what is prepared now
                raise FlywheelError(
                    f"the answer was not accepted ({event['error_type']}), as it is to {_ANOTHER}",
                    code=Code.NOT_APPROVED,
                )
            ti, user = context["ti"], event.get("responded_by_user") or {}
            by = user.get("name") or user.get("id")
            approved = event["chosen_options"] == [self.APPROVE]
            answer = ApprovalAnswer(
                approved=False,
                by=None if event["timedout"] else by,
                at=event["responded_at"].isoformat(),
                timed_out=bool(event["timedout"]),
                digest=(event["params_input"] or {}).get(SHOWN),
            )
            ti.xcom_push(key=ANSWER, value=answer.model_dump(mode="json"))
            plan = Plan.model_validate(self.plan)
            if approved:
                approvers = plan.require_campaign().approvers
                if by not in approvers:
                    raise FlywheelError(
                        f"{by} has approved, but is not an approver of this run:"
                        f" {' or '.join(approvers)} may; clear this task, which asks again",
                        code=Code.NOT_APPROVER,
                    )
                if answer.digest != approval_digest(PreparedCampaign.of_output(self.prepared)):
                    raise FlywheelError(f"{by} has approved {_ANOTHER}", code=Code.NOT_APPROVED)
                answer = answer.model_copy(update={"approved": True})
                put_approval(S3Hook(aws_conn_id=self.aws_conn_id), plan, answer)
                ti.xcom_push(key=ANSWER, value=answer.model_dump(mode="json"))
            decision = f"{'approved' if approved else 'rejected'} by {by}"
            self.log.info("%s: %s", plan.name, "no answer in time" if answer.timed_out else decision)
        super().execute_complete(context, event)  # skips the downstream tasks after a rejection
        return answer.model_dump(mode="json")
