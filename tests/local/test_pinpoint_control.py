"""The faults that a test can order from the emulated Pinpoint, its reset, and the server's start and stop."""

import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from tests.local.pinpoint_service import BUCKET, Service, code_of, people, process


@pytest.fixture(scope="module")
def server() -> Iterator[Service]:
    with process() as (_, url):
        yield Service(url)


@pytest.fixture
def service(server: Service) -> Service:
    server.control(reset=True, import_seconds=0)
    return server


def test_jobs_fail_by_order_and_then_no_more(service: Service) -> None:
    service.control(fail_next_jobs=1)
    failed = service.run(people("ann"))
    assert (failed["JobStatus"], failed["FailedPieces"], failed["TotalPieces"]) == ("FAILED", 1, 1)
    assert service.state()["endpoints"] == []
    again = service.run(people("ann"), SegmentId=failed["Definition"]["SegmentId"])
    assert again["JobStatus"] == "COMPLETED"
    assert len(service.state()["segments"]) == 1


def test_a_failed_job_may_leave_no_segment(service: Service) -> None:
    service.control(fail_next_jobs=1, failed_job_segment="none")
    assert "SegmentId" not in service.run(people("ann"))["Definition"]
    assert service.state()["segments"] == []


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("TooManyRequestsException", 429),
        ("InternalServerErrorException", 500),
        ("ForbiddenException", 403),
        ("AccessDeniedException", 403),
        ("GoneException", 410),
    ],
)
def test_a_refusal_is_for_its_operations_and_times(service: Service, code: str, status: int) -> None:
    refusal = {"code": code, "status": status, "operations": ["GetImportJobs"], "times": 2, "message": "No."}
    service.control(refuse=refusal)
    service.pinpoint.get_segments(ApplicationId=service.app)
    for _ in range(2):
        with pytest.raises(ClientError) as error:
            service.pinpoint.get_import_jobs(ApplicationId=service.app)
        assert code_of(error) == (code, status)
        assert error.value.response["Error"]["Message"] == "No."
    service.pinpoint.get_import_jobs(ApplicationId=service.app)


def test_a_refusal_of_everything_lasts_until_it_is_lifted(service: Service) -> None:
    service.control(refuse={"code": "GoneException", "status": 410})
    for _ in range(3):
        with pytest.raises(ClientError):
            service.pinpoint.get_apps()
    assert service.s3.list_buckets()["Buckets"], "Only Pinpoint refuses."
    service.control(refuse=None)
    service.pinpoint.get_apps()


def test_a_refused_create_makes_no_job_and_is_counted(service: Service) -> None:
    service.control(refuse={"code": "TooManyRequestsException", "status": 429, "operations": ["CreateImportJob"]})
    with pytest.raises(ClientError):
        service.create(service.put(people("ann")))
    assert service.state()["jobs"] == []
    assert service.control()["calls"]["CreateImportJob"] == 1


def test_an_answer_is_lost_after_its_effect(service: Service) -> None:
    url = service.put(people("ann"))
    service.control(lose_next_answers=1)
    with pytest.raises(ConnectionClosedError):
        service.create(url)
    service.control(lose_next_answers=1, lose_by="error")
    with pytest.raises(ClientError) as error:
        service.create(url)
    assert code_of(error) == ("InternalServerErrorException", 500)
    assert [job["Definition"]["S3Url"] for job in service.state()["jobs"]] == [url, url]


@pytest.mark.parametrize("lose_by", ["drop", "error"])
def test_a_client_that_retries_by_itself_makes_a_second_job(service: Service, lose_by: str) -> None:
    """botocore's own retries repeat a create whose answer was lost: nothing in the API keeps them apart."""
    service.control(lose_next_answers=1, lose_by=lose_by)
    retrying = service.client("pinpoint", attempts=3)
    request = {"Format": "CSV", "RoleArn": service.role, "S3Url": service.put(people("ann")), "DefineSegment": True}
    retrying.create_import_job(ApplicationId=service.app, ImportJobRequest=request)
    assert len(service.state()["jobs"]) == 2


@pytest.mark.parametrize(
    "body",
    [
        '{"import_secs": 1}',
        '{"segment_update": "merge"}',
        '{"fail_next_jobs": -1}',
        '{"import_seconds": "4"}',
        '{"refuse": {"code": "GoneException"}}',
        '{"refuse": {"code": "GoneException", "status": 200}}',
        "[]",
        "{",
    ],
)
def test_a_wrong_change_is_an_error_and_changes_nothing(service: Service, body: str) -> None:
    before = service.control()["settings"]
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"{service.url}/cohort-flywheel/pinpoint", body.encode(), timeout=10)  # noqa: S310 - ours
    assert error.value.code == 400
    assert error.value.read().endswith(b'."]}')
    assert service.control()["settings"] == before


def test_reset_keeps_the_applications_and_moto_s_reset_does_not(service: Service) -> None:
    service.run(people("ann"))
    service.control(reset=True)
    state = service.state()
    assert (state["jobs"], state["segments"], state["endpoints"]) == ([], [], [])
    service.control(segment_update="add", refuse={"code": "GoneException", "status": 410})
    urllib.request.urlopen(f"{service.url}/moto-api/reset", b"", timeout=10).close()  # noqa: S310 - ours
    found = service.control()
    assert (found["applications"], found["settings"]["segment_update"]) == ([], "replace")
    assert found["settings"]["refuse"] is None
    first = service.app
    service.seed()
    assert service.app == first, "A seeded environment has the same id each time."
    assert service.s3.list_buckets()["Buckets"][0]["Name"] == BUCKET


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_server_stops_on_request(number: signal.Signals) -> None:
    with process("--import-seconds", "600") as (running, url):
        service = Service(url)
        assert service.control(reset=True)["settings"]["import_seconds"] == 600
        service.create(service.put(people("ann")))  # a job that is not done holds nothing up
        started = time.monotonic()
        running.send_signal(number)
        assert running.wait(10) == 0
        assert time.monotonic() - started < 5
        address = url.removeprefix("http://").split(":")
        with pytest.raises(OSError), socket.create_connection((address[0], int(address[1])), timeout=1):
            pass
