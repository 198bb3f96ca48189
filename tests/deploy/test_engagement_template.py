"""The optional stack of the events of e-mails; test_template.py lints it, and test_iam.py deploys a part of it."""

from __future__ import annotations

from typing import Any

import pytest

from cohort_flywheel.config.variables import PREFIX, EngagementSettings, EventSettings, StateSettings
from cohort_flywheel.destinations.ses.campaign.event_publishing import EVENT_TYPES
from cohort_flywheel.destinations.ses.destination import SesCampaignSettings
from tests.deploy import stack
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


def test_the_policy_of_the_execution_role_is_that_of_include_iam(resources: dict[str, Any]) -> None:
    written = stack.template(stack.ENGAGEMENT)["Resources"]["EngagementPolicy"]["Properties"]["PolicyDocument"]

    def text(resource: Any) -> Any:
        if isinstance(resource, list):
            return [text(each) for each in resource]
        return resource["Fn::Sub"] if isinstance(resource, dict) else resource

    statements = [each | {"Resource": text(each["Resource"])} for each in written["Statement"]]
    assert written | {"Statement": statements} == stack.policy("engagement")
    assert resources["EngagementPolicy"]["Properties"]["Roles"] == ["cohort-flywheel"]


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
