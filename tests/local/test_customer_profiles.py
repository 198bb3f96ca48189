"""Customer Profiles: uploads, profiles and segments as a client meets them, and what is refused."""

import base64
import gzip
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from tests.local.connect_service import (
    DOMAIN,
    FIELDS,
    HEADER,
    Service,
    headers_of,
    people,
    segment_of,
)
from tests.local.pinpoint_service import code_of, process

DAY = 86_400
BAD = ("BadRequestException", 400)
MISSING = ("ResourceNotFoundException", 404)


@pytest.fixture(scope="module")
def server() -> Iterator[Service]:
    with process() as (_, url):
        yield Service(url)


@pytest.fixture
def service(server: Service) -> Service:
    server.reset()
    return server


def refused(call: Callable[[], Any]) -> tuple[str, int]:
    with pytest.raises(ClientError) as error:
        call()
    return code_of(error)


def counts(job: dict[str, Any]) -> tuple[str, int, int, int]:
    found = job["ResultsSummary"]
    return job["Status"], found["CreatedRecords"], found["UpdatedRecords"], found["FailedRecords"]


# --- an upload


def test_a_file_becomes_profiles_and_a_second_one_updates_them(service: Service) -> None:
    assert counts(service.run(people("ann", "bob"))) == ("SUCCEEDED", 2, 0, 0)
    assert counts(service.run(people("bob", "cat", cohort="out"))) == ("SUCCEEDED", 1, 1, 0)
    bob = service.profile("bob")
    assert bob is not None
    assert (bob["EmailAddress"], bob["FirstName"]) == ("bob@example.com", "Bob")
    assert bob["Attributes"] == {"ea_atrisk": "out"}
    stats = service.profiles.get_domain(DomainName=DOMAIN)["Stats"]
    assert (stats["ProfileCount"], stats["ObjectCount"]) == (3, 3)


def test_a_job_says_what_it_does_over_time(service: Service) -> None:
    service.control(job_seconds=2)
    job_id = service.create(DataExpiry=7)
    created = service.job(job_id)
    assert (created["Status"], created["DataExpiry"], created["Fields"]) == ("CREATED", 7, FIELDS)
    assert "CompletedAt" not in created and "ResultsSummary" not in created
    service.put(job_id, people("ann"))
    assert service.job(job_id)["Status"] == "CREATED"
    service.start(job_id)
    running = service.job(job_id)
    assert running["Status"] == "IN_PROGRESS" and "ResultsSummary" not in running
    done = service.finish(job_id)
    assert counts(done) == ("SUCCEEDED", 1, 0, 0)
    assert (done["CompletedAt"] - done["CreatedAt"]).total_seconds() >= 0.9


def test_there_is_no_idempotency_token_and_names_may_be_had_twice_or_not(service: Service) -> None:
    assert service.create() != service.create()
    service.control(same_display_name="refused")
    assert refused(service.create) == BAD
    assert service.create(DisplayName="another")


def test_jobs_are_listed_newest_first_a_page_at_a_time(service: Service) -> None:
    made = [service.create(DisplayName=f"job {n}") for n in range(12)]
    first = service.profiles.list_upload_jobs(DomainName=DOMAIN)
    assert len(first["Items"]) == 10
    second = service.profiles.list_upload_jobs(DomainName=DOMAIN, NextToken=first["NextToken"])
    assert "NextToken" not in second
    assert [item["JobId"] for item in first["Items"] + second["Items"]] == made[::-1]
    whole = service.profiles.list_upload_jobs(DomainName=DOMAIN, MaxResults=500)
    assert len(whole["Items"]) == 12 and whole["Items"][0]["DisplayName"] == "job 11"
    assert refused(lambda: service.profiles.list_upload_jobs(DomainName=DOMAIN, MaxResults=501)) == BAD
    assert refused(lambda: service.profiles.list_upload_jobs(DomainName=DOMAIN, NextToken="MTIz")) == BAD


@pytest.mark.parametrize(
    "changes",
    [
        {"DisplayName": ""},
        {"DisplayName": "n" * 256},
        {"DataExpiry": 0},
        {"DataExpiry": 1099},
        {"DataExpiry": "30"},
        {"UniqueKey": None},
        {"UniqueKey": "Unknown"},
        {"UniqueKey": "_profile.AccountNumber"},
        {"Fields": None},
        {"Fields": {}},
        {"Fields": {"PlayerId": {"Source": "_source.PlayerId"}}},
        {"Fields": {"PlayerId": {"Target": "_profile.Nonsense"}}},
        {"Fields": {"PlayerId": {"Target": "_profile.ProfileId"}}},
        {"Fields": {"PlayerId": {"Target": "_profile.Address.Planet"}}},
        {"Fields": {"PlayerId": {"Target": "_profile.Attributes"}}},
        {"Fields": {"PlayerId": {"Target": "AccountNumber"}}},
        {"Fields": {"PlayerId": {"Target": "_profile.AccountNumber", "ContentType": "TEXT"}}},
        {"Fields": {"PlayerId": {"Target": "_profile.AccountNumber", "Source": "PlayerId"}}},
        {"Fields": {"Player Id": {"Target": "_profile.AccountNumber"}}, "UniqueKey": "Player Id"},
        {"Fields": FIELDS | {"Again": {"Target": "_profile.AccountNumber"}}},
        {"Fields": {f"A{n}": {"Target": f"_profile.Attributes.a{n}"} for n in range(26)}, "UniqueKey": "A1"},
    ],
)
def test_a_job_that_is_described_wrongly_is_refused(service: Service, changes: dict[str, Any]) -> None:
    assert refused(lambda: service.create(**changes)) == BAD
    assert service.domain()["upload_jobs"] == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"DefaultExpirationDays": 1}', 200),
        (b'{"DefaultExpirationDays": 1, "IdempotencyToken": "x"}', 400),
        (b'{"DefaultExpirationDays": true}', 400),
        (b"[]", 400),
        (b"{", 400),
    ],
)
def test_a_body_is_held_against_its_shape(service: Service, body: bytes, status: int) -> None:
    """What a client's own checks, or boto3's serializer, would never send."""
    credential = "Credential=local/20261123/us-east-1/profile/aws4_request"
    headers = {
        "Authorization": f"AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=0",
        "Content-Type": "application/json",
    }
    request = urllib.request.Request(f"{service.url}/domains/raw", data=body, headers=headers)  # noqa: S310 - ours
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
            assert answer.status == status
        service.profiles.delete_domain(DomainName="raw")
    except urllib.error.HTTPError as error:
        assert error.code == status


def test_what_is_not_there_is_not_found(service: Service) -> None:
    unknown = "0" * 32
    calls: list[Callable[[], Any]] = [
        lambda: service.create(DomainName="elsewhere"),
        lambda: service.job(unknown),
        lambda: service.path(unknown),
        lambda: service.start(unknown),
        lambda: service.profiles.stop_upload_job(DomainName=DOMAIN, JobId=unknown),
        lambda: service.profiles.get_domain(DomainName="elsewhere"),
        lambda: service.profiles.get_segment_definition(DomainName=DOMAIN, SegmentDefinitionName="none"),
        lambda: service.profiles.delete_segment_definition(DomainName=DOMAIN, SegmentDefinitionName="none"),
        lambda: service.profiles.get_segment_estimate(DomainName=DOMAIN, EstimateId=unknown),
        lambda: service.profiles.delete_profile(DomainName=DOMAIN, ProfileId=unknown),
        lambda: service.profiles.update_profile(DomainName=DOMAIN, ProfileId=unknown),
    ]
    for call in calls:
        assert refused(call) == MISSING


def test_a_job_is_started_once_with_a_file_and_then_takes_no_other(service: Service) -> None:
    job_id = service.create()
    assert refused(lambda: service.start(job_id)) == BAD, "The job has no file."
    path = service.path(job_id)
    service.put(job_id, people("ann"))
    service.start(job_id)
    assert refused(lambda: service.start(job_id)) == BAD
    assert refused(lambda: service.path(job_id)) == BAD
    assert service.put_to(path["Url"], people("bob"), **headers_of(path["ClientToken"]))[0] == 403
    assert counts(service.finish(job_id)) == ("SUCCEEDED", 1, 0, 0)


def test_a_job_can_be_stopped_before_its_end(service: Service) -> None:
    service.control(job_seconds=600)
    job_id = service.create()
    service.put(job_id, people("ann"))
    service.start(job_id)
    service.profiles.stop_upload_job(DomainName=DOMAIN, JobId=job_id)
    assert service.job(job_id)["Status"] == "STOPPED"
    assert refused(lambda: service.profiles.stop_upload_job(DomainName=DOMAIN, JobId=job_id)) == BAD
    assert refused(lambda: service.start(job_id)) == BAD
    assert service.domain()["profiles"] == []


def test_a_job_stopped_late_has_changed_its_profiles(service: Service) -> None:
    service.control(job_seconds=3)
    job_id = service.create()
    service.put(job_id, people("ann"))
    service.start(job_id)
    deadline = time.monotonic() + 20
    while not service.domain()["profiles"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    service.profiles.stop_upload_job(DomainName=DOMAIN, JobId=job_id)
    assert service.job(job_id)["Status"] == "STOPPED"
    assert service.profile("ann") is not None


# --- the presigned address


def test_the_address_takes_a_file_under_its_own_key_only(service: Service) -> None:
    job_id = service.create()
    path, other = service.path(job_id), service.path(job_id)
    url, right = path["Url"], headers_of(path["ClientToken"])
    assert url.startswith(f"{service.url}/") and path["ClientToken"] != other["ClientToken"]
    assert len(base64.b64decode(path["ClientToken"])) == 32
    for name in right:
        without = {key: value for key, value in right.items() if key != name}
        assert service.put_to(url, people("ann"), **without)[0] == 403, f"without {name}"
    wrong_md5 = headers_of(other["ClientToken"])["key_MD5"]
    assert service.put_to(url, people("ann"), **right | {"key_MD5": wrong_md5})[0] == 400
    assert service.put_to(url, people("ann"), **right | {"algorithm": "aws:kms"})[0] == 400
    assert service.put_to(url, people("ann"), **headers_of(other["ClientToken"]))[0] == 403, "another path's key"
    assert service.put_to(url, people("ann"), method="POST", **right)[0] == 405
    assert service.put_to(url[:-1], people("ann"), **right)[0] == 403, "another signature"
    assert service.put_to(url.split("?")[0], people("ann"), **right)[0] == 403, "no signature"
    assert service.domain()["upload_jobs"][0]["Uploaded"] is None
    assert service.put_to(url, people("ann"), **right) == (200, "")
    assert service.domain()["upload_jobs"][0]["Uploaded"] == len(people("ann"))


def test_the_address_expires_when_it_says(service: Service) -> None:
    service.control(url_seconds=60)
    path = service.path(service.create())
    assert 55 < path["ValidUntil"].timestamp() - time.time() <= 60
    service.control(clock_ahead_seconds=61)
    status, text = service.put_to(path["Url"], people("ann"), **headers_of(path["ClientToken"]))
    assert status == 403 and "AccessDenied" in text


def test_a_body_must_have_a_length(service: Service) -> None:
    path = service.path(service.create())
    names = headers_of(path["ClientToken"])
    headers = {f"x-amz-server-side-encryption-customer-{name.replace('_', '-')}": v for name, v in names.items()}
    request = urllib.request.Request(path["Url"], data=iter([b"a", b"b"]), method="PUT", headers=headers)  # noqa: S310
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request, timeout=10)  # noqa: S310 - our own server
    assert error.value.code == 411


def test_the_newest_file_is_the_one_that_counts(service: Service) -> None:
    job_id = service.create()
    service.put(job_id, people("ann"))
    service.put(job_id, people("bob", "cat"))
    service.start(job_id)
    assert counts(service.finish(job_id)) == ("SUCCEEDED", 2, 0, 0)
    assert service.profile("ann") is None


# --- the file


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\xef\xbb\xbf" + people("ann").encode(), "byte order mark"),
        (people("ann").encode("utf-16"), "not UTF-8"),
        (gzip.compress(people("ann").encode(), mtime=0), "not UTF-8"),
        ("", "no header"),
        (HEADER, "no rows"),
        (people("ann").replace("Cohort", "ea.atrisk"), "has a dot"),
        (people("ann").replace("Cohort", "Email"), "twice"),
        (people("ann").replace("Cohort", "Group"), "not those of the job"),
        (people("ann").replace(",Cohort", ""), "not those of the job"),
        (HEADER + 'ann,ann@example.com,A"nn,in\n', "RFC 4180"),
    ],
)
def test_a_file_that_cannot_be_read_fails_the_job(service: Service, content: str | bytes, sentence: str) -> None:
    job = service.run(content)
    assert (job["Status"], job["StatusReason"]) == ("FAILED", "VALIDATION_FAILURE")
    assert sentence in service.sentences(job)[0]
    assert service.domain()["profiles"] == []


def test_a_file_must_be_smaller_than_the_limit(service: Service) -> None:
    content = people("ann")
    service.control(max_bytes=len(content))
    assert service.run(content)["Status"] == "FAILED"
    service.control(max_bytes=len(content) + 1)
    assert service.run(content)["Status"] == "SUCCEEDED"


@pytest.mark.parametrize(
    "row",
    [
        "bob,bob@example.com,Bob",
        "bob,bob@example.com,Bob,in,more",
        "",
        ",bob@example.com,Bob,in",
        "bob,bob.example.com,Bob,in",
        "bob,bob@localhost,Bob,in",
        f"bob,bob@example.com,{'B' * 256},in",
        'bob,bob@example.com,"B\nob",in',
        "bob,bob@example.com,B\tob,in",
    ],
)
def test_a_row_that_is_wrong_fails_alone(service: Service, row: str) -> None:
    job = service.run(people("ann") + row + "\n")
    assert counts(job) == ("PARTIALLY_SUCCEEDED", 1, 0, 1)
    (sentence,) = service.sentences(job)
    assert sentence.startswith("Line 3: ") and "bob" not in sentence and "example" not in sentence
    assert service.profile("bob") is None
    assert service.run(HEADER + row + "\n")["Status"] == "FAILED", "A job of which every row failed."


def test_numbers_phones_and_enumerations_are_held_against_their_type(service: Service) -> None:
    fields = {
        "PlayerId": {"Target": "_profile.AccountNumber"},
        "Phone": {"Target": "_profile.MobilePhoneNumber", "ContentType": "PHONE_NUMBER"},
        "Score": {"Target": "_profile.Attributes.score", "ContentType": "NUMBER"},
        "Gender": {"Target": "_profile.Gender"},
        "City": {"Target": "_profile.Address.City"},
    }
    rows = ["ann,+4930123456,-7.5,FEMALE,Berlin", "bob,030123456,1,MALE,Bonn", "cat,+49301,much,,", "dan,,,male,"]
    job = service.run("\n".join(["PlayerId,Phone,Score,Gender,City", *rows]), Fields=fields)
    assert counts(job) == ("PARTIALLY_SUCCEEDED", 1, 0, 3)
    ann = service.profile("ann")
    assert ann is not None
    assert (ann["Address"], ann["Attributes"]) == ({"City": "Berlin"}, {"score": "-7.5"})


def test_an_empty_cell_keeps_what_was_there_and_quotes_are_read(service: Service) -> None:
    service.run(people("ann"))
    assert counts(service.run(HEADER + '"ann",,"Ann, ""A""",\n')) == ("SUCCEEDED", 0, 1, 0)
    ann = service.profile("ann")
    assert ann is not None
    assert (ann["FirstName"], ann["EmailAddress"], ann["Attributes"]["ea_atrisk"]) == (
        'Ann, "A"',
        "ann@example.com",
        "in",
    )


def test_a_key_twice_in_a_file_updates_and_a_key_of_two_profiles_fails(service: Service) -> None:
    assert counts(service.run(people("ann", "ann"))) == ("SUCCEEDED", 1, 1, 0)
    for _ in range(2):
        service.profiles.create_profile(DomainName=DOMAIN, AccountNumber="bob")
    assert counts(service.run(people("ann", "bob"))) == ("PARTIALLY_SUCCEEDED", 0, 1, 1)


def test_profiles_are_matched_by_the_unique_key_s_attribute(service: Service) -> None:
    service.run(people("ann"))
    moved = people("ann").replace("ann,", "anna,", 1)
    assert counts(service.run(moved, UniqueKey="Email")) == ("SUCCEEDED", 0, 1, 0)
    assert service.profile("ann") is None
    assert service.profile("anna") is not None
    assert counts(service.run(moved)) == ("SUCCEEDED", 0, 1, 0), "An index follows what another job changed."


# --- expiry


def test_two_weeks_is_the_silent_expiry(service: Service) -> None:
    assert service.job(service.create(DataExpiry=None))["DataExpiry"] == 14
    service.define("seg")
    service.run(people("ann"), DataExpiry=None)
    service.run(people("bob"), DataExpiry=1098)
    service.control(clock_ahead_seconds=14 * DAY - 60)
    assert service.members("seg") == ["ann", "bob"]
    service.control(clock_ahead_seconds=14 * DAY + 60)
    assert service.members("seg") == ["bob"]
    assert service.estimate(segment_of("in"))["Estimate"] == "1"
    assert service.profiles.get_domain(DomainName=DOMAIN)["Stats"]["ProfileCount"] == 1


def test_the_newest_job_says_when_a_profile_expires(service: Service) -> None:
    service.run(people("ann", "bob"), DataExpiry=30)
    service.run(people("ann", cohort="out"), DataExpiry=5)
    service.run(people("bob"), DataExpiry=60)
    service.control(clock_ahead_seconds=6 * DAY)
    assert service.profile("ann") is None
    service.control(clock_ahead_seconds=59 * DAY)
    assert service.profile("bob") is not None


# --- profiles


def test_a_profile_is_found_read_changed_and_erased(service: Service) -> None:
    service.run(people("ann", "bob"))
    found = service.profiles.search_profiles(DomainName=DOMAIN, KeyName="_account", Values=["ann", "unknown"])
    (ann,) = found["Items"]
    for key, value in (("_email", "ann@example.com"), ("_fullName", "Ann"), ("_profileId", ann["ProfileId"])):
        (same,) = service.profiles.search_profiles(DomainName=DOMAIN, KeyName=key, Values=[value])["Items"]
        assert same == ann
    more = {"AdditionalSearchKeys": [{"KeyName": "_email", "Values": ["bob@example.com"]}]}
    either = service.profiles.search_profiles(DomainName=DOMAIN, KeyName="_account", Values=["ann"], **more)
    assert len(either["Items"]) == 2
    both = service.profiles.search_profiles(
        DomainName=DOMAIN, KeyName="_account", Values=["ann"], LogicalOperator="AND", **more
    )
    assert both["Items"] == []
    assert refused(lambda: service.profiles.search_profiles(DomainName=DOMAIN, KeyName="_x", Values=["ann"])) == BAD

    profile = {"DomainName": DOMAIN, "ProfileId": ann["ProfileId"]}
    service.profiles.update_profile(**profile, FirstName="", Attributes={"ea_atrisk": "out", "since": "2026"})
    unknown = "0" * 32
    batch = service.profiles.batch_get_profile(DomainName=DOMAIN, ProfileIds=[ann["ProfileId"], unknown])
    (read,) = batch["Profiles"]
    assert "FirstName" not in read and read["Attributes"] == {"ea_atrisk": "out", "since": "2026"}
    assert [error["ProfileId"] for error in batch["Errors"]] == [unknown]

    service.profiles.delete_profile(**profile)
    assert service.profile("ann") is None
    assert refused(lambda: service.profiles.delete_profile(**profile)) == MISSING
    assert counts(service.run(people("ann"))) == ("SUCCEEDED", 1, 0, 0), "Erased is not found by its key."


# --- segments


def test_a_segment_follows_its_profiles_and_not_the_other_way(service: Service) -> None:
    arn = service.define("ea_atrisk_2")
    assert arn.endswith(":domains/players/segment-definitions/ea_atrisk_2")
    service.run(people("ann", "bob"))
    service.run(people("cat", cohort="out"))
    assert service.members("ea_atrisk_2") == ["ann", "bob"]
    service.run(people("ann", cohort="out"))
    service.run(people("cat"))
    assert service.members("ea_atrisk_2") == ["bob", "cat"]


def test_a_definition_is_made_once_and_never_updated(service: Service) -> None:
    service.define("seg", Description="made once")
    assert refused(lambda: service.define("seg", segment_of("out"))) == BAD
    found = service.profiles.get_segment_definition(DomainName=DOMAIN, SegmentDefinitionName="seg")
    assert found["SegmentGroups"] == segment_of("in")
    assert (found["SegmentType"], found["Description"]) == ("CLASSIC", "made once")
    assert not any("UpdateSegment" in name for name in service.profiles.meta.service_model.operation_names)
    service.profiles.delete_segment_definition(DomainName=DOMAIN, SegmentDefinitionName="seg")
    service.define("seg", segment_of("out"))


def test_definitions_are_listed_a_page_at_a_time(service: Service) -> None:
    names = [f"seg_{n:02}" for n in range(11)]
    for name in names:
        service.define(name)
    first = service.profiles.list_segment_definitions(DomainName=DOMAIN)
    second = service.profiles.list_segment_definitions(DomainName=DOMAIN, NextToken=first["NextToken"])
    assert [item["SegmentDefinitionName"] for item in first["Items"] + second["Items"]] == names


def condition(kind: str, *values: str) -> dict[str, Any]:
    return {"DimensionType": kind, "Values": list(values)}


def attributes(**conditions: dict[str, Any]) -> dict[str, Any]:
    return {"ProfileAttributes": {"Attributes": conditions}}


@pytest.mark.parametrize(
    ("groups", "members"),
    [
        ({"Groups": [{"Dimensions": [attributes(team=condition("INCLUSIVE", "red", "blue"))]}]}, "abc"),
        ({"Groups": [{"Dimensions": [attributes(team=condition("INCLUSIVE", "RED"))]}]}, ""),
        ({"Groups": [{"Dimensions": [attributes(team=condition("EXCLUSIVE", "red"))]}]}, "cd"),
        ({"Groups": [{"Dimensions": [attributes(team=condition("CONTAINS", "lu"))]}]}, "c"),
        ({"Groups": [{"Dimensions": [attributes(team=condition("BEGINS_WITH", "r", "x"))]}]}, "ab"),
        ({"Groups": [{"Dimensions": [attributes(team=condition("ENDS_WITH", "ue"))]}]}, "c"),
        ({"Groups": [{"Dimensions": [attributes(score=condition("GREATER_THAN", "2"))]}]}, "bc"),
        ({"Groups": [{"Dimensions": [attributes(score=condition("LESS_THAN_OR_EQUAL", "2"))]}]}, "a"),
        ({"Groups": [{"Dimensions": [attributes(score=condition("EQUAL", "10.0"))]}]}, "c"),
        ({"Groups": [{"Dimensions": [attributes(born=condition("BEFORE", "2000-01-01"))]}]}, "a"),
        ({"Groups": [{"Dimensions": [attributes(born=condition("BETWEEN", "1990-01-01", "2010-01-01"))]}]}, "ab"),
        ({"Groups": [{"Dimensions": [{"ProfileAttributes": {"AccountNumber": condition("INCLUSIVE", "b")}}]}]}, "b"),
        (
            {
                "Groups": [
                    {"Dimensions": [{"ProfileAttributes": {"Address": {"City": condition("INCLUSIVE", "Bonn")}}}]}
                ]
            },
            "a",
        ),
        # one dimension: all of it; several: by the group's type; groups: by Include
        (
            {
                "Groups": [
                    {"Dimensions": [attributes(team=condition("INCLUSIVE", "red"), score=condition("EQUAL", "9"))]}
                ]
            },
            "b",
        ),
        (
            {
                "Groups": [
                    {
                        "Type": "ANY",
                        "Dimensions": [
                            attributes(team=condition("INCLUSIVE", "blue")),
                            attributes(score=condition("EQUAL", "9")),
                        ],
                    }
                ]
            },
            "bc",
        ),
        (
            {"Groups": [{"Type": "NONE", "Dimensions": [attributes(team=condition("INCLUSIVE", "red"))]}]},
            "cd",
        ),
        (
            {
                "Include": "ANY",
                "Groups": [
                    {"Dimensions": [attributes(team=condition("INCLUSIVE", "blue"))]},
                    {"Dimensions": [attributes(score=condition("EQUAL", "2"))]},
                ],
            },
            "ac",
        ),
        ({"Include": "NONE", "Groups": [{"Dimensions": [attributes(team=condition("INCLUSIVE", "red"))]}]}, "cd"),
        ({"Groups": [{"SourceSegments": [{"SegmentDefinitionName": "reds"}]}]}, "ab"),
        (
            {
                "Groups": [
                    {
                        "SourceSegments": [{"SegmentDefinitionName": "reds"}],
                        "SourceType": "NONE",
                        "Dimensions": [attributes(score=condition("GREATER_THAN", "0"))],
                    }
                ]
            },
            "c",
        ),
    ],
)
def test_a_segment_is_evaluated(service: Service, groups: dict[str, Any], members: str) -> None:
    values: dict[str, dict[str, str]] = {
        "a": {"team": "red", "score": "2", "born": "1990-05-01"},
        "b": {"team": "red", "score": "9", "born": "2001-05-01"},
        "c": {"team": "blue", "score": "10", "born": "2011-05-01T10:00:00+02:00"},
        "d": {"score": "many"},
    }
    for name, held in values.items():
        address = {"Address": {"City": "Bonn"}} if name == "a" else {}
        service.profiles.create_profile(DomainName=DOMAIN, AccountNumber=name, Attributes=held, **address)
    service.define("reds", {"Groups": [{"Dimensions": [attributes(team=condition("INCLUSIVE", "red"))]}]})
    service.define("seg", groups)
    assert "".join(service.members("seg")) == members
    assert service.estimate(groups)["Estimate"] == str(len(members))


@pytest.mark.parametrize(
    "changes",
    [
        {"SegmentGroups": None},
        {"SegmentGroups": {}},
        {"SegmentGroups": {"Groups": [{}]}},
        {"SegmentGroups": {"Groups": [{"Dimensions": [{}]}]}},
        {"SegmentGroups": {"Groups": [{"SourceSegments": [{"SegmentDefinitionName": "none"}]}]}},
        {"SegmentGroups": {"Groups": [{"Dimensions": [attributes(a=condition("INCLUSIVE"))]}]}},
        {
            "SegmentGroups": {
                "Groups": [{"Dimensions": [attributes(a=condition("INCLUSIVE", *(str(n) for n in range(51))))]}]
            }
        },
        {"SegmentGroups": {"Groups": [{"Dimensions": [attributes(a=condition("INCLUSIVE", ""))]}]}},
        {"SegmentGroups": {"Groups": [{"Dimensions": [attributes(a=condition("LIKE", "x"))]}]}},
        {"SegmentGroups": {"Groups": [{"Dimensions": [attributes(a=condition("EQUAL", "x"))]}]}},
        {"SegmentGroups": {"Groups": [{"Dimensions": [attributes(a=condition("BETWEEN", "2026-01-01"))]}]}},
        {"SegmentGroups": {"Groups": [{"Dimensions": [attributes(a=condition("AFTER", "soon"))]}]}},
        {"SegmentGroups": {"Groups": [{"Type": "SOME", "Dimensions": [attributes(a=condition("INCLUSIVE", "x"))]}]}},
        {"SegmentGroups": None, "SegmentSqlQuery": "SELECT 1"},
        {"DisplayName": ""},
        {"SegmentDefinitionName": "n" * 65},
        {"SegmentDefinitionName": "a b"},
    ],
)
def test_a_definition_that_is_wrong_is_refused(service: Service, changes: dict[str, Any]) -> None:
    request = {
        "DomainName": DOMAIN,
        "SegmentDefinitionName": "seg",
        "DisplayName": "seg",
        "SegmentGroups": segment_of("in"),
    } | changes
    request = {name: value for name, value in request.items() if value is not None}
    assert refused(lambda: service.profiles.create_segment_definition(**request)) == BAD
    assert service.domain()["segments"] == []


def test_a_definition_used_by_another_cannot_be_deleted(service: Service) -> None:
    service.define("base")
    service.define("upper", {"Groups": [{"SourceSegments": [{"SegmentDefinitionName": "base"}]}]})
    delete = service.profiles.delete_segment_definition
    assert refused(lambda: delete(DomainName=DOMAIN, SegmentDefinitionName="base")) == BAD


def test_an_estimate_takes_its_time_and_is_a_string(service: Service) -> None:
    service.run(people("ann", "bob"))
    service.control(estimate_seconds=600)
    made = service.profiles.create_segment_estimate(DomainName=DOMAIN, SegmentQuery=segment_of("in"))
    asked = {"DomainName": DOMAIN, "EstimateId": made["EstimateId"]}
    running = service.profiles.get_segment_estimate(**asked)
    assert running["Status"] == "RUNNING" and "Estimate" not in running
    service.control(clock_ahead_seconds=601)
    done = service.profiles.get_segment_estimate(**asked)
    assert (done["Status"], done["Estimate"], done["StatusCode"]) == ("SUCCEEDED", "2", 200)
    assert refused(lambda: service.profiles.create_segment_estimate(DomainName=DOMAIN, SegmentSqlQuery="SELECT")) == BAD


def test_membership_is_reported_by_profile(service: Service) -> None:
    service.define("seg")
    service.run(people("ann"))
    service.run(people("bob", cohort="out"))
    profiles = {p["AccountNumber"]: p["ProfileId"] for p in service.domain()["profiles"]}
    unknown = "0" * 32
    found = service.profiles.get_segment_membership(
        DomainName=DOMAIN, SegmentDefinitionName="seg", ProfileIds=[profiles["ann"], profiles["bob"], unknown]
    )
    assert {p["ProfileId"]: p["QueryResult"] for p in found["Profiles"]} == {
        profiles["ann"]: "PRESENT",
        profiles["bob"]: "ABSENT",
    }
    assert [failure["ProfileId"] for failure in found["Failures"]] == [unknown]
    many = {"DomainName": DOMAIN, "SegmentDefinitionName": "seg", "ProfileIds": [unknown] * 101}
    assert refused(lambda: service.profiles.get_segment_membership(**many)) == BAD


# --- domains


def test_a_domain_is_made_once(service: Service) -> None:
    again = {"DomainName": DOMAIN, "DefaultExpirationDays": 30}
    assert refused(lambda: service.profiles.create_domain(**again)) == BAD
    assert refused(lambda: service.profiles.create_domain(DomainName="new", DefaultExpirationDays=1099)) == BAD
    service.profiles.create_domain(DomainName="new", DefaultExpirationDays=1)
    assert [d["DomainName"] for d in service.profiles.list_domains()["Items"]] == [DOMAIN, "new"]
    service.profiles.create_profile(DomainName="new", AccountNumber="ann")
    service.control(clock_ahead_seconds=DAY + 1)
    assert service.profiles.get_domain(DomainName="new")["Stats"]["ProfileCount"] == 0
    service.profiles.delete_domain(DomainName="new")
    assert refused(lambda: service.profiles.get_domain(DomainName="new")) == MISSING


# --- faults by order


def test_jobs_fail_by_order_and_may_have_changed_profiles(service: Service) -> None:
    service.control(fail_next_jobs=1)
    failed = service.run(people("ann", "bob", "cat", "dan"))
    assert (failed["Status"], failed["StatusReason"]) == ("FAILED", "INTERNAL_FAILURE")
    assert [service.profile(name) is not None for name in ("ann", "bob", "cat", "dan")] == [True, True, False, False]
    service.control(fail_next_jobs=1, failed_job_ingests="nothing")
    assert service.run(people("eve"))["Status"] == "FAILED"
    assert service.profile("eve") is None
    assert counts(service.run(people("ann", "eve"))) == ("SUCCEEDED", 1, 1, 0)


def test_jobs_succeed_partly_by_order(service: Service) -> None:
    service.control(partly_fail_next_jobs=1)
    assert counts(service.run(people("ann", "bob"))) == ("PARTIALLY_SUCCEEDED", 1, 0, 1)
    assert service.profile("ann") is None
    assert service.run(people("ann", "bob"))["Status"] == "SUCCEEDED"


def test_estimates_fail_or_are_wrong_by_order(service: Service) -> None:
    service.run(people("ann"))
    service.control(fail_next_estimates=1)
    assert service.estimate(segment_of("in"))["Status"] == "FAILED"
    service.control(add_to_next_estimate=5)
    assert service.estimate(segment_of("in"))["Estimate"] == "6"
    assert service.estimate(segment_of("in"))["Estimate"] == "1"


@pytest.mark.parametrize("lose_by", ["drop", "error"])
def test_an_answer_is_lost_after_its_effect(service: Service, lose_by: str) -> None:
    service.control(lose_next_answers=1, lose_by=lose_by)
    with pytest.raises(ConnectionClosedError if lose_by == "drop" else ClientError):
        service.create()
    assert len(service.domain()["upload_jobs"]) == 1
    service.control(lose_next_answers=1, lose_operations=["StartUploadJob"], lose_by=lose_by)
    job_id = service.create()
    service.put(job_id, people("ann"))
    with pytest.raises(ConnectionClosedError if lose_by == "drop" else ClientError):
        service.start(job_id)
    assert counts(service.finish(job_id)) == ("SUCCEEDED", 1, 0, 0)


def test_the_upload_is_refused_and_lost_by_order(service: Service) -> None:
    job_id = service.create()
    path = service.path(job_id)
    headers = headers_of(path["ClientToken"])
    service.control(refuse={"code": "SlowDown", "status": 503, "operations": ["PutUpload"], "times": 1})
    assert service.put_to(path["Url"], people("ann"), **headers)[0] == 503
    assert service.domain()["upload_jobs"][0]["Uploaded"] is None
    service.control(lose_next_answers=1, lose_operations=["PutUpload"], lose_by="error")
    assert service.put_to(path["Url"], people("ann"), **headers)[0] == 500
    service.start(job_id)
    assert counts(service.finish(job_id)) == ("SUCCEEDED", 1, 0, 0)


@pytest.mark.parametrize(
    ("code", "status"),
    [("ThrottlingException", 429), ("InternalServerException", 500), ("AccessDeniedException", 403)],
)
def test_a_refusal_is_for_its_operations_and_times(service: Service, code: str, status: int) -> None:
    service.control(refuse={"code": code, "status": status, "operations": ["CreateUploadJob"], "times": 2})
    service.profiles.list_upload_jobs(DomainName=DOMAIN)
    for _ in range(2):
        assert refused(service.create) == (code, status)
    assert service.domain()["upload_jobs"] == []
    service.create()
    assert service.control()["calls"]["CreateUploadJob"] == 3


@pytest.mark.parametrize(
    "body",
    [
        b'{"job_secs": 1}',
        b'{"same_display_name": "maybe"}',
        b'{"fail_next_jobs": -1}',
        b'{"fail_next_jobs": 0.5}',
        b'{"job_seconds": "4"}',
        b'{"lose_operations": "PutUpload"}',
        b'{"refuse": {"code": "X", "status": 200}}',
        b"[]",
        b"{",
    ],
)
def test_a_wrong_change_is_an_error_and_changes_nothing(service: Service, body: bytes) -> None:
    before = service.control()["settings"]
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"{service.url}/cohort-flywheel/customer-profiles", body, timeout=10)  # noqa: S310
    assert error.value.code == 400
    assert error.value.read().endswith(b'."]}')
    assert service.control()["settings"] == before


def test_a_reset_keeps_the_domain_and_moto_s_reset_does_not(server: Service) -> None:
    server.reset()
    first = server.create()
    server.run(people("ann"))
    server.define("seg")
    server.control(reset=True)
    domain = server.domain()
    assert (domain["profiles"], domain["upload_jobs"], domain["segments"]) == ([], [], [])
    server.reset()
    assert server.create() == first, "A seeded environment has the same ids each time."
    urllib.request.urlopen(f"{server.url}/moto-api/reset", b"", timeout=10).close()  # noqa: S310 - ours
    assert server.control()["domains"] == []
    server.profiles.create_domain(DomainName=DOMAIN, DefaultExpirationDays=366)


def test_our_client_with_its_own_checks_gets_along(service: Service) -> None:
    """boto3 as the hooks use it, which holds requests against the model before they are sent."""
    strict = service.client("customer-profiles", parameter_validation=True)
    made = strict.create_upload_job(DomainName=DOMAIN, DisplayName="n", Fields=FIELDS, UniqueKey="PlayerId")
    assert strict.get_upload_job(DomainName=DOMAIN, JobId=made["JobId"])["Status"] == "CREATED"


def test_every_operation_was_answered_by_its_model(server: Service) -> None:
    """The clients of these tests hold each answer against the model; here each operation answered at least once."""
    assert server.answers >= {
        "CreateDomain",
        "GetDomain",
        "ListDomains",
        "DeleteDomain",
        "CreateUploadJob",
        "GetUploadJobPath",
        "StartUploadJob",
        "StopUploadJob",
        "GetUploadJob",
        "ListUploadJobs",
        "CreateSegmentDefinition",
        "GetSegmentDefinition",
        "ListSegmentDefinitions",
        "DeleteSegmentDefinition",
        "CreateSegmentEstimate",
        "GetSegmentEstimate",
        "GetSegmentMembership",
        "CreateProfile",
        "UpdateProfile",
        "DeleteProfile",
        "BatchGetProfile",
        "SearchProfiles",
    }
