"""The faults that a test can order from the emulated SES, its reset, and what it shares with moto's server."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from tests.local.pinpoint_service import code_of, process
from tests.local.sesv2_service import BUCKET, LIST, SENDER, Service, people


@pytest.fixture(scope="module")
def server() -> Iterator[Service]:
    with process("--import-seconds", "0") as (_, url):
        yield Service(url)


@pytest.fixture
def service(server: Service) -> Service:
    server.fresh()
    return server


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("TooManyRequestsException", 429),
        ("InternalServiceErrorException", 500),
        ("AccountSuspendedException", 400),
        ("LimitExceededException", 400),
        ("MailFromDomainNotVerifiedException", 400),
    ],
)
def test_a_refusal_is_for_its_operations_and_times(service: Service, code: str, status: int) -> None:
    service.template()
    service.control(refuse={"code": code, "status": status, "operations": ["SendEmail"], "times": 2, "after": 1})
    service.ses.get_account()
    service.send("ann")
    for _ in range(2):
        with pytest.raises(ClientError) as error:
            service.send("ann")
        assert code_of(error) == (code, status)
    service.send("ann")
    assert len(service.mails) == 2
    assert service.control()["calls"]["SendEmail"] == 4


def test_a_refusal_of_everything_lasts_until_it_is_lifted(service: Service) -> None:
    service.control(refuse={"code": "TooManyRequestsException", "status": 429})
    for _ in range(3):
        with pytest.raises(ClientError):
            service.ses.get_account()
    assert service.s3.list_buckets()["Buckets"], "Only SES refuses."
    service.control(refuse=None)
    service.ses.get_account()


@pytest.mark.parametrize("lose_by", ["drop", "error"])
def test_an_answer_is_lost_after_its_effect(service: Service, lose_by: str) -> None:
    service.template()
    service.control(lose_next_answers=2, lose_by=lose_by)
    with pytest.raises((ClientError, ConnectionClosedError)):
        service.send("ann")
    with pytest.raises((ClientError, ConnectionClosedError)):
        service.create(service.put(people("bob")))
    assert [mail["delivered"] for mail in service.mails] == [["ann@example.com"]]
    assert len(service.state()["jobs"]) == 1
    service.send("ann")


def test_the_answer_of_a_later_send_is_lost(service: Service) -> None:
    service.template()
    service.control(lose_next_answers=1, lose_after=2)
    service.send("ann")
    service.ses.get_account()
    service.send("bob")
    with pytest.raises(ConnectionClosedError):
        service.send("cat")
    assert len(service.mails) == 3


def test_any_operation_s_answer_may_be_lost(service: Service) -> None:
    service.control(lose_next_answers=1, lose_operations=["CreateEmailTemplate"])
    with pytest.raises(ConnectionClosedError):
        service.template()
    with pytest.raises(ClientError) as error:
        service.template()
    assert code_of(error) == ("AlreadyExistsException", 400)


@pytest.mark.parametrize("lose_by", ["drop", "error"])
def test_a_client_that_retries_by_itself_mails_twice(service: Service, lose_by: str) -> None:
    """botocore's own retries repeat a send whose answer was lost: nothing in the API keeps them apart."""
    service.control(lose_next_answers=1, lose_by=lose_by)
    retrying = service.client("sesv2", attempts=3)
    content = {"Simple": {"Subject": {"Data": "Hi"}, "Body": {"Text": {"Data": "Hi"}}}}
    retrying.send_email(FromEmailAddress=SENDER, Destination={"ToAddresses": ["ann@example.com"]}, Content=content)
    assert [mail["to"] for mail in service.mails] == [["ann@example.com"]] * 2


def test_a_refused_send_that_is_not_sent_adds_no_contact(service: Service) -> None:
    service.template()
    service.control(refuse={"code": "TooManyRequestsException", "status": 429, "operations": ["SendEmail"]})
    with pytest.raises(ClientError):
        service.send("ann")
    assert (service.mails, service.addresses()) == ([], [])


@pytest.mark.parametrize(
    "body",
    [
        '{"import_secs": 1}',
        '{"unsubscribed_answer": "silence"}',
        '{"fail_next_jobs": -1}',
        '{"import_seconds": "4"}',
        '{"production_access": 1}',
        '{"lose_operations": "SendEmail"}',
        '{"refuse": {"code": "MessageRejected"}}',
        '{"refuse": {"code": "MessageRejected", "status": 200}}',
        '{"refuse": {"code": "MessageRejected", "status": 400, "after": -1}}',
        '{"verify": ["unknown@example.com"]}',
        '{"unsubscribe": [{"EmailAddress": "unknown@example.com"}]}',
        '{"unsubscribe": [{"TopicName": "News"}]}',
        "[]",
        "{",
    ],
)
def test_a_wrong_change_is_an_error_and_changes_nothing(service: Service, body: str) -> None:
    before = service.control()
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"{service.url}/cohort-flywheel/sesv2", body.encode(), timeout=10)  # noqa: S310 - ours
    assert error.value.code == 400
    assert error.value.read().endswith(b'."]}')
    assert service.control() == before


def test_a_topic_that_the_list_lacks_cannot_be_unsubscribed(service: Service) -> None:
    service.add("ann")
    with pytest.raises(urllib.error.HTTPError):
        service.control(unsubscribe=[{"EmailAddress": "ann@example.com", "TopicName": "Offers"}])
    assert service.contact("ann")["TopicPreferences"] == []


def test_imports_take_the_configured_time(service: Service) -> None:
    service.control(import_seconds=None)
    assert service.run(people("ann"))["JobStatus"] == "COMPLETED"
    service.control(import_seconds=600)
    job = service.ses.get_import_job(JobId=service.create(service.put(people("bob"))))
    assert job["JobStatus"] == "CREATED"


def test_reset_keeps_lists_and_identities_and_moto_s_reset_does_not(service: Service) -> None:
    service.template()
    service.run(people("ann"))
    service.send("ann")
    service.control(reset=True)
    state = service.state()
    assert (state["jobs"], state["mails"], state["templates"], state["lists"][0]["Contacts"]) == ([], [], {}, [])
    assert state["identities"] == {SENDER: True}
    service.control(processed_counts="succeeded")
    urllib.request.urlopen(f"{service.url}/moto-api/reset", b"", timeout=10).close()  # noqa: S310 - ours
    found = service.control()
    assert found["settings"]["processed_counts"] == "all"
    assert [account for account in found["accounts"] if account["lists"] or account["identities"]] == []
    service.seed()


def test_a_job_that_a_reset_forgets_writes_nothing(service: Service) -> None:
    service.control(import_seconds=0.4)
    service.create(service.put(people("ann")))
    service.control(reset=True)
    service.control(import_seconds=0.8)
    service.finish(service.create(service.put("emailAddress\nbob@example.com\n", "in/other.csv")))
    assert service.addresses() == ["bob@example.com"]


def test_the_other_operations_of_moto_s_ses_are_there(service: Service) -> None:
    """This extends moto's service: other operations are moto's own."""
    service.ses.create_dedicated_ip_pool(PoolName="pool", ScalingMode="STANDARD")
    assert service.ses.list_dedicated_ip_pools()["DedicatedIpPools"] == ["pool"]
    service.template()
    service.send("ann")
    quota = service.client("ses").get_send_quota()
    assert quota["SentLast24Hours"] >= 1
    assert service.s3.get_bucket_policy(Bucket=BUCKET)["Policy"]
    arn = f"arn:aws:ses:us-east-1:123456789012:contact-list/{LIST}"
    assert json.dumps(service.ses.list_tags_for_resource(ResourceArn=arn)["Tags"]) == "[]"
