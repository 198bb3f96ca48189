"""Import jobs and segments: what a client meets when it creates, polls, pages and repeats."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from local.pinpoint import shapes
from tests.local.pinpoint_service import ACCOUNT, BUCKET, REGION, Service, allow, code_of, people, process, trust


@pytest.fixture(scope="module")
def server() -> Iterator[Service]:
    with process() as (_, url):
        yield Service(url)


@pytest.fixture
def service(server: Service) -> Service:
    server.control(reset=True, import_seconds=0)
    return server


def refused(service: Service, url: str | None = None, **changes: object) -> tuple[str, int]:
    with pytest.raises(ClientError) as error:
        service.create(url or service.put(people("ann")), **changes)
    return code_of(error)


def test_a_file_becomes_a_segment_and_endpoints(service: Service) -> None:
    job = service.run(people("ann", "bob"), SegmentName="ea_atrisk")
    assert job["JobStatus"] == "COMPLETED"
    counts = {k: job[k] for k in ("TotalPieces", "CompletedPieces", "FailedPieces", "TotalProcessed", "TotalFailures")}
    assert list(counts.values()) == [1, 1, 0, 2, 0]
    segment = service.segment(job["Definition"]["SegmentId"])
    assert (segment["Name"], segment["SegmentType"], segment["Version"]) == ("ea_atrisk", "IMPORT", 1)
    assert segment["ImportDefinition"]["Size"] == 2
    assert segment["ImportDefinition"]["ChannelCounts"] == {"EMAIL": 2}
    endpoint = service.endpoint("ann-email")
    assert endpoint["User"] == {"UserId": "ann", "UserAttributes": {"FirstName": ["First"], "LastName": ["Last"]}}
    assert (endpoint["OptOut"], endpoint["EndpointStatus"]) == ("NONE", "ACTIVE")


def test_statuses_come_in_order_and_the_file_is_read_late(service: Service) -> None:
    service.control(import_seconds=5)
    url = service.put("not yet a file of endpoints\n")
    job = service.create(url)
    assert job["JobStatus"] == "CREATED"
    service.put(people("ann"))
    seen = [job["JobStatus"]]
    deadline = time.monotonic() + 20
    while seen[-1] != "COMPLETED":
        assert time.monotonic() < deadline
        found = service.job(job["Id"])
        assert ("CompletionDate" in found) == (found["JobStatus"] == "COMPLETED")
        if found["JobStatus"] != seen[-1]:
            seen.append(found["JobStatus"])
        time.sleep(0.03)
    opening = ["CREATED", "PREPARING_FOR_INITIALIZATION", "INITIALIZING", "PROCESSING"]
    assert seen == [*opening, "COMPLETING", "COMPLETED"]


def test_a_failing_job_says_so_before_it_has_failed(service: Service) -> None:
    service.control(import_seconds=3)
    job = service.create(service.put("Nonsense\n1\n"))
    seen = set()
    deadline = time.monotonic() + 20
    while (status := service.job(job["Id"])["JobStatus"]) != "FAILED":
        assert time.monotonic() < deadline
        seen.add(status)
        time.sleep(0.03)
    assert "FAILING" in seen


def test_the_create_call_knows_no_segment_id(service: Service) -> None:
    service.control(import_seconds=2)
    job = service.create(service.put(people("ann")))
    assert "SegmentId" not in job["Definition"]
    assert "SegmentId" not in service.job(job["Id"])["Definition"]
    assert service.finish(job)["Definition"]["SegmentId"]


def test_there_is_no_idempotency_token(service: Service) -> None:
    first, second = service.run(people("ann")), service.run(people("ann"))
    assert first["Id"] != second["Id"]
    assert first["Definition"]["SegmentId"] != second["Definition"]["SegmentId"]


def test_required_members(service: Service) -> None:
    for member in ("Format", "RoleArn", "S3Url"):
        assert refused(service, **{member: None}) == ("BadRequestException", 400)


def test_format_is_one_of_the_enumeration_and_unknown_members_are_refused(service: Service) -> None:
    assert refused(service, Format="XML") == ("BadRequestException", 400)
    assert refused(service, DefineSegment="true") == ("BadRequestException", 400)


def test_s3_url_has_its_form(service: Service) -> None:
    for url in ("https://segments/in/file.csv", "segments/in/file.csv", "s3://Segments/in"):
        assert refused(service, url) == ("BadRequestException", 400)


def test_an_unknown_application_job_or_segment_is_not_found(service: Service) -> None:
    request = {"Format": "CSV", "RoleArn": service.role, "S3Url": "s3://segments/x", "DefineSegment": True}
    pinpoint, nothing = service.pinpoint, "0" * 32
    calls: list[Callable[[], Any]] = [
        lambda: pinpoint.create_import_job(ApplicationId=nothing, ImportJobRequest=request),
        lambda: pinpoint.get_import_jobs(ApplicationId=nothing),
        lambda: pinpoint.get_segments(ApplicationId=nothing),
        lambda: pinpoint.get_import_job(ApplicationId=service.app, JobId=nothing),
        lambda: pinpoint.get_segment(ApplicationId=service.app, SegmentId=nothing),
        lambda: pinpoint.get_segment_import_jobs(ApplicationId=service.app, SegmentId=nothing),
        lambda: pinpoint.delete_segment(ApplicationId=service.app, SegmentId=nothing),
    ]
    for call in calls:
        with pytest.raises(ClientError) as error:
            call()
        assert code_of(error) == ("NotFoundException", 404)


def test_a_job_without_segment_and_endpoints_and_a_segment_id_without_define_are_refused(service: Service) -> None:
    assert refused(service, DefineSegment=False, RegisterEndpoints=False) == ("BadRequestException", 400)
    assert refused(service, DefineSegment=False, SegmentId="0" * 32) == ("BadRequestException", 400)


def test_an_update_of_an_unknown_segment_is_not_found(service: Service) -> None:
    assert refused(service, SegmentId="0" * 32) == ("NotFoundException", 404)


@pytest.mark.parametrize(("mode", "size"), [("replace", 2), ("add", 3)])
def test_an_update_replaces_or_adds(service: Service, mode: str, size: int) -> None:
    service.control(segment_update=mode)
    first = service.run(people("ann", "bob"), SegmentName="one")
    segment_id = first["Definition"]["SegmentId"]
    second = service.run(people("bob", "cat"), SegmentId=segment_id, SegmentName="two")
    assert second["Definition"]["SegmentId"] == segment_id
    segment = service.segment(segment_id)
    assert (segment["ImportDefinition"]["Size"], segment["Version"], segment["Name"]) == (size, 2, "one")
    jobs = service.pinpoint.get_segment_import_jobs(ApplicationId=service.app, SegmentId=segment_id)
    assert [j["Id"] for j in jobs["ImportJobsResponse"]["Item"]] == [second["Id"], first["Id"]]
    asked = {"ApplicationId": service.app, "SegmentId": segment_id}
    versions = service.pinpoint.get_segment_versions(**asked)["SegmentsResponse"]["Item"]
    assert [v["ImportDefinition"]["Size"] for v in versions] == [2, size]
    old = service.pinpoint.get_segment_version(**asked, Version="1")["SegmentResponse"]
    assert old["ImportDefinition"]["Size"] == 2


def test_without_define_segment_there_is_none(service: Service) -> None:
    job = service.run(people("ann"), DefineSegment=False)
    assert "SegmentId" not in job["Definition"]
    assert service.pinpoint.get_segments(ApplicationId=service.app)["SegmentsResponse"]["Item"] == []
    assert service.endpoint("ann-email")["Id"] == "ann-email"


def test_without_register_endpoints_there_are_none(service: Service) -> None:
    job = service.run(people("ann"), RegisterEndpoints=False)
    assert service.segment(job["Definition"]["SegmentId"])["ImportDefinition"]["Size"] == 1
    with pytest.raises(ClientError) as error:
        service.endpoint("ann-email")
    assert code_of(error) == ("NotFoundException", 404)


def test_a_deleted_segment_is_gone_and_its_job_stays(service: Service) -> None:
    job = service.run(people("ann"))
    asked = {"ApplicationId": service.app, "SegmentId": job["Definition"]["SegmentId"]}
    service.pinpoint.delete_segment(**asked)
    with pytest.raises(ClientError) as error:
        service.pinpoint.get_segment(**asked)
    assert code_of(error) == ("NotFoundException", 404)
    assert service.job(job["Id"])["Definition"]["SegmentId"] == asked["SegmentId"]


def test_jobs_come_newest_first_and_in_pages(service: Service) -> None:
    ids = [service.run(people("ann"))["Id"] for _ in range(12)]
    assert service.pinpoint.get_import_jobs(ApplicationId=service.app)["ImportJobsResponse"]["NextToken"]
    found: list[list[str]] = []
    token: dict[str, str] = {}
    for _ in range(10):
        page = service.pinpoint.get_import_jobs(ApplicationId=service.app, PageSize="5", **token)["ImportJobsResponse"]
        found.append([job["Id"] for job in page["Item"]])
        if "NextToken" not in page:
            break
        token = {"Token": page["NextToken"]}
        service.run(people("ann"))  # a job that comes in between moves nothing
    assert [len(ids) for ids in found] == [5, 5, 2]
    assert [job_id for ids in found for job_id in ids] == ids[::-1]
    segments = service.pinpoint.get_segments(ApplicationId=service.app, PageSize="3")["SegmentsResponse"]
    assert len(segments["Item"]) == 3
    assert segments["NextToken"]


def test_a_bad_page_size_or_token_is_refused(service: Service) -> None:
    for asked in ({"PageSize": "0"}, {"PageSize": "ten"}, {"Token": "bm8="}, {"Token": "%"}):
        with pytest.raises(ClientError) as error:
            service.pinpoint.get_import_jobs(ApplicationId=service.app, **asked)
        assert code_of(error) == ("BadRequestException", 400)


def test_a_third_active_job_is_too_many(service: Service) -> None:
    service.control(import_seconds=3)
    url = service.put(people("ann"))
    running = [service.create(url), service.create(url)]
    assert refused(service, url) == ("TooManyRequestsException", 429)
    for job in running:
        service.finish(job)
    service.finish(service.create(url))
    service.control(max_active_jobs=10, import_seconds=0)
    for job in [service.create(url) for _ in range(5)]:
        service.finish(job)


# --- the role


def test_a_role_must_exist(service: Service) -> None:
    assert refused(service, RoleArn=f"arn:aws:iam::{ACCOUNT}:role/Missing") == ("BadRequestException", 400)
    assert refused(service, RoleArn="arn:aws:iam::999999999999:role/Import") == ("BadRequestException", 400)


def test_a_role_must_trust_pinpoint(service: Service) -> None:
    lambda_trust = trust()
    lambda_trust["Statement"][0]["Principal"]["Service"] = "lambda.amazonaws.com"
    role = service.make_role("TrustsLambda", lambda_trust, allow("s3:*"))
    assert refused(service, RoleArn=role) == ("BadRequestException", 400)


def test_the_conditions_of_the_trust_hold(service: Service) -> None:
    arn = f"arn:aws:mobiletargeting:{REGION}:{ACCOUNT}:apps/{service.app}"
    met = {"StringEquals": {"aws:SourceAccount": ACCOUNT}, "ArnLike": {"aws:SourceArn": arn}}
    service.run(people("ann"), RoleArn=service.make_role("Met", trust(**met), allow("s3:GetObject")))
    broken = {
        "OtherAccount": met | {"StringEquals": {"aws:SourceAccount": "999999999999"}},
        "OtherApp": met | {"ArnLike": {"aws:SourceArn": arn.replace(service.app, "0" * 32)}},
        "UnknownKey": met | {"StringEquals": {"aws:PrincipalOrgID": "o-1"}},
        "UnknownOperator": met | {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}},
    }
    for name, conditions in broken.items():
        role = service.make_role(name, trust(**conditions), allow("s3:*"))
        assert refused(service, RoleArn=role) == ("BadRequestException", 400), name


def test_the_role_must_allow_reading_the_object(service: Service) -> None:
    without = service.make_role("Without", trust())
    assert refused(service, RoleArn=without) == ("BadRequestException", 400)
    elsewhere = service.make_role("Elsewhere", trust(), allow("s3:GetObject", resource="arn:aws:s3:::other/*"))
    assert refused(service, RoleArn=elsewhere) == ("BadRequestException", 400)
    denied = service.make_role("Denied", trust(), allow("s3:*"))
    deny = json.dumps(allow("s3:Get*", resource="*", effect="Deny"))
    service.iam.put_role_policy(RoleName="Denied", PolicyName="deny", PolicyDocument=deny)
    assert refused(service, RoleArn=denied) == ("BadRequestException", 400)


def test_what_is_not_read_in_a_policy_is_taken_strictly(service: Service) -> None:
    statements: dict[str, dict[str, Any]] = {
        "DenyUnknownOperator": {"Condition": {"Bool": {"aws:SecureTransport": "false"}}, "Action": "s3:*"},
        "DenyNotAction": {"NotAction": "s3:PutObject"},
    }
    for name, statement in statements.items():
        role = service.make_role(name, trust(), allow("s3:*"))
        deny = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Resource": "*"} | statement]}
        service.iam.put_role_policy(RoleName=name, PolicyName="deny", PolicyDocument=json.dumps(deny))
        assert refused(service, RoleArn=role) == ("BadRequestException", 400), name


def test_an_attached_policy_counts(service: Service) -> None:
    role = service.make_role("Attached", trust())
    document = json.dumps(allow("s3:Get*"))
    policy = service.iam.create_policy(PolicyName="Read", PolicyDocument=document)["Policy"]["Arn"]
    service.iam.attach_role_policy(RoleName="Attached", PolicyArn=policy)
    assert service.run(people("ann"), RoleArn=role)["JobStatus"] == "COMPLETED"


def test_a_prefix_needs_the_right_to_list(service: Service) -> None:
    role = service.make_role("NoList", trust(), allow("s3:GetObject"))
    assert refused(service, f"s3://{BUCKET}/folder/", RoleArn=role) == ("BadRequestException", 400)
    job = service.finish(service.create(f"s3://{BUCKET}/prefix-without-object", RoleArn=role))
    assert job["JobStatus"] == "FAILED"


def test_rights_that_are_gone_when_the_job_reads_fail_it(service: Service) -> None:
    role = service.make_role("Brief", trust(), allow("s3:GetObject"))
    service.control(import_seconds=2)
    job = service.create(service.put(people("ann")), RoleArn=role)
    service.iam.delete_role_policy(RoleName="Brief", PolicyName="read")
    assert service.finish(job)["JobStatus"] == "FAILED"


# --- names and answers


def test_application_ids_follow_from_account_region_name_and_number(service: Service) -> None:
    assert service.app == "8d44e9be31d41fde1a4f226e5338edd2", (
        "A seeded environment has the same id on every machine and every day."
    )
    again = service.pinpoint.create_app(CreateApplicationRequest={"Name": "Modeler", "tags": {"a": "b"}})
    assert again["ApplicationResponse"]["Id"] != service.app
    service.pinpoint.delete_app(ApplicationId=again["ApplicationResponse"]["Id"])


def test_every_operation_was_answered_as_its_shape_says(service: Service) -> None:
    """Clients of these tests hold each answer against the model; here each operation answers at least once."""
    pinpoint, app = service.pinpoint, service.app
    job = service.run(people("ann"))
    asked = {"ApplicationId": app, "SegmentId": job["Definition"]["SegmentId"]}
    pinpoint.get_app(ApplicationId=app)
    pinpoint.get_apps()
    pinpoint.get_import_jobs(ApplicationId=app)
    pinpoint.get_segments(ApplicationId=app)
    pinpoint.get_segment_import_jobs(**asked)
    pinpoint.get_segment_versions(**asked)
    pinpoint.get_segment_version(**asked, Version="1")
    service.segment(asked["SegmentId"])
    service.update_endpoint("ann-email", OptOut="ALL")
    service.endpoint("ann-email")
    pinpoint.get_user_endpoints(ApplicationId=app, UserId="ann")
    pinpoint.delete_endpoint(ApplicationId=app, EndpointId="ann-email")
    pinpoint.delete_segment(**asked)
    other = pinpoint.create_app(CreateApplicationRequest={"Name": "Other"})["ApplicationResponse"]["Id"]
    pinpoint.delete_app(ApplicationId=other)
    assert service.answers >= {
        *("CreateApp", "GetApp", "GetApps", "DeleteApp", "CreateImportJob", "GetImportJob", "GetImportJobs"),
        *("GetSegment", "GetSegments", "GetSegmentVersion", "GetSegmentVersions", "GetSegmentImportJobs"),
        *("DeleteSegment", "GetEndpoint", "GetUserEndpoints", "UpdateEndpoint", "DeleteEndpoint"),
    }


def test_the_validation_of_a_shape_finds_violations() -> None:
    expected = shapes.payload("GetImportJob", "output")
    wrong = {"Id": 1, "JobStatus": "DONE", "Extra": True, "Failures": "none", "TotalPieces": True}
    found = " ".join(shapes.problems(wrong, expected))
    for part in ("lacks CreationDate", "body.Id is a int", "one of CREATED", "Extra is not", "Failures is a str"):
        assert part in found
    assert "body.TotalPieces is a bool" in found


def test_boto3_sends_what_the_server_reads(service: Service) -> None:
    """With parameter validation on, as by default."""
    keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local-only"}
    strict = boto3.client("pinpoint", endpoint_url=service.url, region_name=REGION, **keys)
    request = {"Format": "CSV", "RoleArn": service.role, "S3Url": service.put(people("ann")), "DefineSegment": True}
    made = strict.create_import_job(ApplicationId=service.app, ImportJobRequest=request)["ImportJobResponse"]
    assert made["Definition"]["S3Url"] == request["S3Url"]
