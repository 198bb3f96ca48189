"""Other consumers of the export bucket keep working: the second post's Lambda reads an extract that we wrote.

`lambda_handler` below is the post's S3TriggerCohortIngest as its text has it, with the lines that the text lost put
back. Nothing is mended but the account id in the role's ARN: one BatchGetItem of at most 100 players, lines joined from
strings, a name drawn by uuid4.
"""
# ruff: noqa: SIM112 - the environment variables are the post's

from __future__ import annotations

import csv
import io
import json
import os
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from cohort_flywheel.config.params import RunParams
from cohort_flywheel.config.registry import read_registry
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.plan import make_plan
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.extract_operator import CohortExtractOperator
from cohort_flywheel.segment.snapshot import Header
from local import sample, seed
from local.config import ROOT
from local.seed import ACCOUNT
from tests.cohort_flywheel.segment.snapshots import keep_snapshot

DAY = datetime(2026, 11, 22, tzinfo=UTC)


# --- the post's Lambda


def save_s3_file(content: str) -> str:
    fname = str(uuid.uuid4()) + ".csv"
    boto3.resource("s3").Object(os.environ["S3BucketName"], fname).put(Body=content)
    return fname


def query_dynamo(userlist: list[str]) -> Any:
    ddb_client = boto3.resource("dynamodb")
    batch_keys = {"userdata": {"Keys": [{"playerId": user} for user in userlist]}}
    # query for the keys. note: currently no explicit error-checking for <= 100 items.
    return ddb_client.batch_get_item(RequestItems=batch_keys)


def ingest_pinpoint(filename: str) -> dict[str, str]:
    s3url = "s3://" + os.environ["S3BucketName"] + "/" + filename
    response = boto3.client("pinpoint").create_import_job(
        ApplicationId=os.environ["PinpointApplicationID"],
        ImportJobRequest={
            "DefineSegment": True,
            "Format": "CSV",
            "RegisterEndpoints": True,
            "RoleArn": os.environ["PinpointS3RoleARN"],
            "S3Url": s3url,
            "SegmentName": filename,
        },
    )
    return {"ImportId": response["ImportJobResponse"]["Id"]}


def lambda_handler(event: Any, context: Any) -> dict[str, Any]:
    incoming_bucket = event["Records"][0]["s3"]["bucket"]["name"]
    filename = urllib.parse.unquote_plus(event["Records"][0]["s3"]["object"]["key"], encoding="utf-8")
    content_object = boto3.resource("s3").Object(incoming_bucket, filename)
    file_content = content_object.get()["Body"].read().decode("utf-8")
    record_json = json.loads(file_content)
    namelist = []
    for record in record_json:
        if "playerId" in record:
            # Append the first element of "playerId" list to namelist
            namelist.append(record["playerId"][0])
    userdatalist = query_dynamo(namelist)
    csvlist = "ChannelType,Address,User.UserId,User.UserAttributes.FirstName,User.UserAttributes.LastName\n"
    for user in userdatalist["Responses"]["userdata"]:
        csvlist += "EMAIL," + user["email"] + "," + user["playerId"] + "," + user["firstName"] + "," + user["lastName"]
        csvlist += "\n"
    return {"statusCode": 200, "body": json.dumps(ingest_pinpoint(save_s3_file(csvlist)))}


# --- its bucket and its trigger


@pytest.fixture
def lambda_environment(
    servers: Any, config: Any, fresh_config: Any, fresh_seeded: Any, airflow_env: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What AWS and the post's reader give the Lambda; the table's name is in its code."""
    assert config.contacts_table == "userdata"
    for name, value in {
        "AWS_ENDPOINT_URL": servers.aws_url,
        "AWS_ENDPOINT_URL_DYNAMODB": servers.dynamodb_url,
        "AWS_DEFAULT_REGION": config.region,
        "AWS_ACCESS_KEY_ID": config.access_key_id,
        "AWS_SECRET_ACCESS_KEY": config.secret_access_key,
        "S3BucketName": fresh_config.import_bucket,
        "PinpointApplicationID": fresh_seeded.application_id,
        "PinpointS3RoleARN": fresh_seeded.role_arn,
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def triggered(aws: Any, config: Any, fresh_config: Any) -> Iterator[Callable[[], list[Any]]]:
    """The events that "All object create events", prefix and suffix blank, have sent since it was last asked."""
    sqs, name = aws("sqs"), f"to-{fresh_config.export_bucket}"
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    listens = {"QueueArn": f"arn:aws:sqs:{config.region}:{ACCOUNT}:{name}", "Events": ["s3:ObjectCreated:*"]}
    notification = {"QueueConfigurations": [listens]}
    aws("s3").put_bucket_notification_configuration(
        Bucket=fresh_config.export_bucket, NotificationConfiguration=notification
    )

    def received() -> list[Any]:
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        for message in messages:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return [event for event in (json.loads(message["Body"]) for message in messages) if "Records" in event]

    assert received() == [], "the test event alone"
    yield received
    sqs.delete_queue(QueueUrl=url)


@pytest.fixture
def extract(
    airflow_env: Any, fresh_config: Any, context: Any, tmp_path: Any, aws: Any
) -> Callable[[list[str]], dict[str, Any]]:
    """Writes the extract of a day whose snapshot has these players."""
    state = State(S3Hook(), fresh_config.state_bucket)
    cohort = read_registry(ROOT / "include" / "cohorts.yaml").cohort("ea_atrisk")
    settings = {f"{role}_bucket": getattr(fresh_config, f"{role}_bucket") for role in ("export", "import", "state")}
    settings |= {"contacts_table": fresh_config.contacts_table}
    plan = settings | make_plan(
        cohort, params=RunParams(cohort="ea_atrisk", extract_only=True), as_of=DAY, run_type="manual", user=None,
        layout="pinpoint", schedule="0 0 * * *", settings=settings,
    ).model_dump(mode="json")  # fmt: skip

    def write(players: list[str]) -> dict[str, Any]:
        header = Header(
            cohort="ea_atrisk", as_of=DAY, property="ea_atrisk", direction="above", floor=0, read_at=datetime.now(UTC)
        )
        keep_snapshot(state, header, dict.fromkeys(players, 3))
        its, days_later = context(task_id="extract"), DAY + timedelta(days=10)
        CohortExtractOperator(task_id="extract", plan=plan, clock=lambda: days_later).execute(its)
        facts: dict[str, Any] = its["ti"].xcoms["extract", "facts"]
        return facts

    return write


def ordinary(number: int) -> list[str]:
    """Players with ordinary records: the Lambda checks no address and quotes no comma."""
    contacts = sample.contacts(sample.players())
    return sorted(c["playerId"] for c in contacts if c == sample.contact(c["playerId"]))[:number]


@pytest.mark.parametrize("players", [["msmith", "wayne96", "xortiz"], ordinary(100)], ids=["the posts' three", "100"])
def test_the_posts_lambda_imports_an_extract_of_ours(
    players: list[str], extract: Any, triggered: Any, lambda_environment: None, aws: Any, fresh_config: Any,
    fresh_seeded: Any,
) -> None:  # fmt: skip
    facts = extract(players)
    (event,) = triggered()
    assert event["Records"][0]["s3"]["object"]["key"] == urllib.parse.quote_plus(facts["s3_key"])
    answer = lambda_handler(event, None)
    assert answer["statusCode"] == 200
    job = aws("pinpoint").get_import_job(
        ApplicationId=fresh_seeded.application_id, JobId=json.loads(answer["body"])["ImportId"]
    )["ImportJobResponse"]
    key = job["Definition"]["S3Url"].rpartition("/")[2]
    body = aws("s3").get_object(Bucket=fresh_config.import_bucket, Key=key)["Body"].read().decode()
    rows = list(csv.DictReader(io.StringIO(body)))
    assert sorted(row["User.UserId"] for row in rows) == sorted(players)
    assert all(row["ChannelType"] == "EMAIL" and "@" in row["Address"] for row in rows)


def test_a_repeated_run_starts_the_lambda_once(extract: Any, triggered: Any, lambda_environment: None) -> None:
    assert extract(ordinary(3))["put"]
    assert not extract(ordinary(3))["put"]
    assert len(triggered()) == 1


def test_the_lambda_keeps_its_own_limit(extract: Any, triggered: Any, lambda_environment: None) -> None:
    """With the 101st player DynamoDB refuses the Lambda's one call; ours asks in batches."""
    extract(ordinary(101))
    (event,) = triggered()
    with pytest.raises(boto3.client("dynamodb").exceptions.ClientError, match="Too many items requested"):
        lambda_handler(event, None)


def test_our_other_files_do_not_start_the_lambda(
    extract: Any, triggered: Any, lambda_environment: None, aws: Any, fresh_config: Any
) -> None:
    """The export bucket holds extracts alone; an extract that a team drops there does start it, as it always did."""
    facts = extract(ordinary(3))
    keys = [item["Key"] for item in aws("s3").list_objects_v2(Bucket=fresh_config.export_bucket)["Contents"]]
    assert keys == [facts["s3_key"]]
    assert len(triggered()) == 1
    assert seed.DO_NOT_CONTACT not in keys
    aws("s3").put_object(Bucket=fresh_config.export_bucket, Key="dropped/theirs.json", Body=b"[]")
    assert len(triggered()) == 1
