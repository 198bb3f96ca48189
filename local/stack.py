"""`make stack`: create or update our stack next to the Cohort Modeler's, whose resources it finds by logical id.

Without `GO=1` it only reads and prints the parameters. Errors that CloudFormation would find late and roll back
(overlapping ranges, an existing route, an unrelated stack of that name) are raised before anything is created.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import IPv4Network
from typing import Any

import boto3
from botocore.exceptions import ClientError

from local.config import ROOT, LocalError
from local.deploy import VERSIONED, aws_errors

TEMPLATE = ROOT / "include" / "cloudformation" / "cohort-flywheel.yaml"
#: The modeler's resources by logical id, and our parameters that take them.
MODELER = {
    "CohortVpc": "ModelerVpcId",
    "CohortPrivateRouteTable": "ModelerRouteTableId",
    "CohortNeptuneDBSG": "ModelerSecurityGroupId",
}
CLUSTER = "CohortNeptuneDBCluster"
#: The role with which that cluster reads S3.
LOAD_ROLE = "CohortNeptuneRole"
SUBNETS = ("PublicSubnetCidr", "PrivateSubnet1Cidr", "PrivateSubnet2Cidr")
#: An environment takes twenty to forty minutes; a stack that has not ended by then continues without us.
WAIT_SECONDS = 2 * 3600
_ENDED_WELL = ("CREATE_COMPLETE", "UPDATE_COMPLETE")
_CHANGEABLE = (*_ENDED_WELL, "UPDATE_ROLLBACK_COMPLETE")
#: Words that YAML 1.1 reads as another type than text.
_YAML_WORDS = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")

Client = Callable[[str], Any]
Parameters = dict[str, str]


def stack(
    modeler: str,
    name: str,
    given: Mapping[str, str],
    *,
    go: bool = False,
    template: str = "",
    client: Client = boto3.client,
    pause: float = 15,
) -> None:
    """Create or update the stack `name`; without `go`, only print its parameters.

    modeler: the name of the Cohort Modeler's stack, in the same account and region.
    given: parameters of the template, which override the values found, the stack's, and the defaults.
    pause: seconds between two polls of the stack.
    Raises LocalError before anything is created if a check fails, and if the stack operation fails.
    """
    if name == modeler:
        raise LocalError(f"{name} is the Cohort Modeler's own stack: choose another NAME for ours.")
    body = template or compact_template()
    with aws_errors():
        cloudformation, ec2 = client("cloudformation"), client("ec2")
        summary = cloudformation.get_template_summary(TemplateBody=body)["Parameters"]
        defaults = {each["ParameterKey"]: str(each.get("DefaultValue") or "") for each in summary}
        if unknown := sorted(given.keys() - defaults.keys()):
            raise LocalError(f"The template has no parameter {', '.join(unknown)}: use one of {', '.join(defaults)}.")
        before = existing(cloudformation, name)
        found = modeler_parameters(cloudformation, ec2, client("neptune"), modeler)
        kept = {key: value for key, value in (before or {}).items() if key in defaults}
        # looked up each time: a cluster may have been replaced or IAM authentication enabled since
        parameters = defaults | kept | found | dict(given)
        if parameters["MakeEnvironment"] == "true":
            parameters |= subnets(parameters, given)
            if before:
                check_routing(name, parameters, before)
                parameters |= versions(client("mwaa"), parameters["EnvironmentName"], given)
        elif "VpcCidr" not in given and parameters["YourVpcId"]:
            parameters["VpcCidr"] = ranges(ec2, parameters["YourVpcId"])[0]
        check_network(ec2, parameters, _resources(cloudformation, name).get("Peering") if before else None)
        show(parameters, found, before if before is not None else defaults)
        if not go:
            print(f"Nothing was {'changed' if before else 'created'}. To do so, run the same command with GO=1.")
            return
        if apply(cloudformation, name, body, parameters, is_new=before is None):
            wait(cloudformation, name, pause)
        next_steps(cloudformation, name, parameters)


def compact_template() -> str:
    """Return the template as YAML on one line, without the parts that only the console shows.

    A request takes 51,200 bytes of it [CloudFormation quotas].
    """
    from cfnlint.decode import cfn_yaml  # here, because its import takes a second

    whole = cfn_yaml.load(str(TEMPLATE))
    whole.pop("Metadata")
    for parameter in whole["Parameters"].values():
        parameter.pop("Description")
    return _compact(whole)


def _compact(value: object) -> str:
    """Return a value as JSON with the short form of functions, such as `!Ref Name`, and without needless quotes."""
    if isinstance(value, list):
        return f"[{','.join(map(_compact, value))}]"
    if isinstance(value, str):
        return _text(value)
    if not isinstance(value, dict):
        return json.dumps(value)
    if len(value) == 1:
        ((function, argument),) = value.items()
        if function == "Fn::GetAtt":
            return f"!GetAtt {'.'.join(argument)}"
        if function == "Ref" or function.startswith("Fn::"):
            return f"!{function.removeprefix('Fn::')} {_compact(argument)}"
    return f"{{{','.join(f'{_text(name)}: {_compact(each)}' for name, each in value.items())}}}"


def _text(text: str) -> str:
    """Return a text without quotes if YAML 1.1 reads it as that text in any place."""
    is_plain = re.fullmatch("[A-Za-z][A-Za-z0-9_./-]*", text) and text.lower() not in _YAML_WORDS
    return text if is_plain else json.dumps(text, ensure_ascii=False)


def existing(cloudformation: Any, name: str) -> Parameters | None:
    """The parameters of our stack, or None if it does not exist; raises LocalError if it cannot be updated."""
    try:
        (found,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise
        return None
    parameters = {each["ParameterKey"]: each["ParameterValue"] for each in found.get("Parameters", ())}
    if "ModelerVpcId" not in parameters:
        raise LocalError(f"The stack {name} exists and was not created from this template: choose another NAME.")
    status = found["StackStatus"]
    if status not in _CHANGEABLE:
        raise LocalError(f"The stack {name} is {status}: {_advice(cloudformation, name, status)}")
    return parameters


def _advice(cloudformation: Any, name: str, status: str) -> str:
    """What to do about a stack that cannot be updated: wait if an operation is in progress."""
    delete = f"aws cloudformation delete-stack --stack-name {name}"
    match status:
        case "ROLLBACK_COMPLETE":
            return f"its creation failed, so it can only be deleted: {delete}"
        case "UPDATE_ROLLBACK_FAILED":
            says = f"fix the errors below, then run aws cloudformation continue-update-rollback --stack-name {name}"
        case "CREATE_FAILED" | "ROLLBACK_FAILED":
            says = f"it can only be deleted: {delete}"
        case "DELETE_FAILED":
            there = [each for each in _summaries(cloudformation, name) if each["ResourceStatus"] == status]
            says = (
                f"it can only be deleted. Fix the errors below, then run {delete}, or keep the resources to delete"
                f" by hand: the same with --retain-resources {' '.join(each['LogicalResourceId'] for each in there)}"
            )
        case _:
            return "try again when it is CREATE_COMPLETE or UPDATE_COMPLETE."
    return says + "".join(f"\n  {reason}" for reason in failures(cloudformation, name))


def modeler_parameters(cloudformation: Any, ec2: Any, neptune: Any, modeler: str) -> Parameters:
    """The parameters from the modeler's stack; raises LocalError with each missing resource."""
    there = _resources(cloudformation, modeler)
    if missing := [each for each in (*MODELER, CLUSTER) if each not in there]:
        raise LocalError(
            f"The stack {modeler} has no {', '.join(missing)}: is it the Cohort Modeler's, complete and in this region?"
        )
    (cluster,) = neptune.describe_db_clusters(DBClusterIdentifier=there[CLUSTER])["DBClusters"]
    with_iam = cluster.get("IAMDatabaseAuthenticationEnabled", False)
    return {
        **{parameter: there[logical] for logical, parameter in MODELER.items()},
        "ModelerVpcCidr": ranges(ec2, there["CohortVpc"])[0],
        # this only reads; a cluster of one instance has a reader endpoint too, which leads to that instance
        "NeptuneEndpoint": cluster.get("ReaderEndpoint") or cluster["Endpoint"],
        "NeptuneClusterResourceId": cluster["DbClusterResourceId"] if with_iam else "",
        # a load is sent to the writer
        "NeptuneWriterEndpoint": cluster["Endpoint"],
        **_load_role(cluster.get("AssociatedRoles", ()), there.get(LOAD_ROLE, "")),
    }


def _load_role(attached: Iterable[Mapping[str, str]], name: str) -> Parameters:
    """The role of that name, if the cluster can use it; else nothing, so that a given one is kept."""
    arns = [each["RoleArn"] for each in attached if each["Status"].upper() == "ACTIVE"]
    found = next((arn for arn in arns if arn.rpartition("/")[2] == name), "")
    return {"NeptuneLoadRoleArn": found} if found else {}


def ranges(ec2: Any, vpc: str) -> list[str]:
    """The IPv4 ranges of a VPC, its first one first."""
    (found,) = ec2.describe_vpcs(VpcIds=[vpc])["Vpcs"]
    more = [
        each["CidrBlock"]
        for each in found.get("CidrBlockAssociationSet", ())
        if each["CidrBlockState"]["State"] in ("associating", "associated")
    ]
    return [found["CidrBlock"], *(each for each in more if each != found["CidrBlock"])]


def subnets(parameters: Parameters, given: Mapping[str, str]) -> Parameters:
    """The subnets of a range for which none are given: its first three, of a 256th of it each."""
    if "VpcCidr" not in given or any(name in given for name in SUBNETS):
        return {}
    network = _network("VpcCidr", parameters["VpcCidr"])
    if not 16 <= network.prefixlen <= 20:
        raise LocalError(f"VpcCidr={network} is not a valid range for a VPC and three subnets: write /16 to /20.")
    return {name: str(each) for name, each in zip(SUBNETS, network.subnets(prefixlen_diff=8), strict=False)}


def check_routing(name: str, parameters: Parameters, before: Mapping[str, str]) -> None:
    """Raise LocalError where an environment that is there would get another way out.

    It waits for that way by WayOut's Handle, and "updates aren't supported" there [AWS::CloudFormation::WaitCondition].
    """
    if before["MakeEnvironment"] == "true" and parameters["Routing"] != before["Routing"]:
        raise LocalError(
            f"The stack {name} was made with Routing={before['Routing']}, which is chosen once: CloudFormation cannot"
            " change it. Make another stack, with a NAME, EnvironmentName, SettingsPrefix and VpcCidr of its own, or"
            " add by hand what this one lacks: a NAT gateway, or an endpoint."
        )


def versions(mwaa: Any, environment: str, given: Mapping[str, str]) -> Parameters:
    """The plugins and requirements that `make deploy` has given the environment since: an update must keep them.

    Raises LocalError where it takes them from elsewhere than the template says, which an update would undo.
    """
    try:
        now = mwaa.get_environment(Name=environment)["Environment"]
    except mwaa.exceptions.ResourceNotFoundException:
        return {}
    found = {}
    for file, word in VERSIONED.items():
        path = now.get(f"{word}S3Path")
        if not path or f"{word}Version" in given:
            continue
        if path != file:
            raise LocalError(
                f"The environment {environment} takes {path}, and the stack would set it back to {file}, all that its"
                " template knows: run `make deploy` without a PREFIX first, then update the stack."
            )
        found[f"{word}Version"] = now[f"{word}S3ObjectVersion"]
    return found


def check_network(ec2: Any, parameters: Parameters, our_peering: str | None) -> None:
    """Raise LocalError unless the two VPCs can be peered, and both ways are free."""
    ours, modeler = _network("VpcCidr", parameters["VpcCidr"]), parameters["ModelerVpcId"]
    choose = "choose another range, VpcCidr=…" if parameters["MakeEnvironment"] == "true" else "it cannot be used here"
    for taken in ranges(ec2, modeler):
        if ours.overlaps(IPv4Network(taken)):
            raise LocalError(
                f"VpcCidr {ours} overlaps with {taken} of the Cohort Modeler's VPC {modeler}, and two such VPCs cannot"
                f" be peered: {choose}."
            )
    for peering, vpc, cidr in _peerings(ec2, modeler):
        if peering == our_peering:
            continue
        if vpc == parameters["YourVpcId"]:
            raise LocalError(
                f"{vpc} and the Cohort Modeler's VPC {modeler} are peered already, by {peering}. AWS allows one peering"
                " of two VPCs, and the template makes its own: delete that one first."
            )
        if cidr and ours.overlaps(IPv4Network(cidr)):
            raise LocalError(
                f"VpcCidr {ours} overlaps with {cidr} of {vpc}, with which the Cohort Modeler's VPC is peered:"
                f" {choose}."
            )
    theirs = IPv4Network(parameters["ModelerVpcCidr"])
    ways = [(parameters["ModelerRouteTableId"], ours)]
    if parameters["MakeEnvironment"] != "true":
        ways += [(parameters[name], theirs) for name in ("YourRouteTableId1", "YourRouteTableId2") if parameters[name]]
    for table, wanted in ways:
        for taken in _routes(ec2, table, our_peering):
            if wanted.overlaps(IPv4Network(taken)):
                raise LocalError(
                    f"The route table {table} has a route to {taken} already, which overlaps with {wanted}:"
                    f" remove it, or {choose}."
                )


def show(parameters: Parameters, found: Mapping[str, str], before: Mapping[str, str]) -> None:
    """Print what was found, and what is not as it was: in the stack, or by default."""
    print("Found in the Cohort Modeler's stack:")
    for name in found:
        was = f" (was {before[name]})" if before.get(name, "") not in ("", parameters[name]) else ""
        print(f"  {name:26} {parameters[name] or '(none: IAM authentication is off)'}{was}")
    changed = {name: value for name, value in parameters.items() if name not in found and value != before.get(name)}
    if changed:
        print("Other than before, or than by default:")
    for name, value in changed.items():
        print(f"  {name:26} {value or '(empty)'}")


def apply(cloudformation: Any, name: str, body: str, parameters: Parameters, *, is_new: bool) -> bool:
    """Begin the creation or the update; False where there is nothing to update."""
    begin = cloudformation.create_stack if is_new else cloudformation.update_stack
    try:
        begin(
            StackName=name,
            TemplateBody=body,
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Capabilities=["CAPABILITY_IAM"],
        )
    except ClientError as error:
        said_by_aws = error.response["Error"]
        if said_by_aws["Code"] != "ValidationError":
            raise
        if "No updates are to be performed" in said_by_aws["Message"]:
            print(f"The stack {name} is as it should be: nothing was changed.")
            return False
        # AWS's text names the template's parameter that is wrong
        raise LocalError(f"CloudFormation refuses that: {said_by_aws['Message']}") from None
    print(f"CloudFormation {'creates' if is_new else 'updates'} {name}; an environment takes it half an hour.")
    return True


def wait(cloudformation: Any, name: str, pause: float) -> None:
    """Print the progress until the stack has ended; LocalError, with the reasons, unless it ended well."""
    end, printed = time.monotonic() + WAIT_SECONDS, ""
    while True:
        (now,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
        if not now["StackStatus"].endswith("_IN_PROGRESS"):
            break
        states = [each["ResourceStatus"] for each in _summaries(cloudformation, name)]
        progress = f"  {sum(state.endswith('_COMPLETE') for state in states)} of {len(states)} resources"
        if progress != printed:
            print(printed := progress, flush=True)
        if time.monotonic() > end:
            raise LocalError(
                f"The stack {name} is still {now['StackStatus']}. It goes on: look at it in the console, and run this"
                " again once it has ended."
            )
        time.sleep(pause)
    if now["StackStatus"] not in _ENDED_WELL:
        reasons = "\n".join(f"  {reason}" for reason in failures(cloudformation, name))
        raise LocalError(f"The stack {name} ended as {now['StackStatus']}:\n{reasons}")


def failures(cloudformation: Any, name: str) -> list[str]:
    """What failed in the latest creation or update, first things first."""
    found = []
    pages = cloudformation.get_paginator("describe_stack_events").paginate(StackName=name)
    for event in (event for page in pages for event in page["StackEvents"]):  # the newest first
        reason = event.get("ResourceStatusReason", "")
        # what was under way elsewhere is cancelled: no failure of its own
        if event["ResourceStatus"].endswith("_FAILED") and "cancelled" not in reason:
            found.append(f"{event['LogicalResourceId']} ({event['ResourceType']}): {reason}")
        if reason == "User Initiated":
            break
    return found[::-1]


def next_steps(cloudformation: Any, name: str, parameters: Parameters) -> None:
    """Print the outputs, and the commands that come next."""
    (made,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
    outputs = {each["OutputKey"]: each["OutputValue"] for each in made.get("Outputs", ())}
    for key, value in outputs.items():
        print(f"  {key:26} {value}")
    bucket = outputs.get("BundleBucket", "your-environment's-bucket")
    print("Next (docs/get-started/deploy.md):")
    print(f"  aws s3 cp do_not_contact.txt s3://{outputs['StateBucket']}/")
    print("  make bundle")
    print(f"  make deploy BUCKET={bucket} ENVIRONMENT={parameters['EnvironmentName']}")


def _resources(cloudformation: Any, name: str) -> dict[str, str]:
    """The physical ids of a stack's resources by their logical ones."""
    return {
        each["LogicalResourceId"]: each["PhysicalResourceId"]
        for each in _summaries(cloudformation, name)
        if each.get("PhysicalResourceId") and each["ResourceStatus"] != "DELETE_COMPLETE"
    }


def _summaries(cloudformation: Any, name: str) -> Iterator[Any]:
    # DescribeStackResources gives a hundred at most, and the modeler's stack has nearly as many
    for page in cloudformation.get_paginator("list_stack_resources").paginate(StackName=name):
        yield from page["StackResourceSummaries"]


def _peerings(ec2: Any, vpc: str) -> Iterator[tuple[str, str, str]]:
    """The peerings of a VPC: id, the other VPC, and its range where AWS says it."""
    for page in ec2.get_paginator("describe_vpc_peering_connections").paginate():
        for each in page["VpcPeeringConnections"]:
            sides = [each["RequesterVpcInfo"], each["AccepterVpcInfo"]]
            if each["Status"]["Code"] not in ("active", "provisioning", "pending-acceptance"):
                continue
            if vpc in [side["VpcId"] for side in sides]:
                (other,) = [side for side in sides if side["VpcId"] != vpc]
                yield each["VpcPeeringConnectionId"], other["VpcId"], other.get("CidrBlock", "")


def _routes(ec2: Any, table: str, our_peering: str | None) -> Iterator[str]:
    """The IPv4 ranges to which a table has a route that is not ours: neither the VPC's own, nor the default one."""
    (found,) = ec2.describe_route_tables(RouteTableIds=[table])["RouteTables"]
    for route in found["Routes"]:
        cidr = route.get("DestinationCidrBlock", "0.0.0.0/0")  # others lead to IPv6 and to prefix lists
        is_ours = our_peering is not None and route.get("VpcPeeringConnectionId") == our_peering
        if cidr != "0.0.0.0/0" and route.get("GatewayId") != "local" and not is_ours:
            yield cidr


def _network(name: str, text: str) -> IPv4Network:
    try:
        return IPv4Network(text)
    except ValueError:
        raise LocalError(f"{name}={text} is not an IPv4 range: write one such as 10.1.0.0/16.") from None
