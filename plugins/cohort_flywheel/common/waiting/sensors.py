"""The base of sensors that wait for jobs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from airflow.providers.amazon.aws.sensors.base_aws import AwsBaseSensor
from airflow.providers.common.compat.sdk import conf
from airflow.sdk import PokeReturnValue
from airflow.sdk.exceptions import AirflowSensorTimeout, TaskDeferralError

from cohort_flywheel.common.failures import RetryableError, describe_failure
from cohort_flywheel.common.records import Json
from cohort_flywheel.common.waiting.triggers import WaitingTrigger
from cohort_flywheel.errors import Code, FlywheelError

if TYPE_CHECKING:
    from airflow.sdk import Context

_RETRY_NOTE = "Clearing this task is safe: it only reads."


class WaitingSensor[Hook: AwsBaseHook](AwsBaseSensor[Hook]):
    """Wait until each of some jobs has ended successfully, one job at a time; without a job, return at once.

    With `deferrable` the wait is in the triggerer (needs aiobotocore), else on a worker. Raises
    AirflowFailException when a job did not end successfully, or has not ended after `max_attempts` requests, and
    AirflowException, which is retried, when the wait was interrupted.

    :param poke_interval: the seconds between two requests.
    :param max_attempts: the maximum number of requests for one job; None for as many as `job_seconds` has intervals.
    :param deferrable: wait in the triggerer.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    ui_color = "#d5c7f2"

    trigger_class: ClassVar[type[WaitingTrigger]]
    #: What a message calls the job, what the job may have changed, and where a user looks at it.
    label: ClassVar[str]
    side_effect: ClassVar[str]
    inspection: ClassVar[str]
    #: The time in the triggerer, in multiples of `poke_interval * max_attempts`. Above 1, so that the waiter ends
    #: first, with a message of ours; limited, as a waiter that is throttled again and again never ends.
    deferral_factor: ClassVar[float] = 2
    #: The default of `poke_interval * max_attempts`.
    job_seconds: ClassVar[int] = 7200

    def __init__(
        self,
        *,
        poke_interval: float = 5,
        max_attempts: int | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        attempts = max(1, int(self.job_seconds / poke_interval)) if max_attempts is None else max_attempts
        super().__init__(poke_interval=poke_interval, timeout=poke_interval * attempts, **kwargs)
        self.max_attempts = attempts
        self.deferrable = deferrable

    @abstractmethod
    def pending_ids(self) -> Sequence[str]:
        """The IDs of the jobs to wait for."""

    @abstractmethod
    def has_ended(self, job_id: str, context: Context) -> bool:
        """Whether a job has ended successfully; raises FlywheelError where it ended in another way."""

    def trigger_arguments(self, job_id: str) -> dict[str, str]:
        """The arguments that name a job to the trigger."""
        return {"job_id": job_id}

    def xcom_value(self) -> dict[str, str] | None:
        """The XCom of the task."""
        return None

    def execute(self, context: Context) -> Any:
        if not self.deferrable:
            with self._with_code():
                return super().execute(context)
        if running := self._running(context):
            self._defer(running[0])
        return self.xcom_value()

    def execute_complete(self, context: Context, event: Json | None = None) -> dict[str, str] | None:
        """Check the jobs after the trigger has fired, and wait for the next one."""
        fired = event or {}
        running = self._running(context)
        if not running:
            return self.xcom_value()
        id_name = list(self.trigger_class.arguments)[-1]
        if fired.get("status") == "success" and fired.get(id_name) not in running:  # so each job is waited for once
            self._defer(running[0])
        with describe_failure(_RETRY_NOTE):
            if "max attempts" not in str(fired.get("message")):
                raise RetryableError(
                    f"the wait for {self.label} {running[0]} broke off: a later try waits on", code=Code.JOB_PENDING
                )
            raise FlywheelError(
                f"{self.label} {running[0]} has not ended after {self.timeout:g} s: {self.inspection}, then clear this"
                " task to wait on",
                code=Code.JOB_PENDING,
            )

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        with self._with_code():
            return super().resume_execution(next_method, next_kwargs, context)

    @contextmanager
    def _with_code(self) -> Iterator[None]:
        """Replace an error of Airflow's own wait, such as `Trigger timeout`, by one with a code and a remedy."""
        try:
            yield
            return
        except (AirflowSensorTimeout, TaskDeferralError) as error:
            is_over = isinstance(error, AirflowSensorTimeout)
        jobs = f"{self.label} {', '.join(self.pending_ids())}"
        with describe_failure(_RETRY_NOTE):
            if is_over:
                raise FlywheelError(
                    f"{jobs} has not ended in time: {self.inspection}, then clear this task to wait on",
                    code=Code.JOB_PENDING,
                )
            raise RetryableError(
                f"the wait for {jobs} was interrupted: a later attempt continues to wait", code=Code.JOB_PENDING
            )

    def poke(self, context: Context) -> PokeReturnValue:
        return PokeReturnValue(is_done=not self._running(context), xcom_value=self.xcom_value())

    def _running(self, context: Context) -> list[str]:
        """The IDs of the jobs that have not ended."""
        running = []
        with describe_failure(_RETRY_NOTE) as side_effects:
            for job_id in self.pending_ids():
                side_effects.append(f"{self.label} {job_id} runs, or ran, and {self.side_effect}")
                if not self.has_ended(job_id, context):
                    running.append(job_id)
        return running

    def _defer(self, job_id: str) -> None:
        self.defer(
            trigger=self.trigger_class(
                waiter_delay=max(1, int(self.poke_interval)),
                waiter_max_attempts=self.max_attempts,
                aws_conn_id=self.aws_conn_id,
                region_name=self.region_name,
                verify=self.verify,
                botocore_config=self.botocore_config,
                **self.trigger_arguments(job_id),
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.deferral_factor * self.timeout + 600),
        )
