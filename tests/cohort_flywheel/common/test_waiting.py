"""A wait that Airflow itself ends fails with a code and a remedy, as any other error."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.bases.operator import TRIGGER_FAIL_REPR, TriggerFailureReason
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from cohort_flywheel.destinations.ses.sensors import SesImportJobsSensor


def waiting(**arguments: Any) -> SesImportJobsSensor:
    return SesImportJobsSensor(task_id="wait_for_import_job", job_ids=["one", "two"], **arguments)


def test_a_trigger_that_took_too_long_is_not_retried(airflow_env: Any) -> None:
    reason = {"error": TriggerFailureReason.TRIGGER_TIMEOUT.value}
    with pytest.raises(
        AirflowFailException, match="^CF-IMPORT-03: import job one, two has not ended in time: .* clear"
    ):
        waiting(deferrable=True).resume_execution(TRIGGER_FAIL_REPR, reason, {})


def test_a_trigger_that_failed_is_retried(airflow_env: Any) -> None:
    reason = {"error": TriggerFailureReason.TRIGGER_FAILURE.value}
    with pytest.raises(AirflowException, match="^CF-IMPORT-03: the wait for import job one, two was interrupted") as it:
        waiting(deferrable=True).resume_execution(TRIGGER_FAIL_REPR, reason, {})
    assert not isinstance(it.value, AirflowFailException)


def test_a_wait_on_a_worker_that_took_too_long_is_not_retried(airflow_env: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(SesImportJobsSensor, "_running", lambda *_: ["one"])
    with pytest.raises(AirflowFailException, match="^CF-IMPORT-03: import job one, two has not ended in time"):
        waiting(deferrable=False, poke_interval=0, max_attempts=0).execute({})
