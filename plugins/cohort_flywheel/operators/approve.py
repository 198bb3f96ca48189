"""A launch waits for a person, in Airflow's Required Actions."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk.exceptions import AirflowSkipException

from cohort_flywheel.approval import approval_digest, approval_text
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.operators.notify import tell
from cohort_flywheel.operators.outside import outside
from cohort_flywheel.operators.report import ReportSources, write_report
from cohort_flywheel.registry import Notify

if TYPE_CHECKING:
    from airflow.sdk import Context

#: The XCom of the answer, whichever it is: `approved`, `by`, `at`, `timed_out` and the `digest` of what was asked.
ANSWER = "answer"
_ASKED = "asked"


class CampaignApprovalOperator(ApprovalOperator):
    """Ask whether a campaign may be launched; skip what follows unless an approver agrees.

    Shows how many are mailed, from whom, the mail as a made-up player gets it, the change since last time, and where
    the report of the run so far lies. The answer, a no as well, is an XCom of its own, `answer`, and bound to the
    digest of what was shown. A refusal, by whomever, and the end of the time are a no. A yes of somebody who is no
    approver fails the task. Only a launch is asked about: with any other mode the task is skipped.

    :param plan: the output of CohortPlanOperator. (templated)
    :param checked: the output of CohortLimitsOperator. (templated)
    :param prepared: the output of the destination's operator that has made the mail ready. (templated)
    :param sources: where the facts of the report are from.
    :param hours: how long the question waits.
    :param notify: who is told that it waits (`approvers`).
    """

    template_fields = (*ApprovalOperator.template_fields, "plan", "checked", "prepared")
    ui_color = "#f7d9a8"

    def __init__(
        self,
        *,
        plan: Any,
        checked: Any,
        prepared: Any,
        sources: ReportSources,
        hours: float,
        notify: Notify | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            subject="May this campaign be launched?", defaults=self.REJECT, response_timeout=timedelta(hours=hours),
            multiple_outputs=True, **kwargs,
        )  # fmt: skip
        self.plan, self.checked, self.prepared = plan, checked, prepared
        self.sources, self.hours, self.notify = sources, hours, notify or Notify()

    def execute(self, context: Context) -> Any:
        with outside("Clearing this task is safe: it asks again."):
            if self.prepared["mode"] != "launch":
                raise AirflowSkipException(f"campaign={self.prepared['mode']} needs no approval")
            _, report_url = write_report(self, context, self.sources)
            self.subject = f"May {self.plan['name']} be launched, to {self.prepared['rows']:,} players?"
            self.body = approval_text(self.plan, self.checked, self.prepared, report_url, self.hours)
            # held against what is there when the answer comes: who clears prepare_campaign meanwhile asks again
            context["ti"].xcom_push(key=_ASKED, value=approval_digest(self.prepared))
            link = self.generate_link_to_ui_from_context(context=context)
            self.log.info("%s Answer at %s", self.subject, link)
            tell(
                self.notify.approvers,
                context,
                subject=f"Cohort Flywheel: waits for an approval: {self.plan['name']}",
                message=f"{self.subject}\n\n{self.body}\n\nAnswer, within {self.hours:g} hours: {link}",
            )
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Record the answer before anything comes of it: a refusal ends in the middle of the library's own."""
        with outside("Clearing this task is safe: it asks again."):
            if "error" in event:
                raise FlywheelError(f"the wait for an answer broke off ({event.get('error_type')}): clear this task")
            ti, user = context["ti"], event.get("responded_by_user") or {}
            by, yes = user.get("name") or user.get("id"), event["chosen_options"] == [self.APPROVE]
            answer = {
                "approved": False,
                "by": None if event["timedout"] else by,
                "at": event["responded_at"].isoformat(),
                "timed_out": bool(event["timedout"]),
                "digest": ti.xcom_pull(task_ids=self.task_id, key=_ASKED),
            }
            ti.xcom_push(key=ANSWER, value=answer)
            if yes and not event["timedout"]:
                if by not in self.plan["campaign"]["approvers"]:
                    raise FlywheelError(
                        f"{by} has said yes, and may not approve this run: one of"
                        f" {', '.join(self.plan['campaign']['approvers'])} may; clear this task, which asks again"
                    )
                if answer["digest"] != approval_digest(self.prepared):
                    raise FlywheelError(
                        "what was prepared has changed since the question was asked: clear this task, which asks again"
                    )
                answer["approved"] = True
                ti.xcom_push(key=ANSWER, value=answer)
            said = "nobody answered in time" if answer["timed_out"] else f"{by} said {'yes' if yes else 'no'}"
            self.log.info("%s: %s", self.plan["name"], said)
        super().execute_complete(context, event)  # skips what follows after a no
        return answer
