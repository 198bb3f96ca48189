"""Seeding makes what a run needs, once."""

from __future__ import annotations

import json

from gremlin_python.driver.driver_remote_connection import DriverRemoteConnection
from gremlin_python.process.anonymous_traversal import traversal

from local import sample
from local.config import Config
from local.seed import ACCOUNT, DO_NOT_CONTACT, Seeded, client, load_contacts, make_application, seed
from local.servers import Servers


def test_what_a_run_needs_is_there(servers: Servers, config: Config, seeded: Seeded) -> None:
    s3 = client("s3", servers, config)
    names = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    assert {config.export_bucket, config.import_bucket, config.state_bucket} <= names
    assert s3.get_object(Bucket=config.state_bucket, Key=DO_NOT_CONTACT)["Body"].read() == b""
    pinpoint = client("pinpoint", servers, config)
    application = pinpoint.get_app(ApplicationId=seeded.application_id)["ApplicationResponse"]
    assert application["Name"] == config.application_name
    count = client("dynamodb", servers, config).scan(TableName=config.contacts_table, Select="COUNT")["Count"]
    assert count == len(list(sample.contacts(sample.players())))


def test_the_role_is_for_this_application_and_reads_the_import_bucket_only(
    servers: Servers, config: Config, seeded: Seeded
) -> None:
    iam = client("iam", servers, config)
    role = iam.get_role(RoleName=config.import_role_name)["Role"]
    assert role["Arn"] == seeded.role_arn
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "pinpoint.amazonaws.com"}
    application = f"arn:aws:mobiletargeting:{config.region}:{ACCOUNT}:apps/{seeded.application_id}"
    assert trust["Condition"]["StringEquals"] == {"aws:SourceAccount": ACCOUNT}
    assert trust["Condition"]["ArnLike"] == {"aws:SourceArn": application}
    (policy,) = iam.list_role_policies(RoleName=config.import_role_name)["PolicyNames"]
    reads = iam.get_role_policy(RoleName=config.import_role_name, PolicyName=policy)["PolicyDocument"]["Statement"]
    assert {statement["Action"] for statement in reads} == {"s3:ListBucket", "s3:GetObject"}
    bucket = f"arn:aws:s3:::{config.import_bucket}"
    assert json.dumps([statement["Resource"] for statement in reads]) == json.dumps([bucket, f"{bucket}/*"])


def test_seeding_twice_is_seeding_once(servers: Servers, config: Config, seeded: Seeded) -> None:
    connection = DriverRemoteConnection(servers.gremlin_url, "g")
    g = traversal().with_(connection)
    s3 = client("s3", servers, config)
    try:
        before = (g.V().count().next(), g.E().count().next(), g.V().properties().count().next())
        s3.put_object(Bucket=config.state_bucket, Key=DO_NOT_CONTACT, Body=b"unknown96\n")
        assert seed(servers, config) == seeded
        assert (g.V().count().next(), g.E().count().next(), g.V().properties().count().next()) == before
        assert s3.get_object(Bucket=config.state_bucket, Key=DO_NOT_CONTACT)["Body"].read() == b"unknown96\n"
    finally:
        s3.put_object(Bucket=config.state_bucket, Key=DO_NOT_CONTACT, Body=b"")
        connection.close()


def test_fresh_names_are_empty_and_apart(
    servers: Servers, fresh_config: Config, fresh_seeded: Seeded, seeded: Seeded
) -> None:
    dynamodb = client("dynamodb", servers, fresh_config)
    assert dynamodb.scan(TableName=fresh_config.contacts_table, Select="COUNT")["Count"] == 0
    assert fresh_seeded.application_id != seeded.application_id
    assert make_application(servers, fresh_config) == fresh_seeded.application_id


def test_contacts_by_the_thousand(servers: Servers, fresh_config: Config) -> None:
    records = (record for player in sample.big(1030) if (record := sample.contact(str(player["playerId"]))))
    assert load_contacts(servers, fresh_config, records) == 1030
    dynamodb = client("dynamodb", servers, fresh_config)
    assert dynamodb.scan(TableName=fresh_config.contacts_table, Select="COUNT")["Count"] == 1030


def test_an_application_on_a_later_page_is_found(servers: Servers, fresh_config: Config) -> None:
    pinpoint = client("pinpoint", servers, fresh_config)
    for _ in range(100):
        pinpoint.create_app(CreateApplicationRequest={"Name": "another"})
    made = make_application(servers, fresh_config)
    assert make_application(servers, fresh_config) == made
