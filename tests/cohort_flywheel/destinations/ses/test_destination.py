"""What SES needs is refused with a sentence before anything is touched; and the real DAG ends with an import."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cohort_flywheel.destinations import get_destination
from cohort_flywheel.destinations.ses.destination import DESTINATION
from cohort_flywheel.destinations.ses.import_bucket_store import check_bucket_policy
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.plan import Plan
from local.config import CONTACT_LIST, TOPIC
from tests.cohort_flywheel.dag_simulator import TODAY, DagSimulator
from tests.cohort_flywheel.destinations.ses.ses_account import Account
from tests.cohort_flywheel.plans import plan_output


@pytest.fixture
def account(airflow_env: Any, servers: Any, fresh_config: Any) -> Any:
    made = Account(servers, fresh_config)
    yield made
    made.control(reset=True)


@pytest.fixture
def check(account: Account) -> Callable[..., None]:
    """Checks the seeded settings, or others."""

    def run(**settings: str) -> None:
        right = {
            "ses_contact_list": CONTACT_LIST,
            "ses_topic": TOPIC,
            "import_bucket": account.config.import_bucket,
        }
        DESTINATION.check(right | settings, "aws_default")

    return run


def test_the_destination_is_registered() -> None:
    assert get_destination("ses") is DESTINATION
    assert list(DESTINATION.settings.model_fields) == ["ses_contact_list", "ses_topic"]


def test_an_erasure_deletes_the_contact_unless_it_has_unsubscribed(account: Account) -> None:
    settings = {"ses_contact_list": CONTACT_LIST, "ses_topic": TOPIC}
    account.add("ann@example.com", "bob@example.com", "cyd@example.com", "dan@example.com")
    account.unsubscribe("bob@example.com")
    account.unsubscribe("cyd@example.com", TopicName=TOPIC)
    its = {("ann", f"{name}@example.com") for name in ("ann", "bob", "cyd", "unknown")}
    dry = DESTINATION.erase(settings, ["ann"], its, True, "aws_default")
    assert [(line.what, line.number, bool(line.why)) for line in dry] == [("contact", 1, False), ("contact", 2, True)]
    assert len(account.contacts) == 4
    assert DESTINATION.erase(settings, ["ann"], its, False, "aws_default") == dry
    assert account.contacts.keys() == {"bob@example.com", "cyd@example.com", "dan@example.com"}


def test_an_erasure_reports_players_without_a_known_address(account: Account) -> None:
    """A contact has no playerId: it can only be found by its address."""
    settings = {"ses_contact_list": CONTACT_LIST, "ses_topic": TOPIC}
    account.add("ann@example.com", "bob@example.com")
    found = DESTINATION.erase(
        settings, ["ann", "bob", "cyd"], {("ann", "ann@example.com"), ("", "x@y.z")}, False, "aws_default"
    )
    assert [(line.what, line.number, line.why) for line in found] == [
        ("contact", 1, ""),
        ("contact, if any", 2, "no record and no file has the address: look in SES"),
    ]
    assert account.contacts.keys() == {"bob@example.com"}


def test_the_seeded_resources_pass_the_check(check: Any) -> None:
    check()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"ses_contact_list": "others"}, "contact list others does not exist in SES: create it"),
        ({"ses_topic": "News"}, "contact list players has no topic News"),
    ],
)
def test_a_list_or_a_topic_that_is_not_there(check: Any, settings: dict[str, str], sentence: str) -> None:
    with pytest.raises(FlywheelError, match=sentence):
        check(**settings)


@pytest.mark.parametrize(
    ("control", "sentence"),
    [
        ({"production_access": False}, "the SES account is in the sandbox.*ask for production access"),
        ({"sending_enabled": False}, "the sending of the SES account is paused.*put-account-sending-attributes"),
    ],
)
def test_an_account_that_may_not_send(check: Any, account: Account, control: dict[str, bool], sentence: str) -> None:
    account.control(**control)
    with pytest.raises(FlywheelError, match=sentence):
        check()


@pytest.mark.parametrize("operation", ["GetAccount", "GetContactList"])
def test_a_right_that_is_missing(check: Any, account: Account, operation: str) -> None:
    account.control(refuse={"code": "AccessDeniedException", "status": 403, "operations": [operation]})
    with pytest.raises(FlywheelError, match=rf"SES is refused \(AccessDeniedException\): grant .* ses:{operation}"):
        check()


STATEMENT = {
    "Effect": "Allow",
    "Principal": {"Service": "ses.amazonaws.com"},
    "Action": "s3:GetObject",
    "Resource": "arn:aws:s3:::BUCKET/*",
}


def put_policy(account: Account, *statements: dict[str, Any]) -> None:
    bucket = account.config.import_bucket
    policy = json.dumps({"Version": "2012-10-17", "Statement": list(statements)}).replace("BUCKET", bucket)
    account.s3.put_bucket_policy(Bucket=bucket, Policy=policy)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"Resource": ["arn:aws:s3:::other/*", "arn:aws:s3:::BUCKET/contacts/*"]},
        {"Resource": "arn:aws-cn:s3:::BUCKET/*"},
        {"Action": ["s3:ListBucket", "s3:get*"]},
        {"Action": "s3:*"},
        {"Principal": {"Service": ["pinpoint.amazonaws.com", "ses.amazonaws.com"]}},
        {"Principal": "*"},
    ],
)
def test_a_bucket_policy_that_allows_ses(check: Any, account: Account, change: dict[str, Any]) -> None:
    put_policy(account, STATEMENT | {"Effect": "Deny", "Action": "s3:Put*"}, STATEMENT | change)
    check()


@pytest.mark.parametrize(
    "change",
    [
        {"Effect": "Deny"},
        {"Resource": "arn:aws:s3:::BUCKET"},
        {"Resource": "arn:aws:s3:::BUCKET/segments/*"},
        {"Action": "s3:PutObject"},
        {"Principal": {"Service": "pinpoint.amazonaws.com"}},
        {"Principal": {"AWS": "arn:aws:iam::123456789012:root"}},
    ],
)
def test_a_bucket_policy_that_does_not(check: Any, account: Account, change: dict[str, Any]) -> None:
    put_policy(account, STATEMENT | change)
    with pytest.raises(FlywheelError, match=r"does not allow ses.amazonaws.com to read: .*/contacts/\*"):
        check()


def test_a_bucket_without_a_policy(check: Any, account: Account) -> None:
    account.s3.delete_bucket_policy(Bucket=account.config.import_bucket)
    with pytest.raises(FlywheelError, match="does not allow ses.amazonaws.com"):
        check()


class _S3(S3Hook):
    """Answers GetBucketPolicy with an error, which moto never does."""

    def __init__(self, code: str) -> None:
        self.code = code

    def get_conn(self) -> Any:
        return self

    def get_bucket_policy(self, Bucket: str) -> Any:  # noqa: N803 - boto3's name
        raise ClientError({"Error": {"Code": self.code}}, "GetBucketPolicy")


def test_a_policy_that_may_not_be_read_is_only_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    check_bucket_policy(_S3("AccessDenied"), "imports")
    assert "GetBucketPolicy is refused: whether SES may read bucket imports is not checked" in caplog.text
    with pytest.raises(ClientError):
        check_bucket_policy(_S3("InternalError"), "imports")


def test_an_empty_segment_needs_no_handling(airflow_env: Any) -> None:
    assert not DESTINATION.handle_empty_segment(Plan.model_validate(plan_output()), {})


# --- end to end ------------------------------------------------------------------------------------------


@pytest.fixture
def daily(
    account: Account, servers: Any, seeded: Any, config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> DagSimulator:
    """The real DAG with the destination SES, on the sample's graph and contacts."""
    account.control(import_seconds=1)
    ours = dataclasses.replace(account.config, contacts_table=config.contacts_table)
    return DagSimulator("ses", servers, ours, seeded, tmp_path, monkeypatch)


def test_the_real_dag_adds_the_cohort_to_the_list(daily: DagSimulator, account: Account) -> None:
    report = daily.simulate(TODAY)
    assert (report["outcome"], report["faults"]) == ("imported", [])
    assert report["segment"]["rows"] == report["imported"]["segment_size"] == len(account.contacts) == 3
    assert report["imported"]["segment_id"] == report["segment"]["url"]
    assert report["imported"]["new_contacts"] == 3
    assert len(report["imported"]["job_ids"]) == len(account.jobs) == 1
    someone = next(iter(account.contacts))
    account.unsubscribe(someone)
    account.control(import_seconds=0)

    milder = daily.simulate(TODAY, threshold=1)
    rows = milder["segment"]["rows"]
    assert (milder["outcome"], milder["imported"]["segment_size"], len(account.contacts)) == ("imported", rows, rows)
    assert rows > 3
    assert (milder["imported"]["already_on_list"], milder["imported"]["unsubscribed"]) == (3, 1)
    assert account.contacts[someone] is True

    # the segment file is the record: who is mailed, with what, in which order
    (part,) = milder["segment"]["parts"]
    bucket = account.config.import_bucket
    file = account.s3.get_object(Bucket=bucket, Key=part["s3_key"])["Body"].read().decode().splitlines()
    assert file[0] == "emailAddress,playerId,FirstName,LastName,FavoriteRole"
    assert {line.partition(",")[0] for line in file[1:]} == set(account.contacts)
    for line in file[1:]:
        assert line.partition(",")[0] not in daily.log


def test_an_empty_cohort_does_not_change_the_list(daily: DagSimulator, account: Account) -> None:
    report = daily.simulate(TODAY, threshold=90)
    assert (report["outcome"], report["imported"], account.jobs) == ("empty cohort", None, [])
    assert {t for t, state in report["tasks"].items() if state == "skipped"} >= {"create_import_job", "verify_segment"}


def test_a_past_day_imports_nothing(daily: DagSimulator, account: Account) -> None:
    report = daily.simulate(TODAY, logical_date=datetime(2026, 10, 2, 5, tzinfo=UTC), source="live")
    assert (report["plan"]["as_of"], report["segment"]["rows"]) == ("2026-10-02T00:00:00+00:00", 3)
    assert (report["outcome"], report["imported"], report["faults"]) == ("not imported", None, [])
    skipped = {task for task, state in report["tasks"].items() if state == "skipped"}
    assert skipped >= {"create_import_job", "wait_for_import_job", "verify_segment", "record_result"}
    assert skipped >= {"prepare_campaign", "approve_campaign", "launch_campaign"}
    assert "Skipping import for ea_atrisk_2_2026-10-02_00-00-00_live: its source is not" in daily.log
    assert (account.jobs, account.contacts) == ([], {})
    claims = account.s3.list_objects_v2(Bucket=account.config.state_bucket, Prefix="claims/")
    assert "Contents" not in claims, "the lock is released"


def test_the_plan_refuses_before_anything_is_changed(daily: DagSimulator, account: Account) -> None:
    account.control(production_access=False)
    report = daily.simulate(TODAY)
    assert (report["outcome"], report["tasks"]["plan"]) == ("failed", "failed")
    assert "the SES account is in the sandbox" in report["errors"]["plan"]
    assert set(account.control()["calls"]) <= {"GetAccount", "ListContactLists"}
    for bucket in (account.config.export_bucket, account.config.import_bucket):
        assert "Contents" not in account.s3.list_objects_v2(Bucket=bucket)
