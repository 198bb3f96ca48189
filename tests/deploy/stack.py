"""The template, parsed, resolved, and deployed in the emulated AWS beside a Cohort Modeler's network."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from local.config import ROOT

TEMPLATE = ROOT / "include" / "cloudformation" / "cohort-flywheel.yaml"
#: The optional stack beside it.
ENGAGEMENT = ROOT / "include" / "cloudformation" / "engagement.yaml"
POLICIES = ROOT / "include" / "iam"
MODELER_CIDR = "10.0.0.0/16"
ACCOUNT = "123456789012"  # moto's
REGION = "us-east-1"
#: What moto's CloudFormation does not know; an output that asks one of these for an attribute would fail there.
NOT_IN_MOTO = (
    "AWS::MWAA::Environment", "AWS::S3::BucketPolicy", "AWS::CloudWatch::Alarm",
    "AWS::CloudFormation::WaitCondition", "AWS::CloudFormation::WaitConditionHandle",
    "AWS::SES::ConfigurationSet", "AWS::SES::ConfigurationSetEventDestination", "AWS::KinesisFirehose::DeliveryStream",
)  # fmt: skip
_NO_VALUE = object()


def template(path: Path = TEMPLATE) -> dict[str, Any]:
    """A template as plain JSON: its tags are functions (`Fn::Sub`)."""
    parsed: dict[str, Any] = json.loads(_as_json(path))
    return parsed


@cache
def _as_json(path: Path) -> str:
    from cfnlint.decode import cfn_yaml  # here, because its import takes a second

    return json.dumps(cfn_yaml.load(str(path)), default=str)  # dates


def policy(name: str) -> dict[str, Any]:
    """A policy of include/iam, its placeholders as they are."""
    found: dict[str, Any] = json.loads((POLICIES / f"{name}.json").read_text(encoding="utf-8"))
    return found


def policy_names() -> list[str]:
    return sorted(path.stem for path in POLICIES.glob("*.json"))


@dataclass(frozen=True)
class Stack:
    """A deployed stack: its resources' physical ids by logical ones, its outputs, and its parameters."""

    name: str
    ids: Mapping[str, str]
    outputs: Mapping[str, str]
    parameters: Mapping[str, str]

    def resolver(self, addresses: Mapping[str, str] | None = None) -> Resolver:
        return Resolver(template(), self.name, self.parameters, self.ids, addresses or {})


def modeler_network(ec2: Any) -> dict[str, str]:
    """What the template asks of the modeler's stack, as parameters."""
    vpc = ec2.create_vpc(CidrBlock=MODELER_CIDR)["Vpc"]["VpcId"]
    table = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    group = ec2.create_security_group(GroupName="CohortNeptuneDBSG", Description="SG of Neptune DB", VpcId=vpc)
    return {
        "ModelerVpcId": vpc,
        "ModelerVpcCidr": MODELER_CIDR,
        "ModelerRouteTableId": table,
        "ModelerSecurityGroupId": group["GroupId"],
        "NeptuneEndpoint": "cohort.cluster-ro-abc.us-east-1.neptune.amazonaws.com",
    }


def deploy(client: Callable[[str], Any], name: str, **parameters: str) -> Stack:
    """Create a stack by `client(service)`, which makes boto3's clients; fails with the events where it is not made."""
    return create(client, name, deployable(template()), modeler_network(client("ec2")) | parameters)


def deploy_engagement(client: Callable[[str], Any], name: str, **parameters: str) -> Stack:
    """Create the stack of the events of e-mails, without what moto does not know and what needs that."""
    whole = template(ENGAGEMENT)
    made = ("EventBucket", "EngagementPolicy", "ConfigurationSetSetting", "UntrackedConfigurationSetSetting",
            "EventBucketSetting", "EngagementGraphRole", "EngagementGraphRolePolicy", "EngagementGraphPolicy",
            "EngagementNeptuneConnection", "EngagementRoleConnection")  # fmt: skip
    return create(client, name, whole | {"Resources": {each: whole["Resources"][each] for each in made}}, parameters)


def create(client: Callable[[str], Any], name: str, whole: Mapping[str, Any], given: Mapping[str, str]) -> Stack:
    """Create a stack of a template as moto takes it."""
    cloudformation = client("cloudformation")
    cloudformation.create_stack(
        StackName=name,
        TemplateBody=json.dumps(whole),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
        Capabilities=["CAPABILITY_IAM"],
    )
    (made,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
    events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
    assert made["StackStatus"] == "CREATE_COMPLETE", [event.get("ResourceStatusReason") for event in events]
    # moto lists a resource whose condition does not hold too, without its name
    resources = cloudformation.describe_stack_resources(StackName=name)["StackResources"]
    ids = {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in resources if "PhysicalResourceId" in each}
    outputs = {each["OutputKey"]: each["OutputValue"] for each in made.get("Outputs", ())}
    return Stack(name, ids, outputs, given)


def deployable(whole: Mapping[str, Any]) -> dict[str, Any]:
    """The template without what moto does not know, and without the outputs that ask for it."""
    left = {name: each for name, each in whole["Resources"].items() if each["Type"] not in NOT_IN_MOTO}
    gone = whole["Resources"].keys() - left.keys()
    outputs = {
        name: output
        for name, output in whole["Outputs"].items()
        if not any(f"{{{each}." in json.dumps(output) for each in gone)
    }
    return {**whole, "Resources": left, "Outputs": outputs}


def substituted(text: str, values: Mapping[str, str]) -> str:
    """`Fn::Sub` of a text for the names that `values` has."""
    for name, value in values.items():
        text = text.replace("${" + name + "}", value)
    return text


class Resolver:
    """What CloudFormation makes of the template's functions, by its documentation and not by moto's reading of it.

    :param parameters: those given; the others have their defaults.
    :param ids: the physical ids that Ref gives.
    :param addresses: the attributes that no ARN is made of, by `logical id.attribute`.
    """

    def __init__(
        self,
        whole: Mapping[str, Any],
        stack_name: str,
        parameters: Mapping[str, str],
        ids: Mapping[str, str],
        addresses: Mapping[str, str],
    ) -> None:
        self._whole, self._ids, self._addresses = whole, ids, addresses
        self._values = {
            "AWS::Region": REGION,
            "AWS::AccountId": ACCOUNT,
            "AWS::Partition": "aws",
            "AWS::StackName": stack_name,
        }
        for name, declared in whole["Parameters"].items():
            if name in parameters or "Default" in declared:
                self._values[name] = str(parameters.get(name, declared.get("Default")))

    def resources(self) -> dict[str, Any]:
        """The resources whose condition holds, with their properties resolved."""
        return {
            name: {"Type": each["Type"], "Properties": self.value(each.get("Properties", {}))}
            for name, each in self._whole["Resources"].items()
            if self.condition(each.get("Condition"))
        }

    def condition(self, asked: Any) -> bool:
        if asked is None:
            return True
        if isinstance(asked, str):
            return self.condition(self._whole["Conditions"][asked])
        ((function, arguments),) = asked.items()
        match function:
            case "Condition":
                return self.condition(arguments)
            case "Fn::Equals":
                return str(self.value(arguments[0])) == str(self.value(arguments[1]))
            case "Fn::Not":
                return not self.condition(arguments[0])
            case "Fn::And":
                return all(self.condition(each) for each in arguments)
        raise NotImplementedError(function)

    def value(self, asked: Any) -> Any:
        if isinstance(asked, list):
            return [value for each in asked if (value := self.value(each)) is not _NO_VALUE]
        if not isinstance(asked, dict):
            return asked
        if len(asked) == 1:
            ((function, arguments),) = asked.items()
            match function:
                case "Ref":
                    return self._ref(arguments)
                case "Fn::Sub":
                    return self._sub(arguments)
                case "Fn::GetAtt":
                    return self._attribute(*arguments)
                case "Fn::If":
                    return self.value(arguments[1 if self.condition(arguments[0]) else 2])
                case "Fn::Select":
                    return self.value(arguments[1])[int(arguments[0])]
                case "Fn::GetAZs":
                    return [f"{REGION}{letter}" for letter in "abc"]
        found = {name: self.value(each) for name, each in asked.items()}
        return {name: value for name, value in found.items() if value is not _NO_VALUE}

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _NO_VALUE
        if name in self._values:
            return self._values[name]
        # what moto does not make has no id but its name
        made = self._whole["Resources"][name]["Type"] not in NOT_IN_MOTO
        return self._ids[name] if made else name

    def _sub(self, arguments: Any) -> str:
        text, more = arguments if isinstance(arguments, list) else (arguments, {})

        def one(match: re.Match[str]) -> str:
            name = match[1]
            if name in more:
                return str(self.value(more[name]))
            return str(self._attribute(*name.split(".")) if "." in name else self._ref(name))

        return re.sub(r"\$\{([^}]+)\}", one, text)

    def _attribute(self, name: str, attribute: str) -> str:
        arns = {"AWS::IAM::Role": f"arn:aws:iam::{ACCOUNT}:role/", "AWS::S3::Bucket": "arn:aws:s3:::"}
        kind = self._whole["Resources"][name]["Type"]
        if attribute == "Arn":
            return arns[kind] + self._ids[name]
        return self._addresses[f"{name}.{attribute}"]
