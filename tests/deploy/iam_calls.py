"""Every call to AWS of the tasks of a run, and what IAM asks of each."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parseaddr
from pathlib import Path
from typing import Any
from unittest import mock

from aiobotocore.client import AioBaseClient
from botocore.client import BaseClient
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import ClientError, ReadTimeoutError

from cohort_flywheel.runs.names import GRAPH_LOADS_FOLDER
from tests.deploy.iam_checker import Request
from tests.deploy.stack import ACCOUNT
from tests.faults import transport

#: The resource ID of a cluster, for the calls that a laptop makes without a signature.
CLUSTER = "cluster-ABCDEFGHIJKLMNOPQRSTUVWXYZ"

#: What of a call's parameters says on what it works, or comes as a condition key.
RESOURCE_PARAMETERS = (
    "Bucket", "Key", "CopySource", "Prefix", "Delimiter", "IfMatch", "IfNoneMatch", "TableName", "RequestItems",
    "VersionId", "ApplicationId", "JobId", "SegmentId", "EndpointId", "ImportJobRequest", "RoleName", "Name",
    "ContactListName", "EmailIdentity", "TemplateName", "FromEmailAddress", "ConfigurationSetName",
    "RoleArn", "DomainName", "SegmentDefinitionName", "knowledgeBaseId", "messageTemplateId", "id", "tags",
    "ResourceArn", "Filters",
)  # fmt: skip


@dataclass(frozen=True)
class Call:
    """One call of a task; `error` is AWS's code where it was refused.

    assumed: it was made with the role of a connection, and not with the execution role.
    """

    task: str
    service: str
    operation: str
    parameters: Mapping[str, Any]
    error: str = ""
    assumed: bool = False

    def __str__(self) -> str:
        return f"{self.task}: {self.service} {self.operation}"


class Recorder:
    """Notes the calls of every process of a simulated run in a file, and may break the first upload to each place.

    The answer to the first CreateCampaign is lost, so that a later try finds what was made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._file = folder, folder / "calls.jsonl"
        self.breaks_uploads = False

    @contextmanager
    def recording(self) -> Iterator[None]:
        """While the block runs, `simulate.Run` begins each process with our recorder."""
        inner = transport.install

        def install(watch: Any) -> None:
            inner(watch)
            self._install(watch.task)

        with mock.patch.object(transport, "install", install):
            yield

    def calls(self) -> list[Call]:
        return [Call(**json.loads(line)) for line in self._file.read_text(encoding="utf-8").splitlines()]

    def _install(self, task: str) -> None:
        """In a task's own process, which ends with it: nothing is put back."""
        call, call_async = BaseClient._make_api_call, AioBaseClient._make_api_call

        def noted(client: Any, operation: str, parameters: Any) -> Any:
            resources = _resources(parameters)
            try:
                self._break(operation, parameters)
                answer = call(client, operation, parameters)
            except ClientError as error:
                self._note(task, client, operation, resources, error.response["Error"]["Code"])
                raise
            self._note(task, client, operation, resources)
            if operation == "CreateCampaign" and self._is_first(operation):
                raise ReadTimeoutError(endpoint_url="lost by the test")
            return answer

        async def noted_async(client: Any, operation: str, parameters: Any) -> Any:
            resources = _resources(parameters)
            answer = await call_async(client, operation, parameters)
            self._note(task, client, operation, resources)
            return answer

        BaseClient._make_api_call, AioBaseClient._make_api_call = noted, noted_async

    def _break(self, operation: str, parameters: Mapping[str, Any]) -> None:
        """Refuse the first part of the first upload to each place, so that the SDK takes the upload back."""
        if operation != "UploadPart" or not self.breaks_uploads:
            return
        folder = parameters["Key"].partition("/")[0]
        if parameters["Key"].startswith(GRAPH_LOADS_FOLDER):  # by a role of its own
            folder = "graph_loads"
        if folder == "reports":  # which are some kB, and uploaded in parts only because parts are so small here
            return
        if self._is_first(f"{parameters['Bucket']}.{folder}"):
            raise ClientError({"Error": {"Code": "BrokenByTheTest", "Message": ""}}, operation)

    def _is_first(self, what: str) -> bool:
        """Whether no process has met it yet."""
        try:
            (self._folder / what).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def _note(self, task: str, client: Any, operation: str, resources: Mapping[str, Any], error: str = "") -> None:
        service = client.meta.service_model.service_name
        word = {"task": task, "service": service, "operation": operation, "parameters": resources, "error": error}
        credentials = client._request_signer._credentials
        # the laptop's loader takes no signature, so its client has no credentials
        word["assumed"] = isinstance(credentials, RefreshableCredentials) or service == "neptunedata"
        line = json.dumps(word).encode() + b"\n"
        file = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, line)  # one write: threads and processes append side by side
        os.close(file)


def _resources(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What is worth noting, before the SDK rewrites it; the keys that a lookup asks for are players, and left out."""
    mail = parameters.get("Content", {}).get("Template", {})  # what is in it beside its template's name is a player's
    resources = {name: value for name, value in (mail | parameters).items() if name in RESOURCE_PARAMETERS}
    if "RequestItems" in resources:
        resources["RequestItems"] = sorted(resources["RequestItems"])
    return resources


# --- what IAM asks of a call

# [S3 API: HeadObject, GetObject] "If the object you request doesn't exist, the error that Amazon S3 returns depends on
# whether you also have the s3:ListBucket permission": without it 403, which our code would take for a refusal.
_NOT_THERE = ("404", "NoSuchKey")


def needs(call: Call, region: str) -> list[Request]:
    """The actions, resources and condition keys of a call; raises LookupError for a call without a rule.

    Each by the service authorization reference (https://docs.aws.amazon.com/service-authorization/latest/reference/,
    reference_policies_actions-resources-contextkeys.html), and the pages named beside it.
    """
    try:
        rule = _RULES[call.service, call.operation]
    except KeyError:
        raise LookupError(f"no rule says what IAM asks of {call}: add it to iam_calls.py, with its page") from None
    return rule(call, f"{region}:{ACCOUNT}")


def _bucket(call: Call, where: str) -> list[Request]:
    return [Request("s3:ListBucket", f"arn:aws:s3:::{call.parameters['Bucket']}")]


def _listing(call: Call, where: str) -> list[Request]:
    # [S3: bucket policy examples, condition keys] s3:prefix and s3:delimiter come with the request that has them
    asked = {"s3:prefix": "Prefix", "s3:delimiter": "Delimiter"}
    context = {key: call.parameters[name] for key, name in asked.items() if name in call.parameters}
    # [S3 API: ListObjectVersions] "you must have permission to perform the s3:ListBucketVersions action"
    action = "s3:ListBucketVersions" if call.operation == "ListObjectVersions" else "s3:ListBucket"
    return [Request(action, f"arn:aws:s3:::{call.parameters['Bucket']}", context)]


def _object(action: str) -> Callable[[Call, str], list[Request]]:
    def rule(call: Call, where: str) -> list[Request]:
        # [S3 API: GetObject, DeleteObject] a request that names a version needs the action of that name instead
        asked = f"{action}Version" if "VersionId" in call.parameters else action
        found = [Request(asked, _arn(call.parameters["Bucket"], call.parameters["Key"]))]
        if action == "s3:GetObject" and call.error in _NOT_THERE:
            found += _bucket(call, where)
        return found

    return rule


def _if_match(action: str) -> Callable[[Call, str], list[Request]]:
    def rule(call: Call, where: str) -> list[Request]:
        # [S3: conditional writes, conditional deletes] If-Match needs s3:GetObject too; If-None-Match does not
        found = _object(action)(call, where)
        return found + (_object("s3:GetObject")(call, where) if "IfMatch" in call.parameters else [])

    return rule


def _copy(call: Call, where: str) -> list[Request]:
    # [S3 API: CopyObject] "You must have read access to the source object and write access to the destination bucket."
    source = call.parameters["CopySource"]
    return [
        Request("s3:GetObject", _arn(source["Bucket"], source["Key"])),
        Request("s3:PutObject", _arn(call.parameters["Bucket"], call.parameters["Key"])),
    ]


def _table(call: Call, where: str) -> list[Request]:
    tables = call.parameters.get("RequestItems") or [call.parameters["TableName"]]
    return [Request(f"dynamodb:{call.operation}", f"arn:aws:dynamodb:{where}:table/{table}") for table in tables]


def _pinpoint(below: str = "") -> Callable[[Call, str], list[Request]]:
    # https://docs.aws.amazon.com/pinpoint/latest/developerguide/permissions-actions.html
    def rule(call: Call, where: str) -> list[Request]:
        app = f"arn:aws:mobiletargeting:{where}:apps/{call.parameters['ApplicationId']}"
        return [Request(f"mobiletargeting:{call.operation}", app + below.format(**call.parameters))]

    return rule


def _import_job(call: Call, where: str) -> list[Request]:
    # [IAM: granting permissions to pass a role to a service] who hands a role to a service needs iam:PassRole on it
    role = call.parameters["ImportJobRequest"]["RoleArn"]
    passed = Request("iam:PassRole", role, {"iam:PassedToService": "pinpoint.amazonaws.com"})
    return [*_pinpoint()(call, where), passed]


def _role(call: Call, where: str) -> list[Request]:
    return [Request("iam:GetRole", f"arn:aws:iam::{ACCOUNT}:role/{call.parameters['RoleName']}")]


def _ses(call: Call, where: str) -> list[Request]:
    # [Amazon Simple Email Service v2] whether an action knows a resource, and of which kind
    kinds = {"ContactListName": "contact-list", "JobId": "import-job", "EmailIdentity": "identity"}
    kinds |= {"TemplateName": "template", "ConfigurationSetName": "configuration-set"}
    given = [f"arn:aws:ses:{where}:{kind}/{call.parameters[name]}" for name, kind in kinds.items()
             if name in call.parameters]  # fmt: skip
    return [Request(f"ses:{call.operation}", resource) for resource in given or ["*"]]


def _mail(call: Call, where: str) -> list[Request]:
    # [the same page, SendEmail] the sender's identity, which is the verified domain, and the template where there is
    # one; no contact list. [SES: identity and access management] ses:FromAddress is the address without a name
    address = parseaddr(call.parameters["FromEmailAddress"])[1]
    domain = address.rpartition("@")[2]
    # The configuration set too, the identity's default one where the call names none [https://github.com/aws/aws-cdk/
    # issues/34402, https://github.com/usdigitalresponse/usdr-gost/pull/3080]. Strictly: each identity has a default.
    configuration_set = call.parameters.get("ConfigurationSetName", f"default-of-{domain}")
    things = [f"identity/{domain}", f"configuration-set/{configuration_set}"]
    if "TemplateName" in call.parameters:
        things.append(f"template/{call.parameters['TemplateName']}")
    return [Request("ses:SendEmail", f"arn:aws:ses:{where}:{each}", {"ses:FromAddress": address}) for each in things]


def _profiles(call: Call, where: str) -> list[Request]:
    # [Customer Profiles] a segment's definition is a resource beside its domain
    domain = f"arn:aws:profile:{where}:domains/{call.parameters['DomainName']}"
    resources = [domain]
    if "SegmentDefinitionName" in call.parameters:
        resources.append(f"{domain}/segment-definitions/{call.parameters['SegmentDefinitionName']}")
    return [Request(f"profile:{call.operation}", resource) for resource in resources]


def _campaigns(call: Call, where: str) -> list[Request]:
    # [Amazon Connect Outbound Campaigns] an instance is not a resource
    return [Request(f"connect-campaigns:{call.operation}", "*")]


def _campaign(call: Call, where: str) -> list[Request]:
    # [the same page, CreateCampaign] it authorizes TagResource too, here as there are tags; it has no id yet
    resource = f"arn:aws:connect-campaigns:{where}:campaign/{call.parameters.get('id', 'new')}"
    actions = [call.operation, *(["TagResource"] if "tags" in call.parameters else [])]
    return [Request(f"connect-campaigns:{action}", resource) for action in actions]


def _own_campaign(call: Call, where: str) -> list[Request]:
    # [the same page, DeleteCampaign] aws:ResourceTag/… are the tags of the campaign; ours has this one
    tags = {"aws:ResourceTag/cohort_flywheel": "the S3 address of a send ledger"}
    return [Request(request.action, request.resource, tags) for request in _campaign(call, where)]


def _metrics(call: Call, where: str) -> list[Request]:
    # [API: GetMetricDataV2] filters "correspond to Connect resources and are used for authorizing requests"; strictly
    # the instance too, as which resources the action knows was not at hand
    filtered = [value for each in call.parameters["Filters"] for value in each["FilterValues"]]
    return [Request("connect:GetMetricDataV2", arn) for arn in (call.parameters["ResourceArn"], *filtered)]


def _message_template(call: Call, where: str) -> list[Request]:
    # [Amazon Q in Connect, whose prefix is wisdom] what names a template is asked of its knowledge base too
    base = call.parameters["knowledgeBaseId"]
    things = [f"knowledge-base/{base}"]
    if "messageTemplateId" in call.parameters:
        things.append(f"message-template/{base}/{call.parameters['messageTemplateId']}")
    return [Request(f"wisdom:{call.operation}", f"arn:aws:wisdom:{where}:{each}") for each in things]


def _loader(call: Call, where: str) -> list[Request]:
    # [Neptune user guide: iam-dp-actions] each operation of the loader is an action of the same name on the cluster
    return [Request(f"neptune-db:{call.operation}", f"arn:aws:neptune-db:{where}:{CLUSTER}/*")]


def _assume(call: Call, where: str) -> list[Request]:
    return [Request("sts:AssumeRole", call.parameters["RoleArn"])]


def _bucket_policy(call: Call, where: str) -> list[Request]:
    return [Request("s3:GetBucketPolicy", f"arn:aws:s3:::{call.parameters['Bucket']}")]


def _parameter(call: Call, where: str) -> list[Request]:
    # [Systems Manager: restricting access to parameters] the name's own slash is the one behind `parameter`
    return [Request("ssm:GetParameter", f"arn:aws:ssm:{where}:parameter{call.parameters['Name']}")]


def _arn(bucket: str, key: str) -> str:
    return f"arn:aws:s3:::{bucket}/{key}"


# [S3: multipart upload and permissions] each of the three needs s3:PutObject; to take one back is an action of its own
_RULES: dict[tuple[str, str], Callable[[Call, str], list[Request]]] = {
    ("s3", "HeadBucket"): _bucket,
    ("s3", "ListObjectsV2"): _listing,
    ("s3", "ListObjectVersions"): _listing,
    ("s3", "HeadObject"): _object("s3:GetObject"),
    ("s3", "GetObject"): _object("s3:GetObject"),
    ("s3", "PutObject"): _if_match("s3:PutObject"),
    ("s3", "CreateMultipartUpload"): _object("s3:PutObject"),
    ("s3", "UploadPart"): _object("s3:PutObject"),
    ("s3", "CompleteMultipartUpload"): _object("s3:PutObject"),
    ("s3", "AbortMultipartUpload"): _object("s3:AbortMultipartUpload"),
    ("s3", "CopyObject"): _copy,
    ("s3", "DeleteObject"): _if_match("s3:DeleteObject"),
    ("neptunedata", "StartLoaderJob"): _loader,
    ("neptunedata", "GetLoaderJobStatus"): _loader,
    ("neptunedata", "ListLoaderJobs"): _loader,
    ("neptunedata", "CancelLoaderJob"): _loader,
    ("dynamodb", "DescribeTable"): _table,
    ("dynamodb", "BatchGetItem"): _table,
    ("pinpoint", "GetApp"): _pinpoint(),
    ("pinpoint", "GetImportJobs"): _pinpoint(),
    ("pinpoint", "CreateImportJob"): _import_job,
    ("pinpoint", "GetImportJob"): _pinpoint("/jobs/import/{JobId}"),
    ("pinpoint", "GetSegment"): _pinpoint("/segments/{SegmentId}"),
    ("pinpoint", "DeleteSegment"): _pinpoint("/segments/{SegmentId}"),
    ("pinpoint", "GetEndpoint"): _pinpoint("/endpoints/{EndpointId}"),
    ("pinpoint", "DeleteEndpoint"): _pinpoint("/endpoints/{EndpointId}"),
    ("iam", "GetRole"): _role,
    ("ssm", "GetParameter"): _parameter,
    ("sts", "AssumeRole"): _assume,
    ("s3", "GetBucketPolicy"): _bucket_policy,
    ("sesv2", "GetAccount"): _ses,
    ("sesv2", "GetContactList"): _ses,
    ("sesv2", "ListContacts"): _ses,
    ("sesv2", "GetContact"): _ses,
    ("sesv2", "DeleteContact"): _ses,
    ("sesv2", "ListImportJobs"): _ses,
    ("sesv2", "CreateImportJob"): _ses,
    ("sesv2", "GetImportJob"): _ses,
    ("sesv2", "GetEmailIdentity"): _ses,
    ("sesv2", "GetEmailTemplate"): _ses,
    ("sesv2", "CreateEmailTemplate"): _ses,
    ("sesv2", "GetConfigurationSet"): _ses,
    ("sesv2", "GetConfigurationSetEventDestinations"): _ses,
    ("sesv2", "ListSuppressedDestinations"): _ses,
    ("sesv2", "DeleteSuppressedDestination"): _ses,
    ("sesv2", "SendEmail"): _mail,
    ("customer-profiles", "GetDomain"): _profiles,
    ("customer-profiles", "ListUploadJobs"): _profiles,
    ("customer-profiles", "CreateUploadJob"): _profiles,
    ("customer-profiles", "GetUploadJobPath"): _profiles,
    ("customer-profiles", "StartUploadJob"): _profiles,
    ("customer-profiles", "StopUploadJob"): _profiles,
    ("customer-profiles", "GetUploadJob"): _profiles,
    ("customer-profiles", "CreateSegmentEstimate"): _profiles,
    ("customer-profiles", "GetSegmentEstimate"): _profiles,
    ("customer-profiles", "GetSegmentDefinition"): _profiles,
    ("customer-profiles", "CreateSegmentDefinition"): _profiles,
    ("customer-profiles", "SearchProfiles"): _profiles,
    ("customer-profiles", "DeleteProfile"): _profiles,
    ("connectcampaignsv2", "GetConnectInstanceConfig"): _campaigns,
    ("connectcampaignsv2", "ListCampaigns"): _campaigns,
    ("connectcampaignsv2", "CreateCampaign"): _campaign,
    ("connectcampaignsv2", "DescribeCampaign"): _campaign,
    ("connectcampaignsv2", "GetCampaignState"): _campaign,
    ("connectcampaignsv2", "StartCampaign"): _campaign,
    ("connectcampaignsv2", "DeleteCampaign"): _own_campaign,
    ("connect", "GetMetricDataV2"): _metrics,
    ("qconnect", "ListMessageTemplates"): _message_template,
    ("qconnect", "ListMessageTemplateVersions"): _message_template,
    ("qconnect", "DeleteMessageTemplate"): _message_template,
    ("qconnect", "GetMessageTemplate"): _message_template,
    ("qconnect", "CreateMessageTemplate"): _message_template,
    ("qconnect", "UpdateMessageTemplate"): _message_template,
    ("qconnect", "CreateMessageTemplateVersion"): _message_template,
    ("qconnect", "RenderMessageTemplate"): _message_template,
}
