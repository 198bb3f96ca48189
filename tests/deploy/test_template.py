"""The template: that cfn-lint takes it, and that every property of it is what its own service's API gives back.

It is deployed by moto's CloudFormation. What that leaves out [facts] is made here by the calls that CloudFormation
would make, and what moto's services do not have at all is in `UNPROVEN`.
"""

from __future__ import annotations

import ast
import json
import operator
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.validate import ParamValidator
from moto import mock_aws

from local import stack as local_stack
from local.config import ROOT
from tests.benchmarks.results import PEAK_MB
from tests.deploy import stack
from tests.deploy.iam_checker import Request, allows, statements
from tests.deploy.iam_table import DOCUMENT

#: What is held against the shapes of the service's own model only.
UNPROVEN = {
    "AWS::MWAA::Environment": "moto has no MWAA: every property is validated by botocore's model of it",
    "AWS::CloudFormation::WaitCondition": "only an order: the environment waits for its way out",
    "AWS::CloudFormation::WaitConditionHandle": "as above",
}
#: The memory of a worker by class [MWAA user guide, "Configuring the Amazon MWAA environment class"], and what is not a
#: task's: Celery, and the system.
MEMORY_MB, OF_A_WORKER_MB = {"mw1.small": 2048}, 512
#: Parts of a property that moto's service does not keep, as the test checks.
FORGOTTEN = {"NewerNoncurrentVersions": "moto's S3 takes it in a lifecycle rule, and does not give it back"}
#: Made by the calls of `_complete`, as moto's CloudFormation leaves them out.
COMPLETED = {
    "AWS::S3::Bucket": "Versioning, PublicAccessBlock and LifecycleConfiguration, OwnershipControls",
    "AWS::S3::BucketPolicy": "all",
    "AWS::EC2::SecurityGroup": "SecurityGroupEgress, descriptions of SecurityGroupIngress",
    "AWS::EC2::SecurityGroupIngress": "Description",
    "AWS::EC2::VPC": "EnableDnsHostnames",
    "AWS::EC2::SubnetRouteTableAssociation": "all",
    "AWS::DynamoDB::Table": "PointInTimeRecoverySpecification",
    "AWS::CloudWatch::Alarm": "all",
}
VARIANTS: dict[str, dict[str, str]] = {
    "nat": {"KmsKeyArn": "arn:aws:kms:us-east-1:123456789012:key/12345678-90ab-cdef-1234-567890abcdef"},
    "private": {
        "Routing": "private",
        "NeptuneClusterResourceId": "cluster-ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        "GraphLoadBucket": "graph-files",
        "NeptuneLoadRoleArn": "arn:aws:iam::123456789012:role/neptune-reads-s3",
        "NeptuneWriterEndpoint": "cohort.cluster-abc.us-east-1.neptune.amazonaws.com",
        "MakeContactsTable": "true",
        "SnapshotDays": "400",
        "AlarmTopicArn": "arn:aws:sns:us-east-1:123456789012:on-call",
        "WebserverAccessMode": "PRIVATE_ONLY",
        "PluginsVersion": "v1",
        "RequirementsVersion": "v2",
        "ProfilesDomain": "players",
        "CampaignSender": "play@studio.email.connect.aws",
        "ConnectInstanceId": "0123abcd-0123-4567-89ab-0123456789ab",
        "KnowledgeBaseId": "89abcdef-0123-4567-89ab-0123456789ab",
        "UnsubscribeUrl": "https://studio.example/unsubscribe?a=1&b=2",
    },
    "yours": {
        "MakeEnvironment": "false",
        "VpcCidr": "10.9.0.0/16",
        "YourExecutionRoleName": "your-execution-role",
        "SesContactList": "players",
        "SesTopic": "Cohorts",
        "ProfilesDomain": "players",
    },
    "ses": {
        "PinpointApplicationId": "",
        "SesContactList": "players",
        "SesTopic": "Cohorts",
        "CampaignSender": "*@studio.example",
    },
}


# --- the file itself


@pytest.mark.nightly  # `make lint` does the same
def test_cfn_lint_finds_nothing() -> None:
    command = [str(Path(sys.executable).with_name("cfn-lint")), "--include-checks", "I", "--"]
    command += [str(stack.TEMPLATE), str(stack.ENGAGEMENT)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (run.returncode, run.stdout) == (0, ""), run.stdout + run.stderr


def test_every_suppression_has_a_reason() -> None:
    lines = stack.TEMPLATE.read_text(encoding="utf-8").splitlines()
    suppressed = [number for number, line in enumerate(lines) if "ignore_checks" in line]
    assert suppressed
    assert all(lines[number - 1].strip().startswith("# ") for number in suppressed)


def test_cloudformation_takes_it_as_it_is() -> None:
    from cfnlint.decode import cfn_yaml  # here, because its import takes a second

    text = stack.TEMPLATE.read_text(encoding="utf-8")
    assert (
        len(local_stack.compact_template().encode()) <= 51_200
    )  # [CloudFormation quotas] a template's body in a request
    whole = cfn_yaml.load(str(stack.TEMPLATE))
    whole.pop("Metadata")
    assert all(parameter.pop("Description") for parameter in whole["Parameters"].values())
    assert cfn_yaml.loads(local_stack.compact_template()) == whole
    assert not re.search(r"(^|[-:] )[&*]\w+$", text, re.MULTILINE)  # [CloudFormation: formats] no YAML aliases


POLICIES = {
    "pipeline": ("PipelinePolicy", "PolicyDocument"),
    "pinpoint": ("PinpointPolicy", "PolicyDocument"),
    "ses": ("SesPolicy", "PolicyDocument"),
    "customer_profiles": ("ProfilesPolicy", "PolicyDocument"),
    "campaign": ("CampaignPolicy", "PolicyDocument"),
    "ses_campaign": ("SesCampaignPolicy", "PolicyDocument"),
    "connect_campaign": ("ConnectCampaignPolicy", "PolicyDocument"),
    "neptune": ("NeptunePolicy", "PolicyDocument"),
    "graph_load": ("GraphLoadPolicy", "PolicyDocument"),
    "graph_load_role": ("GraphLoadRolePolicy", "PolicyDocument"),
    "graph_load_role-trust": ("GraphLoadRole", "AssumeRolePolicyDocument"),
    "neptune_load": ("NeptuneLoadPolicy", "PolicyDocument"),
    "kms": ("KmsPolicy", "PolicyDocument"),
    "environment": ("EnvironmentPolicy", "PolicyDocument"),
    "environment-trust": ("ExecutionRole", "AssumeRolePolicyDocument"),
    "pinpoint-import-role": ("PinpointImportRole", "Policies", 0, "PolicyDocument"),
    "pinpoint-import-role-kms": ("PinpointKmsPolicy", "PolicyDocument"),
    "pinpoint-import-role-trust": ("PinpointImportRole", "AssumeRolePolicyDocument"),
}


#: Those of the optional stack: test_engagement_template.py.
OF_ENGAGEMENT = ("engagement", "engagement_graph", "engagement_graph_role", "engagement_graph_role-trust")


def test_every_policy_of_include_iam_is_in_the_template() -> None:
    assert sorted([*POLICIES, *OF_ENGAGEMENT]) == stack.policy_names()
    kinds = ("AWS::IAM::Role", "AWS::IAM::ManagedPolicy")
    made = {name for name, each in stack.template()["Resources"].items() if each["Type"].startswith("AWS::IAM::")}
    assert made == {path[0] for path in POLICIES.values()}
    assert {stack.template()["Resources"][name]["Type"] for name in made} == set(kinds)


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_the_template_has_the_policies_word_for_word(name: str) -> None:
    resource, *path = POLICIES[name]
    found = stack.template()["Resources"][resource]["Properties"]
    for step in path:
        found = found[step]
    assert _unsubstituted(found) == stack.policy(name)


def _unsubstituted(value: Any) -> Any:
    """What a file of include/iam has: names as they are, and of a choice what our own environment has."""
    if isinstance(value, list):
        return [_unsubstituted(each) for each in value]
    if isinstance(value, dict):
        if "Fn::If" in value:
            return _unsubstituted(value["Fn::If"][1])
        if "Fn::GetAtt" in value:
            return f"${{{'.'.join(value['Fn::GetAtt'])}}}"
        return value["Fn::Sub"] if value.keys() == {"Fn::Sub"} else {k: _unsubstituted(v) for k, v in value.items()}
    return value


# --- deployed, and read back


class Deployed:
    """A stack, completed, its resources as the template says that they are, and a reader of each property."""

    def __init__(self, client: Callable[[str], Any], variant: str) -> None:
        self.client, self.variant = client, variant
        parameters = {"PinpointApplicationId": "0123456789abcdef", "SettingsPrefix": f"/{variant}"} | VARIANTS[variant]
        if variant == "yours":
            parameters |= self._yours()
        self.stack = stack.deploy(client, f"flywheel-{variant}", **parameters)
        self.ec2 = client("ec2")
        addresses = {}
        if "NatAddress" in self.stack.ids:
            (address,) = self.ec2.describe_addresses(PublicIps=[self.stack.ids["NatAddress"]])["Addresses"]
            addresses["NatAddress.AllocationId"] = address["AllocationId"]
        self.resources = self.stack.resolver(addresses).resources()
        _complete(self)

    def _yours(self) -> dict[str, str]:
        ec2 = self.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
        tables = [ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"] for _ in range(2)]
        group = ec2.create_security_group(GroupName="yours", Description="yours", VpcId=vpc)["GroupId"]
        self.client("iam").create_role(RoleName="your-execution-role", AssumeRolePolicyDocument="{}")
        return {
            "YourVpcId": vpc, "YourRouteTableId1": tables[0], "YourRouteTableId2": tables[1],
            "YourSecurityGroupId": group,
        }  # fmt: skip


@pytest.fixture(scope="module")
def deployed() -> Iterator[Callable[[str], Deployed]]:
    with mock_aws():
        made: dict[str, Deployed] = {}

        def client(service: str) -> Any:
            return boto3.client(
                service, region_name=stack.REGION, aws_access_key_id="moto", aws_secret_access_key="moto"
            )

        def get(variant: str) -> Deployed:
            if variant not in made:
                made[variant] = Deployed(client, variant)
            return made[variant]

        yield get


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_property_is_read_back_by_its_services_own_api(
    variant: str, deployed: Callable[[str], Deployed], figure: Callable[[str], None]
) -> None:
    here = deployed(variant)
    wrong, read = [], 0
    for name, resource in here.resources.items():
        if resource["Type"] in UNPROVEN:
            continue
        found = READERS[resource["Type"]](here, name, resource["Properties"])
        for key, wanted in resource["Properties"].items():
            read += 1
            if _comparable(found.get(key)) != _comparable(wanted):
                wrong.append(f"{name}.{key} is {found.get(key)!r}, and the template says {wanted!r}")
    assert not wrong, "\n".join(wrong)
    kinds = len({resource["Type"] for resource in here.resources.values()} - UNPROVEN.keys())
    figure(f"template, {variant}: {len(here.resources)} resources of {kinds} types, {read} properties read back")


def _comparable(value: Any) -> Any:
    """Without what moto does not keep; and numbers, as CloudFormation also accepts them as text."""
    if isinstance(value, list):
        return [_comparable(each) for each in value]
    if isinstance(value, dict):
        return {name: _comparable(each) for name, each in value.items() if name not in FORGOTTEN}
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def test_unproven_properties_are_listed(figure: Callable[[str], None]) -> None:
    kinds = {each["Type"] for each in stack.template()["Resources"].values()}
    assert UNPROVEN.keys() <= kinds
    assert COMPLETED.keys() <= kinds
    assert kinds == READERS.keys() | UNPROVEN.keys()
    figure("template, unproven: " + "; ".join(f"{what} ({why})" for what, why in (UNPROVEN | FORGOTTEN).items()))
    made = "; ".join(f"{kind} ({properties})" for kind, properties in COMPLETED.items())
    figure(f"template, left out by moto's CloudFormation, so made by the service's own API, and read back: {made}")


def test_moto_still_ignores_these_properties(deployed: Callable[[str], Deployed]) -> None:
    here = deployed("nat")
    wanted = json.dumps(here.resources["BundleBucket"])
    found = here.client("s3").get_bucket_lifecycle_configuration(Bucket=here.stack.outputs["BundleBucket"])
    for name in FORGOTTEN:
        assert name in wanted
        assert name not in json.dumps(found), f"moto keeps {name} now: take it out of FORGOTTEN"


@pytest.mark.parametrize("variant", ["nat", "private"])
def test_the_environment_is_what_mwaas_api_takes(variant: str, deployed: Callable[[str], Deployed]) -> None:
    properties = deployed(variant).resources["Environment"]["Properties"]
    models = botocore.session.get_session().get_service_model("mwaa")
    # CloudFormation takes numbers as texts
    properties = properties | {"MaxWorkers": int(properties["MaxWorkers"])}
    created = {name: value for name, value in properties.items() if name != "WorkerReplacementStrategy"}  # of an update
    groups = {"SecurityGroupIds": properties["NetworkConfiguration"]["SecurityGroupIds"]}  # subnets stay what they are
    changed = properties | {"NetworkConfiguration": groups}
    for operation, sent in (("CreateEnvironment", created), ("UpdateEnvironment", changed)):
        report = ParamValidator().validate(sent, models.operation_model(operation).input_shape)
        assert not report.has_errors(), report.generate_report()
    options = properties["AirflowConfigurationOptions"]
    tasks, _, least = options["celery.worker_autoscale"].partition(",")
    assert tasks == least  # a worker has all of its processes from the start
    assert OF_A_WORKER_MB + int(tasks) * PEAK_MB <= MEMORY_MB[properties["EnvironmentClass"]]
    kwargs = json.loads(options["secrets.backend_kwargs"])
    assert kwargs["connections_prefix"] == f"/{variant}/connections"
    assert ("PluginsS3Path" in properties) == (variant == "private")


# --- what it comes to


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_bucket_is_reached_by_tls_alone(variant: str, deployed: Callable[[str], Deployed]) -> None:
    here = deployed(variant)
    buckets = [name for name, each in here.resources.items() if each["Type"] == "AWS::S3::Bucket"]
    assert len(buckets) == (3 if variant == "yours" else 4)
    everything = {"Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}
    for name in buckets:
        bucket = here.stack.ids[name]
        policy = json.loads(here.client("s3").get_bucket_policy(Bucket=bucket)["Policy"])
        for arn in (f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/key"):
            plain, tls = ({"aws:SecureTransport": word} for word in ("false", "true"))
            assert not allows([everything, policy], Request("s3:GetObject", arn, plain))
            assert allows([everything, policy], Request("s3:GetObject", arn, tls))


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_bucket_is_public_and_each_is_encrypted_and_kept(variant: str, deployed: Callable[[str], Deployed]) -> None:
    here, whole, s3 = deployed(variant), stack.template()["Resources"], deployed(variant).client("s3")
    for name in (name for name, each in here.resources.items() if each["Type"] == "AWS::S3::Bucket"):
        bucket = here.stack.ids[name]
        closed = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
        assert closed == dict.fromkeys(
            ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"), True
        )
        (rule,) = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
        assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
        versioned = s3.get_bucket_versioning(Bucket=bucket).get("Status") == "Enabled"
        assert versioned == (name in ("StateBucket", "BundleBucket"))
        # kept with all that it holds; but a creation that fails takes it back, or the next one would meet it
        assert (whole[name]["DeletionPolicy"], whole[name]["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")


def test_ses_reads_its_import_files_for_this_account_and_nothing_else(deployed: Callable[[str], Deployed]) -> None:
    def policy(variant: str) -> tuple[str, dict[str, Any]]:
        here = deployed(variant)
        bucket = here.stack.outputs["ImportBucket"]
        document = json.loads(here.client("s3").get_bucket_policy(Bucket=bucket)["Policy"])
        ours = [each for each in document["Statement"] if each["Principal"] == {"Service": "ses.amazonaws.com"}]
        return f"arn:aws:s3:::{bucket}", {"Statement": ours}

    arn, document = policy("ses")
    here = {"aws:Referer": stack.ACCOUNT}
    assert allows([document], Request("s3:GetObject", f"{arn}/contacts/ea_atrisk_2/0000.csv", here))
    for request in (
        Request("s3:GetObject", f"{arn}/contacts/ea_atrisk_2/0000.csv", {"aws:Referer": "999999999999"}),
        Request("s3:GetObject", f"{arn}/contacts/ea_atrisk_2/0000.csv"),
        Request("s3:GetObject", f"{arn}/segments/ea_atrisk_2/0000.csv", here),
        Request("s3:PutObject", f"{arn}/contacts/ea_atrisk_2/0000.csv", here),
        Request("s3:ListBucket", arn, here),
    ):
        assert not allows([document], request), request
    assert not policy("nat")[1]["Statement"]


def test_the_page_has_rows_of_each_policy_of_the_execution_role() -> None:
    # of others
    trusts = {"environment-trust", "engagement_graph_role-trust", "graph_load_role-trust"}
    roles = {"pinpoint-import-role", "pinpoint-import-role-trust", *trusts}
    rows = re.findall(r"^\| ([\w-]+) \| \w+ \| `", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(rows) == {*stack.policy_names()} - roles


@pytest.mark.parametrize(("variant", "mails"), [("nat", False), ("private", True), ("yours", False), ("ses", True)])
def test_mail_permissions_only_with_campaigns(variant: str, mails: bool, deployed: Callable[[str], Deployed]) -> None:
    """`yours` has both of the destinations that could."""
    here = deployed(variant)
    policies = [each for each in here.resources.values() if each["Type"] == "AWS::IAM::ManagedPolicy"]
    actions = [
        action
        for each in policies
        for statement in statements(each["Properties"]["PolicyDocument"])
        for action in (statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]])
    ]
    mailing = {"ses:SendEmail", "connect-campaigns:CreateCampaign", "connect-campaigns:StartCampaign"}
    assert bool(mailing & {*actions}) == mails
    assert ("connect-campaigns:StartCampaign" in actions) == (variant == "private")


def test_connect_is_refused_without_all_that_it_needs() -> None:
    """By a rule, before anything is made; the four are what its tasks ask for."""
    rule = stack.template()["Rules"]["ConnectHasAllItNeeds"]
    assert rule["RuleCondition"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "ConnectInstanceId"}, ""]}]}
    (assertion,) = rule["Assertions"]
    named = ("ProfilesDomain", "KnowledgeBaseId", "UnsubscribeUrl", "CampaignSender")
    assert assertion["Assert"]["Fn::And"] == [{"Fn::Not": [{"Fn::Equals": [{"Ref": name}, ""]}]} for name in named]
    assert all(name in assertion["AssertDescription"] for name in named)


def test_a_graph_load_is_refused_without_all_that_it_needs() -> None:
    rule = stack.template()["Rules"]["GraphLoadHasAllItNeeds"]
    assert rule["RuleCondition"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "GraphLoadBucket"}, ""]}]}
    (assertion,) = rule["Assertions"]
    named = ("NeptuneLoadRoleArn", "NeptuneWriterEndpoint")
    assert assertion["Assert"]["Fn::And"] == [{"Fn::Not": [{"Fn::Equals": [{"Ref": name}, ""]}]} for name in named]
    assert all(name in assertion["AssertDescription"] for name in named)


@pytest.mark.parametrize(("variant", "loads"), [("nat", False), ("private", True), ("yours", False), ("ses", False)])
def test_only_the_role_of_graph_loads_can_load(variant: str, loads: bool, deployed: Callable[[str], Deployed]) -> None:
    here = deployed(variant)
    can = {
        json.dumps(each["Properties"]["Roles"])
        for each in here.resources.values()
        if each["Type"] == "AWS::IAM::ManagedPolicy" and "neptune-db:StartLoaderJob" in json.dumps(each)
    }
    assert can == ({json.dumps([here.stack.ids["GraphLoadRole"]])} if loads else set())
    assert ("GraphLoadRole" in here.resources) == loads


@pytest.mark.parametrize("variant", ["nat", "ses"])
def test_files_of_players_expire_in_the_buckets_for_others(variant: str, deployed: Callable[[str], Deployed]) -> None:
    from cohort_flywheel.destinations.ses.layout import IMPORT_FOLDER
    from cohort_flywheel.runs.names import SEGMENT_FOLDER, UPLOADED_FOLDER

    here = deployed(variant)
    for bucket, folders in (
        ("ExportBucket", {"export/", UPLOADED_FOLDER}),
        ("ImportBucket", {SEGMENT_FOLDER, IMPORT_FOLDER}),
    ):
        rules = here.client("s3").get_bucket_lifecycle_configuration(Bucket=here.stack.outputs[bucket])["Rules"]
        removing = {rule["Filter"]["Prefix"]: rule["Expiration"]["Days"] for rule in rules if "Expiration" in rule}
        assert removing == dict.fromkeys(folders, 30)


@pytest.mark.parametrize(("variant", "kept"), [("nat", True), ("private", False)])
def test_no_rule_removes_the_history(variant: str, kept: bool, deployed: Callable[[str], Deployed]) -> None:
    here = deployed(variant)
    rules = here.client("s3").get_bucket_lifecycle_configuration(Bucket=here.stack.outputs["StateBucket"])["Rules"]
    removing = [rule["Filter"]["Prefix"] for rule in rules if "Days" in rule.get("Expiration", {})]
    assert sorted(removing) == sorted([
        "dry_run/", "rejects/", "staged/", "what_if/", *([] if kept else ["snapshots/", "snapshots_pending/"]),
    ])  # fmt: skip
    history = [
        "results/a",
        "claims/a",
        "last_runs/a",
        "reports/a",
        "memberships/a",
        "sends/a",
        "launches/a",
        "do_not_contact.txt",
        *(["snapshots/a", "snapshots_pending/a"] if kept else []),
    ]
    assert not [key for key in history if key.startswith(tuple(removing))]


def test_the_threat_model_has_the_templates_days(deployed: Callable[[str], Deployed]) -> None:
    """How long players rest where: each rule that removes has its row, with its days."""
    model = ROOT / "docs" / "explanation" / "threat-model.md"
    page = model.read_text(encoding="utf-8").partition("## Where players rest")[2]
    rows = [line for line in page.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    here, checked = deployed("nat"), 0
    for bucket in ("ExportBucket", "ImportBucket", "StateBucket"):
        rules = here.resources[bucket]["Properties"]["LifecycleConfiguration"]["Rules"]
        for rule in rules:
            # a what-if is a table of counts
            if "ExpirationInDays" in rule and rule["Prefix"] != "what_if/":
                (row,) = [row for row in rows if f"`{rule['Prefix']}`" in row.split("|")[1]]
                assert f"{rule['ExpirationInDays']} days" in row.split("|")[-2], row
                checked += 1
        kept = [rule["NoncurrentVersionExpiration"]["NoncurrentDays"] for rule in rules if "Noncurrent" in str(rule)]
        for row in (row for row in rows if row.startswith(f"| {bucket.removesuffix('Bucket').lower()} bucket")):
            assert ("+30" in row) == (kept == [30]), row
    assert checked == 7


def test_the_threat_model_has_every_place_of_a_player_and_every_dag() -> None:
    """Wherever an erasure looks, and what it leaves behind."""
    from airflow.dag_processing.dagbag import DagBag

    from cohort_flywheel.governance.erasure import PLAYERS_KEY, SALT_KEY, TOMBSTONES_FOLDER
    from cohort_flywheel.governance.erasure_operator import FOLDERS

    page = (ROOT / "docs" / "explanation" / "threat-model.md").read_text(encoding="utf-8")
    rows = page.partition("## Where players rest")[2].partition("\n## ")[0].splitlines()
    places = "".join(row.split("|")[1] for row in rows if row.startswith("| "))
    wanted = {*(prefix for _, prefix in FOLDERS), PLAYERS_KEY, SALT_KEY, TOMBSTONES_FOLDER}
    assert [each for each in sorted(wanted) if f"`{each}`" not in places] == []
    others = {dag for dag in DagBag(ROOT / "dags").dags if not dag.startswith("cohort_to_segment")}
    assert [dag for dag in sorted(others) if f"`{dag}`" not in page] == []


def test_the_page_on_deploying_names_what_the_template_has(deployed: Callable[[str], Deployed]) -> None:
    page = (ROOT / "docs" / "get-started" / "deploy.md").read_text(encoding="utf-8")
    whole = stack.template()
    named = set(re.findall(r"\b([A-Z]\w*[a-z]\w*)=", page))
    assert {"PinpointApplicationId", "Routing"} <= named <= whole["Parameters"].keys()
    options = deployed("nat").resources["Environment"]["Properties"]["AirflowConfigurationOptions"]
    kwargs = json.loads(options["secrets.backend_kwargs"].replace("/nat/", "/cohort-flywheel/"))
    for name, value in kwargs.items():
        assert f'{name}: "{value}"' in page
    assert options["secrets.backend"] in page


def test_the_modelers_stack_gets_one_rule_and_one_route(deployed: Callable[[str], Deployed]) -> None:
    for variant in ("nat", "yours"):
        here = deployed(variant)
        (group,) = here.ec2.describe_security_groups(GroupIds=[here.stack.parameters["ModelerSecurityGroupId"]])[
            "SecurityGroups"
        ]
        (rule,) = group["IpPermissions"]
        assert (rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) == ("tcp", 8182, 8182)
        workers = here.stack.ids["WorkersGroup"] if variant == "nat" else here.stack.parameters["YourSecurityGroupId"]
        assert [pair["GroupId"] for pair in rule["UserIdGroupPairs"]] == [workers]
        assert not rule["IpRanges"]
        table = _route_table(here, here.stack.parameters["ModelerRouteTableId"])
        cidr = here.stack.parameters.get("VpcCidr", "10.1.0.0/16")
        added = [route for route in table["Routes"] if route.get("GatewayId") != "local"]
        assert [(route["DestinationCidrBlock"], route["VpcPeeringConnectionId"]) for route in added] == [
            (cidr, here.stack.ids["Peering"])
        ]


def test_a_private_network_has_no_route_to_the_internet(deployed: Callable[[str], Deployed]) -> None:
    here = deployed("private")
    table = _route_table(here, here.stack.ids["PrivateRouteTable"])
    assert not [route for route in table["Routes"] if route.get("DestinationCidrBlock") == "0.0.0.0/0"]
    filters = [{"Name": "vpc-id", "Values": [here.stack.ids["Vpc"]]}]
    services = {each["ServiceName"] for each in here.ec2.describe_vpc_endpoints(Filters=filters)["VpcEndpoints"]}
    # https://docs.aws.amazon.com/mwaa/latest/userguide/vpc-vpe-create-access.html, and what the pipeline calls
    mwaa = "s3 monitoring ecr.dkr ecr.api logs sqs kms airflow.api airflow.env airflow.ops".split()
    ours = "dynamodb ssm sts pinpoint profile connect-campaigns wisdom".split()
    assert services == {f"com.amazonaws.us-east-1.{name}" for name in [*mwaa, *ours]}


@pytest.mark.parametrize(("variant", "handle"), [("nat", "NatIsThere"), ("private", "EndpointsAreThere")])
def test_the_environment_waits_for_its_network_route(
    variant: str, handle: str, deployed: Callable[[str], Deployed]
) -> None:
    here, whole = deployed(variant), stack.template()["Resources"]
    assert "WayOut" in whole["Environment"]["DependsOn"]
    assert here.resources["WayOut"]["Properties"]["Handle"] == handle
    awaited = whole[handle]["DependsOn"]
    if variant == "nat":
        assert awaited == "PrivateRoute"
    else:
        kinds = {name: each for name, each in here.resources.items() if each["Type"] == "AWS::EC2::VPCEndpoint"}
        interfaces = {name for name, each in kinds.items() if each["Properties"]["VpcEndpointType"] == "Interface"}
        not_always_there = {
            "PinpointEndpoint",
            "ProfilesEndpoint",
            "CampaignsEndpoint",
            "TemplatesEndpoint",
            "StsEndpoint",
        }
        assert set(awaited) == interfaces - not_always_there  # tasks alone ask them


def test_the_settings_are_those_of_the_pipeline(deployed: Callable[[str], Deployed]) -> None:
    from cohort_flywheel.config.variables import PREFIX, DeploymentSettings
    from cohort_flywheel.destinations import get_destination

    pinpoint, ses = get_destination("pinpoint"), get_destination("ses")
    customer_profiles = get_destination("customer_profiles")

    def settings(variant: str) -> tuple[set[str], dict[str, Any]]:
        pages = deployed(variant).client("ssm").get_paginator("get_parameters_by_path")
        found = {
            each["Name"]: each["Value"]
            for page in pages.paginate(Path=f"/{variant}", Recursive=True)
            for each in page["Parameters"]
        }
        neptune = json.loads(found.pop(f"/{variant}/connections/neptune_default"))
        if load := found.pop(f"/{variant}/connections/aws_graph_load", None):
            role = f"arn:aws:iam::{stack.ACCOUNT}:role/{deployed(variant).stack.ids['GraphLoadRole']}"
            assert json.loads(load) == {"conn_type": "aws", "extra": {"role_arn": role, "region_name": "us-east-1"}}
        return {name.removeprefix(f"/{variant}/variables/{PREFIX}") for name in found}, neptune

    def required(*models: Any) -> set[str]:
        return {name for model in models for name, field in model.model_fields.items() if field.is_required()}

    names, neptune = settings("nat")
    assert names == required(DeploymentSettings, pinpoint.settings) | {"s3_encryption", "s3_kms_key_id"}
    assert neptune == {
        "conn_type": "gremlin", "host": deployed("nat").stack.parameters["NeptuneEndpoint"], "port": 8182,
        "schema": "wss", "extra": {"iam": False, "region_name": "us-east-1"},
    }  # fmt: skip
    names, neptune = settings("private")
    profiles = (customer_profiles.settings, customer_profiles.campaign_settings)
    loads = {"graph_load_bucket", "graph_load_role_arn"}
    assert names == required(DeploymentSettings, pinpoint.settings, *profiles) | loads
    writer = f"{VARIANTS['private']['NeptuneWriterEndpoint']}:8182"
    assert neptune["extra"] == {"iam": True, "region_name": "us-east-1", "loader_endpoint": writer}
    assert settings("ses")[0] == required(DeploymentSettings, ses.settings, ses.campaign_settings)
    yours = (DeploymentSettings, pinpoint.settings, ses.settings, customer_profiles.settings)
    assert settings("yours")[0] == required(*yours)


def test_a_run_that_is_missing_and_one_that_failed_raise_an_alarm(deployed: Callable[[str], Deployed]) -> None:
    """By CloudWatch's rules: how many of the last data points breach; missing ones count as the alarm says."""
    alarms = {name: deployed("nat").resources[name]["Properties"] for name in ("FailedRunAlarm", "MissingRunAlarm")}
    assert _in_alarm(alarms["FailedRunAlarm"], [1])
    assert not _in_alarm(alarms["FailedRunAlarm"], [None])
    hours = alarms["MissingRunAlarm"]["EvaluationPeriods"]
    assert alarms["MissingRunAlarm"]["Period"] * hours == 26 * 3600
    assert _in_alarm(alarms["MissingRunAlarm"], [None] * hours)
    assert _in_alarm(alarms["MissingRunAlarm"], [0] * hours)  # as a counter may report an hour without any
    assert not _in_alarm(alarms["MissingRunAlarm"], [1, *[None] * (hours - 1)])


def test_a_run_is_missing_until_one_has_verified_a_segment(deployed: Callable[[str], Deployed]) -> None:
    """A dry run and an extract_only succeed and skip that task, so Airflow sends no `ti.finish` of it."""
    from airflow.dag_processing.dagbag import DagBag
    from airflow.sdk import TaskInstanceState

    from cohort_flywheel.runs.result_operator import CohortResultOperator

    alarm = deployed("nat").resources["MissingRunAlarm"]["Properties"]
    asked = {each["Name"]: each["Value"] for each in alarm["Dimensions"]}
    # https://docs.aws.amazon.com/mwaa/latest/userguide/access-metrics-cw.html: ti.finish.{dag_id}.{task_id}.{state}
    assert (alarm["MetricName"], alarm["Statistic"]) == ("TaskInstanceFinished", "Sum")
    assert asked.keys() == {"DAG", "Environment", "Task", "State"}
    assert asked["State"] == TaskInstanceState.SUCCESS.value
    dag = DagBag(ROOT / "dags" / "cohort_to_segment.py").dags[asked["DAG"]]
    assert isinstance(dag.get_task(asked["Task"]), CohortResultOperator)
    assert "verify_segment" in dag.get_task(asked["Task"]).upstream_task_ids


def _in_alarm(alarm: dict[str, Any], points: list[float | None]) -> bool:
    assert len(points) == alarm["EvaluationPeriods"]
    compare = {"GreaterThanThreshold": operator.gt, "LessThanThreshold": operator.lt}[alarm["ComparisonOperator"]]
    missing, threshold = alarm["TreatMissingData"] == "breaching", alarm["Threshold"]
    breaches = [missing if point is None else compare(point, threshold) for point in points]
    return sum(breaches) >= alarm.get("DatapointsToAlarm", alarm["EvaluationPeriods"])


# --- what moto's CloudFormation leaves out


def _complete(here: Deployed) -> None:
    s3, cloudwatch = here.client("s3"), here.client("cloudwatch")
    for name, resource in here.resources.items():
        properties = resource["Properties"]
        match resource["Type"]:
            case "AWS::S3::Bucket":
                bucket = here.stack.ids[name]
                s3.put_public_access_block(
                    Bucket=bucket, PublicAccessBlockConfiguration=properties["PublicAccessBlockConfiguration"]
                )
                s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls=properties["OwnershipControls"])
                if "VersioningConfiguration" in properties:
                    s3.put_bucket_versioning(
                        Bucket=bucket, VersioningConfiguration=properties["VersioningConfiguration"]
                    )
                rules = [_rule_for_s3(rule) for rule in properties["LifecycleConfiguration"]["Rules"]]
                s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})
            case "AWS::S3::BucketPolicy":
                s3.put_bucket_policy(Bucket=properties["Bucket"], Policy=json.dumps(properties["PolicyDocument"]))
            case "AWS::EC2::VPC":
                here.ec2.modify_vpc_attribute(VpcId=here.stack.ids[name], EnableDnsHostnames={"Value": True})
            case "AWS::EC2::SubnetRouteTableAssociation":
                here.ec2.associate_route_table(**properties)
            case "AWS::EC2::SecurityGroup":
                _complete_group(here.ec2, here.stack.ids[name], properties)
            case "AWS::EC2::SecurityGroupIngress":
                group, undescribed = properties["GroupId"], properties | {"Description": None}
                here.ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[_permission(undescribed)])
                here.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[_permission(properties)])
            case "AWS::DynamoDB::Table":
                here.client("dynamodb").update_continuous_backups(
                    TableName=here.stack.ids[name],
                    PointInTimeRecoverySpecification=properties["PointInTimeRecoverySpecification"],
                )
            case "AWS::CloudWatch::Alarm":
                cloudwatch.put_metric_alarm(AlarmName=f"{here.stack.name}-{name}", **properties)


def _complete_group(ec2: Any, group: str, properties: dict[str, Any]) -> None:
    (found,) = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    ec2.revoke_security_group_egress(GroupId=group, IpPermissions=found["IpPermissionsEgress"])
    ec2.authorize_security_group_egress(
        GroupId=group, IpPermissions=[_permission(rule) for rule in properties["SecurityGroupEgress"]]
    )
    if "SecurityGroupIngress" in properties:
        ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=found["IpPermissions"])
        ec2.authorize_security_group_ingress(
            GroupId=group, IpPermissions=[_permission(rule) for rule in properties["SecurityGroupIngress"]]
        )


def _permission(rule: dict[str, Any]) -> dict[str, Any]:
    """A rule of a security group, as EC2's own API takes it."""
    permission: dict[str, Any] = {name: rule[name] for name in ("IpProtocol", "FromPort", "ToPort") if name in rule}
    described = {"Description": rule["Description"]} if rule["Description"] else {}
    if "CidrIp" in rule:
        permission["IpRanges"] = [{"CidrIp": rule["CidrIp"], **described}]
    else:
        permission["UserIdGroupPairs"] = [{"GroupId": rule["SourceSecurityGroupId"], **described}]
    return permission


def _rule_for_s3(rule: dict[str, Any]) -> dict[str, Any]:
    """A lifecycle rule of CloudFormation's, as S3's own API takes it."""
    made: dict[str, Any] = {"ID": rule["Id"], "Status": rule["Status"], "Filter": {"Prefix": rule.get("Prefix", "")}}
    if "ExpirationInDays" in rule:
        made["Expiration"] = {"Days": int(rule["ExpirationInDays"])}
    if "ExpiredObjectDeleteMarker" in rule:
        made["Expiration"] = {"ExpiredObjectDeleteMarker": rule["ExpiredObjectDeleteMarker"]}
    if "Transitions" in rule:
        made["Transitions"] = [
            {"Days": each["TransitionInDays"], "StorageClass": each["StorageClass"]} for each in rule["Transitions"]
        ]
    made |= {k: rule[k] for k in ("NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload") if k in rule}
    return made


def _rule_of_s3(rule: dict[str, Any]) -> dict[str, Any]:
    """The other way round."""
    made: dict[str, Any] = {"Id": rule["ID"], "Status": rule["Status"]}
    if prefix := rule["Filter"].get("Prefix"):
        made["Prefix"] = prefix
    if "Days" in (expiration := rule.get("Expiration", {})):
        made["ExpirationInDays"] = str(expiration["Days"])
    if "ExpiredObjectDeleteMarker" in expiration:
        made["ExpiredObjectDeleteMarker"] = expiration["ExpiredObjectDeleteMarker"]
    if rule.get("Transitions"):
        made["Transitions"] = [
            {"StorageClass": each["StorageClass"], "TransitionInDays": each["Days"]} for each in rule["Transitions"]
        ]
    made |= {k: rule[k] for k in ("NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload") if k in rule}
    return made


# --- readers: a resource's properties in CloudFormation's words, as its service's own API gives them


def _bucket(here: Deployed, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    s3, bucket = here.client("s3"), here.stack.ids[name]
    rules = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    encryption = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    found = {
        "BucketEncryption": {
            "ServerSideEncryptionConfiguration": [
                {"ServerSideEncryptionByDefault": rule["ApplyServerSideEncryptionByDefault"]} for rule in encryption
            ]
        },
        "PublicAccessBlockConfiguration": s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"],
        "OwnershipControls": s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"],
        "LifecycleConfiguration": {"Rules": [_rule_of_s3(rule) for rule in rules]},
    }
    if status := s3.get_bucket_versioning(Bucket=bucket).get("Status"):
        found["VersioningConfiguration"] = {"Status": status}
    return found


def _bucket_policy(here: Deployed, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    policy = here.client("s3").get_bucket_policy(Bucket=wanted["Bucket"])["Policy"]
    return {"Bucket": wanted["Bucket"], "PolicyDocument": json.loads(policy)}


def _role(here: Deployed, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    iam, role = here.client("iam"), here.stack.ids[name]
    inline = [
        iam.get_role_policy(RoleName=role, PolicyName=policy)
        for policy in iam.list_role_policies(RoleName=role)["PolicyNames"]
    ]
    return {
        "AssumeRolePolicyDocument": iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"],
        "Policies": [
            # moto keeps an inline policy of CloudFormation's as the text of Python's dict, not as JSON
            {"PolicyName": each["PolicyName"], "PolicyDocument": ast.literal_eval(each["PolicyDocument"])}
            for each in inline
        ],
    }


def _managed_policy(here: Deployed, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    iam, arn = here.client("iam"), here.stack.ids[name]
    roles = {each["RoleName"] for each in iam.list_entities_for_policy(PolicyArn=arn)["PolicyRoles"]}
    return {
        "Description": iam.get_policy(PolicyArn=arn)["Policy"]["Description"],
        "Roles": sorted(roles, key=[*wanted["Roles"], *roles].index),  # their order says nothing
        "PolicyDocument": iam.get_policy_version(PolicyArn=arn, VersionId="v1")["PolicyVersion"]["Document"],
    }


def _parameter(here: Deployed, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    ssm, parameter = here.client("ssm"), here.stack.ids[name]
    filters = [{"Key": "Name", "Values": [parameter]}]
    (described,) = ssm.describe_parameters(ParameterFilters=filters)["Parameters"]
    return described | ssm.get_parameter(Name=parameter)["Parameter"]


def _vpc(here: Deployed, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    vpc = here.stack.ids[name]
    (found,) = here.ec2.describe_vpcs(VpcIds=[vpc])["Vpcs"]
    found["Tags"] = [tag for tag in found["Tags"] if not tag["Key"].startswith("aws:")]
    for key, attribute in (("EnableDnsSupport", "enableDnsSupport"), ("EnableDnsHostnames", "enableDnsHostnames")):
        found[key] = here.ec2.describe_vpc_attribute(VpcId=vpc, Attribute=attribute)[key]["Value"]
    return dict(found)


def _subnet(here: Deployed, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    (found,) = here.ec2.describe_subnets(SubnetIds=[here.stack.ids[name]])["Subnets"]
    return dict(found)


def _route_table(here: Deployed, table: str) -> dict[str, Any]:
    (found,) = here.ec2.describe_route_tables(RouteTableIds=[table])["RouteTables"]
    return dict(found)


def _association(here: Deployed, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    tables = here.ec2.describe_route_tables()["RouteTables"]
    every = [each for table in tables for each in table["Associations"]]
    (found,) = [each for each in every if each.get("SubnetId") == wanted["SubnetId"]]
    return dict(found)


def _route(here: Deployed, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    table = _route_table(here, wanted["RouteTableId"])
    (found,) = [r for r in table["Routes"] if r.get("DestinationCidrBlock") == wanted["DestinationCidrBlock"]]
    return {"RouteTableId": table["RouteTableId"], **found}


def _group(here: Deployed, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    (found,) = here.ec2.describe_security_groups(GroupIds=[here.stack.ids[name]])["SecurityGroups"]
    return {
        "GroupDescription": found["Description"],
        "VpcId": found["VpcId"],
        "SecurityGroupIngress": [rule for each in found["IpPermissions"] for rule in _rules(each)],
        "SecurityGroupEgress": [rule for each in found["IpPermissionsEgress"] for rule in _rules(each)],
    }


def _group_ingress(here: Deployed, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    (group,) = here.ec2.describe_security_groups(GroupIds=[wanted["GroupId"]])["SecurityGroups"]
    rules = [rule for each in group["IpPermissions"] for rule in _rules(each)]
    (found,) = [rule for rule in rules if rule.get("SourceSecurityGroupId") == wanted["SourceSecurityGroupId"]]
    return {"GroupId": group["GroupId"], **found}


def _rules(permission: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rules of a permission of EC2's, in CloudFormation's words."""
    common = {name: permission[name] for name in ("IpProtocol", "FromPort", "ToPort") if name in permission}
    for each in permission["IpRanges"]:
        yield common | {"CidrIp": each["CidrIp"], "Description": each.get("Description")}
    for each in permission["UserIdGroupPairs"]:
        yield common | {"SourceSecurityGroupId": each["GroupId"], "Description": each.get("Description")}


def _endpoint(here: Deployed, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    (found,) = here.ec2.describe_vpc_endpoints(VpcEndpointIds=[here.stack.ids[name]])["VpcEndpoints"]
    return found | {"SecurityGroupIds": [group["GroupId"] for group in found.get("Groups", ())]}


def _peering(here: Deployed, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    ids = [here.stack.ids[name]]
    (found,) = here.ec2.describe_vpc_peering_connections(VpcPeeringConnectionIds=ids)["VpcPeeringConnections"]
    return {"VpcId": found["RequesterVpcInfo"]["VpcId"], "PeerVpcId": found["AccepterVpcInfo"]["VpcId"]}


def _internet_gateway(here: Deployed, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    (found,) = here.ec2.describe_internet_gateways(InternetGatewayIds=[here.stack.ids[name]])["InternetGateways"]
    return dict(found)


def _attachment(here: Deployed, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    ids = [wanted["InternetGatewayId"]]
    (found,) = here.ec2.describe_internet_gateways(InternetGatewayIds=ids)["InternetGateways"]
    return {"InternetGatewayId": found["InternetGatewayId"], "VpcId": found["Attachments"][0]["VpcId"]}


def _address(here: Deployed, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    (found,) = here.ec2.describe_addresses(PublicIps=[here.stack.ids[name]])["Addresses"]
    return dict(found)


def _nat(here: Deployed, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    (found,) = here.ec2.describe_nat_gateways(NatGatewayIds=[here.stack.ids[name]])["NatGateways"]
    return {"SubnetId": found["SubnetId"], "AllocationId": found["NatGatewayAddresses"][0]["AllocationId"]}


def _table(here: Deployed, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    dynamodb, table = here.client("dynamodb"), here.stack.ids[name]
    found = dynamodb.describe_table(TableName=table)["Table"]
    backups = dynamodb.describe_continuous_backups(TableName=table)["ContinuousBackupsDescription"]
    status = backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"]
    return {
        **found,
        "BillingMode": found["BillingModeSummary"]["BillingMode"],
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": status == "ENABLED"},
    }


def _alarm(here: Deployed, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    names = [f"{here.stack.name}-{name}"]
    (found,) = here.client("cloudwatch").describe_alarms(AlarmNames=names)["MetricAlarms"]
    return dict(found)


READERS: dict[str, Callable[[Deployed, str, dict[str, Any]], dict[str, Any]]] = {
    "AWS::S3::Bucket": _bucket,
    "AWS::S3::BucketPolicy": _bucket_policy,
    "AWS::IAM::Role": _role,
    "AWS::IAM::ManagedPolicy": _managed_policy,
    "AWS::SSM::Parameter": _parameter,
    "AWS::EC2::VPC": _vpc,
    "AWS::EC2::Subnet": _subnet,
    "AWS::EC2::RouteTable": lambda here, name, wanted: _route_table(here, here.stack.ids[name]),
    "AWS::EC2::SubnetRouteTableAssociation": _association,
    "AWS::EC2::Route": _route,
    "AWS::EC2::SecurityGroup": _group,
    "AWS::EC2::SecurityGroupIngress": _group_ingress,
    "AWS::EC2::VPCEndpoint": _endpoint,
    "AWS::EC2::VPCPeeringConnection": _peering,
    "AWS::EC2::InternetGateway": _internet_gateway,
    "AWS::EC2::VPCGatewayAttachment": _attachment,
    "AWS::EC2::EIP": _address,
    "AWS::EC2::NatGateway": _nat,
    "AWS::DynamoDB::Table": _table,
    "AWS::CloudWatch::Alarm": _alarm,
}
