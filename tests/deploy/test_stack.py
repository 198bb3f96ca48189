"""`make stack`, beside a Cohort Modeler's stack in the emulated AWS: what it finds, what it refuses, what it makes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from local import seed
from local.config import ROOT, Config, LocalError
from local.servers import Servers
from local.stack import failures, wait
from local.stack import stack as make_stack
from tests.deploy import stack

#: A command for the day of a deployment; the template itself is in test_template.py.
pytestmark = pytest.mark.nightly
MODELER, OURS = "cohort-modeler", "cohort-flywheel"
REAL = ROOT.parent / "shared" / "cohort-modeler" / "template.yaml"
#: Of the modeler's template, what this stack asks for and moto's CloudFormation knows.
KINDS = ("AWS::EC2::VPC", "AWS::EC2::Subnet", "AWS::EC2::RouteTable", "AWS::EC2::SecurityGroup")
#: moto's CloudFormation has no Neptune: a parameter stands in, whose id in the stack is its name as a cluster's is;
#: the cluster of that name is made by Neptune's own API.
CLUSTER = {"Type": "AWS::SSM::Parameter", "Properties": {"Name": "cohort-neptune", "Type": "String", "Value": "-"}}
VPC = {"VpcId": {"Ref": "CohortVpc"}}
LOAD_ROLE = {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": {"Statement": []}}}
RESOURCES: dict[str, Any] = {
    "CohortVpc": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.0.0.0/16"}},
    "CohortPrivateRouteTable": {"Type": "AWS::EC2::RouteTable", "Properties": VPC},
    "CohortNeptuneDBSG": {
        "Type": "AWS::EC2::SecurityGroup",
        "Properties": {"GroupDescription": "SG of Neptune DB", **VPC},
    },
    "CohortNeptuneDBCluster": CLUSTER,
}


@cache
def template() -> str:
    """Ours, as moto takes it. It would take a number for another than its text, and every update for a change."""
    whole = stack.deployable(stack.template())
    for each in whole["Parameters"].values():
        if each["Type"] == "Number":
            each |= {"Type": "String", "Default": str(each["Default"])}
    return json.dumps(whole)


class Account:
    """An emulated account with the modeler's stack in it, and `make stack` there."""

    def __init__(self, resources: Mapping[str, Any] = RESOURCES, **cluster: Any) -> None:
        self.neptune = self.client("neptune")
        self.neptune.create_db_cluster(**{"DBClusterIdentifier": "cohort-neptune", "Engine": "neptune"} | cluster)
        self.cloudformation, self.ec2 = self.client("cloudformation"), self.client("ec2")
        self.cloudformation.create_stack(StackName=MODELER, TemplateBody=json.dumps({"Resources": resources}))
        self.ids = self.resources(MODELER)
        #: What MWAA would say of the environment; None where it is not there yet.
        self.environment: dict[str, str] | None = None

    def client(self, service: str) -> Any:
        made = boto3.client(service, region_name=stack.REGION, aws_access_key_id="moto", aws_secret_access_key="moto")
        if service == "mwaa":  # moto has none: botocore's own model validates requests and answers
            stub = Stubber(made)
            if self.environment is None:
                stub.add_client_error("get_environment", "ResourceNotFoundException", expected_params={"Name": OURS})
            else:
                stub.add_response("get_environment", {"Environment": self.environment}, {"Name": OURS})
            stub.activate()
        return made

    def resources(self, name: str) -> dict[str, str]:
        found = self.cloudformation.describe_stack_resources(StackName=name)["StackResources"]
        # moto lists a resource whose condition does not hold too, without its name
        return {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in found if "PhysicalResourceId" in each}

    def make(self, name: str = OURS, modeler: str = MODELER, **given: str) -> dict[str, str]:
        """`make stack GO=1`; the parameters of the stack that is there then."""
        make_stack(modeler, name, given, go=True, template=template(), client=self.client, pause=0)
        (made,) = self.cloudformation.describe_stacks(StackName=name)["Stacks"]
        return {each["ParameterKey"]: each["ParameterValue"] for each in made["Parameters"]}

    def refused(self, match: str, name: str = OURS, modeler: str = MODELER, **given: str) -> None:
        """`make stack` is refused with such a sentence, and nothing was made."""
        before = self.everything()
        with pytest.raises(LocalError, match=match):
            self.make(name, modeler, **given)
        assert self.everything() == before

    def everything(self) -> tuple[list[Any], ...]:
        """The names of the stacks, and of what a stack of ours makes first."""
        return (
            [each["StackName"] for each in self.cloudformation.describe_stacks()["Stacks"]],
            [each["VpcId"] for each in self.ec2.describe_vpcs()["Vpcs"]],
            [each["Name"] for each in self.client("s3").list_buckets()["Buckets"]],
        )


@pytest.fixture
def account() -> Iterator[Account]:
    with mock_aws():
        yield Account()


# --- what is found


def test_the_modelers_resources_are_the_stacks_parameters(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    made = account.make(PinpointApplicationId="0123456789abcdef")
    cluster = account.neptune.describe_db_clusters()["DBClusters"][0]
    assert made["ModelerVpcId"] == account.ids["CohortVpc"]
    assert made["ModelerVpcCidr"] == "10.0.0.0/16"
    assert made["ModelerRouteTableId"] == account.ids["CohortPrivateRouteTable"]
    assert made["ModelerSecurityGroupId"] == account.ids["CohortNeptuneDBSG"]
    assert made["NeptuneEndpoint"] == cluster["ReaderEndpoint"] != cluster["Endpoint"]
    assert made["NeptuneClusterResourceId"] == ""  # IAM authentication is off
    assert made["NeptuneWriterEndpoint"] == cluster["Endpoint"]
    assert made["NeptuneLoadRoleArn"] == ""  # this cluster has none
    assert made["PinpointApplicationId"] == "0123456789abcdef"
    (table,) = account.ec2.describe_route_tables(RouteTableIds=[account.ids["CohortPrivateRouteTable"]])["RouteTables"]
    assert [each["DestinationCidrBlock"] for each in table["Routes"] if each.get("GatewayId") != "local"] == [
        "10.1.0.0/16"
    ]
    bucket = account.resources(OURS)["BundleBucket"]
    assert capsys.readouterr().out.endswith(f"  make bundle\n  make deploy BUCKET={bucket} ENVIRONMENT={OURS}\n")


@pytest.mark.skipif(not REAL.is_file(), reason="the Cohort Modeler's template is not beside this repository")
def test_they_are_found_in_the_modelers_own_template() -> None:
    real = stack.template(REAL)["Resources"]
    kept = {name: each for name, each in real.items() if each["Type"] in KINDS and "Subnet" not in name}
    assert real["CohortNeptuneDBCluster"]["Type"] == "AWS::Neptune::DBCluster"
    (attached,) = real["CohortNeptuneDBCluster"]["Properties"]["AssociatedRoles"]
    assert attached == {"RoleArn": {"Fn::GetAtt": ["CohortNeptuneRole", "Arn"]}}
    assert real["CohortNeptuneRole"]["Type"] == "AWS::IAM::Role"
    with mock_aws():
        account = Account(kept | {"CohortNeptuneDBCluster": CLUSTER})
        made = account.make()
        assert (made["ModelerVpcCidr"], made["VpcCidr"]) == ("10.0.0.0/16", "10.1.0.0/16")
        (group,) = account.ec2.describe_security_groups(GroupIds=[account.ids["CohortNeptuneDBSG"]])["SecurityGroups"]
        assert {each["FromPort"] for each in group["IpPermissions"]} == {8182}  # theirs, and ours beside it
        assert account.resources(OURS)["WorkersGroup"] in json.dumps(group["IpPermissions"])


@mock_aws
def test_a_cluster_with_iam_authentication_is_read_with_it() -> None:
    aurora: Any = {"Engine": "aurora-postgresql", "MasterUsername": "cohort", "MasterUserPassword": "made-up-here"}
    account = Account(**aurora, EnableIAMDatabaseAuthentication=True)  # which moto's Neptune would refuse
    (cluster,) = account.neptune.describe_db_clusters()["DBClusters"]
    assert account.make()["NeptuneClusterResourceId"] == cluster["DbClusterResourceId"] != ""


@mock_aws
def test_the_clusters_role_is_the_loaders_once_the_cluster_has_it() -> None:
    account = Account(RESOURCES | {"CohortNeptuneRole": LOAD_ROLE})
    theirs = "arn:aws:iam::123456789012:role/theirs"
    assert account.make(NeptuneLoadRoleArn=theirs)["NeptuneLoadRoleArn"] == theirs
    assert account.make()["NeptuneLoadRoleArn"] == theirs  # the modeler's is not attached: it stays
    role = account.client("iam").get_role(RoleName=account.ids["CohortNeptuneRole"])["Role"]["Arn"]
    account.neptune.add_role_to_db_cluster(DBClusterIdentifier="cohort-neptune", RoleArn=role)
    made = account.make(GraphLoadBucket="graph-files")
    assert made["NeptuneLoadRoleArn"] == role
    assert "GraphLoadRole" in account.resources(OURS)


def test_what_is_given_wins_over_what_is_found_which_is_looked_up_each_time(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    assert account.make(NeptuneEndpoint="the.writer")["NeptuneEndpoint"] == "the.writer"
    reader = account.make()["NeptuneEndpoint"]
    assert reader == account.neptune.describe_db_clusters()["DBClusters"][0]["ReaderEndpoint"]
    assert f"  {'NeptuneEndpoint':26} {reader} (was the.writer)\n" in capsys.readouterr().out


def test_a_stack_that_is_not_the_modelers_is_rejected_with_its_missing_resources(account: Account) -> None:
    some = {name: RESOURCES[name] for name in ("CohortVpc", "CohortNeptuneDBSG")}
    account.cloudformation.create_stack(StackName="other", TemplateBody=json.dumps({"Resources": some}))
    account.refused("The stack other has no CohortPrivateRouteTable, CohortNeptuneDBCluster: is it", modeler="other")
    account.refused("AWS refused ListStackResources with ValidationError: check the name", modeler="nowhere")


# --- what is refused before anything is made


def test_ranges_that_overlap_are_refused(account: Account) -> None:
    for cidr in ("10.0.0.0/16", "10.0.128.0/20"):
        account.refused(rf"VpcCidr {cidr} overlaps with 10.0.0.0/16 of the Cohort Modeler's VPC vpc-", VpcCidr=cidr)
    account.ec2.associate_vpc_cidr_block(VpcId=account.ids["CohortVpc"], CidrBlock="10.1.64.0/18")
    account.refused("VpcCidr 10.1.0.0/16 overlaps with 10.1.64.0/18 .* choose another range")
    made = account.make(VpcCidr="10.2.0.0/16")
    subnets = [made[name] for name in ("PublicSubnetCidr", "PrivateSubnet1Cidr", "PrivateSubnet2Cidr")]
    assert subnets == ["10.2.0.0/24", "10.2.1.0/24", "10.2.2.0/24"]


@pytest.mark.parametrize(("cidr", "says"), [("10.1", "is not an IPv4 range"), ("10.9.0.0/24", "write /16 to /20")])
def test_an_invalid_range_is_rejected(account: Account, cidr: str, says: str) -> None:
    account.refused(says, VpcCidr=cidr)


def test_a_peering_and_a_route_that_are_in_the_way_are_refused(account: Account) -> None:
    other = account.ec2.create_vpc(CidrBlock="10.1.0.0/20")["Vpc"]["VpcId"]
    peering = account.ec2.create_vpc_peering_connection(VpcId=other, PeerVpcId=account.ids["CohortVpc"])
    account.refused(f"overlaps with 10.1.0.0/20 of {other}, with which the Cohort Modeler's VPC is peered")
    table, gateway = account.ids["CohortPrivateRouteTable"], peering["VpcPeeringConnection"]["VpcPeeringConnectionId"]
    account.ec2.create_route(RouteTableId=table, DestinationCidrBlock="172.20.0.0/16", VpcPeeringConnectionId=gateway)
    account.refused(f"The route table {table} has a route to 172.20.0.0/16 already", VpcCidr="172.20.16.0/20")
    account.make(VpcCidr="172.21.0.0/16")


def test_your_own_vpc_gives_its_range_and_is_peered_once(account: Account) -> None:
    vpc = account.ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    table = account.ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    group = account.ec2.create_security_group(GroupName="yours", Description="yours", VpcId=vpc)["GroupId"]
    account.client("iam").create_role(RoleName="yours", AssumeRolePolicyDocument="{}")
    yours = {
        "MakeEnvironment": "false", "YourVpcId": vpc, "YourRouteTableId1": table, "YourSecurityGroupId": group,
        "YourExecutionRoleName": "yours",
    }  # fmt: skip
    made = account.ec2.create_vpc_peering_connection(VpcId=vpc, PeerVpcId=account.ids["CohortVpc"])
    account.refused(f"{vpc} and the Cohort Modeler's VPC .* are peered already, by pcx-", **yours)
    account.ec2.delete_vpc_peering_connection(
        VpcPeeringConnectionId=made["VpcPeeringConnection"]["VpcPeeringConnectionId"]
    )
    gateway = account.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    account.ec2.create_route(RouteTableId=table, DestinationCidrBlock="10.0.3.0/24", GatewayId=gateway)
    account.refused(f"The route table {table} has a route to 10.0.3.0/24 already, .* it cannot be used here", **yours)
    account.ec2.delete_route(RouteTableId=table, DestinationCidrBlock="10.0.3.0/24")
    assert account.make(**yours)["VpcCidr"] == "10.9.0.0/16"
    assert account.make()["VpcCidr"] == "10.9.0.0/16"


def test_a_stack_of_others_is_never_updated(account: Account) -> None:
    account.refused("cohort-modeler is the Cohort Modeler's own stack: choose another NAME", name=MODELER)
    bucket = {"Resources": {"Bucket": {"Type": "AWS::S3::Bucket"}}}
    account.cloudformation.create_stack(StackName="theirs", TemplateBody=json.dumps(bucket))
    account.refused("The stack theirs exists and was not created from this template", name="theirs")


def test_a_parameter_that_the_template_does_not_have_is_refused(account: Account) -> None:
    account.refused("The template has no parameter Rooting: use one of ModelerVpcId, ", Rooting="private")


def test_without_go_it_only_prints(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    before = account.everything()
    make_stack(MODELER, OURS, {"Routing": "private"}, template=template(), client=account.client)
    assert account.everything() == before
    said = capsys.readouterr().out.splitlines()
    assert f"  {'ModelerVpcId':26} {account.ids['CohortVpc']}" in said
    assert said[-3:] == [
        "Other than before, or than by default:",
        f"  {'Routing':26} private",
        "Nothing was created. To do so, run the same command with GO=1.",
    ]


# --- again


def test_a_second_time_changes_nothing(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    first, resources = account.make(VpcCidr="10.2.0.0/16"), account.resources(OURS)
    capsys.readouterr()
    assert account.make() == first
    assert account.resources(OURS) == resources
    assert f"The stack {OURS} is as it should be: nothing was changed.\n" in capsys.readouterr().out


def test_an_update_keeps_what_was_given_and_what_make_deploy_gave_the_environment(account: Account) -> None:
    first = account.make(ContactsTable="players", VpcCidr="10.2.0.0/16")
    account.environment = {
        "PluginsS3Path": "plugins.zip", "PluginsS3ObjectVersion": "v7",
        "RequirementsS3Path": "requirements.txt", "RequirementsS3ObjectVersion": "v3",
    }  # fmt: skip
    changed = {"PluginsVersion": "v7", "RequirementsVersion": "v3", "RejectDays": "7"}
    assert account.make(RejectDays="7") == first | changed
    assert account.make(PluginsVersion="v6")["PluginsVersion"] == "v6"  # back to an earlier one


@pytest.mark.parametrize(("word", "file"), [("Plugins", "plugins.zip"), ("Requirements", "requirements.txt")])
def test_an_update_that_would_set_back_a_bundle_under_a_prefix_is_refused(
    account: Account, word: str, file: str
) -> None:
    first = account.make()
    account.environment = {f"{word}S3Path": f"a/{file}", f"{word}S3ObjectVersion": "v7"}
    account.refused(
        f"The environment {OURS} takes a/{file}, and the stack would set it back to {file}, .*"
        " run `make deploy` without a PREFIX first",
        RejectDays="7",
    )
    assert account.make(**{f"{word}Version": "v6"}) == first | {f"{word}Version": "v6"}  # who says so sets it back
    account.environment[f"{word}S3Path"] = file
    assert account.make()[f"{word}Version"] == "v7"


def test_routing_is_chosen_once(account: Account) -> None:
    assert account.make(Routing="private")["Routing"] == "private"
    account.refused(f"The stack {OURS} was made with Routing=private, which is chosen once: .* another", Routing="nat")
    assert account.make(RejectDays="7")["Routing"] == "private"  # an update that does not name it keeps it
    assert account.make(Routing="private", RejectDays="8")["RejectDays"] == "8"


# --- what moto never answers: botocore's model validates the answers


def cloudformation(*statuses: str) -> tuple[Any, Stubber]:
    client = boto3.client("cloudformation", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    stub = Stubber(client)
    resource = {"LogicalResourceId": "Vpc", "ResourceType": "AWS::EC2::VPC", "LastUpdatedTimestamp": "2026-11-22"}
    for number, status in enumerate(statuses):
        described = {"StackName": OURS, "CreationTime": "2026-11-22", "StackStatus": status}
        stub.add_response("describe_stacks", {"Stacks": [described]}, {"StackName": OURS})
        if status.endswith("_IN_PROGRESS"):
            states = ("CREATE_COMPLETE" if number else "CREATE_IN_PROGRESS", "CREATE_COMPLETE")
            summaries = [resource | {"ResourceStatus": state} for state in states]
            stub.add_response("list_stack_resources", {"StackResourceSummaries": summaries}, {"StackName": OURS})
    return client, stub


def events(*entries: tuple[str, str, str]) -> dict[str, Any]:
    common = {"StackId": "id", "StackName": OURS, "Timestamp": "2026-11-22", "ResourceType": "AWS::Some::Type"}
    return {
        "StackEvents": [
            common | {"EventId": str(number), "LogicalResourceId": name, "ResourceStatus": status} | (
                {"ResourceStatusReason": reason} if reason else {}
            )
            for number, (name, status, reason) in enumerate(entries)
        ]
    }  # fmt: skip


def test_the_progress_is_printed_until_the_stack_has_ended(capsys: pytest.CaptureFixture[str]) -> None:
    client, stub = cloudformation("CREATE_IN_PROGRESS", "CREATE_IN_PROGRESS", "CREATE_IN_PROGRESS", "CREATE_COMPLETE")
    with stub:
        wait(client, OURS, pause=0)
    stub.assert_no_pending_responses()
    assert capsys.readouterr().out == "  1 of 2 resources\n  2 of 2 resources\n"


def test_a_stack_that_failed_says_which_resource_and_why() -> None:
    client, stub = cloudformation("ROLLBACK_COMPLETE")
    stub.add_response("describe_stack_events", events(
        (OURS, "ROLLBACK_COMPLETE", ""),
        ("Vpc", "DELETE_COMPLETE", ""),
        ("NatGateway", "CREATE_FAILED", "Resource creation cancelled"),
        ("Environment", "CREATE_FAILED", "Subnets must be private"),
        ("Vpc", "CREATE_COMPLETE", ""),
        (OURS, "CREATE_IN_PROGRESS", "User Initiated"),
        ("Vpc", "CREATE_FAILED", "of an earlier try"),
    ), {"StackName": OURS})  # fmt: skip
    with stub, pytest.raises(LocalError) as raised:
        wait(client, OURS, pause=0)
    assert str(raised.value) == (
        "The stack cohort-flywheel ended as ROLLBACK_COMPLETE:\n"
        "  Environment (AWS::Some::Type): Subnets must be private"
    )


def test_the_first_failure_is_printed_first() -> None:
    client, stub = cloudformation()
    second, first = ("B", "CREATE_FAILED", "then this"), ("A", "CREATE_FAILED", "this")
    stub.add_response("describe_stack_events", events(second, first), {"StackName": OURS})
    with stub:
        assert failures(client, OURS) == ["A (AWS::Some::Type): this", "B (AWS::Some::Type): then this"]


DELETE = "aws cloudformation delete-stack --stack-name cohort-flywheel"


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ("ROLLBACK_COMPLETE", f"its creation failed, so it can only be deleted: {DELETE}"),
        ("UPDATE_IN_PROGRESS", "try again when it is CREATE_COMPLETE or UPDATE_COMPLETE."),
        ("ROLLBACK_FAILED", f"it can only be deleted: {DELETE}\n  Vpc (AWS::Some::Type): in use"),
        (
            "DELETE_FAILED",
            f"it can only be deleted. Fix the errors below, then run {DELETE}, or keep the resources to delete"
            " by hand: the same with --retain-resources Vpc Peering\n  Vpc (AWS::Some::Type): in use",
        ),
        (
            "UPDATE_ROLLBACK_FAILED",
            "fix the errors below, then run aws cloudformation continue-update-rollback --stack-name cohort-flywheel\n"
            "  Vpc (AWS::Some::Type): in use",
        ),
    ],
)
def test_a_stack_that_may_not_be_updated_now_is_refused(account: Account, status: str, says: str) -> None:
    account.make()
    client, stub = cloudformation()
    parameters = [{"ParameterKey": "ModelerVpcId", "ParameterValue": "vpc-1"}]
    described = {"StackName": OURS, "CreationTime": "2026-11-22", "StackStatus": status, "Parameters": parameters}
    stub.add_response("get_template_summary", {"Parameters": [{"ParameterKey": "MakeEnvironment"}]})
    stub.add_response("describe_stacks", {"Stacks": [described]}, {"StackName": OURS})
    if status == "DELETE_FAILED":
        resource = {"ResourceType": "AWS::Some::Type", "LastUpdatedTimestamp": "2026-11-22"}
        states = {"Environment": "DELETE_COMPLETE", "Vpc": status, "Peering": status}
        summaries = [resource | {"LogicalResourceId": n, "ResourceStatus": state} for n, state in states.items()]
        stub.add_response("list_stack_resources", {"StackResourceSummaries": summaries}, {"StackName": OURS})
    if status.endswith("_FAILED"):
        answer = events(("Vpc", "DELETE_FAILED", "in use"), (OURS, "DELETE_IN_PROGRESS", "User Initiated"))
        stub.add_response("describe_stack_events", answer, {"StackName": OURS})
    services: dict[str, Callable[[], Any]] = {"cloudformation": lambda: client}
    with stub, pytest.raises(LocalError) as raised:
        make_stack(MODELER, OURS, {}, client=lambda name: services.get(name, lambda: account.client(name))())
    assert str(raised.value) == f"The stack {OURS} is {status}: {says}"
    stub.assert_no_pending_responses()


def test_a_refusal_of_cloudformation_is_printed_as_it_is(account: Account) -> None:
    words = "Parameter Routing failed to satisfy constraint: Member must satisfy enum value set: [nat, private]"
    client = account.client("cloudformation")
    stub = Stubber(client)
    stub.add_client_error("create_stack", "ValidationError", words)

    def refuse(**_: Any) -> None:
        stub.activate()  # moto takes any value

    client.meta.events.register("provide-client-params.cloudformation.CreateStack", refuse)
    with pytest.raises(LocalError, match="CloudFormation refuses that: Parameter Routing failed to satisfy"):
        make_stack(
            MODELER, OURS, {"Routing": "public"}, go=True, template=template(),
            client=lambda name: client if name == "cloudformation" else account.client(name),
        )  # fmt: skip


# --- the command


def test_the_command_on_the_local_servers(servers: Servers, config: Config) -> None:
    def client(service: str) -> Any:
        return seed.client(service, servers, config)

    client("neptune").create_db_cluster(DBClusterIdentifier="cohort-neptune", Engine="neptune")
    client("cloudformation").create_stack(StackName=MODELER, TemplateBody=json.dumps({"Resources": RESOURCES}))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environ = kept | {
        "AWS_ENDPOINT_URL": servers.aws_url,
        "AWS_ACCESS_KEY_ID": config.access_key_id,
        "AWS_SECRET_ACCESS_KEY": config.secret_access_key,
        "AWS_DEFAULT_REGION": config.region,
        "PYTHONPATH": str(ROOT),
    }

    def local(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "local", "stack", *arguments]
        return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120, check=False)

    said = local("--modeler", MODELER, "--name", OURS, "Routing=private", "SesContactList=players")
    assert said.returncode == 0, said.stderr
    assert said.stdout.endswith("Nothing was created. To do so, run the same command with GO=1.\n")
    assert "  Routing                    private\n  " not in said.stderr
    said = local("--modeler", MODELER, "--name", "", "--go")
    assert (said.returncode, said.stderr) == (
        1, "Which stacks? Write make stack MODELER=the-cohort-modelers NAME=ours.\n",
    )  # fmt: skip
    said = local("--modeler", MODELER, "--name", OURS, "Routing")
    assert (said.returncode, said.stderr) == (1, "Routing has no value: write Routing=value.\n")
