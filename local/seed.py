"""Seed the local servers: buckets, contacts, the resources of each destination, the graph."""

from __future__ import annotations

import functools
import json
import os
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import boto3
from botocore.config import Config as BotoConfig

from local import neptune_csv, sample
from local.config import (
    CONFIGURATION_SET,
    CONTACT_LIST,
    PROFILES_DOMAIN,
    SENDER_DOMAIN,
    TOPIC,
    UNTRACKED_SET,
    Config,
    LocalError,
)
from local.servers import Servers
from local.sesv2 import shapes

ACCOUNT = "123456789012"  # moto's
DO_NOT_CONTACT = "do_not_contact.txt"
WRITERS = 4


class Seeded(NamedTuple):
    """Identifiers that the services generated."""

    application_id: str
    role_arn: str
    connect_instance_id: str
    knowledge_base_id: str


def seed(servers: Servers, config: Config, folder: Path | None = None) -> Seeded:
    """Create all resources of a run, and load the graph and the contacts of a folder (default: the sample).

    Existing resources are unchanged: seeding is idempotent.
    """
    with tempfile.TemporaryDirectory() as made:
        if folder is None:
            folder = Path(made)
            sample.write(folder)
        with ThreadPoolExecutor(2) as pool:  # the three servers work in parallel
            graph = pool.submit(neptune_csv.load_folder, folder, servers.gremlin_url)
            contacts = pool.submit(_load_contacts, servers, config, folder)
            make_buckets(servers, config)
            make_contact_list(servers, config)
            make_profiles_domain(servers, config)
            make_sender(servers, config)
            instance_id = make_connect_instance(servers, config)
            knowledge_base_id = make_knowledge_base(servers, config)
            application_id = make_application(servers, config)
            role_arn = make_import_role(servers, config, application_id)
            graph.result()
            contacts.result()
    return Seeded(application_id, role_arn, instance_id, knowledge_base_id)


def client(service: str, servers: Servers, config: Config) -> Any:
    """A boto3 client of the local servers only."""
    url = servers.dynamodb_url if service == "dynamodb" else servers.aws_url
    with _one_at_a_time:
        return _client(service, url, config.region, config.access_key_id, config.secret_access_key, os.getpid())


@functools.cache
def _client(service: str, url: str, region: str, access_key_id: str, secret_access_key: str, process: int) -> Any:
    """One per process, because a fork must not share its parent's connections."""
    return _session().client(
        service,
        endpoint_url=url,
        region_name=region,
        aws_access_key_id=access_key_id,
        aws_secret_access_key=secret_access_key,
        config=BotoConfig(max_pool_connections=2 * WRITERS, proxies={}),
    )


#: Creating a session takes longer than creating a client, and a session, unlike clients, is not thread-safe.
_session, _one_at_a_time = functools.cache(boto3.Session), threading.Lock()


def make_buckets(servers: Servers, config: Config) -> None:
    """Create the three buckets, and an empty do-not-contact list if it is missing."""
    s3 = client("s3", servers, config)
    where: dict[str, Any] = {}
    if config.region != "us-east-1":  # which S3 rejects as a LocationConstraint
        where = {"CreateBucketConfiguration": {"LocationConstraint": config.region}}
    for bucket in (config.export_bucket, config.import_bucket, config.state_bucket):
        with suppress(s3.exceptions.BucketAlreadyOwnedByYou):
            s3.create_bucket(Bucket=bucket, **where)
    s3.put_bucket_policy(Bucket=config.import_bucket, Policy=json.dumps(_ses_policy(config.import_bucket)))
    if not s3.list_objects_v2(Bucket=config.state_bucket, Prefix=DO_NOT_CONTACT).get("KeyCount"):
        s3.put_object(Bucket=config.state_bucket, Key=DO_NOT_CONTACT, Body=b"")


def _ses_policy(bucket: str) -> dict[str, Any]:
    """The policy that lets SES read its import files, and no segment file.

    https://docs.aws.amazon.com/ses/latest/dg/sending-email-list-management.html
    """
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "ses.amazonaws.com"},
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{bucket}/contacts/*",
        "Condition": {"StringEquals": {"aws:Referer": ACCOUNT}},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def make_contact_list(servers: Servers, config: Config) -> None:
    """Create the account's contact list with its topic, unless it exists."""
    ses = client("sesv2", servers, config)
    if ses.list_contact_lists()["ContactLists"]:
        return
    topic = {"TopicName": TOPIC, "DisplayName": TOPIC, "DefaultSubscriptionStatus": "OPT_IN"}
    ses.create_contact_list(ContactListName=CONTACT_LIST, Topics=[topic])


def make_profiles_domain(servers: Servers, config: Config) -> None:
    """Create the domain of Customer Profiles, unless it exists."""
    profiles = client("customer-profiles", servers, config)
    try:
        profiles.get_domain(DomainName=PROFILES_DOMAIN)
    except profiles.exceptions.ResourceNotFoundException:
        profiles.create_domain(DomainName=PROFILES_DOMAIN, DefaultExpirationDays=366)


def make_sender(servers: Servers, config: Config) -> None:
    """Verify a sender domain in SES, as if its DNS records were published."""
    ses = client("sesv2", servers, config)
    with suppress(ses.exceptions.AlreadyExistsException):
        ses.create_email_identity(EmailIdentity=SENDER_DOMAIN)
    body = json.dumps({"verify": [SENDER_DOMAIN]}).encode()
    request = urllib.request.Request(f"{servers.aws_url}/cohort-flywheel/sesv2", data=body)  # noqa: S310 - our own server
    urllib.request.urlopen(request, timeout=10).close()  # noqa: S310 - as above


def make_configuration_sets(servers: Servers, config: Config) -> None:
    """The configuration sets of campaigns, which publish every event, the second without opens and clicks."""
    _make_configuration_set(servers, config, CONFIGURATION_SET, [])
    _make_configuration_set(servers, config, UNTRACKED_SET, ["OPEN", "CLICK"])


def _make_configuration_set(servers: Servers, config: Config, name: str, without: list[str]) -> None:
    ses, place = client("sesv2", servers, config), f"{config.region}:{ACCOUNT}"
    firehose = {
        "IamRoleArn": f"arn:aws:iam::{ACCOUNT}:role/ses-events",
        "DeliveryStreamArn": f"arn:aws:firehose:{place}:deliverystream/ses-events",
    }
    with suppress(ses.exceptions.AlreadyExistsException):
        ses.create_configuration_set(ConfigurationSetName=name)
        ses.create_configuration_set_event_destination(
            ConfigurationSetName=name,
            EventDestinationName="engagement",
            EventDestination={
                "Enabled": True,
                "MatchingEventTypes": [t for t in shapes.service().shape_for("EventType").enum if t not in without],
                "KinesisFirehoseDestination": firehose,
            },
        )


def make_connect_instance(servers: Servers, config: Config) -> str:
    """The id of the account's Amazon Connect instance, created unless one exists."""
    connect = client("connect", servers, config)
    for instance in connect.list_instances()["InstanceSummaryList"]:
        return str(instance["Id"])
    made = connect.create_instance(
        IdentityManagementType="CONNECT_MANAGED", InboundCallsEnabled=True, OutboundCallsEnabled=True
    )
    return str(made["Id"])


def make_knowledge_base(servers: Servers, config: Config) -> str:
    """The id of the knowledge base of message templates, created unless one exists."""
    qconnect = client("qconnect", servers, config)
    for base in qconnect.list_knowledge_bases()["knowledgeBaseSummaries"]:
        return str(base["knowledgeBaseId"])
    made = qconnect.create_knowledge_base(name="templates", knowledgeBaseType="MESSAGE_TEMPLATES")
    return str(made["knowledgeBase"]["knowledgeBaseId"])


def make_application(servers: Servers, config: Config) -> str:
    """The id of the Pinpoint application of the configured name, created unless it exists."""
    pinpoint = client("pinpoint", servers, config)
    token: dict[str, str] | None = {}
    while token is not None:
        page = pinpoint.get_apps(**token)["ApplicationsResponse"]
        for application in page["Item"]:
            if application["Name"] == config.application_name:
                return str(application["Id"])
        token = {"Token": page["NextToken"]} if page.get("NextToken") else None
    made = pinpoint.create_app(CreateApplicationRequest={"Name": config.application_name})
    return str(made["ApplicationResponse"]["Id"])


def make_import_role(servers: Servers, config: Config, application_id: str) -> str:
    """The ARN of the role with which Pinpoint reads the import bucket, and only for that application.

    https://docs.aws.amazon.com/pinpoint/latest/developerguide/permissions-import-segment.html
    """
    iam = client("iam", servers, config)
    application = f"arn:aws:mobiletargeting:{config.region}:{ACCOUNT}:apps/{application_id}"
    bucket = f"arn:aws:s3:::{config.import_bucket}"
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "pinpoint.amazonaws.com"},
                "Action": "sts:AssumeRole",
                "Condition": {
                    "StringEquals": {"aws:SourceAccount": ACCOUNT},
                    "ArnLike": {"aws:SourceArn": application},
                },
            }
        ],
    }
    reads = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": bucket},
            {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"{bucket}/*"},
        ],
    }
    name = config.import_role_name
    try:
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
    except iam.exceptions.EntityAlreadyExistsException:
        iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust))
    iam.put_role_policy(RoleName=name, PolicyName="ReadImportBucket", PolicyDocument=json.dumps(reads))
    return str(iam.get_role(RoleName=name)["Role"]["Arn"])


def make_contacts_table(servers: Servers, config: Config) -> None:
    """Create the contacts table with its one key."""
    dynamodb = client("dynamodb", servers, config)
    try:
        dynamodb.create_table(
            TableName=config.contacts_table,
            KeySchema=[{"AttributeName": "playerId", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "playerId", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
    except dynamodb.exceptions.ResourceInUseException:
        return
    dynamodb.get_waiter("table_exists").wait(
        TableName=config.contacts_table, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )


def load_contacts(servers: Servers, config: Config, records: Iterable[Mapping[str, str]]) -> int:
    """Put records into the contacts table, replacing existing ones; return their number."""
    dynamodb = client("dynamodb", servers, config)
    remaining = iter(records)

    def put(batch: list[Mapping[str, str]]) -> int:
        items = [{name: {"S": value} for name, value in record.items()} for record in batch]
        pending = {config.contacts_table: [{"PutRequest": {"Item": item}} for item in items]}
        for attempt in range(8):
            # unprocessed items come back in a successful response, which botocore does not retry
            pending = dynamodb.batch_write_item(RequestItems=pending)["UnprocessedItems"]
            if not pending:
                return len(batch)
            time.sleep(0.05 * 2**attempt)
        raise LocalError(f"{servers.dynamodb_url} stored only some of the contacts: it may be overloaded, try again.")

    loaded = 0
    with ThreadPoolExecutor(WRITERS) as pool:
        # enough batches at a time to keep the writers busy, and never a million records in memory
        while some := list(islice(remaining, 25 * 40 * WRITERS)):
            loaded += sum(pool.map(put, (some[start : start + 25] for start in range(0, len(some), 25))))
    return loaded


def _load_contacts(servers: Servers, config: Config, folder: Path) -> None:
    """Create the table and load the folder's contacts; the modeler's data has none."""
    make_contacts_table(servers, config)
    path = folder / sample.CONTACTS_FILE
    if path.exists():
        with path.open(encoding="utf-8") as file:
            load_contacts(servers, config, (json.loads(line) for line in file))
