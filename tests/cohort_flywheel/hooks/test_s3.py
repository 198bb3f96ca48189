"""Writes to S3: their encryption, and conditional puts that meet another request."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError
from botocore.httpsession import URLLib3Session

from cohort_flywheel.campaign.send_ledger import Header
from cohort_flywheel.campaign.send_ledger_store import put_ledger
from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.destinations.ses.campaign.send_outcomes import Outcome
from cohort_flywheel.destinations.ses.campaign.sends_store import Batches
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.hooks import s3 as hook_module
from cohort_flywheel.hooks.s3 import (
    S3Hook,
    copy_unless_equal,
    delete_if,
    get_json,
    keys,
    put_instead,
    put_json,
    put_unless_equal,
    versions,
)
from cohort_flywheel.runs.names import snapshot_key
from cohort_flywheel.runs.result import RunIds
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.segment_file import digest
from cohort_flywheel.segment.snapshot import Header as SnapshotHeader
from local.config import ROOT, Config
from tests.cohort_flywheel.segment.snapshots import keep_snapshot

PACKAGE = ROOT / "plugins" / "cohort_flywheel"
KEY_ID = "12345678-90ab-cdef-1234-567890abcdef"
KEY_ARN = f"arn:aws:kms:eu-west-1:123456789012:key/{KEY_ID}"
ENCRYPTION, KMS_KEY = "AIRFLOW_VAR_COHORT_FLYWHEEL_S3_ENCRYPTION", "AIRFLOW_VAR_COHORT_FLYWHEEL_S3_KMS_KEY_ID"


# --- the encryption of writes


def no_header(operator: str, **names: Any) -> dict[str, Any]:
    return {operator: {f"s3:{name.replace('_', '-')}": value for name, value in names.items()}}


#: Policies of AWS's documentation and of its Security Blog.
DENIES = {
    "null": no_header("Null", x_amz_server_side_encryption="true"),
    "another algorithm": no_header("StringNotEquals", x_amz_server_side_encryption="aws:kms"),
    "another key": no_header("StringNotEquals", x_amz_server_side_encryption_aws_kms_key_id=KEY_ARN),
}


@pytest.fixture
def demand(aws: Any, fresh_config: Config) -> Callable[[str], str]:
    """Gives the state bucket a policy that demands an encryption header; returns its name."""

    def put(name: str) -> str:
        bucket = fresh_config.state_bucket
        denied = {
            "Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{bucket}/*",
            "Condition": DENIES[name],
        }  # fmt: skip
        aws("s3").put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [denied]}))
        return bucket

    return put


def put_in_parts(s3: S3Hook, bucket: str, folder: Path) -> str:
    path = folder / "large"
    path.write_bytes(b"x" * (9 * 1024 * 1024))  # above boto3's multipart_threshold
    put_unless_equal(s3, path, bucket, "large", digest(path))
    assert s3.get_conn().head_object(Bucket=bucket, Key="large")["ETag"].endswith('-2"')
    return "large"


def put_by_the_provider(s3: S3Hook, bucket: str, folder: Path) -> str:
    s3.load_string("x", "string", bucket, replace=True)
    return "string"


def put_small(s3: S3Hook, bucket: str, folder: Path) -> str:
    assert put_json(s3, bucket, "small", {"a": 1}, IfNoneMatch="*")
    return "small"


WRITES = [put_small, put_in_parts, put_by_the_provider]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("policy", DENIES)
def test_a_bucket_that_demands_a_header_takes_each_write_that_has_it(
    airflow_env: Any, demand: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, policy: str, write: Any
) -> None:
    bucket = demand(policy)
    with pytest.raises(ClientError, match="AccessDenied"):
        write(S3Hook(), bucket, tmp_path)
    monkeypatch.setenv(ENCRYPTION, "aws:kms")
    monkeypatch.setenv(KMS_KEY, KEY_ARN)
    s3 = S3Hook()
    found = s3.get_conn().head_object(Bucket=bucket, Key=write(s3, bucket, tmp_path))
    assert (found["ServerSideEncryption"], found["SSEKMSKeyId"]) == ("aws:kms", KEY_ARN)


def test_a_copy_and_a_replaced_version_have_the_header_too(
    airflow_env: Any, demand: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bucket, path = demand("another algorithm"), tmp_path / "file"
    path.write_bytes(b"a")
    monkeypatch.setenv(ENCRYPTION, "aws:kms")
    s3 = S3Hook()
    put_unless_equal(s3, path, bucket, "a", digest(path))
    copy_unless_equal(s3, (bucket, "a"), (bucket, "b"), digest(path))
    [version] = versions(s3, bucket, "b")
    path.write_bytes(b"b")
    put_instead(s3, version, path, {"read": "0"})
    [new] = versions(s3, bucket, "b")
    for key in ("a", "b"):
        assert s3.get_conn().head_object(Bucket=bucket, Key=key)["ServerSideEncryption"] == "aws:kms"
    found = s3.get_conn().get_object(Bucket=bucket, Key="b", VersionId=new.id)
    assert (found["Body"].read(), found["Metadata"]) == (b"b", {"read": "0", "sha256": digest(path)})
    monkeypatch.delenv(ENCRYPTION)
    sha256 = s3.get_conn().head_object(Bucket=bucket, Key="a")["Metadata"]["sha256"]
    with pytest.raises(ClientError, match="AccessDenied.*CopyObject"):
        copy_unless_equal(S3Hook(), (bucket, "a"), (bucket, "c"), sha256)


def test_a_copy_of_an_upload_of_several_parts_can_be_read(
    airflow_env: Any, fresh_config: Config, tmp_path: Path
) -> None:
    """Its checksum is one of the parts' checksums, which no client may compare with the bytes of the whole."""
    s3, bucket, path = S3Hook(), fresh_config.state_bucket, tmp_path / "a"
    path.write_bytes(bytes(9 * 2**20))  # boto3 uploads 8 MB at a time
    put_unless_equal(s3, path, bucket, "a", digest(path))
    copy_unless_equal(s3, (bucket, "a"), (bucket, "b"), digest(path))
    for key in ("a", "b"):
        found = s3.get_conn().get_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
        assert found["ChecksumType"] == "COMPOSITE"
        assert found["Body"].read() == path.read_bytes()


@pytest.mark.parametrize("algorithm", ["AES256", "aws:kms", "aws:kms:dsse"])
def test_the_algorithm_is_sent_as_it_is_set(
    airflow_env: Any, fresh_config: Config, monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    monkeypatch.setenv(ENCRYPTION, algorithm)
    s3 = S3Hook()
    put_json(s3, fresh_config.state_bucket, "k", {})
    found = s3.get_conn().head_object(Bucket=fresh_config.state_bucket, Key="k")
    assert found["ServerSideEncryption"] == algorithm


@pytest.mark.parametrize(
    ("algorithm", "key", "sentence"),
    [
        ("kms", "", "cohort_flywheel_s3_encryption.*aws:kms"),
        ("SSE-KMS", KEY_ID, "cohort_flywheel_s3_encryption.*aws:kms"),
        ("AES256", KEY_ID, "cohort_flywheel_s3_kms_key_id.*aws:kms"),
        ("", KEY_ID, "cohort_flywheel_s3_kms_key_id.*aws:kms"),
        ("aws:kms", "my-key", "cohort_flywheel_s3_kms_key_id.*my-key"),
        ("aws:kms", "arn:aws:s3:::bucket", "cohort_flywheel_s3_kms_key_id"),
    ],
)
def test_a_setting_that_s3_refuses_is_named_before_a_call(
    airflow_env: Any, monkeypatch: pytest.MonkeyPatch, algorithm: str, key: str, sentence: str
) -> None:
    monkeypatch.setenv(ENCRYPTION, algorithm)
    monkeypatch.setenv(KMS_KEY, key)
    with pytest.raises(FlywheelError, match=sentence):
        S3Hook().get_conn()


@pytest.mark.parametrize(
    "key", [KEY_ID, KEY_ARN, "alias/flywheel", f"mrk-{'0a' * 16}", KEY_ARN.replace("aws", "aws-cn", 1)]
)
def test_each_form_of_a_key_is_taken(airflow_env: Any, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv(ENCRYPTION, "aws:kms")
    monkeypatch.setenv(KMS_KEY, key)
    S3Hook().get_conn()


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_reaches_s3_without_this_hook(path: Path) -> None:
    """Another client would write without the header."""
    text = path.read_text(encoding="utf-8")
    if path != PACKAGE / "hooks" / "s3.py":
        assert not re.search(r"""aws\.hooks\.s3|aws\.operators\.s3|(client|resource)\(["']s3["']""", text)


# --- conditional writes


class Answers:
    """What S3 answers to the first tries of each conditional write: 409, or what is set."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.status, self.code, self.times, self.arrives = 409, "ConditionalRequestConflict", 2, False
        self.tries = Counter[str]()
        send = URLLib3Session.send

        def sent(session: URLLib3Session, request: Any) -> Any:
            if not {"If-Match", "If-None-Match"} & request.headers.keys():
                return send(session, request)
            self.tries[request.url] += 1
            if self.tries[request.url] > self.times:
                return send(session, request)
            if self.arrives:
                send(session, request)
            body = BytesIO(f"<Error><Code>{self.code}</Code></Error>".encode())
            body.stream = lambda *_, **__: [body.getvalue()]  # type: ignore[attr-defined]  # what botocore reads of urllib3's answer
            return AWSResponse(request.url, self.status, {}, body)

        patch.setattr(URLLib3Session, "send", sent)
        patch.setattr(hook_module, "wait_random_exponential", lambda **_: lambda _state: 0)


@pytest.fixture
def answers(airflow_env: Any, monkeypatch: pytest.MonkeyPatch) -> Answers:
    return Answers(monkeypatch)


FAILURES = [
    (409, "ConditionalRequestConflict", 2),
    (409, "OperationAborted", 11),
    (503, "SlowDown", 12),  # the SDK makes five tries each time
    (500, "InternalError", 12),
]


@pytest.mark.parametrize(("status", "code", "times"), FAILURES)
@pytest.mark.parametrize("arrives", [False, True], ids=["refused", "answer lost"])
def test_the_record_of_mails_is_written_after_any_number_of_conflicts(
    answers: Answers, fresh_config: Config, status: int, code: str, times: int, arrives: bool
) -> None:
    """Else the next try of the launch would take all of the batch for in doubt."""
    answers.status, answers.code, answers.times, answers.arrives = status, code, times, arrives
    s3, outcome = S3Hook(), Outcome(sent=2, refused={"BadRequestException": ["p3"]}, in_doubt=[], left=[])
    batches = Batches(s3, fresh_config.state_bucket, "a_name")
    batches.put_intents(0, 1, ["p1", "p2", "p3"], {})
    batches.put_outcome(0, 1, outcome)
    assert set(answers.tries.values()) == {times + 1}
    assert Batches(s3, fresh_config.state_bucket, "a_name").recorded(0, 1) == outcome


def test_a_lock_a_ledger_and_a_final_snapshot_are_put_after_a_conflict(
    answers: Answers, state: State, fresh_config: Config, tmp_path: Path
) -> None:
    (run, other), s3, bucket = (RunIds(dag_id="d", run_id=each) for each in "12"), S3Hook(), state._bucket
    assert state.take("claims/n.json", run, None)
    found = state.lock_holder("claims/n.json")
    assert found
    assert state.take("claims/n.json", other, found[1])
    assert not state.take("claims/n.json", run, found[1]), "it is the other's by now"
    header = Header("n", "t", "0" * 64, "ses", datetime(2026, 11, 22, tzinfo=UTC), 1)
    assert put_ledger(s3, bucket, header, ["p1"], tmp_path).players == 1
    as_of = datetime(2026, 11, 22, tzinfo=UTC)
    facts = SnapshotHeader(cohort="c", as_of=as_of, property="p", direction="above", floor=0, read_at=as_of)
    assert keep_snapshot(state, facts, {"ann": 3}, final=True) == snapshot_key("c", as_of)
    assert min(answers.tries.values()) > 2


def test_a_failed_condition_is_not_retried(answers: Answers, fresh_config: Config) -> None:
    answers.times, s3, bucket = 0, S3Hook(), fresh_config.state_bucket
    assert put_json(s3, bucket, "k", {"a": 1}, IfNoneMatch="*")
    assert not put_json(s3, bucket, "k", {"a": 2}, IfNoneMatch="*")
    assert not put_json(s3, bucket, "gone", {}, IfMatch='"x"')
    assert sum(answers.tries.values()) == 3


def test_a_conditional_delete_removes_only_the_object_that_was_read(answers: Answers, fresh_config: Config) -> None:
    s3, bucket = S3Hook(), fresh_config.state_bucket
    put_json(s3, bucket, "k", {"a": 1})
    found = get_json(s3, bucket, "k")
    assert found
    put_json(s3, bucket, "k", {"a": 2})
    assert not delete_if(s3, bucket, "k", found[1]), "another object by now"
    found = get_json(s3, bucket, "k")
    assert found
    assert delete_if(s3, bucket, "k", found[1])
    assert get_json(s3, bucket, "k") is None


def test_twelve_conflicts_are_an_error(answers: Answers, fresh_config: Config) -> None:
    answers.times = 1000
    with pytest.raises(ClientError, match="ConditionalRequestConflict"):
        put_json(S3Hook(), fresh_config.state_bucket, "k", {}, IfNoneMatch="*")
    assert list(answers.tries.values()) == [12]


# --- errors


@pytest.mark.parametrize(
    ("ask", "address"),
    [
        (lambda s3, bucket: s3.get_conn().get_object(Bucket=bucket, Key="a/b.json"), "a/b.json"),
        (lambda s3, bucket: s3.get_conn().upload_file(__file__, f"{bucket}-x", "k"), "-x/k"),
        (lambda s3, bucket: list(keys(s3, f"{bucket}-x", "folder/")), "-x/folder/"),
    ],
)
def test_an_error_names_the_requested_object(
    airflow_env: Any, fresh_config: Config, ask: Callable[[S3Hook, str], Any], address: str
) -> None:
    with pytest.raises(AirflowFailException) as raised, describe_failure(""):
        ask(S3Hook(), fresh_config.state_bucket)
    assert re.search(rf"with NoSuch\w+ \(s3://{fresh_config.state_bucket}/?{address}\): the ", str(raised.value))
