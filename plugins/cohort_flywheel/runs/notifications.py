"""Notify of failed, stopped and successful runs, with the Airflow notifiers of the registry."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowException, AirflowTaskTimeout

from cohort_flywheel.config.registry_head import Notify
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.runs.report import Report, table
from cohort_flywheel.segment.limits_operator import StoppedByLimitError

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

Targets = Sequence[dict[str, object]]

#: The maximum length of a subject [SNS API: Publish, "less than 100 characters long"].
MAX_SUBJECT = 99

#: The XCom of a failed task that a notification was sent for.
NOTIFIED = "told"


def on_failure(notify: Notify) -> Callable[[Context], None]:
    """The `on_failure_callback` of every task: a run stopped by limits notifies `producers`, else `on_call`."""
    return partial(notify_of_failure, notify)


def notify_of_failure(notify: Notify, context: Context) -> None:
    """Notify of a failed task: the run, the task, its error with the next step, and the link to its log."""
    ti = context["ti"]
    error = context.get("exception")
    stopped = isinstance(error, StoppedByLimitError)
    run = f"{ti.dag_id}, run {ti.run_id}"
    # our own errors hold no player's data; the text of another's may
    ours = isinstance(error, AirflowException | AirflowTaskTimeout | FlywheelError)
    why = str(error) if ours else f"{Code.UNEXPECTED}: {type(error).__name__}: read the log"
    send_notifications(
        notify.producers if stopped else notify.on_call,
        context,
        subject=f"Cohort Flywheel: {'stopped by limits' if stopped else 'failed'}: {ti.dag_id}, {ti.task_id}",
        message=f"{run} {'was stopped by its limits' if stopped else 'failed'} in {ti.task_id}.\n\n{why}\n\n"
        f"Log: {getattr(ti, 'log_url', None)}\nWhat to do: docs/reference/runbook.md",
    )
    ti.xcom_push(key=NOTIFIED, value=True)


def notify_unreported_failures(notify: Notify, context: Context, tasks: Mapping[str, str]) -> None:
    """Notify of failed tasks without a notification: Airflow calls no callback for a killed worker."""
    ti = context["ti"]
    task_ids = context["dag"].task_ids
    failed = [task for task, state in tasks.items() if state == "failed"]
    unreported = [task for task in failed if not _was_notified(ti, task, task_ids)]
    if unreported:
        send_notifications(
            notify.on_call,
            context,
            subject=f"Cohort Flywheel: failed: {ti.dag_id}, {unreported[0]}",
            message=f"{Code.UNREPORTED}: "
            f"{ti.dag_id}, run {ti.run_id} failed in {', '.join(unreported)}, and no notification was sent: its"
            " worker was killed, a user marked it failed, or a notifier failed. Look at the log of that task, and clear"
            " it with downstream.\n\n"
            f"Log of the report: {getattr(ti, 'log_url', None)}\nWhat to do: docs/reference/runbook.md",
        )


def notify_of_success(notify: Notify, context: Context, report: Report, report_url: str) -> None:
    """Notify of a run that neither failed nor was stopped by limits: its outcome, and the counts of its report."""
    if report.outcome in ("failed", "stopped by limits"):
        return
    ti = context["ti"]
    send_notifications(
        notify.success,
        context,
        subject=f"Cohort Flywheel: {report.outcome}: {ti.dag_id}, {report.plan.cohort if report.plan else ''}",
        message=f"{ti.dag_id}, run {ti.run_id} ended: {report.outcome}.\n\n{table(report)}\n\nReport: {report_url}",
    )


def send_notifications(targets: Targets, context: Context, *, subject: str, message: str) -> None:
    """Call each notifier, with `{{ alert.subject }}` and `{{ alert.message }}` for its arguments.

    If notifiers fail, raises the error of the last one after all were called.
    """
    alert, failed = {"subject": subject[:MAX_SUBJECT], "message": message}, None
    for target in targets:
        arguments = {name: value for name, value in target.items() if name != "notifier"}
        try:
            module, _, name = str(target["notifier"]).rpartition(".")
            notifier = getattr(importlib.import_module(module), name)
            notifier(**arguments)({**context, "alert": alert})
        except Exception as error:  # noqa: BLE001 - raised below: a failed notifier must not stop the others
            failed = error
    if failed:
        raise failed


def _was_notified(ti: RuntimeTaskInstanceProtocol, task: str, task_ids: Iterable[str]) -> bool:
    # Airflow lists the states of a mapped task as enrich_0, enrich_1, …
    base, _, index = task.rpartition("_")
    where = {"task_ids": task} if task in task_ids else {"task_ids": base, "map_indexes": int(index)}
    return bool(ti.xcom_pull(key=NOTIFIED, **where))
