"""The pages of a contact list and of its import jobs are read to their end, and a job is created once."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError, HTTPClientError

from cohort_flywheel.destinations.ses.hook import SesV2Hook
from local.config import CONTACT_LIST
from tests.cohort_flywheel.destinations.ses.ses_account import Account


@pytest.fixture
def account(airflow_env: Any, servers: Any, fresh_config: Any) -> Any:
    made = Account(servers, fresh_config)
    yield made
    made.control(reset=True)


def test_every_page_of_contacts_is_read(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cohort_flywheel.destinations.ses.hook.CONTACTS_PER_PAGE", 2)
    names = [f"player{number}@example.com" for number in range(5)]
    account.add(*names)
    assert [contact["EmailAddress"] for contact in SesV2Hook().contacts(CONTACT_LIST)] == names
    assert account.control()["calls"]["ListContacts"] == 3


def test_page_sizes_are_within_the_limits_of_the_service(account: Account) -> None:
    """A greater page is refused, and these are the greatest."""
    assert list(SesV2Hook().contacts(CONTACT_LIST)) == []
    assert list(SesV2Hook().import_jobs(CONTACT_LIST)) == []


def test_every_page_of_jobs_is_read_and_those_of_another_list_are_left_out(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cohort_flywheel.destinations.ses.hook.JOBS_PER_PAGE", 2)
    hook = SesV2Hook()
    made = [hook.create_import_job(CONTACT_LIST, f"s3://bucket/{number}.csv") for number in range(5)]
    assert {job["JobId"] for job in hook.import_jobs(CONTACT_LIST)} == set(made)
    assert list(hook.import_jobs("others")) == []


@pytest.mark.parametrize("lose_by", ["drop", "error"])
def test_a_create_request_is_sent_once_even_if_its_answer_is_lost(account: Account, lose_by: str) -> None:
    account.control(lose_next_answers=1, lose_operations=["CreateImportJob"], lose_by=lose_by)
    with pytest.raises((ClientError, HTTPClientError)):
        SesV2Hook().create_import_job(CONTACT_LIST, "s3://bucket/file.csv")
    assert account.control()["calls"]["CreateImportJob"] == len(account.jobs) == 1


def test_a_throttled_listing_is_retried(account: Account) -> None:
    account.add("ann@example.com")
    account.control(
        refuse={"code": "TooManyRequestsException", "status": 429, "operations": ["ListContacts"], "times": 4}
    )
    assert len(list(SesV2Hook().contacts(CONTACT_LIST))) == 1
    assert account.control()["calls"]["ListContacts"] == 5


@pytest.mark.parametrize("url", ["file:///etc/hostname", "http://127.0.0.1:9/failed", "ftp://127.0.0.1:9/failed"])
def test_failed_records_are_of_the_web_and_an_error_is_one_of_the_system(airflow_env: Any, url: str) -> None:
    with pytest.raises(OSError):
        SesV2Hook().count_failed_records(url)
