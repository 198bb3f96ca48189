"""One file, one job; one name, one segment: against the emulated Pinpoint and its faults."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from cohort_flywheel.destinations.pinpoint.destination import DESTINATION
from cohort_flywheel.destinations.pinpoint.operators import (
    PinpointCreateImportJobOperator,
    PinpointVerifySegmentOperator,
)
from cohort_flywheel.destinations.pinpoint.sensors import PinpointImportJobSensor
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.runs.plan import Plan
from tests.cohort_flywheel.plans import plan_output


class Steps:
    """The three tasks on one segment file."""

    def __init__(self, seeded: Any) -> None:
        self.app, self.role = seeded.application_id, seeded.role_arn

    def create(self, url: str, name: str = "segment") -> str:
        operator = PinpointCreateImportJobOperator(
            task_id="create", application_id=self.app, role_arn=self.role, s3_url=url, segment_name=name
        )
        return str(operator.execute({})["job_id"])

    def wait(self, job_id: str) -> None:
        PinpointImportJobSensor(
            task_id="wait",
            application_id=self.app,
            job_id=job_id,
            poke_interval=0.2,
            max_attempts=100,
            deferrable=False,
        ).execute({})

    def verify(self, job_id: str, rows: int) -> dict[str, Any]:
        return PinpointVerifySegmentOperator(
            task_id="verify", application_id=self.app, job_id=job_id, expected_size=rows
        ).execute({})

    def all(self, url: str, rows: int) -> dict[str, Any]:
        job_id = self.create(url)
        self.wait(job_id)
        return self.verify(job_id, rows)


@pytest.fixture
def steps(airflow_env: Any, seeded: Any, pinpoint: Any) -> Steps:
    return Steps(seeded)


def test_a_file_becomes_a_segment_of_its_size(steps: Steps, segment_file: Any) -> None:
    verified = steps.all(segment_file("one", ["a", "b", "c"]), 3)
    assert verified["segment_size"] == 3
    assert verified["segment_id"]


def test_the_same_file_again_is_the_same_job(steps: Steps, segment_file: Any, pinpoint: Any) -> None:
    url = segment_file("same", ["a"])
    assert steps.create(url) == steps.create(url)
    assert len(pinpoint()["jobs"]) == 1


def test_changed_content_updates_the_one_segment(steps: Steps, segment_file: Any, pinpoint: Any) -> None:
    first = steps.all(segment_file("v1", ["a", "b", "c"]), 3)
    second = steps.all(segment_file("v2", ["a", "d"]), 2)
    assert first["segment_id"] == second["segment_id"]
    assert first["job_id"] != second["job_id"]


def test_an_update_that_adds_is_detected(steps: Steps, segment_file: Any, pinpoint: Any) -> None:
    """Whether Pinpoint's update replaces is not documented: if it adds, former members would be mailed."""
    pinpoint(segment_update="add")
    steps.all(segment_file("v1", ["a", "b", "c"]), 3)
    with pytest.raises(AirflowFailException, match="has 4 endpoints, but the file has 2 rows: do not send"):
        steps.all(segment_file("v2", ["a", "d"]), 2)


def test_after_a_failed_job_a_new_job_updates_the_same_segment(steps: Steps, segment_file: Any, pinpoint: Any) -> None:
    url = segment_file("failing", ["a", "b"])
    pinpoint(fail_next_jobs=1)
    first = steps.create(url)
    with pytest.raises(AirflowFailException, match=f"import job {first} FAILED") as raised:
        steps.wait(first)
    assert "@" not in str(raised.value)
    second = steps.create(url)
    assert second != first
    steps.wait(second)
    assert steps.verify(second, 2)["segment_size"] == 2
    assert len(pinpoint()["segments"]) == 1


def test_a_lost_answer_makes_no_second_job(steps: Steps, segment_file: Any, pinpoint: Any) -> None:
    """The create took effect and its answer was lost: no retry of the SDK's may follow, and the next try adopts."""
    url = segment_file("lost", ["a"])
    pinpoint(lose_next_answers=1)
    with pytest.raises(
        AirflowException, match=f"an import job of {url} may have been created. Clearing .* is safe"
    ) as raised:
        steps.create(url)
    assert not isinstance(raised.value, AirflowFailException)
    assert len(pinpoint()["jobs"]) == 1
    steps.wait(steps.create(url))
    assert len(pinpoint()["jobs"]) == 1


@pytest.mark.parametrize("code", ["TooManyRequestsException", "InternalServerErrorException"])
def test_a_busy_service_is_retried_by_airflow(code: str, steps: Steps, segment_file: Any, pinpoint: Any) -> None:
    pinpoint(refuse={"code": code, "status": 429 if "Many" in code else 500, "operations": ["CreateImportJob"]})
    with pytest.raises(AirflowException, match=code) as raised:
        steps.create(segment_file("busy", ["a"]))
    assert not isinstance(raised.value, AirflowFailException)
    assert pinpoint()["calls"]["CreateImportJob"] == 1


@pytest.mark.parametrize("code", ["ForbiddenException", "BadRequestException"])
def test_a_refusal_is_final(code: str, steps: Steps, segment_file: Any, pinpoint: Any) -> None:
    pinpoint(refuse={"code": code, "status": 403, "operations": ["CreateImportJob"]})
    with pytest.raises(AirflowFailException, match=f"CreateImportJob with {code}.*Changes made: none"):
        steps.create(segment_file("refused", ["a"]))


def test_failed_rows_in_a_completed_job_are_detected(steps: Steps, segment_file: Any) -> None:
    job_id = steps.create(segment_file("bad", ["a", "x" * 200 + "\tb"]))
    steps.wait(job_id)
    with pytest.raises(AirflowFailException, match="refused 1 of 2 rows and 0 pieces: do not send"):
        steps.verify(job_id, 2)


def test_content_that_changed_back_is_imported_again(steps: Steps, segment_file: Any, pinpoint: Any) -> None:
    """A, B, A: the first job of A is done, but the segment holds B by now."""
    before = steps.all(segment_file("v1", ["a", "b"]), 2)
    steps.all(segment_file("v2", ["c", "d"]), 2)
    after = steps.all(segment_file("v1", ["a", "b"]), 2)
    assert after["segment_id"] == before["segment_id"]
    (segment,) = pinpoint()["segments"]
    assert sorted(segment["Members"]) == ["id-a", "id-b"]


def test_a_segment_that_a_user_deleted_is_created_again(steps: Steps, segment_file: Any, aws: Any) -> None:
    first = steps.all(segment_file("v1", ["a"]), 1)
    aws("pinpoint").delete_segment(ApplicationId=steps.app, SegmentId=first["segment_id"])
    same_file = steps.all(segment_file("v1", ["a"]), 1)
    assert same_file["segment_id"] != first["segment_id"]
    aws("pinpoint").delete_segment(ApplicationId=steps.app, SegmentId=same_file["segment_id"])
    assert steps.all(segment_file("v2", ["b"]), 1)["segment_id"] not in (first["segment_id"], same_file["segment_id"])


def test_a_job_under_way_with_another_file_is_waited_for(steps: Steps, segment_file: Any, pinpoint: Any) -> None:
    """Its segment is not known yet: to create now would make a second one of the same name."""
    pinpoint(import_seconds=30)
    first = steps.create(segment_file("v1", ["a"]))
    with pytest.raises(AirflowException, match=f"import job {first} .* is still running") as raised:
        steps.create(segment_file("v2", ["b"]))
    assert not isinstance(raised.value, AirflowFailException)
    assert len(pinpoint()["jobs"]) == 1


def test_a_segment_changed_by_another_run_is_detected(steps: Steps, segment_file: Any) -> None:
    """Two files of equal size: the figures agree and the players do not."""
    first = steps.create(segment_file("v1", ["a", "b"]))
    steps.wait(first)
    steps.all(segment_file("v2", ["c", "d"]), 2)
    with pytest.raises(AirflowFailException, match="was imported from s3://.*/v2.csv since"):
        steps.verify(first, 2)


def test_an_empty_segment_file_fails_while_an_earlier_segment_has_members(
    steps: Steps, segment_file: Any, aws: Any, pinpoint: Any
) -> None:
    plan, settings = Plan.model_validate(plan_output("segment")), {"pinpoint_application_id": steps.app}
    DESTINATION.handle_empty_segment(plan, settings)
    segment_id = steps.all(segment_file("v1", ["a"]), 1)["segment_id"]
    with pytest.raises(FlywheelError, match=f"segment {segment_id} of an earlier run of segment still has members"):
        DESTINATION.handle_empty_segment(plan, settings)
    aws("pinpoint").delete_segment(ApplicationId=steps.app, SegmentId=segment_id)
    DESTINATION.handle_empty_segment(plan, settings)


def test_an_empty_segment_file_fails_while_an_earlier_job_has_not_ended(steps: Steps, segment_file: Any) -> None:
    """Its segment is not there yet, and will be."""
    job, plan = steps.create(segment_file("v1", ["a"])), Plan.model_validate(plan_output("segment"))
    with pytest.raises(AirflowException, match=f"import job {job} of an earlier run of segment has not ended"):
        DESTINATION.handle_empty_segment(plan, {"pinpoint_application_id": steps.app})


def test_many_jobs_are_searched(steps: Steps, segment_file: Any, pinpoint: Any, aws: Any) -> None:
    """The job of a file is found on whichever page it is."""
    pinpoint(import_seconds=0, max_active_jobs=1000)
    url = segment_file("needle", ["a"])
    needle = steps.create(url)
    client, hay = aws("pinpoint"), segment_file("hay", ["a"])
    for number in range(105):
        client.create_import_job(
            ApplicationId=steps.app,
            ImportJobRequest={
                "Format": "CSV", "RoleArn": steps.role, "S3Url": hay, "DefineSegment": True, "RegisterEndpoints": True,
                "SegmentName": f"hay{number}",
            },
        )  # fmt: skip
    assert steps.create(url) == needle
