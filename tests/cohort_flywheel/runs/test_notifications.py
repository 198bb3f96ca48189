"""Notifications: producers for a limit's stop, on-call for any other failure, without personal data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from airflow.sdk import DAG, BaseNotifier
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowTaskTimeout
from botocore.exceptions import ClientError

from cohort_flywheel.config.registry_head import Notify
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.runs.notifications import NOTIFIED, on_failure, send_notifications
from cohort_flywheel.segment.limits_operator import StoppedByLimitError

STOPPED = StoppedByLimitError("CF-LIMITS-01: n is outside the limits: 3 members. Changes made: none. Clearing is safe.")
FAILED = AirflowFailException("the name is wrong: correct it. Changes made: none. Clear this task.")


class Recorder(BaseNotifier):
    """Keeps the rendered notifications."""

    template_fields = ("subject", "message")
    messages: ClassVar[list[tuple[str, str, str]]] = []

    def __init__(self, to: str, subject: str = "{{ alert.subject }}", message: str = "{{ alert.message }}") -> None:
        super().__init__()
        self.to, self.subject, self.message = to, subject, message

    def notify(self, context: Any) -> None:
        self.messages.append((self.to, self.subject, self.message))


class Down(Recorder):
    """A service that cannot be reached."""

    def notify(self, context: Any) -> None:
        raise ConnectionError(self.to)


def target(to: str, notifier: type = Recorder, **arguments: Any) -> dict[str, Any]:
    return {"notifier": f"{__name__}.{notifier.__name__}", "to": to, **arguments}


NOTIFY = Notify(on_call=[target("on-call")], producers=[target("producers")])


@pytest.fixture
def notifications() -> Iterator[list[tuple[str, str, str]]]:
    Recorder.messages.clear()
    yield Recorder.messages
    Recorder.messages.clear()


@pytest.fixture
def failed(context: Any) -> Any:
    """The context of a task that failed with an error."""

    def make(error: BaseException, task_id: str = "check_limits", **run: Any) -> Any:
        return context(task_id=task_id, run_id="manual__7", **run) | {
            "exception": error,
            "dag": DAG("a_dag", schedule=None),
        }

    return make


def test_a_run_stopped_by_limits_notifies_the_producers(notifications: Any, failed: Any) -> None:
    on_failure(NOTIFY)(failed(STOPPED))
    assert notifications == [(
        "producers",
        "Cohort Flywheel: stopped by limits: cohort_to_segment, check_limits",
        "cohort_to_segment, run manual__7 was stopped by its limits in check_limits.\n\n"
        f"{STOPPED}\n\nLog: http://localhost:8080/the-log\nWhat to do: docs/reference/runbook.md",
    )]  # fmt: skip


@pytest.mark.parametrize("error", [FAILED, AirflowException("AWS answered PutObject with SlowDown. Changes made: …")])
def test_any_other_failure_notifies_on_call(notifications: Any, failed: Any, error: Exception) -> None:
    on_failure(NOTIFY)(failed(error, "enrich"))
    ((to, subject, message),) = notifications
    assert (to, subject) == ("on-call", "Cohort Flywheel: failed: cohort_to_segment, enrich")
    assert message.startswith("cohort_to_segment, run manual__7 failed in enrich.\n\n")
    assert str(error) in message
    assert "Log: http://localhost:8080/the-log" in message
    assert "docs/reference/runbook.md" in message


@pytest.mark.parametrize(
    "error",
    [
        KeyError("wayne96"),
        ClientError({"Error": {"Code": "SlowDown", "Message": "wayne96@example.com"}}, "PutObject"),
        None,
    ],
)
def test_the_text_of_an_error_that_is_not_ours_is_left_out(notifications: Any, failed: Any, error: Any) -> None:
    on_failure(NOTIFY)(failed(error))
    ((to, subject, message),) = notifications
    assert to == "on-call"
    assert f"\n\nCF-BUG-01: {type(error).__name__}: read the log\n\n" in message
    assert "wayne96" not in subject + message


def test_an_error_of_ours_that_no_task_described_has_its_text(notifications: Any, failed: Any) -> None:
    on_failure(NOTIFY)(failed(FlywheelError("the name is wrong: correct it", Code.PARAM)))
    assert "\n\nCF-PLAN-03: the name is wrong: correct it\n\n" in notifications[0][2]


def test_the_notification_of_a_timeout_has_its_last_line(notifications: Any, failed: Any) -> None:
    on_failure(NOTIFY)(
        failed(AirflowTaskTimeout("the task took longer. Changes made: a file was put. Clearing is safe."))
    )
    assert "Changes made: a file was put" in notifications[0][2]


def test_templates_of_the_registry_are_rendered(notifications: Any, failed: Any) -> None:
    words: dict[str, Any] = {"subject": "!! {{ alert.subject }} of {{ dag_run.run_id }}", "message": "nothing of it"}
    on_failure(Notify(on_call=[target("on-call", **words)]))(failed(FAILED))
    assert notifications[0][1] == "!! Cohort Flywheel: failed: cohort_to_segment, check_limits of manual__7"
    assert notifications[0][2] == "nothing of it"


def test_braces_in_an_error_are_not_rendered(notifications: Any, failed: Any) -> None:
    on_failure(NOTIFY)(failed(AirflowFailException("write {{ dag_run.run_id }} instead")))
    assert "write {{ dag_run.run_id }} instead" in notifications[0][2]


def test_the_report_has_the_notified_groups(notifications: Any, failed: Any) -> None:
    context = failed(FAILED)
    on_failure(NOTIFY)(context)
    assert context["ti"].xcoms["check_limits", NOTIFIED] is True


def test_without_notifiers_no_notification_is_sent(notifications: Any, failed: Any) -> None:
    on_failure(Notify())(failed(FAILED))
    on_failure(Notify(producers=[target("producers")]))(failed(FAILED))
    on_failure(Notify(on_call=[target("on-call")]))(failed(STOPPED))
    assert notifications == []


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        (target("x", Down), ConnectionError),
        ({"notifier": "no.such.module.Notifier"}, ModuleNotFoundError),
        ({"notifier": f"{__name__}.Missing"}, AttributeError),
        (target("x", colour="red"), TypeError),
    ],
)
def test_a_failing_notifier_does_not_stop_others_and_is_reported(
    notifications: Any, failed: Any, broken: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        on_failure(Notify(on_call=[target("first"), broken, target("last")]))(failed(FAILED))
    assert [to for to, _, _ in notifications] == ["first", "last"]


def test_each_notifier_has_its_own_context(notifications: Any, failed: Any) -> None:
    """A notifier puts its own arguments into the context that it is given."""
    context = failed(FAILED)
    before = set(context)
    send_notifications([target("one", subject="mine"), target("two")], context, subject="theirs", message="m")
    assert [subject for _, subject, _ in notifications] == ["mine", "theirs"]
    assert set(context) == before


# --- a real notifier -------------------------------------------------------------------------------------


@pytest.fixture
def topic(airflow_env: Any, aws: Any) -> Any:
    """An SNS topic with a queue behind it: its ARN, and what has arrived."""
    sns, sqs = aws("sns"), aws("sqs")
    arn = sns.create_topic(Name="on-call")["TopicArn"]
    queue = sqs.create_queue(QueueName="on-call")["QueueUrl"]
    queue_arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue_arn)

    def arrived() -> list[dict[str, Any]]:
        found = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", ())
        return [json.loads(message["Body"]) for message in found]

    yield arn, arrived
    sns.delete_topic(TopicArn=arn)
    sqs.delete_queue(QueueUrl=queue)


def sns_target(arn: str) -> dict[str, Any]:
    return {
        "notifier": "airflow.providers.amazon.aws.notifications.sns.SnsNotifier", "target_arn": arn,
        "subject": "{{ alert.subject }}", "message": "{{ alert.message }}",
    }  # fmt: skip


def test_sns_gets_the_subject_and_the_message(topic: Any, failed: Any) -> None:
    arn, arrived = topic
    on_failure(Notify(on_call=[sns_target(arn)]))(failed(FAILED))
    (message,) = arrived()
    assert message["Subject"] == "Cohort Flywheel: failed: cohort_to_segment, check_limits"
    assert str(FAILED) in message["Message"]


def test_a_missing_topic_does_not_stop_other_notifiers(topic: Any, failed: Any) -> None:
    arn, arrived = topic
    with pytest.raises(ClientError, match="NotFound"):
        on_failure(Notify(on_call=[sns_target(arn + "-that-is-not-there"), sns_target(arn)]))(failed(FAILED))
    assert len(arrived()) == 1


def test_a_subject_is_cut_to_the_limit_of_sns(notifications: Any, failed: Any) -> None:
    """[SNS, Publish: Subject: "must be less than 100 characters long"]."""
    on_failure(NOTIFY)(failed(FAILED, dag_id="cohort_to_segment__" + "c" * 100))
    assert len(notifications[0][1]) < 100
