"""Pages are read to their end, creating requests are sent once, and an upload does not reveal its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException
from botocore.exceptions import ClientError, HTTPClientError

from cohort_flywheel.destinations.customer_profiles import hook as module
from cohort_flywheel.destinations.customer_profiles import layout
from cohort_flywheel.destinations.customer_profiles.hook import CustomerProfilesHook
from cohort_flywheel.errors import FlywheelError
from local.config import PROFILES_DOMAIN
from tests.cohort_flywheel.destinations.customer_profiles.profiles_domain import Domain

HEADER = layout.out_header("ea_atrisk_2")
REQUEST = {"DisplayName": "job", "Fields": layout.fields(HEADER), "UniqueKey": layout.UNIQUE_KEY, "DataExpiry": 7}


@pytest.fixture
def domain(airflow_env: Any, servers: Any, fresh_config: Any) -> Any:
    made = Domain(servers, fresh_config)
    yield made
    made.control(reset=True)


@pytest.fixture
def hook(domain: Domain) -> CustomerProfilesHook:
    return CustomerProfilesHook()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.csv"
    path.write_text("playerKey,ea_atrisk_2\nk,in\n", encoding="utf-8")
    return path


def test_every_page_of_jobs_is_read(domain: Domain, hook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "JOBS_PER_PAGE", 2)
    made = [hook.create_upload_job(PROFILES_DOMAIN, REQUEST) for _ in range(5)]
    assert sorted(job["JobId"] for job in hook.upload_jobs(PROFILES_DOMAIN)) == sorted(made)
    assert domain.calls["ListUploadJobs"] == 3


def test_page_sizes_are_within_the_limits_of_the_service(hook: Any) -> None:
    """A greater page is refused, and this is the greatest."""
    assert list(hook.upload_jobs(PROFILES_DOMAIN)) == []


@pytest.mark.parametrize("lose_by", ["drop", "error"])
def test_create_and_start_requests_are_sent_once_even_if_the_answer_is_lost(
    domain: Domain, hook: Any, file: Path, lose_by: str
) -> None:
    calls = ["CreateUploadJob", "StartUploadJob", "CreateSegmentDefinition"]
    domain.control(lose_next_answers=10, lose_operations=calls, lose_by=lose_by)
    with pytest.raises((ClientError, HTTPClientError)):
        hook.create_upload_job(PROFILES_DOMAIN, REQUEST)
    (job,) = domain.jobs
    hook.put_upload(PROFILES_DOMAIN, job["JobId"], file)
    with pytest.raises((ClientError, HTTPClientError)):
        hook.start_upload_job(PROFILES_DOMAIN, job["JobId"])
    with pytest.raises((ClientError, HTTPClientError)):
        hook.create_segment_definition(PROFILES_DOMAIN, "s", layout.segment_groups("ea_atrisk_2"))
    assert [domain.calls[call] for call in calls] == [1, 1, 1]
    assert domain.jobs[0]["Started"]


def test_throttled_reads_are_retried(domain: Domain, hook: Any) -> None:
    domain.control(refuse={"code": "ThrottlingException", "status": 429, "operations": ["ListUploadJobs"], "times": 4})
    assert list(hook.upload_jobs(PROFILES_DOMAIN)) == []
    assert domain.calls["ListUploadJobs"] == 5


def test_a_file_is_pushed_as_it_is(domain: Domain, hook: Any, tmp_path: Path) -> None:
    """Many times what is sent at once, so that it goes out in pieces."""
    path = tmp_path / "file.csv"
    path.write_text("playerKey,ea_atrisk_2\n" + "".join(f"k{n},in\n" for n in range(50_000)), encoding="utf-8")
    job_id = hook.create_upload_job(PROFILES_DOMAIN, REQUEST)
    hook.put_upload(PROFILES_DOMAIN, job_id, path)
    assert domain.jobs[0]["Uploaded"] == path.stat().st_size > 400_000
    hook.put_upload(PROFILES_DOMAIN, job_id, path)  # a job that was not started takes it again


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"url_seconds": 0}, "403 AccessDenied"),
        ({"lose_next_answers": 1, "lose_operations": ["PutUpload"], "lose_by": "drop"}, "RemoteDisconnected"),
        ({"lose_next_answers": 1, "lose_operations": ["PutUpload"], "lose_by": "error"}, "500 InternalError"),
    ],
)
def test_a_failed_upload_does_not_reveal_the_presigned_url(
    domain: Domain, hook: Any, file: Path, settings: dict[str, Any], sentence: str
) -> None:
    job_id = hook.create_upload_job(PROFILES_DOMAIN, REQUEST)
    domain.control(**settings)
    with pytest.raises(AirflowException) as raised:
        hook.put_upload(PROFILES_DOMAIN, job_id, file)
    said = (
        f"CF-IMPORT-03: the file of upload job {job_id} was not accepted ({sentence}): a later attempt uploads it again"
    )
    assert str(raised.value) == said
    assert raised.value.__cause__ is raised.value.__context__ is None, "the error itself quotes the address"


@pytest.mark.parametrize("url_seconds", [900, 0])
def test_a_refusal_is_final_unless_the_address_had_expired(
    domain: Domain, hook: Any, file: Path, url_seconds: int
) -> None:
    """Amazon S3 says 403 in either case; a later try asks for another address."""
    job_id = hook.create_upload_job(PROFILES_DOMAIN, REQUEST)
    refusal = {"code": "AccessDenied", "status": 403, "operations": ["PutUpload"]}
    domain.control(refuse=refusal, url_seconds=url_seconds)
    with pytest.raises((FlywheelError, AirflowException)) as raised:
        hook.put_upload(PROFILES_DOMAIN, job_id, file)
    if url_seconds:
        assert isinstance(raised.value, FlywheelError)
        assert str(raised.value).startswith(
            f"CF-IMPORT-05: Amazon S3 refuses the file of upload job {job_id} (403 AccessDenied) at the presigned"
            " URL of the service: allow the workers to write to"
        )
    else:
        assert str(raised.value).endswith("was not accepted (403 AccessDenied): a later attempt uploads it again")
    assert raised.value.__cause__ is raised.value.__context__ is None, "the error itself quotes the address"


@pytest.mark.parametrize("url", ["file:///etc/hostname", "http://127.0.0.1:9/x?X-Amz-Signature=s"])
def test_an_address_that_cannot_be_reached(hook: Any, file: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    class Client:
        def get_upload_job_path(self, **_: str) -> dict[str, str]:
            return {"Url": url, "ClientToken": ""}

    monkeypatch.setattr(hook, "_patient", Client())
    with pytest.raises(AirflowException, match="upload job j1") as raised:
        hook.put_upload(PROFILES_DOMAIN, "j1", file)
    assert url not in str(raised.value)


@pytest.mark.parametrize("changes", [{"fail_next_estimates": 1}, {"estimate_seconds": 60}])
def test_an_estimate_that_never_succeeds(
    domain: Domain, hook: Any, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.setattr(module, "ESTIMATE_SECONDS", 1)
    domain.control(**changes)
    with pytest.raises(AirflowException, match="the estimate of the segment is (FAILED|RUNNING): a later attempt"):
        hook.estimate(PROFILES_DOMAIN, layout.segment_groups("ea_atrisk_2"))


def test_a_definition_that_is_not_there(hook: Any) -> None:
    assert hook.segment_definition(PROFILES_DOMAIN, "missing") is None
