"""The optional stack of the events of e-mails; test_template.py lints it, and test_iam.py deploys a part of it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from cohort_flywheel.config.variables import PREFIX, EngagementSettings, EventSettings, StateSettings
from cohort_flywheel.destinations.ses.campaign.event_publishing import EVENT_TYPES
from cohort_flywheel.destinations.ses.destination import SesCampaignSettings
from cohort_flywheel.engagement.graph_operator import WRITER_AWS_CONN_ID, WRITER_CONN_ID
from tests.deploy import stack
from tests.deploy.iam_calls import CLUSTER
from tests.deploy.iam_checker import Request, allows, trusts

PARAMETERS = {"ExecutionRoleName": "cohort-flywheel", "StateBucketName": "state", "SettingsPrefix": "/prefix"}
IDS = {"EventBucket": "events", "StreamRole": "stream", "PublishingRole": "publishing"}
STREAM = f"arn:aws:firehose:{stack.REGION}:{stack.ACCOUNT}:deliverystream/events"


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    """The resources, with their properties resolved."""
    addresses = {"EventStream.Arn": STREAM}
    return _Resolver(stack.template(stack.ENGAGEMENT), "engagement", PARAMETERS, IDS, addresses).resources()


class _Resolver(stack.Resolver):
    def _attribute(self, name: str, attribute: str) -> str:
        address = f"{name}.{attribute}"
        return self._addresses[address] if address in self._addresses else super()._attribute(name, attribute)


POLICIES = {
    "engagement": ("EngagementPolicy", "PolicyDocument"),
    "engagement_graph": ("EngagementGraphPolicy", "PolicyDocument"),
    "engagement_graph_role": ("EngagementGraphRolePolicy", "PolicyDocument"),
    "engagement_graph_role-trust": ("EngagementGraphRole", "AssumeRolePolicyDocument"),
}


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_a_policy_is_that_of_include_iam(name: str) -> None:
    resource, kind = POLICIES[name]
    written = stack.template(stack.ENGAGEMENT)["Resources"][resource]["Properties"][kind]

    def text(value: Any) -> Any:
        if isinstance(value, list):
            return [text(each) for each in value]
        if isinstance(value, dict):
            return value["Fn::Sub"] if value.keys() == {"Fn::Sub"} else {key: text(each) for key, each in value.items()}
        return value

    assert text(written) == stack.policy(name)


def test_the_execution_role_has_its_policy(resources: dict[str, Any]) -> None:
    assert resources["EngagementPolicy"]["Properties"]["Roles"] == ["cohort-flywheel"]


# --- writes into the graph

GRAPH = {"NeptuneWriterEndpoint": "cohort.cluster-abc.us-east-1.neptune.amazonaws.com"}
WITH_IAM = GRAPH | {"NeptuneClusterResourceId": CLUSTER}


def _resources(parameters: dict[str, str]) -> dict[str, Any]:
    ids, addresses = IDS | {"EngagementGraphRole": "writer"}, {"EventStream.Arn": STREAM}
    return _Resolver(
        stack.template(stack.ENGAGEMENT), "engagement", PARAMETERS | parameters, ids, addresses
    ).resources()


def test_without_an_endpoint_of_the_graph_no_role_may_write_to_it(resources: dict[str, Any]) -> None:
    assert [name for name in sorted(resources) if "Graph" in name or "Neptune" in name] == []
    assert [name for name in sorted(_resources(GRAPH)) if "Graph" in name or "Neptune" in name] == [
        "EngagementNeptuneConnection"
    ]


def test_the_writer_sets_properties_which_needs_three_actions_and_nothing_else() -> None:
    found = _resources(WITH_IAM)
    documents = [found["EngagementGraphRolePolicy"]["Properties"]["PolicyDocument"]]
    assert found["EngagementGraphRolePolicy"]["Properties"]["Roles"] == ["writer"]
    graph = f"arn:aws:neptune-db:{stack.REGION}:{stack.ACCOUNT}:{CLUSTER}/*"
    gremlin = {"neptune-db:QueryLanguage": "Gremlin"}
    for action in ("ReadDataViaQuery", "WriteDataViaQuery", "DeleteDataViaQuery"):
        assert allows(documents, Request(f"neptune-db:{action}", graph, gremlin))
        assert not allows(documents, Request(f"neptune-db:{action}", graph))
        assert not allows(documents, Request(f"neptune-db:{action}", graph.replace("cluster", "other"), gremlin))
    for action, resource in (
        ("neptune-db:ResetDatabase", graph),
        ("neptune-db:StartLoaderJob", graph),
        ("s3:GetObject", "arn:aws:s3:::state/engagement/suppressions.csv"),
        ("sts:AssumeRole", f"arn:aws:iam::{stack.ACCOUNT}:role/admin"),
    ):
        assert not allows(documents, Request(action, resource, gremlin)), f"{action} on {resource} is allowed"


def test_the_execution_role_assumes_the_writer_and_cannot_write_itself() -> None:
    found = _resources(WITH_IAM)
    documents = [found[name]["Properties"]["PolicyDocument"] for name in ("EngagementPolicy", "EngagementGraphPolicy")]
    assert found["EngagementGraphPolicy"]["Properties"]["Roles"] == ["cohort-flywheel"]
    assert allows(documents, Request("sts:AssumeRole", f"arn:aws:iam::{stack.ACCOUNT}:role/writer"))
    assert not allows(documents, Request("sts:AssumeRole", f"arn:aws:iam::{stack.ACCOUNT}:role/admin"))
    graph = f"arn:aws:neptune-db:{stack.REGION}:{stack.ACCOUNT}:{CLUSTER}/*"
    for action in ("ReadDataViaQuery", "WriteDataViaQuery", "DeleteDataViaQuery"):
        assert not allows(documents, Request(f"neptune-db:{action}", graph, {"neptune-db:QueryLanguage": "Gremlin"}))


def test_the_writer_is_assumed_by_the_execution_role_alone() -> None:
    (trust,) = _resources(WITH_IAM)["EngagementGraphRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"AWS": stack.ACCOUNT}
    document = [{"Statement": {name: each for name, each in trust.items() if name != "Principal"} | {"Resource": "*"}}]
    roles = f"arn:aws:iam::{stack.ACCOUNT}:role"
    for role, may in (
        (f"{roles}/cohort-flywheel", True),
        (f"{roles}/service-role/cohort-flywheel", True),
        (f"{roles}/not-cohort-flywheel", False),
        (f"{roles}/cohort-flywheel/other", False),
        ("arn:aws:iam::210987654321:role/cohort-flywheel", False),
    ):
        assert allows(document, Request("sts:AssumeRole", "", {"aws:PrincipalArn": role})) == may, role
    assert not allows(document, Request("sts:AssumeRole", ""))


@pytest.mark.parametrize(("parameters", "iam"), [(GRAPH, False), (WITH_IAM, True)], ids=["plain", "iam"])
def test_the_connections_are_those_of_the_dag(parameters: dict[str, str], iam: bool) -> None:
    settings = [each["Properties"] for each in _resources(parameters).values() if each["Type"] == "AWS::SSM::Parameter"]
    prefix = "/prefix/connections/"
    found = {each["Name"]: json.loads(each["Value"]) for each in settings if each["Name"].startswith(prefix)}
    graph = {
        "conn_type": "gremlin", "host": GRAPH["NeptuneWriterEndpoint"], "port": 8182, "schema": "wss",
        "extra": {"iam": iam, "region_name": stack.REGION},
    }  # fmt: skip
    role = {"role_arn": f"arn:aws:iam::{stack.ACCOUNT}:role/writer", "region_name": stack.REGION}
    assert found == {prefix + WRITER_CONN_ID: graph} | (
        {prefix + WRITER_AWS_CONN_ID: {"conn_type": "aws", "extra": role}} if iam else {}
    )
    options = stack.template()["Resources"]["Environment"]["Properties"]["AirflowConfigurationOptions"]
    pattern = json.loads(options["secrets.backend_kwargs"]["Fn::Sub"])["connections_lookup_pattern"]
    assert all(
        re.match(pattern, each) for each in (WRITER_CONN_ID, WRITER_AWS_CONN_ID, "neptune_default", "aws_graph_load")
    )
    assert not re.match(pattern, "aws_default")


@pytest.mark.parametrize(
    ("name", "without"), [("", set()), ("Untracked", {"OPEN", "CLICK"})], ids=["tracked", "untracked"]
)
def test_every_event_type_is_published_to_the_stream_but_what_ses_must_not_track(
    resources: dict[str, Any], name: str, without: set[str]
) -> None:
    destination = resources[f"{name}EventDestination"]["Properties"]["EventDestination"]
    assert (types(destination), destination["Enabled"]) == ({*EVENT_TYPES} - without, True)
    assert destination["KinesisFirehoseDestination"] == {
        "DeliveryStreamARN": STREAM, "IAMRoleARN": f"arn:aws:iam::{stack.ACCOUNT}:role/publishing",
    }  # fmt: skip
    made = resources[f"{name}ConfigurationSet"]["Properties"]
    assert made["SendingOptions"] == {"SendingEnabled": True}
    assert made["Name"] == f"cohort-flywheel{'-untracked' if name else ''}"


def test_without_opens_the_tracked_set_has_the_clicks() -> None:
    parameters = PARAMETERS | {"TrackOpens": "false"}
    addresses = {"EventStream.Arn": STREAM}
    found = _Resolver(stack.template(stack.ENGAGEMENT), "engagement", parameters, IDS, addresses).resources()
    assert types(found["EventDestination"]["Properties"]["EventDestination"]) == {*EVENT_TYPES} - {"OPEN"}


def types(destination: Any) -> set[str]:
    """The event types of a destination, as the API has them."""
    return {"".join(f"_{c}" if c.isupper() else c for c in each).upper() for each in destination["MatchingEventTypes"]}


def test_events_and_errors_are_kept_for_seven_days_without_versions(resources: dict[str, Any]) -> None:
    bucket = resources["EventBucket"]["Properties"]
    (rule,) = bucket["LifecycleConfiguration"]["Rules"]
    assert (rule["Status"], rule["ExpirationInDays"], "Prefix" in rule) == ("Enabled", 7, False)
    assert "VersioningConfiguration" not in bucket
    place = resources["EventStream"]["Properties"]["ExtendedS3DestinationConfiguration"]
    assert (place["BucketARN"], place["Prefix"], place["ErrorOutputPrefix"], place["CompressionFormat"]) == (
        "arn:aws:s3:::events", "events/", "errors/", "GZIP",
    )  # fmt: skip


def test_each_role_is_assumed_by_its_service_for_this_account_alone(resources: dict[str, Any]) -> None:
    trust = {
        name: resources[name]["Properties"]["AssumeRolePolicyDocument"] for name in ("StreamRole", "PublishingRole")
    }
    ours = {"sts:ExternalId": stack.ACCOUNT}
    assert trusts(trust["StreamRole"], "firehose.amazonaws.com", ours)
    assert not trusts(trust["StreamRole"], "firehose.amazonaws.com", {"sts:ExternalId": "210987654321"})
    arn = f"arn:aws:ses:{stack.REGION}:{stack.ACCOUNT}:configuration-set/cohort-flywheel"
    ours = {"aws:SourceAccount": stack.ACCOUNT, "aws:SourceArn": arn}
    assert trusts(trust["PublishingRole"], "ses.amazonaws.com", ours)
    assert trusts(trust["PublishingRole"], "ses.amazonaws.com", ours | {"aws:SourceArn": f"{arn}-untracked"})
    for other in ({"aws:SourceAccount": "210987654321"}, {"aws:SourceArn": f"{arn}-other"}):
        assert not trusts(trust["PublishingRole"], "ses.amazonaws.com", ours | other)


def test_the_roles_may_write_to_the_stream_and_to_the_bucket_alone(resources: dict[str, Any]) -> None:
    def document(name: str) -> list[Any]:
        (policy,) = resources[name]["Properties"]["Policies"]
        return [policy["PolicyDocument"]]

    assert allows(document("PublishingRole"), Request("firehose:PutRecordBatch", STREAM))
    assert not allows(document("PublishingRole"), Request("firehose:PutRecordBatch", f"{STREAM}-other"))
    assert allows(document("StreamRole"), Request("s3:PutObject", "arn:aws:s3:::events/events/2026/11/22/00/a.gz"))
    assert not allows(document("StreamRole"), Request("s3:PutObject", "arn:aws:s3:::state/events/a.gz"))
    assert not allows(document("StreamRole"), Request("s3:DeleteObject", "arn:aws:s3:::events/events/a.gz"))


def test_the_variables_are_set_where_the_backend_looks(resources: dict[str, Any]) -> None:
    settings = [each["Properties"] for each in resources.values() if each["Type"] == "AWS::SSM::Parameter"]
    names = {*SesCampaignSettings.model_fields, *EventSettings.model_fields}
    assert {*EngagementSettings.model_fields} - names == {*StateSettings.model_fields, "ses_topic"}, "the first stack's"
    assert {each["Name"] for each in settings} == {f"/prefix/variables/{PREFIX}{name}" for name in names}
    assert {each["Value"] for each in settings} == {"cohort-flywheel", "cohort-flywheel-untracked", "events"}
