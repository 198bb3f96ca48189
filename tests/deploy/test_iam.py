"""Least privilege: whether the policies of include/iam allow every call of the pipeline, and nothing that it needs not.

The pipeline's runs are played on the local servers with the settings and the roles that the template made, and every
call is recorded. The checker's own rules are tested below.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.exceptions import ClientError

from cohort_flywheel.erasure import PLAYERS_KEY
from local import seed
from local.config import ROOT
from local.servers import _die_with_parent, airflow_environment
from tests.deploy import stack
from tests.deploy.iam_checker import PolicyError, Request, Without, allows, each_removed, statements, trusts
from tests.deploy.iam_table import as_written, assert_is_kept

#: Statements that no call of a laptop can exercise, and the page that demands each.
_MWAA = "https://docs.aws.amazon.com/mwaa/latest/userguide/mwaa-create-role.html"
PAGES = {
    "MwaaHealth": _MWAA,
    "MwaaBundle": _MWAA,
    "MwaaPublicAccessBlock": f"{_MWAA}#mwaa-create-role-s3-publicaccessblock",
    "MwaaLogs": _MWAA,
    "MwaaLogGroups": _MWAA,
    "MwaaMetrics": _MWAA,
    "MwaaQueue": _MWAA,
    "MwaaQueueKey": _MWAA,
    "NeptuneIsReadByGremlin": "https://docs.aws.amazon.com/neptune/latest/userguide/iam-dp-actions.html",
}
#: Actions for which AWS knows no resource but *, by the service authorization reference.
ONLY_ON_ALL = {
    "logs:DescribeLogGroups", "cloudwatch:PutMetricData", "s3:GetAccountPublicAccessBlock",
    "ses:GetAccount", "ses:ListImportJobs", "ses:CreateImportJob",
}  # fmt: skip


@dataclass(frozen=True)
class Recorded:
    """The stack, its policies as the emulated IAM has them, and every request of the runs with the call it is of."""

    stack: stack.Stack
    policies: dict[str, Any]
    asked: dict[Request, str]
    #: makes a client with the execution role's credentials, where moto enforces the policies
    as_role: Callable[[str], Any]
    #: the DAGs that were not played; a cohort's own is the main one by another name
    left_out: set[str]


#: The AWS endpoint without the check of signatures, which moto 5.2.5 gets wrong for Pinpoint's GET requests [run].
AWS = """
from moto.iam.access_control import IAMRequestBase
from local.aws import main
IAMRequestBase.check_signature = lambda self: None
main()
"""


#: What an erasure finds that no run here makes, and what is in each of them: in every shape a line that is his.
_OF_OTHERS = (
    ("ExportBucket", "dropped/one.json"),
    ("ImportBucket", "contacts/one/0000.csv"),
    ("StateBucket", "memberships/customer_profiles/domain/one.txt"),
    ("StateBucket", "sends/template/one.jsonl"),
    ("StateBucket", "launches/one/in_doubt.txt"),
)
_NAMES_HIM = b'playerId\nwayne96\n["wayne96"]\n'


@pytest.fixture(scope="module")
def recorded(servers: Any, config: Any, seeded: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    environ = dict(os.environ) | {"S3_UPLOAD_PART_MIN_SIZE": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", AWS, "--port", "0", "--import-seconds", "0.1"]
    # ends with this process
    process = subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True, preexec_fn=_die_with_parent
    )
    try:
        assert process.stdout
        endpoint = f"http://127.0.0.1:{process.stdout.readline().rsplit(':', 1)[1].strip()}"
        yield _record(endpoint, servers, config, tmp_path_factory.mktemp("iam"))
    finally:
        process.terminate()
        process.wait()


def _record(endpoint: str, servers: Any, config: Any, folder: Path) -> Recorded:
    from airflow.dag_processing.dagbag import DagBag

    from tests.deploy.iam_calls import Recorder, needs
    from tests.faults import play, transport

    def client(service: str, **credentials: str) -> Any:
        local = {"aws_access_key_id": config.access_key_id, "aws_secret_access_key": config.secret_access_key}
        return boto3.client(service, endpoint_url=endpoint, region_name=config.region, **(local | credentials))

    app = client("pinpoint").create_app(CreateApplicationRequest={"Name": "p"})["ApplicationResponse"]["Id"]
    made = stack.deploy(client, "flywheel", PinpointApplicationId=app, ContactsTable=config.contacts_table)
    client("s3").put_object(Bucket=made.outputs["StateBucket"], Key=seed.DO_NOT_CONTACT, Body=b"xortiz\n")
    client("s3").put_object(Bucket=made.outputs["StateBucket"], Key=PLAYERS_KEY, Body=b"wayne96\n")
    for bucket, key in _OF_OTHERS:
        client("s3").put_object(Bucket=made.outputs[bucket], Key=key, Body=_NAMES_HIM)
    export_bucket, dropped = made.outputs["ExportBucket"], "dropped/ea_atrisk/theirs.json"
    theirs = b'[{"playerId": ["msmith"], "ea_atrisk": [3]}]'
    client("s3").put_object(Bucket=export_bucket, Key=dropped, Body=theirs)
    policies = _deployed_policies(client("iam"), made)
    credentials = _credentials(client, made)
    environment = _environment(endpoint, servers, config, client("ssm"), credentials)
    _enforce(endpoint)

    bag = DagBag(ROOT / "dags")
    assert not bag.import_errors, bag.import_errors
    recorder = Recorder(folder)
    midnight = datetime.now(UTC).replace(hour=0, minute=5, second=0, microsecond=0)
    with pytest.MonkeyPatch.context() as patch, recorder.recording():
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(transport, "PART_BYTES", 512)  # so that every file which may be large has several parts

        # one reader of the SDK's models for all children, and modules that a child need not import: half of the time
        patch.setattr(botocore.session, "create_loader", functools.cache(botocore.session.create_loader))

        left_out = {dag for dag in bag.dags if "__" not in dag}

        def run(dag: str, now: datetime, conf: dict[str, Any], end: str, breaks: bool = False) -> None:
            recorder.breaks_uploads = breaks
            left_out.discard(dag)
            played = play.Run(bag.dags[dag], conf, now, folder / "runs.log")
            played.go()
            for module in played.modules:
                with suppress(ImportError):
                    importlib.import_module(module)
            assert not played.failed, f"{conf}: {played.errors}; its log is {played.log}"
            assert played.states[end] == "success", played.states

        everybody = {"cohort": "ea_atrisk", "threshold": 0}
        # others, who are in no later segment
        run("cohort_to_segment", midnight - timedelta(days=1), {"cohort": "ea_duty", "source": "live"}, "record_result")
        run("cohort_to_segment", midnight - timedelta(days=1), everybody, "record_result")
        run("cohort_to_segment", midnight, everybody, "record_result", breaks=True)  # with a result before it
        run("cohort_to_segment", midnight, everybody | {"dry_run": True}, "check_limits", breaks=True)
        run("cohort_to_segment", midnight, {"cohort": "ea_atrisk", "threshold": 90}, "check_limits")  # nobody
        run("cohort_to_segment", midnight, {"extract_uri": f"s3://{export_bucket}/{dropped}"}, "record_result")
        run("cohort_what_if", midnight, {"cohort": "ea_atrisk"}, "count_days")
        two_days = {"keep_days": 2, "dry_run": False}
        run("cohort_cleanup", midnight + timedelta(days=1, hours=1), two_days, "clean_up")
        run("cohort_erasure", midnight + timedelta(days=1, hours=2), {"dry_run": False}, "erase")

    asked: dict[Request, str] = {}
    for call in recorder.calls():
        for request in needs(call, config.region):
            asked[_hashable(request)] = min(str(call), asked.get(_hashable(request), "~"))
    return Recorded(made, policies, asked, lambda service: client(service, **credentials), left_out)


def _credentials(client: Callable[[str], Any], made: stack.Stack) -> dict[str, str]:
    """The execution role's, which is also given what moto would refuse against IAM's own rules.

    [facts] moto takes * for the resource of every service but S3, SQS, IAM and STS, so a statement for one resource is
    none there; and it knows HeadBucket by another action than s3:ListBucket.
    """
    wrongly_refused = ["s3:HeadBucket", "ssm:GetParameter", "mobiletargeting:*"]
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": wrongly_refused, "Resource": "*"}]}
    name = made.ids["ExecutionRole"]
    client("iam").put_role_policy(RoleName=name, PolicyName="moto", PolicyDocument=json.dumps(document))
    arn = made.outputs["ExecutionRoleArn"]
    given = client("sts").assume_role(RoleArn=arn, RoleSessionName="a-run")["Credentials"]
    return {
        "aws_access_key_id": given["AccessKeyId"],
        "aws_secret_access_key": given["SecretAccessKey"],
        "aws_session_token": given["SessionToken"],
    }


def _enforce(endpoint: str) -> None:
    """From here on moto refuses what the caller's policies do not allow."""
    request = urllib.request.Request(f"{endpoint}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"})  # noqa: S310 - our own server
    urllib.request.urlopen(request, timeout=60).close()  # noqa: S310 - as above


def _environment(endpoint: str, servers: Any, config: Any, ssm: Any, credentials: dict[str, str]) -> dict[str, str]:
    """What MWAA would have: the secrets backend of the template, and `aws_default` as the execution role."""
    local = airflow_environment(servers, config, "unused", "unused")
    neptune = "AIRFLOW_CONN_NEPTUNE_DEFAULT"
    options = stack.template()["Resources"]["Environment"]["Properties"]["AirflowConfigurationOptions"]
    prefix = stack.template()["Parameters"]["SettingsPrefix"]["Default"]
    kwargs = json.loads(stack.substituted(options["secrets.backend_kwargs"]["Fn::Sub"], {"SettingsPrefix": prefix}))
    # there is no wss:// on a laptop: the same parameter leads to the local graph
    ssm.put_parameter(Name=f"{prefix}/connections/neptune_default", Value=local[neptune], Overwrite=True)
    aws = json.loads(local["AIRFLOW_CONN_AWS_DEFAULT"])
    aws["extra"] |= {"endpoint_url": endpoint, "aws_session_token": credentials["aws_session_token"]}
    aws |= {"login": credentials["aws_access_key_id"], "password": credentials["aws_secret_access_key"]}
    return {
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws),
        neptune: local[neptune],  # asked only by the harness
        "AIRFLOW__SECRETS__BACKEND": options["secrets.backend"],
        "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps(kwargs | {"endpoint_url": endpoint}),
        "AWS_DEFAULT_REGION": config.region,
        # moto 5.2.5 gives a copy of an object that has parts its composite checksum, as if it had none [run]
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    } | {name.upper(): value for name, value in credentials.items()}


def _hashable(request: Request) -> Request:
    return Request(request.action, request.resource, _Context(request.context))


class _Context(dict[str, str]):
    def __hash__(self) -> int:  # type: ignore[override]  # it is not changed
        return hash(tuple(sorted(self.items())))


def _deployed_policies(iam: Any, made: stack.Stack) -> dict[str, Any]:
    """The policies of the execution role, by the names of their files, as IAM gives them back."""
    attached = iam.list_attached_role_policies(RoleName=made.ids["ExecutionRole"])["AttachedPolicies"]
    by_arn = {made.ids[logical]: name for logical, name in ATTACHED.items() if logical in made.ids}
    assert {each["PolicyArn"] for each in attached} == set(by_arn)
    return {
        name: iam.get_policy_version(PolicyArn=arn, VersionId="v1")["PolicyVersion"]["Document"]
        for arn, name in by_arn.items()
    }


ATTACHED = {"PipelinePolicy": "pipeline", "PinpointPolicy": "pinpoint", "EnvironmentPolicy": "environment"}


# --- the policies are enough


def test_every_dag_was_played(recorded: Recorded) -> None:
    assert not recorded.left_out, f"play {recorded.left_out} in _record, so that their calls are judged too"


def test_every_call_of_the_runs_is_allowed(recorded: Recorded, figure: Callable[[str], None]) -> None:
    documents = [recorded.policies["pipeline"], recorded.policies["pinpoint"]]
    refused = sorted(f"{call} needs {request}" for request, call in recorded.asked.items()
                     if not allows(documents, request))  # fmt: skip
    assert not refused, "\n".join(refused)
    actions = {request.action for request in recorded.asked}
    figure(f"IAM: {len(recorded.asked)} different requests of {len(actions)} actions in eight runs, all allowed")


def test_what_the_runs_do_not_do_is_refused(recorded: Recorded) -> None:
    documents = list(recorded.policies.values())
    bucket = f"arn:aws:s3:::{recorded.stack.outputs['StateBucket']}"
    for action, resource in (
        ("s3:PutObject", f"{bucket}/do_not_contact.txt"),
        ("s3:DeleteObject", f"{bucket}/results/ea_atrisk/2/2026-11-22_00-00-00.json"),
        ("s3:DeleteObject", f"{bucket}/snapshots/ea_atrisk/2026-11-22_00-00-00/0.jsonl"),
        ("s3:DeleteObjectVersion", f"{bucket}/results/ea_atrisk/2/2026-11-22_00-00-00.json"),
        ("s3:DeleteObjectVersion", f"{bucket}/do_not_contact.txt"),
        ("s3:DeleteObjectVersion", f"{bucket}/reports/ea_atrisk_2_2026-11-22_00-00-00/d__1.json"),
        ("s3:DeleteObjectVersion", f"{bucket}/erasure/tombstones/0123"),
        ("s3:GetObject", "arn:aws:s3:::somebody-elses/key"),
        ("s3:PutBucketPolicy", bucket),
        ("dynamodb:PutItem", "arn:aws:dynamodb:us-east-1:123456789012:table/userdata"),
        ("dynamodb:Scan", "arn:aws:dynamodb:us-east-1:123456789012:table/userdata"),
        ("ssm:GetParameter", "arn:aws:ssm:us-east-1:123456789012:parameter/somebody-elses/password"),
        ("ssm:PutParameter", "arn:aws:ssm:us-east-1:123456789012:parameter/cohort-flywheel/variables/x"),
        ("iam:PassRole", "arn:aws:iam::123456789012:role/admin"),
        ("mobiletargeting:SendMessages", "arn:aws:mobiletargeting:us-east-1:123456789012:apps/abc"),
        ("sts:AssumeRole", "arn:aws:iam::123456789012:role/admin"),
    ):
        assert not allows(documents, Request(action, resource)), f"{action} on {resource} is allowed"


def test_moto_enforced_the_policies_during_the_runs(recorded: Recorded) -> None:
    """What it can, S3 and IAM: the runs were made with the role's credentials, and none of their calls was refused."""
    s3, bucket = recorded.as_role("s3"), recorded.stack.outputs["StateBucket"]
    assert s3.get_object(Bucket=bucket, Key=seed.DO_NOT_CONTACT)["Body"].read() == b"xortiz\n"
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.put_object(Bucket=bucket, Key=seed.DO_NOT_CONTACT, Body=b"")
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.delete_object(Bucket=bucket, Key="results/ea_atrisk/0/2026-11-22_00-00-00.json")
    with pytest.raises(ClientError, match="AccessDenied"):
        recorded.as_role("iam").get_role(RoleName=recorded.stack.ids["ExecutionRole"])


def test_the_import_role_is_passed_to_pinpoint_alone(recorded: Recorded) -> None:
    role = recorded.stack.outputs["PinpointImportRoleArn"]
    document = [recorded.policies["pinpoint"]]
    assert allows(document, Request("iam:PassRole", role, {"iam:PassedToService": "pinpoint.amazonaws.com"}))
    assert not allows(document, Request("iam:PassRole", role, {"iam:PassedToService": "ec2.amazonaws.com"}))
    assert not allows(document, Request("iam:PassRole", role))


# --- and no more


def test_without_any_part_some_call_is_refused_or_a_page_demands_it(
    recorded: Recorded, figure: Callable[[str], None]
) -> None:
    found = {name: _refused(recorded, name, recorded.policies[name]) for name in sorted(ATTACHED.values())}
    needless = [f"{name}: {each.statement}: no call needs {each.kind} {each.lacks}"
                for name, parts in found.items() for each, call in parts if not call]  # fmt: skip
    assert not needless, "\n".join(needless)
    rows = []
    for name, parts in found.items():
        written = as_written(name, recorded.policies[name])
        rows += [(name, each.statement, written[each.lacks], call) for each, call in parts if each.kind != "statement"]
    refused = len(rows)
    for name in ("environment", "neptune"):
        for statement in statements(stack.policy(name)):
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            rows += [(name, statement["Sid"], f"`{action}`", PAGES[statement["Sid"]]) for action in actions]
    figure(
        f"IAM: without each of {refused} actions and resources some call is refused; {len(rows) - refused} more are"
        " demanded by a page of AWS's: docs/iam.md has the table"
    )
    assert_is_kept("tests/deploy/test_iam.py", rows)


def test_a_part_that_no_call_needs_is_found_out(recorded: Recorded) -> None:
    policy = deepcopy(recorded.policies["pipeline"])
    sids = [statement["Sid"] for statement in policy["Statement"]]
    contacts, ends = (policy["Statement"][sids.index(sid)] for sid in ("Contacts", "ClaimsEnd"))
    contacts["Action"].append("dynamodb:Scan")
    ends["Resource"].append(f"arn:aws:s3:::{recorded.stack.outputs['StateBucket']}/results/*")
    policy["Statement"].append({"Sid": "More", "Effect": "Allow", "Action": "sns:Publish", "Resource": "*"})
    needless = [each.lacks for each, call in _refused(recorded, "pipeline", policy) if not call]
    assert needless == [ends["Resource"][-1], "dynamodb:Scan", "More", "sns:Publish", "*"]


def _refused(recorded: Recorded, name: str, policy: Any) -> list[tuple[Without, str]]:
    """Each part of a policy, and the first call that is refused without it; empty where none is."""
    others = [document for other, document in recorded.policies.items() if other != name]
    found = []
    for lacking in each_removed(policy):
        if lacking.statement not in PAGES:
            documents = [*others, lacking.document]
            calls = [call for request, call in recorded.asked.items() if not allows(documents, request)]
            found.append((lacking, min(calls, default="")))
    return found


def test_every_page_is_of_a_statement() -> None:
    sids = {statement["Sid"] for name in ("environment", "neptune") for statement in statements(stack.policy(name))}
    assert sids == PAGES.keys()


@pytest.mark.parametrize("name", [name for name in stack.policy_names() if "trust" not in name])
def test_no_resource_is_all_where_the_service_allows_better(name: str) -> None:
    for statement in statements(stack.policy(name)):
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert not any(action == "*" or action.endswith(":*") for action in actions), statement["Sid"]
        if statement.get("Resource") == "*":
            assert set(actions) <= ONLY_ON_ALL, statement["Sid"]


# --- the roles that others assume


def _role(name: str) -> Any:
    values = {
        "AWS::Partition": "aws", "AWS::AccountId": "123456789012", "AWS::Region": "us-east-1", "ImportBucket": "segs",
        "PinpointApplicationId": "abc", "EnvironmentName": "cohort-flywheel",
    }  # fmt: skip
    return json.loads(stack.substituted(json.dumps(stack.policy(name)), values))


@pytest.mark.parametrize(
    ("name", "service", "arn"),
    [
        ("pinpoint-import-role-trust", "pinpoint.amazonaws.com", "mobiletargeting:us-east-1:123456789012:apps/abc"),
        (
            "environment-trust",
            "airflow-env.amazonaws.com",
            "airflow:us-east-1:123456789012:environment/cohort-flywheel",
        ),
    ],
)
def test_a_service_assumes_its_role_for_this_account_and_thing_alone(name: str, service: str, arn: str) -> None:
    context = {"aws:SourceAccount": "123456789012", "aws:SourceArn": f"arn:aws:{arn}"}
    assert trusts(_role(name), service, context)
    assert not trusts(_role(name), service, context | {"aws:SourceAccount": "210987654321"})
    assert not trusts(_role(name), service, context | {"aws:SourceArn": f"arn:aws:{arn}x"})
    assert not trusts(_role(name), service, {})
    assert not trusts(_role(name), "lambda.amazonaws.com", context)


def test_the_import_role_reads_the_import_prefix_and_nothing_else() -> None:
    document = [_role("pinpoint-import-role")]
    here = {"s3:prefix": "segments/ea_atrisk_2/"}
    assert allows(document, Request("s3:GetObject", "arn:aws:s3:::segs/segments/ea_atrisk_2/0000.csv"))
    assert allows(document, Request("s3:ListBucket", "arn:aws:s3:::segs", here))
    for request in (
        Request("s3:GetObject", "arn:aws:s3:::segs/other/0000.csv"),
        Request("s3:GetObject", "arn:aws:s3:::state/segments/0000.csv"),
        Request("s3:PutObject", "arn:aws:s3:::segs/segments/0000.csv"),
        Request("s3:DeleteObject", "arn:aws:s3:::segs/segments/0000.csv"),
        Request("s3:GetObjectVersion", "arn:aws:s3:::segs/segments/0000.csv"),
        Request("s3:ListBucket", "arn:aws:s3:::segs"),
        Request("s3:ListBucket", "arn:aws:s3:::segs", {"s3:prefix": ""}),
        Request("s3:ListBucket", "arn:aws:s3:::state", here),
        Request("s3:ListAllMyBuckets", "*"),
    ):
        assert not allows(document, request), request


# --- the checker


def _document(**statement: Any) -> Any:
    return {"Statement": [{"Effect": "Allow", "Action": "s3:Get*", "Resource": "*"} | statement]}


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ({}, True),
        ({"Action": "S3:getobject"}, True),
        ({"Action": ["s3:PutObject", "s3:GetObjec?"]}, True),
        ({"Action": "s3:GetObjec"}, False),
        ({"Effect": "Deny"}, False),
        ({"Resource": "arn:aws:s3:::b/*"}, True),
        ({"Resource": "arn:aws:s3:::b"}, False),
        ({"Resource": "arn:aws:s3:::B/*"}, False),
        ({"Condition": {"StringEquals": {"a": "x"}}}, True),
        ({"Condition": {"StringEquals": {"A": ["w", "x"]}}}, True),
        ({"Condition": {"StringEquals": {"a": "X"}}}, False),
        ({"Condition": {"StringEquals": {"a": "x", "b": "y"}}}, False),
        ({"Condition": {"StringEqualsIfExists": {"b": "y"}}}, True),
        ({"Condition": {"StringEqualsIfExists": {"a": "y"}}}, False),
        ({"Condition": {"StringNotEquals": {"a": "x"}}}, False),
        ({"Condition": {"StringNotEquals": {"b": "y"}}}, True),
        ({"Condition": {"StringLike": {"n": "arn:*:role/r"}}}, True),
        ({"Condition": {"ArnLike": {"n": "arn:aws:iam:*:123456789012:role/*"}}}, True),
        ({"Condition": {"ArnLike": {"n": "arn:*:role/r"}}}, False),
        ({"Condition": {"ArnNotLike": {"n": "arn:aws:iam::123456789012:role/*"}}}, False),
        ({"Condition": {"Bool": {"aws:SecureTransport": "true"}}}, True),
        ({"Condition": {"Bool": {"aws:SecureTransport": "false"}}}, False),
        ({"Condition": {"Null": {"b": "true"}}}, True),
        ({"Condition": {"Null": {"a": "true"}}}, False),
    ],
)
def test_the_checker_by_iams_rules(statement: dict[str, Any], allowed: bool) -> None:
    context = {"a": "x", "n": "arn:aws:iam::123456789012:role/r", "aws:SecureTransport": "true"}
    assert allows([_document(**statement)], Request("s3:GetObject", "arn:aws:s3:::b/k", context)) == allowed


def test_the_checker_lets_a_deny_win_and_reads_not() -> None:
    request = Request("s3:GetObject", "arn:aws:s3:::b/k")
    assert not allows([], request)
    assert not allows([_document(), _document(Effect="Deny", Resource="arn:aws:s3:::b/*")], request)
    assert allows([_document(), _document(Effect="Deny", Resource="arn:aws:s3:::c/*")], request)
    others = {"Statement": {"Effect": "Allow", "NotAction": "iam:*", "NotResource": "arn:aws:s3:::c/*"}}
    assert allows([others], request)
    assert not allows([others], Request("iam:GetRole", "arn:aws:iam::1:role/r"))
    assert not allows([others], Request("s3:GetObject", "arn:aws:s3:::c/k"))


def test_the_checker_judges_nothing_that_it_does_not_know() -> None:
    request = Request("s3:GetObject", "arn:aws:s3:::b/k", {"a": "1"})
    with pytest.raises(PolicyError, match="NumericLessThan"):
        allows([_document(Condition={"NumericLessThan": {"a": "2"}})], request)
    with pytest.raises(PolicyError, match="neither Resource nor NotResource"):
        allows([{"Statement": {"Effect": "Allow", "Action": "s3:*"}}], request)
    with pytest.raises(PolicyError, match="Effect"):
        allows([_document(Effect="allow")], request)


def test_a_call_without_a_rule_is_found_out() -> None:
    from tests.deploy.iam_calls import Call, needs

    with pytest.raises(LookupError, match="enrich: dynamodb Scan"):
        needs(Call("enrich", "dynamodb", "Scan", {"TableName": "t"}), "us-east-1")


def test_what_is_not_there_needs_the_right_to_list() -> None:
    from tests.deploy.iam_calls import Call, needs

    where = {"Bucket": "b", "Key": "k"}
    read = Request("s3:GetObject", "arn:aws:s3:::b/k")
    assert needs(Call("t", "s3", "HeadObject", where), "us-east-1") == [read]
    listed = [read, Request("s3:ListBucket", "arn:aws:s3:::b")]
    assert needs(Call("t", "s3", "HeadObject", where, "404"), "us-east-1") == listed
    written = Request("s3:PutObject", "arn:aws:s3:::b/k")
    assert needs(Call("t", "s3", "PutObject", where | {"IfNoneMatch": "*"}), "us-east-1") == [written]
    assert needs(Call("t", "s3", "PutObject", where | {"IfMatch": "e"}), "us-east-1") == [written, read]
