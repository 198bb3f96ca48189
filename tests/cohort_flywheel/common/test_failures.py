"""The last line of a failed task."""

from __future__ import annotations

import logging
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException, AirflowTaskTimeout
from boto3.exceptions import RetriesExceededError, S3UploadFailedError
from botocore import exceptions as errors
from botocore.exceptions import ClientError, EndpointConnectionError

from cohort_flywheel.common.duckdb import connect, hide_values
from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.errors import Code, FlywheelError


def client_error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "wayne96@example.com"}}, "PutObject")


def test_the_error_lists_the_changes_and_whether_clearing_is_safe() -> None:
    with pytest.raises(AirflowFailException) as raised, describe_failure("Clearing is safe.") as side_effects:
        side_effects.append("a file was put")
        raise FlywheelError("the name is wrong: correct it", Code.PARAM)
    said = "CF-PLAN-03: the name is wrong: correct it. Changes made: a file was put. Clearing is safe."
    assert str(raised.value) == said


def test_the_error_says_if_nothing_was_changed() -> None:
    with pytest.raises(AirflowFailException, match="Changes made: none"), describe_failure("Clearing is safe."):
        raise FlywheelError("no", Code.PARAM)


KMS_DENIED = (
    "User: arn:aws:sts::123456789012:assumed-role/r/wayne96 is not authorized to perform: kms:GenerateDataKey on"
    " resource: arn:aws:kms:eu-west-1:123456789012:key/k because no identity-based policy allows it"
)
BUCKET_DENIES = (
    "User: arn:aws:sts::123456789012:assumed-role/r/wayne96 is not authorized to perform: s3:PutObject on resource:"
    ' "arn:aws:s3:::b/wayne96" with an explicit deny in a resource-based policy'
)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("ExpiredToken", "the temporary credentials have expired: renew those"),
        ("ExpiredTokenException", "the temporary credentials have expired: renew those"),
        ("InvalidToken", "AWS does not know these credentials"),
        ("InvalidAccessKeyId", "AWS does not know these credentials"),
        ("InvalidClientTokenId", "AWS does not know these credentials"),
        ("UnrecognizedClientException", "AWS does not know these credentials"),
        ("SignatureDoesNotMatch", "correct the secret access key"),
        ("InvalidSignatureException", "correct the secret access key"),
        ("KMS.DisabledException", "the KMS key is disabled: enable it"),
        ("KMS.NotFoundException", "the KMS key does not exist: correct cohort_flywheel_s3_kms_key_id"),
        ("KMS.KMSInvalidStateException", "the state of the KMS key does not allow its use"),
        ("KMSInvalidStateException", "the state of the KMS key does not allow its use"),
        ("KMS.InvalidKeyUsageException", "name a symmetric encryption key"),
        ("KMS.AccessDeniedException", "grant the execution role kms:GenerateDataKey or kms:Decrypt on the KMS key"),
        ("InvalidObjectState", "the object is archived and cannot be read: restore it"),
        ("PermanentRedirect", "the bucket is in another region"),
        ("IllegalLocationConstraintException", "the bucket is in another region"),
        ("NoSuchBucket", "the bucket does not exist: correct the Variable"),
        ("NoSuchKey", "the object does not exist: put it there"),
        ("OptInRequired", "the AWS account may not use this"),
        ("AccessDenied", "right to call PutObject there; where the bucket's policy demands an encryption header"),
    ],
)
def test_a_cause_has_its_own_sentence_and_is_not_retried(code: str, sentence: str) -> None:
    with pytest.raises(AirflowFailException, match=sentence) as raised, describe_failure(""):
        raise client_error(code)
    assert "wayne96" not in str(raised.value)


@pytest.mark.parametrize(
    ("code", "message", "sentence"),
    [
        ("AccessDenied", KMS_DENIED, "grant the execution role kms:GenerateDataKey on the KMS key"),
        ("AccessDenied", BUCKET_DENIES, "a resource-based policy denies it explicitly.* set cohort_flywheel_s3_encr"),
        ("AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong; expecting 'eu-west-1'", "another region"),
        ("AuthorizationHeaderMalformed", "a non-empty Access Key must be provided", "does not know these credentials"),
    ],
)
def test_the_message_distinguishes_causes_and_is_not_repeated(code: str, message: str, sentence: str) -> None:
    error = ClientError({"Error": {"Code": code, "Message": message}}, "PutObject")
    with pytest.raises(AirflowFailException, match=sentence) as raised, describe_failure(""):
        raise error
    assert "wayne96" not in str(raised.value)


def test_a_denied_read_does_not_mention_the_encryption_header() -> None:
    error = ClientError({"Error": {"Code": "AccessDenied", "Message": "Access Denied"}}, "GetObject")
    with pytest.raises(AirflowFailException, match="the right to call GetObject there") as raised, describe_failure(""):
        raise error
    assert "encryption" not in str(raised.value)


@pytest.mark.parametrize("code", ["RequestTimeTooSkewed", "KMS.KeyUnavailableException", "KMS.ThrottlingException",
                                  "SlowDown", "ServiceQuotaExceededException", "InternalError"])  # fmt: skip
def test_a_cause_that_may_pass_is_retried(code: str) -> None:
    with pytest.raises(AirflowException) as raised, describe_failure(""):
        raise client_error(code)
    assert not isinstance(raised.value, AirflowFailException)


SENT_TO = "https://bucket.s3.eu-west-1.amazonaws.com/wayne96"


@pytest.mark.parametrize(
    ("error", "sentence", "retried"),
    [
        (errors.NoCredentialsError(), "no AWS credentials were found", False),
        (errors.PartialCredentialsError(provider="env", cred_var="x"), "are not complete", False),
        (errors.CredentialRetrievalError(provider="x", error_msg="wayne96"), "could not be fetched", True),
        (errors.UnauthorizedSSOTokenError(), "log in again", False),
        (errors.ProfileNotFound(profile="wayne96"), "configuration of the worker cannot be used", False),
        (errors.NoRegionError(), "no AWS region is set: write region_name", False),
        (errors.InvalidRegionError(region_name="eu_west"), "the AWS region 'eu_west' cannot be used", False),
        (errors.ParamValidationError(report='Invalid bucket name "s3://name": Bucket name must match'),
         "for the bucket name 's3://name'", False),
        (errors.ParamValidationError(report="Invalid type for parameter Destination.ToAddresses, value: wayne96"),
         "for Destination.ToAddresses: correct", False),
        (errors.EndpointConnectionError(endpoint_url=SENT_TO),
         "bucket.s3.eu-west-1.amazonaws.com cannot be connected to", True),
        (errors.ConnectTimeoutError(endpoint_url=SENT_TO), "amazonaws.com cannot be connected to", True),
        (errors.ReadTimeoutError(endpoint_url=SENT_TO), "amazonaws.com did not answer in time", True),
        (errors.SSLError(endpoint_url=SENT_TO, error="x"), "the certificate of bucket.s3", True),
        (errors.ProxyConnectionError(proxy_url="http://wayne96:pw@proxy"), "the proxy of the worker", True),
        (errors.ConnectionClosedError(endpoint_url=SENT_TO), "broke off", True),
        (errors.ResponseStreamingError(error="wayne96"), "broke off", True),
        (RetriesExceededError(errors.ReadTimeoutError(endpoint_url=SENT_TO)), "did not answer in time", True),
        (errors.WaiterError(name="wayne96", reason="x", last_response={}), "reached or asked .WaiterError", True),
    ],
)  # fmt: skip
def test_each_error_of_the_sdk_has_its_own_sentence(error: Exception, sentence: str, retried: bool) -> None:
    with pytest.raises(AirflowException, match=sentence) as raised, describe_failure(""):
        raise error
    assert isinstance(raised.value, AirflowFailException) is not retried
    assert "wayne96" not in str(raised.value)


def test_a_failed_upload_has_the_error_of_s3() -> None:
    def upload() -> None:
        try:
            raise client_error("NoSuchBucket")
        except ClientError as error:
            raise S3UploadFailedError(f"Failed to upload: {error}")  # noqa: B904 - as boto3 raises it

    with pytest.raises(AirflowFailException, match="AWS answered PutObject with NoSuchBucket"), describe_failure(""):
        upload()


@pytest.mark.parametrize("code", ["AccessDenied", "NoSuchBucket", "ForbiddenException", "ResourceNotFoundException"])
def test_no_retry_where_it_cannot_help(code: str) -> None:
    with pytest.raises(AirflowFailException, match=f"PutObject with {code}"), describe_failure(""):
        raise client_error(code)


@pytest.mark.parametrize("error", [client_error("SlowDown"), EndpointConnectionError(endpoint_url="http://x")])
def test_retry_where_it_can_help(error: Exception) -> None:
    with pytest.raises(AirflowException) as raised, describe_failure(""):
        raise error
    assert not isinstance(raised.value, AirflowFailException)


def test_the_text_of_an_unexpected_error_is_withheld(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(AirflowException) as raised, describe_failure(""):
        dict[str, int]()["wayne96"]
    assert "KeyError" in str(raised.value)
    assert "test_failures.py" in caplog.text  # the traceback is logged
    assert "wayne96" not in str(raised.value)
    assert raised.value.__suppress_context__
    assert "KeyError: " not in caplog.text


def fill_a_disk() -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as file:
        file.write("wayne96" * 100_000)


def fill_a_database() -> None:
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("PRAGMA max_page_count = 2")
        database.execute("CREATE TABLE player (id TEXT)")
        database.executemany("INSERT INTO player VALUES (?)", [("wayne96" * 1_000,)] * 10)


def fill_the_memory() -> None:
    bytes(2**62)


@pytest.mark.parametrize("fill", [fill_a_disk, fill_a_database, fill_the_memory])
def test_a_full_worker_is_not_reported_as_a_bug_and_the_task_is_retried(fill: Callable[[], None]) -> None:
    sentence = r"^CF-TASK-04: the worker has no disk or memory left \("
    with pytest.raises(AirflowException, match=sentence) as raised, describe_failure("Clearing is safe."):
        fill()
    assert not isinstance(raised.value, AirflowFailException)
    assert "wayne96" not in str(raised.value)


def test_an_error_of_the_module_sqlite3_is_reported_as_a_bug() -> None:
    """It has no code of SQLite."""
    with pytest.raises(AirflowException, match=r"^CF-BUG-01: ") as raised, describe_failure("Clearing is safe."):
        sqlite3.connect(":memory:").execute("SELECT ?, 'wayne96'", ())
    assert "wayne96" not in str(raised.value)


def test_the_message_of_aws_is_withheld() -> None:
    with pytest.raises(AirflowException) as raised, describe_failure(""):
        raise client_error("SlowDown")
    assert "wayne96" not in str(raised.value)


def test_a_skip_is_raised_unchanged() -> None:
    with pytest.raises(AirflowSkipException), describe_failure(""):
        raise AirflowSkipException


def test_a_task_that_takes_too_long_has_its_last_line_too() -> None:
    line = "execution_timeout.*Changes made: a file was put. Clearing is safe."
    with pytest.raises(AirflowTaskTimeout, match=line), describe_failure("Clearing is safe.") as side_effects:
        side_effects.append("a file was put")
        raise AirflowTaskTimeout


def test_a_query_that_the_time_out_stops_is_a_time_out(tmp_path: Path) -> None:
    """DuckDB raises an error of its own in place of the handler's."""
    query = "SELECT count(*) FROM range(1000000000) AS a, range(1000) AS b WHERE (a.range + b.range) % 7 = 3"

    def time_out(*_: object) -> None:
        raise AirflowTaskTimeout

    before = signal.signal(signal.SIGALRM, time_out)
    try:
        with (
            pytest.raises(AirflowTaskTimeout, match="^CF-TASK-01: .*execution_timeout.* Clearing is safe"),
            describe_failure("Clearing is safe."),
            connect(tmp_path) as sql,
            hide_values("count"),
        ):
            signal.setitimer(signal.ITIMER_REAL, 0.5)
            sql.execute(query)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_another_runtime_error_is_no_time_out() -> None:
    with pytest.raises(AirflowException, match="^CF-BUG-01: unexpected RuntimeError"), describe_failure(""):
        raise RuntimeError("wayne96")
