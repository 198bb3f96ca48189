"""Least privilege: whether the policies of include/iam allow every call of the pipeline, and nothing that it needs not.

The pipeline's runs are simulated on the local servers with the settings and the roles that the template made, and every
call is recorded. The checker's own rules are tested below.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from cohort_flywheel.destinations.customer_profiles.layout import upload_job_name
from cohort_flywheel.engagement.event_objects import LIST_STATE_KEY, REMOVAL_KEY
from cohort_flywheel.engagement.graph_operator import WRITER_AWS_CONN_ID, WRITER_CONN_ID
from cohort_flywheel.engagement.suppressions import ListState
from cohort_flywheel.governance.erasure import PLAYERS_KEY, SALT_KEY
from cohort_flywheel.runs.names import SUPPRESSIONS_KEY, run_name
from local import seed
from local.config import CONTACT_LIST, PROFILES_DOMAIN, ROOT, SENDER_DOMAIN, TOPIC, UNSUBSCRIBE_URL, Config
from local.servers import Servers, _die_with_parent, airflow_environment
from tests.cohort_flywheel.engagement.ses_events import event, line
from tests.deploy import stack
from tests.deploy.iam_calls import CLUSTER, Call, Recorder, needs
from tests.deploy.iam_checker import PolicyError, Request, Without, allows, each_removed, statements, trusts
from tests.deploy.iam_table import as_written, assert_is_kept
from tests.local.neptune_loader_service import BUCKET as LOADER_BUCKET
from tests.local.neptune_loader_service import ROLE as LOADER_ROLE
from tests.local.neptune_loader_service import Loader

#: Statements that no call of a laptop can exercise, and the page that demands each.
_MWAA = "https://docs.aws.amazon.com/mwaa/latest/userguide/mwaa-create-role.html"
_KMS = "https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html#require-sse-kms"
#: The policies that have such statements.
OF_PAGES = ("environment", "neptune", "neptune_load", "engagement_graph_role", "kms", "pinpoint-import-role-kms")
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
    "NeptuneLoads": "https://docs.aws.amazon.com/neptune/latest/userguide/iam-dp-actions.html",
    "NeptuneIsWrittenByGremlin": "https://docs.aws.amazon.com/neptune/latest/userguide/iam-dp-actions.html",
    "ObjectsAreEncrypted": _KMS,
    "SegmentFilesAreDecrypted": _KMS,
}
#: Actions for which AWS knows no resource but *, by the service authorization reference.
ONLY_ON_ALL = {
    "logs:DescribeLogGroups", "cloudwatch:PutMetricData", "s3:GetAccountPublicAccessBlock",
    "ses:GetAccount", "ses:ListImportJobs", "ses:CreateImportJob", "ses:ListSuppressedDestinations",
    "ses:DeleteSuppressedDestination",
    "connect-campaigns:GetConnectInstanceConfig", "connect-campaigns:ListCampaigns",
}  # fmt: skip


nightly = pytest.mark.nightly  # every DAG of three deployments, in which IAM is enforced: three minutes

#: The policies of the execution role in a deployment for each destination, the last two with campaigns, with the
#: optional stack of the events.
DEPLOYMENTS = {
    "pinpoint": ("pipeline", "pinpoint", "graph_load", "neptune", "environment"),
    "ses": ("pipeline", "ses", "campaign", "ses_campaign", "engagement", "engagement_graph", "environment"),
    "customer_profiles": ("pipeline", "customer_profiles", "campaign", "connect_campaign", "engagement", "environment"),
}
#: Those of the role that the tasks of graph_load assume.
ASSUMED = ("graph_load_role", "neptune", "neptune_load")
ATTACHED = {
    "PipelinePolicy": "pipeline", "PinpointPolicy": "pinpoint", "SesPolicy": "ses",
    "ProfilesPolicy": "customer_profiles", "CampaignPolicy": "campaign", "SesCampaignPolicy": "ses_campaign",
    "ConnectCampaignPolicy": "connect_campaign", "EngagementPolicy": "engagement",
    "EngagementGraphPolicy": "engagement_graph", "EnvironmentPolicy": "environment",
    "GraphLoadPolicy": "graph_load", "NeptunePolicy": "neptune", "NeptuneLoadPolicy": "neptune_load",
    "GraphLoadRolePolicy": "graph_load_role",
}  # fmt: skip
SENDER = f"play@{SENDER_DOMAIN}"

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
#: All of it, and so every right that it needs.
_ENGAGEMENT = {
    "ses": """engagement:
  read_events: true
  write_graph: true
  tracking_consent: {attribute: trackingConsent, opted_in: ["yes"], opted_out: ["no"], silence: opted_out}
""",
    "customer_profiles": "engagement: {read_events: true, campaign_counts: true}\n",
}
#: So few that the player to erase is held out of both launches' segments on one day of 400.
_HOLDOUT = "\n      holdout_percent: 5\n      effect_days: 1"
_DROPPED = "dropped/ea_atrisk/theirs.json"
#: The modeler's seven files; a copy of the first has several parts.
_GRAPH_FILES = {
    "user_vertices.csv": "~id,~label,playerId,status,ea_atrisk:Int,stat_idleMinutes:Int\np,player,ann,Active,3,1\n"
    + "".join(f"p{number},player,ann-{number},Active,3,1\n" for number in range(60)),
    "campaign_vertices.csv": "~id,~label,name:String\nc,campaign,News\n",
    "action_vertices.csv": "~id,~label\na,action\n",
    "interaction_edges.csv": "~id,~label,~from,~to\ni,interaction_edge,p,p\n",
    "engagement_edges.csv": "~id,~label,~from,~to\ne,action_edge,p,a\n",
    "campaign_edges.csv": "~id,~label,~from,~to\nm,campaign_edge,c,p\n",
    "campaign_bidirectional_edges.csv": "~id,~label,~from,~to\nb,campaign_edge,p,c\n",
}
_NAMES_HIM = b'playerId\nwayne96\n["wayne96"]\n'
_MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=5, second=0, microsecond=0)


@dataclass(frozen=True)
class RoleInUse:
    """The policies of a role by the names of their files, and each request of its calls, with the first such call."""

    policies: dict[str, Any]
    asked: dict[Request, str]


class Deployment:
    """A stack for one destination, its DAG files, and runs of them with the credentials of its execution role."""

    def __init__(
        self, destination: str, servers: Servers, config: Config, folder: Path, parameters: dict[str, str]
    ) -> None:
        self.destination, self.servers, self.config = destination, servers, config
        self.folder = folder / destination
        prefix, client = f"/{destination}", self.client
        self.stack = stack.deploy(
            client,
            destination.replace("_", "-"),
            ContactsTable=config.contacts_table,
            SettingsPrefix=prefix,
            **parameters,
        )
        self.put("StateBucket", seed.DO_NOT_CONTACT, b"xortiz\n")
        self.put("StateBucket", PLAYERS_KEY, b"wayne96\n")
        ids = dict(self.stack.ids)
        if destination in _ENGAGEMENT:
            name, state_bucket = f"engagement-{destination.replace('_', '-')}", self.stack.outputs["StateBucket"]
            given = {"ExecutionRoleName": ids["ExecutionRole"], "SettingsPrefix": prefix}
            if destination == "ses":
                given |= {
                    "NeptuneClusterResourceId": CLUSTER,
                    "NeptuneWriterEndpoint": "cohort.cluster-abc.us-east-1.neptune.amazonaws.com",
                }
            ids |= stack.deploy_engagement(client, name, **given, StateBucketName=state_bucket).ids
        if destination == "ses":
            key = f"{_MIDNIGHT - timedelta(hours=1):events/%Y/%m/%d/%H}/stream-1-a"
            client("s3").put_object(Bucket=ids["EventBucket"], Key=key, Body=line(event("Send")))
        self.policies = _deployed_policies(client("iam"), ids, "ExecutionRole")
        loads = "GraphLoadRole" in ids
        self.assumed_policies = _deployed_policies(client("iam"), ids, "GraphLoadRole") if loads else {}
        self.credentials = _credentials(client, self.stack, ids)
        self.environment = _environment(servers, config, client("ssm"), prefix, self.credentials)
        self._write_dags()
        self.recorder, self.dags_run = Recorder(self.folder), set[str]()

    def client(self, service: str, **credentials: str) -> Any:
        local = {"aws_access_key_id": self.config.access_key_id, "aws_secret_access_key": self.config.secret_access_key}
        return boto3.client(
            service, endpoint_url=self.servers.aws_url, region_name=self.config.region, **(local | credentials)
        )

    def as_role(self, service: str) -> Any:
        """A client with the execution role's credentials, where moto enforces the policies."""
        return self.client(service, **self.credentials)

    def put(self, bucket: str, key: str, body: bytes) -> None:
        self.client("s3").put_object(Bucket=self.stack.outputs[bucket], Key=key, Body=body)

    def _write_dags(self) -> None:
        for each in ("dags", "include"):
            shutil.copytree(ROOT / each, self.folder / each, ignore=shutil.ignore_patterns("__pycache__"))
        registry = self.folder / "include" / "cohorts.yaml"
        text = registry.read_text(encoding="utf-8")
        for before, after in (
            ("destination: pinpoint\n", f"destination: {self.destination}\nopt_outs: none\n"),
            ("approvers: []", "approvers: [ann]"),
            ("not_again_days: 30", f"not_again_days: 30{_HOLDOUT if self.destination == 'ses' else ''}"),
            ("from: Studio <play@studio.example>", f"from: Studio <{SENDER}>"),
            ("\ncohorts:\n", f"\n{_ENGAGEMENT.get(self.destination, '')}cohorts:\n"),
        ):
            assert before in text
            text = text.replace(before, after)
        registry.write_text(text, encoding="utf-8")

    @cached_property
    def dags(self) -> dict[str, Any]:
        from airflow.dag_processing.dagbag import DagBag

        bag = DagBag(self.folder / "dags")
        assert not bag.import_errors, bag.import_errors
        return dict(bag.dags)

    def run(self, dag: str, now: datetime, conf: dict[str, Any], end: str, breaks: bool = False) -> None:
        """Play a run; its task `end` must succeed."""
        from tests.faults import simulate

        self.recorder.breaks_uploads = breaks
        self.dags_run.add(dag)
        with pytest.MonkeyPatch.context() as patch, self.recorder.recording():
            for name, value in self.environment.items():
                patch.setenv(name, value)
            simulated = simulate.Run(self.dags[dag], conf, now, self.folder / "runs.log")
            simulated.go()
        simulated.load()
        assert not simulated.failed, f"{conf}: {simulated.errors}; its log is {simulated.log}"
        assert simulated.states[end] == "success", simulated.states

    @cached_property
    def roles(self) -> tuple[RoleInUse, RoleInUse]:
        """The execution role, and that of graph loads; of a request the first call: an erasure's, if no other is."""
        found = RoleInUse(self.policies, {}), RoleInUse(self.assumed_policies, {})
        for call in self.recorder.calls():
            for request in needs(call, self.config.region):
                found[call.assumed].asked.setdefault(_hashable(request), str(call))
        return found


@pytest.fixture(scope="module")
def recorded(
    servers: Any, config: Any, seeded: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Deployment]]:
    """A deployment for each destination, after its runs."""
    from tests.faults import transport

    environ = dict(os.environ) | {"S3_UPLOAD_PART_MIN_SIZE": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", AWS, "--port", "0", "--import-seconds", "0.1"]
    command += ["--gremlin-url", servers.gremlin_url]
    # ends with this process
    process = subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True, preexec_fn=_die_with_parent
    )
    try:
        assert process.stdout
        here = replace(servers, aws_port=int(process.stdout.readline().rsplit(":", 1)[1]))
        folder, parameters = tmp_path_factory.mktemp("iam"), _parameters(here, config)
        made = {name: Deployment(name, here, config, folder, parameters[name]) for name in DEPLOYMENTS}
        _prepare(made)
        _enforce(here.aws_url)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(transport, "PART_BYTES", 512)  # so that every file which may be large has several parts
            _play_pinpoint(made["pinpoint"])
            _play_ses(made["ses"])
            _play_customer_profiles(made["customer_profiles"])
        yield made
    finally:
        process.terminate()
        process.wait()


def _parameters(servers: Servers, config: Config) -> dict[str, dict[str, str]]:
    """What each destination has in the emulated AWS, as the parameters of its stack."""
    seed.make_contact_list(servers, config)
    seed.make_profiles_domain(servers, config)
    seed.make_sender(servers, config)
    seed.make_configuration_sets(servers, config)
    return {
        "pinpoint": {
            "PinpointApplicationId": seed.make_application(servers, config),
            "NeptuneClusterResourceId": CLUSTER,
            "GraphLoadBucket": LOADER_BUCKET,
            "NeptuneLoadRoleArn": f"arn:aws:iam::123456789012:role/{LOADER_ROLE}",
            "NeptuneWriterEndpoint": "cohort.cluster-abc.us-east-1.neptune.amazonaws.com",
        },
        "ses": {"SesContactList": CONTACT_LIST, "SesTopic": TOPIC, "CampaignSender": SENDER},
        "customer_profiles": {
            "ProfilesDomain": PROFILES_DOMAIN,
            "ConnectInstanceId": seed.make_connect_instance(servers, config),
            "KnowledgeBaseId": seed.make_knowledge_base(servers, config),
            "UnsubscribeUrl": UNSUBSCRIBE_URL,
            "CampaignSender": f"*@{SENDER_DOMAIN}",
        },
    }


def _prepare(made: dict[str, Deployment]) -> None:
    """Resources that a run does not create."""
    loader = Loader(made["pinpoint"].servers, made["pinpoint"].config)
    loader.control(graph="scratch", load_seconds=0.1)
    for name, text in _GRAPH_FILES.items():
        loader.put(f"graph/cohort_modeler/{name}", text)
    for bucket, key in _OF_OTHERS:
        made["pinpoint"].put(bucket, key, _NAMES_HIM)
    made["pinpoint"].put("ExportBucket", _DROPPED, b'[{"playerId": ["msmith"], "ea_atrisk": [3]}]')
    listed = ListState(as_of=_MIDNIGHT.replace(minute=0))  # no run waits for the suppressions
    made["ses"].put("StateBucket", LIST_STATE_KEY, listed.model_dump_json().encode())
    made["ses"].put("StateBucket", SUPPRESSIONS_KEY, b"")
    made["ses"].put("StateBucket", SALT_KEY, json.dumps({"salt": "0f" * 32}).encode())
    made["ses"].put("StateBucket", REMOVAL_KEY, b"wayne96\nwayne96@example.com\n")
    made["ses"].client("s3").put_bucket_policy(**_bucket_policy(made["ses"].stack))
    # an upload that was not started
    name = upload_job_name("ea_duty_1", _MIDNIGHT, 1, "in", 0, "0" * 16)
    field = {"Source": "_source.key", "Target": "_profile.AccountNumber"}
    made["customer_profiles"].client("customer-profiles").create_upload_job(
        DomainName=PROFILES_DOMAIN, DisplayName=name, UniqueKey="key", Fields={"key": field}
    )


def _play_pinpoint(at: Deployment) -> None:
    everybody, yesterday = {"cohort": "ea_atrisk", "threshold": 0}, _MIDNIGHT - timedelta(days=1)
    uri = f"s3://{at.stack.outputs['ExportBucket']}/{_DROPPED}"
    # others, who are in no later segment
    at.run("cohort_to_segment", yesterday, {"cohort": "ea_duty", "source": "live"}, "record_result")
    at.run("cohort_to_segment", yesterday, everybody, "record_result")
    at.run("cohort_to_segment", _MIDNIGHT, everybody, "record_result", breaks=True)  # with a result before it
    at.run("cohort_to_segment", _MIDNIGHT, everybody | {"dry_run": True}, "check_limits", breaks=True)
    at.run("cohort_to_segment", _MIDNIGHT, {"cohort": "ea_atrisk", "threshold": 90}, "check_limits")  # no members
    at.run("cohort_to_segment", _MIDNIGHT, {"extract_uri": uri}, "record_result")
    at.run("cohort_what_if", _MIDNIGHT, {"cohort": "ea_atrisk"}, "count_days")
    at.run("cohort_figures", _MIDNIGHT, {}, "count_figures")
    two_days = {"keep_days": 2, "dry_run": False}
    at.run("cohort_cleanup", _MIDNIGHT + timedelta(days=1, hours=1), two_days, "clean_up")
    at.run("graph_load", _MIDNIGHT, {"dry_run": False}, "check_load", breaks=True)
    _erase(at)


def _play_ses(at: Deployment) -> None:
    some, yesterday = {"cohort": "ea_atrisk", "threshold": 1}, _MIDNIGHT - timedelta(days=1)
    at.run("cohort_to_segment", yesterday, some | {"campaign": "launch"}, "launch_campaign", breaks=True)
    at.run("engagement", yesterday, {}, "report")
    at.run("cohort_to_segment", _MIDNIGHT, some, "record_result")  # whose snapshot shows the effect, a day later
    at.run("cohort_figures", _MIDNIGHT, {}, "count_figures")
    at.run("engagement", _MIDNIGHT, {}, "report")  # reads what the day before has left
    at.run("suppression_removal", _MIDNIGHT, {"reason": "he wrote to us", "dry_run": False}, "remove")
    _erase(at)


def _play_customer_profiles(at: Deployment) -> None:
    """A launch of a mail that was changed since its test, after a try of it with another version of the mail."""
    some = {"cohort": "ea_atrisk", "threshold": 1}
    at.run("cohort_to_segment", _MIDNIGHT, some | {"campaign": "test"}, "prepare_campaign", breaks=True)
    (at.folder / "include" / "email" / "at_risk" / "subject.txt").write_text("Play again", encoding="utf-8")
    _leave_a_version_and_a_campaign(at)
    at.run("engagement", _MIDNIGHT, {}, "report")  # without its suppressions no launch begins
    at.run("cohort_to_segment", _MIDNIGHT, some | {"campaign": "launch"}, "follow_campaign")
    at.run("engagement", _MIDNIGHT, {}, "report")  # which counts the campaign
    _erase(at)


def _leave_a_version_and_a_campaign(at: Deployment) -> None:
    """A message template that has all its versions, and a campaign that an earlier try created and never started."""
    qconnect, base = at.as_role("qconnect"), at.stack.parameters["KnowledgeBaseId"]
    (template,) = qconnect.list_message_templates(knowledgeBaseId=base)["messageTemplateSummaries"]
    place = {"knowledgeBaseId": base, "messageTemplateId": template["messageTemplateId"]}
    content = {"email": {"subject": "Other", "body": {"plainText": {"content": "Other"}}}}
    qconnect.update_message_template(**place, content=content)
    version = qconnect.create_message_template_version(**place)["messageTemplate"]["messageTemplateArn"]
    body = json.dumps({"versions_per_template": 2}).encode()
    urllib.request.urlopen(f"{at.servers.aws_url}/cohort-flywheel/qconnect", body, timeout=60).close()  # noqa: S310 - our own server
    instance, name = at.stack.parameters["ConnectInstanceId"], run_name("ea_atrisk", 1, _MIDNIGHT.replace(minute=0))
    profiles = at.as_role("customer-profiles")
    segment = profiles.get_segment_definition(DomainName=PROFILES_DOMAIN, SegmentDefinitionName="ea_atrisk_1")
    mail = {"connectSourceEmailAddress": SENDER, "wisdomTemplateArn": version}
    now, ledger = datetime.now(UTC), f"s3://{at.stack.outputs['StateBucket']}/sends/at_risk/{name}.jsonl"
    at.as_role("connectcampaignsv2").create_campaign(
        name=name,
        connectInstanceId=instance,
        source={"customerProfilesSegmentArn": segment["SegmentDefinitionArn"]},
        channelSubtypeConfig={"email": {"outboundMode": {"agentless": {}}, "defaultOutboundConfig": mail}},
        schedule={"startTime": now, "endTime": now + timedelta(days=1)},
        tags={"cohort_flywheel": ledger},
    )


def _erase(at: Deployment) -> None:
    at.run("cohort_erasure", _MIDNIGHT + timedelta(days=1, hours=2), {"dry_run": False}, "erase")


def _bucket_policy(made: stack.Stack) -> dict[str, str]:
    """That of the import bucket, which moto's CloudFormation leaves out, but for TLS, which there is not here."""
    properties = made.resolver().value(stack.template()["Resources"]["ImportBucketPolicy"]["Properties"])
    document = properties["PolicyDocument"]
    kept = [each for each in document["Statement"] if each["Effect"] == "Allow"]
    return {"Bucket": properties["Bucket"], "Policy": json.dumps(document | {"Statement": kept})}


def _credentials(client: Callable[[str], Any], made: stack.Stack, ids: Mapping[str, str]) -> dict[str, str]:
    """The execution role's, which is also given what moto would refuse against IAM's own rules.

    [facts] moto takes * for the resource of every service but S3, SQS, IAM and STS, so a statement for one resource is
    none there; and it knows HeadBucket by another action than s3:ListBucket.
    """
    services = ("mobiletargeting", "ses", "profile", "connect-campaigns", "connect", "wisdom")
    wrongly_refused = ["s3:HeadBucket", "ssm:GetParameter", *(f"{service}:*" for service in services)]
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": wrongly_refused, "Resource": "*"}]}
    name = made.ids["ExecutionRole"]
    for role in ("GraphLoadRole", "EngagementGraphRole"):
        if role not in ids:
            continue
        # moto takes the session of a role for another principal than the role, which the trust policy names
        session = f"arn:aws:sts::{stack.ACCOUNT}:assumed-role/{name}/a-run"
        trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": session}}
        client("iam").update_assume_role_policy(
            RoleName=ids[role], PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        )
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


def _environment(
    servers: Servers, config: Config, ssm: Any, prefix: str, credentials: dict[str, str]
) -> dict[str, str]:
    """What MWAA would have: the secrets backend of the template, and `aws_default` as the execution role."""
    local = airflow_environment(servers, config, "unused", "unused")
    neptune = "AIRFLOW_CONN_NEPTUNE_DEFAULT"
    options = stack.template()["Resources"]["Environment"]["Properties"]["AirflowConfigurationOptions"]
    kwargs = json.loads(stack.substituted(options["secrets.backend_kwargs"]["Fn::Sub"], {"SettingsPrefix": prefix}))
    # wss:// is not available locally: the same parameter leads to the local graph
    ssm.put_parameter(Name=f"{prefix}/connections/neptune_default", Value=local[neptune], Overwrite=True)
    aws = json.loads(local["AIRFLOW_CONN_AWS_DEFAULT"])
    aws["extra"] |= {"aws_session_token": credentials["aws_session_token"]}
    aws |= {"login": credentials["aws_access_key_id"], "password": credentials["aws_secret_access_key"]}
    for each in ("aws_graph_load", WRITER_AWS_CONN_ID):
        with suppress(ssm.exceptions.ParameterNotFound):
            name = f"{prefix}/connections/{each}"
            role = json.loads(ssm.get_parameter(Name=name)["Parameter"]["Value"])
            endpoint = {"endpoint_url": servers.aws_url}
            role["extra"] |= endpoint | {"service_config": {"sts": endpoint}}
            ssm.put_parameter(Name=name, Value=json.dumps(role), Overwrite=True)
    with suppress(ssm.exceptions.ParameterNotFound):
        name = f"{prefix}/connections/{WRITER_CONN_ID}"
        signs = json.loads(ssm.get_parameter(Name=name)["Parameter"]["Value"])["extra"]
        graph = json.loads(local[neptune])
        graph["extra"] |= signs  # the local graph takes any signature
        ssm.put_parameter(Name=name, Value=json.dumps(graph), Overwrite=True)
    return {
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws),
        neptune: local[neptune],  # asked only by the harness
        "AIRFLOW__SECRETS__BACKEND": options["secrets.backend"],
        "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps(kwargs | {"endpoint_url": servers.aws_url}),
        "AWS_DEFAULT_REGION": config.region,
        # moto 5.2.5 gives a copy of an object that has parts its composite checksum, as if it had none [run]
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    } | {name.upper(): value for name, value in credentials.items()}


def _hashable(request: Request) -> Request:
    return Request(request.action, request.resource, _Context(request.context))


class _Context(dict[str, str]):
    def __hash__(self) -> int:  # type: ignore[override]  # it is not changed
        return hash(tuple(sorted(self.items())))


def _deployed_policies(iam: Any, ids: Mapping[str, str], role: str) -> dict[str, Any]:
    """The policies of a role, by the names of their files, as IAM gives them back."""
    attached = iam.list_attached_role_policies(RoleName=ids[role])["AttachedPolicies"]
    by_arn = {ids[logical]: name for logical, name in ATTACHED.items() if logical in ids}
    return {
        by_arn[arn]: iam.get_policy_version(PolicyArn=arn, VersionId="v1")["PolicyVersion"]["Document"]
        for arn in (each["PolicyArn"] for each in attached)
    }


# --- the policies are enough


@nightly
def test_every_dag_was_played(recorded: dict[str, Deployment]) -> None:
    dags_run = {dag for at in recorded.values() for dag in at.dags_run}
    left_out = {
        dag for at in recorded.values() for dag in at.dags if "__" not in dag
    } - dags_run  # a cohort's own DAG is like the main
    assert not left_out, f"play {left_out}, so that their calls are judged too"


@nightly
@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_every_call_of_the_runs_is_allowed(
    name: str, recorded: dict[str, Deployment], figure: Callable[[str], None]
) -> None:
    at = recorded[name]
    assert at.policies.keys() == set(DEPLOYMENTS[name])
    assert at.assumed_policies.keys() == set(ASSUMED if name == "pinpoint" else ())
    refused, asked = list[str](), set[Request]()
    for role in at.roles:
        documents = [document for policy, document in role.policies.items() if policy != "environment"]
        refused += [f"{call} needs {request}" for request, call in role.asked.items()
                    if not allows(documents, request)]  # fmt: skip
        asked |= role.asked.keys()
    assert not refused, "\n".join(sorted(refused))
    actions = {request.action for request in asked}
    figure(f"IAM, {name}: {len(asked)} different requests of {len(actions)} actions in its runs, all allowed")


@nightly
def test_what_the_runs_do_not_do_is_refused(recorded: dict[str, Deployment]) -> None:
    for at in recorded.values():
        bucket = f"arn:aws:s3:::{at.stack.outputs['StateBucket']}"
        for action, resource in (
            ("s3:PutObject", f"{bucket}/do_not_contact.txt"),
            ("s3:DeleteObject", f"{bucket}/results/ea_atrisk/2/2026-11-22_00-00-00.json"),
            ("s3:DeleteObject", f"{bucket}/snapshots/cohort=ea_atrisk/as_of=2026-11-22_00-00-00/snapshot.parquet"),
            ("s3:DeleteObject", f"{bucket}/sends/at_risk/ea_atrisk_2_2026-11-22_00-00-00.jsonl"),
            ("s3:DeleteObjectVersion", f"{bucket}/results/ea_atrisk/2/2026-11-22_00-00-00.json"),
            ("s3:DeleteObjectVersion", f"{bucket}/do_not_contact.txt"),
            ("s3:DeleteObjectVersion", f"{bucket}/reports/ea_atrisk_2_2026-11-22_00-00-00/d__1.json"),
            ("s3:DeleteObjectVersion", f"{bucket}/erasure/tombstones/0123"),
            ("s3:DeleteObjectVersion", f"{bucket}/engagement/suppressions.csv"),
            ("s3:GetObject", "arn:aws:s3:::other-teams/key"),
            ("s3:PutBucketPolicy", bucket),
            ("dynamodb:PutItem", "arn:aws:dynamodb:us-east-1:123456789012:table/userdata"),
            ("dynamodb:Scan", "arn:aws:dynamodb:us-east-1:123456789012:table/userdata"),
            ("ssm:GetParameter", "arn:aws:ssm:us-east-1:123456789012:parameter/other-teams/password"),
            ("ssm:PutParameter", f"arn:aws:ssm:us-east-1:123456789012:parameter/{at.destination}/variables/x"),
            ("iam:PassRole", "arn:aws:iam::123456789012:role/admin"),
            ("mobiletargeting:SendMessages", "arn:aws:mobiletargeting:us-east-1:123456789012:apps/abc"),
            ("ses:SendRawEmail", f"arn:aws:ses:us-east-1:123456789012:identity/{SENDER_DOMAIN}"),
            ("ses:SendBulkEmail", f"arn:aws:ses:us-east-1:123456789012:identity/{SENDER_DOMAIN}"),
            ("ses:UpdateEmailTemplate", "arn:aws:ses:us-east-1:123456789012:template/at_risk_0123"),
            ("ses:PutSuppressedDestination", "*"),
            ("ses:UpdateContact", f"arn:aws:ses:us-east-1:123456789012:contact-list/{CONTACT_LIST}"),
            ("connect-campaigns:DeleteCampaign", "arn:aws:connect-campaigns:us-east-1:123456789012:campaign/1"),
            ("connect-campaigns:StopCampaign", "arn:aws:connect-campaigns:us-east-1:123456789012:campaign/1"),
            ("wisdom:DeleteMessageTemplate", "arn:aws:wisdom:us-east-1:123456789012:message-template/another/1:2"),
            ("wisdom:DeleteKnowledgeBase", "arn:aws:wisdom:us-east-1:123456789012:knowledge-base/another"),
            ("connect:SendOutboundEmail", "arn:aws:connect:us-east-1:123456789012:instance/1"),
            ("wisdom:GetMessageTemplate", "arn:aws:wisdom:us-east-1:123456789012:knowledge-base/another"),
            ("sts:AssumeRole", "arn:aws:iam::123456789012:role/admin"),
            ("neptune-db:StartLoaderJob", f"arn:aws:neptune-db:us-east-1:123456789012:{CLUSTER}/*"),
            ("neptune-db:WriteDataViaQuery", f"arn:aws:neptune-db:us-east-1:123456789012:{CLUSTER}/*"),
            ("neptune-db:DeleteDataViaQuery", f"arn:aws:neptune-db:us-east-1:123456789012:{CLUSTER}/*"),
            ("s3:GetObject", f"arn:aws:s3:::{LOADER_BUCKET}/graph/cohort_modeler/user_vertices.csv"),
        ):
            asked = Request(action, resource, {"ses:FromAddress": SENDER})
            assert not allows(list(at.policies.values()), asked), f"{action} on {resource} is allowed"


@nightly
def test_the_role_of_graph_loads_loads_and_does_nothing_else(recorded: dict[str, Deployment]) -> None:
    at = recorded["pinpoint"]
    documents, bucket = list(at.assumed_policies.values()), f"arn:aws:s3:::{at.stack.outputs['StateBucket']}"
    graph = f"arn:aws:neptune-db:us-east-1:123456789012:{CLUSTER}/*"
    assert allows(documents, Request("neptune-db:StartLoaderJob", graph))
    for action, resource in (
        ("neptune-db:WriteDataViaQuery", graph),
        ("neptune-db:DeleteDataViaQuery", graph),
        ("neptune-db:ResetDatabase", graph),
        ("s3:PutObject", f"arn:aws:s3:::{LOADER_BUCKET}/graph/cohort_modeler/user_vertices.csv"),
        ("s3:GetObject", f"{bucket}/snapshots/cohort=ea_atrisk/as_of=2026-11-22_00-00-00/snapshot.parquet"),
        ("s3:GetObject", f"{bucket}/staged/ea_atrisk_2_2026-11-22_00-00-00/0000.csv"),
        ("s3:PutObject", f"{bucket}/results/ea_atrisk/2/2026-11-22_00-00-00.json"),
        ("s3:GetObject", f"arn:aws:s3:::{at.stack.outputs['ImportBucket']}/segments/one/0000.csv"),
        ("dynamodb:BatchGetItem", "arn:aws:dynamodb:us-east-1:123456789012:table/userdata"),
        ("ssm:GetParameter", "arn:aws:ssm:us-east-1:123456789012:parameter/pinpoint/connections/neptune_default"),
        ("iam:PassRole", f"arn:aws:iam::123456789012:role/{LOADER_ROLE}"),
    ):
        assert not allows(documents, Request(action, resource)), f"{action} on {resource} is allowed"


@nightly
@pytest.mark.parametrize(
    ("name", "sender", "allowed"),
    [
        ("pinpoint", SENDER, False),
        ("ses", SENDER, True),
        ("ses", f"security@{SENDER_DOMAIN}", False),
        ("customer_profiles", f"any@{SENDER_DOMAIN}", True),
        ("customer_profiles", "any@other.example", False),
    ],
)
def test_mail_is_of_the_deployments_sender_alone(
    name: str, sender: str, allowed: bool, recorded: dict[str, Deployment]
) -> None:
    """Whatever else the account may send for."""
    documents = list(recorded[name].policies.values())
    for identity in (sender, sender.rpartition("@")[2]):
        of_it = f"arn:aws:ses:us-east-1:123456789012:identity/{identity}"
        assert allows(documents, Request("ses:SendEmail", of_it, {"ses:FromAddress": sender})) == allowed
        assert not allows(documents, Request("ses:SendEmail", of_it))
    # without the right to its identity, that to a configuration set mails for no sender
    by_set = Request("ses:SendEmail", "arn:aws:ses:us-east-1:123456789012:configuration-set/any", {})
    assert allows(documents, by_set) == (name != "pinpoint")


@nightly
def test_moto_enforced_the_policies_during_the_runs(recorded: dict[str, Deployment]) -> None:
    """What it can, S3 and IAM: the runs were made with the role's credentials, and none of their calls was refused."""
    at = recorded["pinpoint"]
    s3, bucket = at.as_role("s3"), at.stack.outputs["StateBucket"]
    assert s3.get_object(Bucket=bucket, Key=seed.DO_NOT_CONTACT)["Body"].read() == b"xortiz\n"
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.put_object(Bucket=bucket, Key=seed.DO_NOT_CONTACT, Body=b"")
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.delete_object(Bucket=bucket, Key="results/ea_atrisk/0/2026-11-22_00-00-00.json")
    with pytest.raises(ClientError, match="AccessDenied"):
        at.as_role("iam").get_role(RoleName=at.stack.ids["ExecutionRole"])


@nightly
def test_the_import_role_is_passed_to_pinpoint_alone(recorded: dict[str, Deployment]) -> None:
    at = recorded["pinpoint"]
    role, document = at.stack.outputs["PinpointImportRoleArn"], [at.policies["pinpoint"]]
    assert allows(document, Request("iam:PassRole", role, {"iam:PassedToService": "pinpoint.amazonaws.com"}))
    assert not allows(document, Request("iam:PassRole", role, {"iam:PassedToService": "ec2.amazonaws.com"}))
    assert not allows(document, Request("iam:PassRole", role))


# --- and no more

#: Without erasure these can be removed from `pipeline` and nothing else is lost: so another policy may have a part
#: of it too.
_OF_ERASURE = "ErasureRewrites"


@nightly
def test_without_any_part_some_call_is_refused_or_a_page_demands_it(
    recorded: dict[str, Deployment], figure: Callable[[str], None]
) -> None:
    needless, rows = list[str](), dict[tuple[str, str, str], str]()
    for at in recorded.values():
        for role, name in [(each, name) for each in at.roles for name in sorted(each.policies)]:
            if name == "pipeline" and at.destination != "pinpoint":
                continue  # only there every DAG was run
            if name == "engagement" and at.destination != "ses":
                continue  # only there events are
            written = as_written(name, role.policies[name])
            for each, call in _refused(role, name, role.policies[name]):
                if not call:
                    needless.append(f"{at.destination}: {name}: {each.statement}: no call needs {each.lacks}")
                if each.kind != "statement":
                    rows.setdefault((name, each.statement, written[each.lacks]), call)
    assert not needless, "\n".join(needless)
    refused = [(*part, call) for part, call in rows.items()]
    demanded = []
    for name in OF_PAGES:
        for statement in statements(stack.policy(name)):
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            demanded += [(name, statement["Sid"], f"`{action}`", PAGES[statement["Sid"]]) for action in actions]
    figure(
        f"IAM: without each of {len(refused)} actions and resources some call is refused; {len(demanded)} more are"
        " demanded by a page of AWS's: include/iam/README.md has the table"
    )
    assert_is_kept("tests/deploy/test_iam.py", refused + demanded)


@nightly
def test_a_part_that_no_call_needs_is_found_out(recorded: dict[str, Deployment]) -> None:
    at = recorded["pinpoint"]
    policy = deepcopy(at.policies["pipeline"])
    sids = [statement["Sid"] for statement in policy["Statement"]]
    contacts, ends = (policy["Statement"][sids.index(sid)] for sid in ("Contacts", "ClaimsEnd"))
    contacts["Action"].append("dynamodb:Scan")
    ends["Resource"].append(f"arn:aws:s3:::{at.stack.outputs['StateBucket']}/results/*")
    policy["Statement"].append({"Sid": "More", "Effect": "Allow", "Action": "sns:Publish", "Resource": "*"})
    needless = [each.lacks for each, call in _refused(at.roles[0], "pipeline", policy) if not call]
    assert needless == [ends["Resource"][-1], "dynamodb:Scan", "More", "sns:Publish", "*"]


def _refused(role: RoleInUse, name: str, policy: Any) -> list[tuple[Without, str]]:
    """Each part of a policy, and the first call that is refused without it; empty where none is."""
    others = [
        {"Statement": [each for each in statements(document) if each["Sid"] != _OF_ERASURE]}
        for other, document in role.policies.items()
        if other != name
    ]
    asked = [(request, call) for request, call in role.asked.items() if allows([*others, policy], request)]
    found = []
    for lacking in each_removed(policy):
        if lacking.statement not in PAGES:
            calls = [call for request, call in asked if not allows([*others, lacking.document], request)]
            found.append((lacking, min(calls, default="")))
    return found


def test_every_page_is_of_a_statement() -> None:
    sids = {statement["Sid"] for name in OF_PAGES for statement in statements(stack.policy(name))}
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


def test_in_the_checker_a_deny_wins_and_not_elements_are_read() -> None:
    request = Request("s3:GetObject", "arn:aws:s3:::b/k")
    assert not allows([], request)
    assert not allows([_document(), _document(Effect="Deny", Resource="arn:aws:s3:::b/*")], request)
    assert allows([_document(), _document(Effect="Deny", Resource="arn:aws:s3:::c/*")], request)
    others = {"Statement": {"Effect": "Allow", "NotAction": "iam:*", "NotResource": "arn:aws:s3:::c/*"}}
    assert allows([others], request)
    assert not allows([others], Request("iam:GetRole", "arn:aws:iam::1:role/r"))
    assert not allows([others], Request("s3:GetObject", "arn:aws:s3:::c/k"))


def test_the_checker_refuses_what_it_does_not_know() -> None:
    request = Request("s3:GetObject", "arn:aws:s3:::b/k", {"a": "1"})
    with pytest.raises(PolicyError, match="NumericLessThan"):
        allows([_document(Condition={"NumericLessThan": {"a": "2"}})], request)
    with pytest.raises(PolicyError, match="neither Resource nor NotResource"):
        allows([{"Statement": {"Effect": "Allow", "Action": "s3:*"}}], request)
    with pytest.raises(PolicyError, match="Effect"):
        allows([_document(Effect="allow")], request)


def test_a_call_without_a_rule_is_detected() -> None:
    with pytest.raises(LookupError, match="enrich: dynamodb Scan"):
        needs(Call("enrich", "dynamodb", "Scan", {"TableName": "t"}), "us-east-1")


def test_what_is_not_there_needs_the_right_to_list() -> None:
    where = {"Bucket": "b", "Key": "k"}
    read = Request("s3:GetObject", "arn:aws:s3:::b/k")
    assert needs(Call("t", "s3", "HeadObject", where), "us-east-1") == [read]
    listed = [read, Request("s3:ListBucket", "arn:aws:s3:::b")]
    assert needs(Call("t", "s3", "HeadObject", where, "404"), "us-east-1") == listed
    written = Request("s3:PutObject", "arn:aws:s3:::b/k")
    assert needs(Call("t", "s3", "PutObject", where | {"IfNoneMatch": "*"}), "us-east-1") == [written]
    assert needs(Call("t", "s3", "PutObject", where | {"IfMatch": "e"}), "us-east-1") == [written, read]
