"""Import jobs into a contact list: what a client meets when it creates, polls and repeats, and the file's rules."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local.pinpoint_service import code_of, process
from tests.local.sesv2_service import BUCKET, HEADER, LIST, Service, people, policy


@pytest.fixture(scope="module")
def server() -> Iterator[Service]:
    with process() as (_, url):
        yield Service(url)


@pytest.fixture
def service(server: Service) -> Service:
    server.fresh()
    return server


def counts(job: dict[str, Any]) -> tuple[str, int, int]:
    return job["JobStatus"], job["ProcessedRecordsCount"], job["FailedRecordsCount"]


def failed_records(job: dict[str, Any]) -> list[dict[str, Any]]:
    with urllib.request.urlopen(job["FailureInfo"]["FailedRecordsS3Url"], timeout=10) as answer:  # noqa: S310 - ours
        return [json.loads(line) for line in answer]


def test_a_file_becomes_contacts(service: Service) -> None:
    job = service.run(people("ann", "bob", "c+d"))
    assert counts(job) == ("COMPLETED", 3, 0)
    assert "FailureInfo" not in job
    assert job["CompletedTimestamp"] >= job["CreatedTimestamp"]
    ann = service.contact("ann")
    assert json.loads(ann["AttributesData"]) == {"FirstName": "First", "LastName": "Last"}
    assert ann["TopicPreferences"] == [{"TopicName": "News", "SubscriptionStatus": "OPT_IN"}]
    assert ann["UnsubscribeAll"] is False
    assert service.contact("c+d")["EmailAddress"] == "c+d@example.com"


def test_statuses_come_in_order_and_the_file_is_read_late(service: Service) -> None:
    service.control(import_seconds=5)
    job_id = service.create(service.put("not yet a file of contacts\n"))
    service.put(people("ann"))
    seen: list[str] = []
    deadline = time.monotonic() + 20
    while not seen or seen[-1] != "COMPLETED":
        assert time.monotonic() < deadline
        job = service.ses.get_import_job(JobId=job_id)
        assert ("CompletedTimestamp" in job) == (job["JobStatus"] == "COMPLETED")
        if job["JobStatus"] not in seen:
            seen.append(job["JobStatus"])
        time.sleep(0.03)
    assert seen == ["CREATED", "PROCESSING", "COMPLETED"]


def test_a_put_overrides_the_whole_record_consent_included(service: Service) -> None:
    service.run(people("ann", "bob"))
    service.control(unsubscribe=[{"EmailAddress": "ann@example.com"}])
    assert service.contact("ann")["UnsubscribeAll"] is True
    service.run("emailAddress\nann@example.com\n")
    ann = service.contact("ann")
    assert (ann["UnsubscribeAll"], ann["TopicPreferences"]) == (False, [])
    assert "AttributesData" not in ann
    assert ann["LastUpdatedTimestamp"] > ann["CreatedTimestamp"]


def test_a_choice_made_while_the_job_runs_is_overridden_too(service: Service) -> None:
    service.add("ann")
    service.control(import_seconds=2)
    job_id = service.create(service.put(people("ann")))
    service.control(unsubscribe=[{"EmailAddress": "ann@example.com"}])
    service.finish(job_id)
    assert service.contact("ann")["UnsubscribeAll"] is False


def test_a_delete_removes_contacts_and_fails_for_missing_ones(service: Service) -> None:
    service.run(people("ann", "bob"))
    job = service.run("emailAddress\nann@example.com\nzoe@example.com\n", action="DELETE")
    assert counts(job) == ("COMPLETED", 2, 1)
    assert service.addresses() == ["bob@example.com"]


def test_there_is_no_idempotency_token(service: Service) -> None:
    url = service.put(people("ann"))
    assert service.create(url) != service.create(url)


@pytest.mark.parametrize("statement", [None, {"action": "s3:ListBucket"}, {"service": "pinpoint.amazonaws.com"}])
def test_the_bucket_s_policy_must_allow_ses(service: Service, statement: dict[str, str] | None) -> None:
    if statement is None:
        service.s3.delete_bucket_policy(Bucket=BUCKET)
    else:
        service.s3.put_bucket_policy(Bucket=BUCKET, Policy=policy(**statement))
    job = service.run(people("ann"))
    assert counts(job) == ("FAILED", 0, 0)
    assert "ses.amazonaws.com" in job["FailureInfo"]["ErrorMessage"]
    assert service.addresses() == []


@pytest.mark.parametrize(
    ("operator", "key", "value", "status"),
    [
        ("StringEquals", "aws:SourceAccount", "123456789012", "COMPLETED"),
        ("StringEquals", "aws:SourceAccount", "999999999999", "FAILED"),
        ("ArnLike", "aws:SourceArn", "arn:aws:ses:*", "FAILED"),
        ("Bool", "aws:SecureTransport", "true", "FAILED"),
    ],
)
def test_the_policy_s_conditions_are_met_or_the_job_fails(
    service: Service, operator: str, key: str, value: str, status: str
) -> None:
    service.s3.put_bucket_policy(Bucket=BUCKET, Policy=policy(Condition={operator: {key: value}}))
    assert service.run(people("ann"))["JobStatus"] == status


def test_a_deny_wins(service: Service) -> None:
    both = json.loads(policy())
    both["Statement"].append(json.loads(policy(Effect="Deny", Principal="*"))["Statement"][0])
    service.s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(both))
    assert service.run(people("ann"))["JobStatus"] == "FAILED"


@pytest.mark.parametrize("url", ["s3://no-such-bucket/file.csv", f"s3://{BUCKET}/none.csv", f"s3://{BUCKET}/in/"])
def test_a_missing_object_or_a_folder_fails_the_job(service: Service, url: str) -> None:
    service.put(people("ann"))
    assert counts(service.finish(service.create(url))) == ("FAILED", 0, 0)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"\x1f\x8b\x08\x00",
        "email\nann@example.com\n",
        "EmailAddress\nann@example.com\n",
        "emailAddress,emailAddress\nann@example.com,ann@example.com\n",
        "emailAddress,FirstName\nann@example.com,Ann\n",
        '"emailAddress\nann@example.com\n',
    ],
)
def test_a_file_that_cannot_be_read_fails_the_job(service: Service, content: str | bytes) -> None:
    job = service.run(content)
    assert job["JobStatus"] == "FAILED"
    assert job["FailureInfo"]["ErrorMessage"].endswith(".")
    assert service.addresses() == []


@pytest.mark.parametrize(
    "row",
    [
        ",false,,",
        "not-an-address,false,,",
        "jürgen@example.com,false,,",
        "zoe@example,false,,",
        "zoe@example.com,TRUE,,",
        "zoe@example.com,0,,",
        "zoe@example.com,false,Ann,",
        'zoe@example.com,false,"[1]",',
        'zoe@example.com,false,{"FirstName": "Zoe", "LastName": "Last"},',
        'zoe@example.com,false,"{""FirstName"": ""Zoe"" },',
        "zoe@example.com,false,,SUBSCRIBED",
        "zoe@example.com,false",
        "",
    ],
)
def test_a_row_that_is_wrong_fails_alone(service: Service, row: str) -> None:
    job = service.run(people("ann") + row + "\n" + people("bob").removeprefix(HEADER))
    assert job["JobStatus"] == "COMPLETED"
    assert job["FailedRecordsCount"] == 1
    assert "ErrorMessage" not in job["FailureInfo"]
    assert service.addresses()[:1] == ["ann@example.com"]
    assert "zoe@example.com" not in service.addresses()
    assert [record["line"] for record in failed_records(job)] == [3]


def test_a_topic_that_the_list_lacks_fails_the_rows_that_name_it(service: Service) -> None:
    job = service.run("emailAddress,topicPreferences.Offers\nann@example.com,OPT_IN\nbob@example.com,\n")
    assert counts(job) == ("COMPLETED", 2, 1)
    assert service.addresses() == ["bob@example.com"]


def test_the_guide_s_own_example_is_taken(service: Service) -> None:
    file = HEADER + 'example1@amazon.com,false,{"Name": "John"},OPT_IN\nexample2@amazon.com,true,,OPT_OUT\n'
    assert counts(service.run(file)) == ("COMPLETED", 2, 0)
    assert service.addresses(Filter={"FilteredStatus": "OPT_OUT"}) == ["example2@amazon.com"]


def test_failed_records_are_fetched_by_their_signed_address_only(service: Service) -> None:
    job = service.run(HEADER + "zoe,false,,\n")
    assert failed_records(job)[0]["record"] == ["zoe", "false", "", ""]
    url = job["FailureInfo"]["FailedRecordsS3Url"]
    for wrong in (url.partition("?")[0], url[:-1] + "x"):
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(wrong, timeout=10)  # noqa: S310 - ours
        assert error.value.code == 403


def test_lines_of_json(service: Service) -> None:
    topics = [{"topicName": "News", "subscriptionStatus": "OPT_OUT"}]
    good = {"emailAddress": "ann@example.com", "attributesData": '{"Name": "Ann"}', "topicPreferences": topics}
    bad = [good | {"emailAddress": "b@example.com", "name": "x"}, {"unsubscribeAll": True}, [1]]
    lines = [json.dumps(item) for item in (good, *bad)]
    job = service.run("\n".join([*lines, "{", json.dumps(good, indent=1)]) + "\n", data_format="JSON")
    assert (job["JobStatus"], service.addresses()) == ("COMPLETED", ["ann@example.com"])
    assert job["ProcessedRecordsCount"] == job["FailedRecordsCount"] + 1
    assert service.contact("ann")["TopicPreferences"][0]["SubscriptionStatus"] == "OPT_OUT"


def test_a_job_takes_so_many_contacts_and_no_more(service: Service) -> None:
    assert service.control()["settings"]["max_contacts"] == 1_000_000
    service.control(max_contacts=2)
    assert counts(service.run(people("ann", "bob"))) == ("COMPLETED", 2, 0)
    job = service.run(people("cat", "dan", "eve"))
    assert counts(job) == ("FAILED", 0, 0)
    assert service.addresses() == ["ann@example.com", "bob@example.com"]


def test_a_second_row_of_an_address_overrides_the_first(service: Service) -> None:
    job = service.run(people("ann") + people("ANN", unsubscribed="true").removeprefix(HEADER))
    assert counts(job) == ("COMPLETED", 2, 0)
    assert (service.addresses(), service.contact("ann")["UnsubscribeAll"]) == (["ann@example.com"], True)


def test_addresses_may_be_kept_apart_by_case(service: Service) -> None:
    service.control(address_case="keep")
    service.run(people("ann", "ANN"))
    assert service.addresses() == ["ann@example.com", "ANN@example.com"]


def test_failed_records_may_not_count_as_processed(service: Service) -> None:
    service.control(processed_counts="succeeded")
    assert counts(service.run(people("ann") + "zoe,false,,\n")) == ("COMPLETED", 1, 1)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"name": "others"}, ("NotFoundException", 404)),
        ({"action": "MERGE"}, ("BadRequestException", 400)),
        ({"data_format": "XML"}, ("BadRequestException", 400)),
        ({"url": f"https://{BUCKET}/in/file.csv"}, ("BadRequestException", 400)),
        ({"url": f"s3://{BUCKET}"}, ("BadRequestException", 400)),
    ],
)
def test_a_create_is_held_against_the_model(service: Service, change: dict[str, str], error: tuple[str, int]) -> None:
    with pytest.raises(ClientError) as refused:
        service.create(**({"url": f"s3://{BUCKET}/in/file.csv"} | change))
    assert code_of(refused) == error
    assert service.state()["jobs"] == []


def test_the_suppression_list_is_not_emulated_and_says_so(service: Service) -> None:
    destination = {"SuppressionListDestination": {"SuppressionListImportAction": "PUT"}}
    source = {"S3Url": f"s3://{BUCKET}/in/file.csv", "DataFormat": "CSV"}
    with pytest.raises(ClientError, match="suppression list"):
        service.ses.create_import_job(ImportDestination=destination, ImportDataSource=source)


def test_an_unknown_job_is_not_found(service: Service) -> None:
    with pytest.raises(ClientError) as error:
        service.ses.get_import_job(JobId="0" * 32)
    assert code_of(error) == ("NotFoundException", 404)


def test_active_jobs_are_limited(service: Service) -> None:
    service.control(max_active_jobs=2, import_seconds=600)
    url = service.put(people("ann"))
    for _ in range(2):
        service.create(url)
    with pytest.raises(ClientError) as error:
        service.create(url)
    assert code_of(error) == ("LimitExceededException", 400)


def test_a_sandbox_has_no_import_jobs(service: Service) -> None:
    service.control(production_access=False)
    with pytest.raises(ClientError) as error:
        service.create(service.put(people("ann")))
    assert code_of(error) == ("BadRequestException", 400)
    with pytest.raises(ClientError):
        service.ses.list_import_jobs()


def test_jobs_are_listed_by_pages_newest_first(service: Service) -> None:
    made = [service.create(service.put(people("ann"), f"in/{n}.csv")) for n in range(12)]
    first = service.ses.list_import_jobs(ImportDestinationType="CONTACT_LIST")
    assert [job["JobId"] for job in first["ImportJobs"]] == made[:1:-1]
    assert first["ImportJobs"][0]["ImportDestination"]["ContactListDestination"]["ContactListName"] == LIST
    late = service.create(service.put(people("ann")))
    rest = service.ses.list_import_jobs(ImportDestinationType="CONTACT_LIST", NextToken=first["NextToken"])
    assert [job["JobId"] for job in rest["ImportJobs"]] == made[1::-1]
    assert "NextToken" not in rest
    assert service.ses.list_import_jobs(PageSize=1)["ImportJobs"][0]["JobId"] == late
    assert service.ses.list_import_jobs(ImportDestinationType="SUPPRESSION_LIST")["ImportJobs"] == []
    for wrong in ({"PageSize": 0}, {"PageSize": 101}, {"NextToken": "x"}, {"ImportDestinationType": "LIST"}):
        with pytest.raises(ClientError) as error:
            service.ses.list_import_jobs(**wrong)
        assert code_of(error) == ("BadRequestException", 400)


@pytest.mark.parametrize(("left", "addresses"), [("partial", ["ann@example.com"]), ("none", [])])
def test_a_job_that_fails_by_order_leaves_half_or_nothing(service: Service, left: str, addresses: list[str]) -> None:
    service.control(fail_next_jobs=1, failed_job_contacts=left)
    job = service.run(people("ann", "bob"))
    assert (job["JobStatus"], service.addresses()) == ("FAILED", addresses)
    assert counts(service.run(people("ann", "bob"))) == ("COMPLETED", 2, 0)
    assert service.addresses() == ["ann@example.com", "bob@example.com"]


def test_a_list_deleted_during_the_job_fails_it(service: Service) -> None:
    service.control(import_seconds=2)
    job_id = service.create(service.put(people("ann")))
    service.ses.delete_contact_list(ContactListName=LIST)
    try:
        assert service.finish(job_id)["JobStatus"] == "FAILED"
    finally:
        service.ses.create_contact_list(
            ContactListName=LIST,
            Topics=[{"TopicName": "News", "DisplayName": "News", "DefaultSubscriptionStatus": "OPT_IN"}],
        )
